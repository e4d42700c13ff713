"""Echo: parts sum to the microphone, ratios as asked, and a linear path can be found from both signals."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.models.simulation.echoes import KINDS, EchoSimulator
from hearloop.models.simulation.loudspeakers import play
from hearloop.models.simulation.recipe import ECHO_VALIDATION, EchoRecipe
from hearloop.models.simulation.rooms import RoomBank, simulate_rooms

LENGTH = 48000
QUIET = replace(ECHO_VALIDATION, noise_share=0.0)
DRY = RoomBank(np.eye(1, 100, dtype=np.float32)[None].repeat(4, 1))


def simulator(material, recipe=QUIET, rooms=DRY):
    return EchoSimulator(recipe, material.speech, material.noise, rooms)


def power(audio):
    return float(np.mean(audio.astype(np.float64) ** 2))


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(KINDS))
def test_target_and_echo_are_the_microphone(starter, seed, kind):
    scene = simulator(starter[0]).scene(np.random.default_rng(seed), LENGTH, kind)
    assert np.abs(scene.target + scene.echo - scene.microphone).max() < 1e-5
    assert np.any(scene.target) == (kind != "far end")
    assert np.any(scene.echo) == np.any(scene.reference) == (kind != "near end")


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_the_echo_is_as_loud_as_told(starter, seed):
    scene = simulator(starter[0]).scene(np.random.default_rng(seed), LENGTH, "double talk")
    assert 10 * np.log10(power(scene.target) / power(scene.echo)) == pytest.approx(scene.echo_db, abs=0.1)
    assert -15 <= scene.echo_db <= 15


def test_a_linear_path_can_be_found_and_a_saturated_one_not_fully(starter):
    """Least squares over the path's length leaves nothing of a linear echo, and distortion of a saturated one."""
    linear = replace(QUIET, saturation_share=0.0, delay_ms=(3.0, 3.0))
    rooms = RoomBank(np.random.default_rng(1).standard_normal((1, 4, 80)).astype(np.float32) * 0.8 ** np.arange(80))
    left_db = []
    for recipe in (linear, replace(linear, saturation_share=1.0, saturation_drive=(1.0, 1.0))):
        scene = simulator(starter[0], recipe, rooms).scene(np.random.default_rng(5), LENGTH, "far end")
        taps = 500
        past = np.lib.stride_tricks.sliding_window_view(np.pad(scene.reference, (taps - 1, 0)), taps)[::7]
        past, wanted = past.astype(np.float64), scene.echo[::7].astype(np.float64)
        covariance = past.T @ past
        path = np.linalg.solve(covariance + 1e-8 * np.trace(covariance) / taps * np.eye(taps), past.T @ wanted)
        left_db.append(10 * np.log10(power(wanted - past @ path) / power(wanted)))
        assert np.abs(path[::-1][:40]).max() < 0.2 * np.abs(path).max()  # nothing before the delay of 48 samples
    assert left_db[0] < -40
    assert left_db[1] > left_db[0] + 15


@pytest.mark.parametrize("delay_ms", [0.0, 60.0, 200.0])
def test_the_delay_is_that_of_the_recipe(starter, delay_ms):
    recipe = replace(QUIET, saturation_share=0.0, delay_ms=(delay_ms, delay_ms))
    for seed in range(2):
        scene = simulator(starter[0], recipe).scene(np.random.default_rng(seed), LENGTH, "far end")
        spectra = [np.fft.rfft(sound, 2 * LENGTH) for sound in (scene.echo, scene.reference)]
        cross = np.fft.irfft(spectra[0] * spectra[1].conj() / (np.abs(spectra[1]) ** 2 + 1e-3))
        assert np.argmax(np.abs(cross)) == pytest.approx(16 * delay_ms, abs=8)


def alike(first, second):
    """The cosine of the angle between two sounds."""
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def far_end(material, rooms=DRY, **changes):
    recipe = replace(QUIET, saturation_share=0.0, delay_ms=(0.0, 0.0), **changes)
    return simulator(material, recipe, rooms).scene(np.random.default_rng(5), LENGTH, "far end")


def test_the_path_of_an_echo_changes_on_the_way_where_the_recipe_says_so(starter):
    rooms = RoomBank(np.random.default_rng(2).standard_normal((1, 4, 100)).astype(np.float32))
    still, changes = (far_end(starter[0], rooms, path_change_share=share).echo for share in (0.0, 1.0))
    assert alike(still[:8000], changes[:8000]) > 0.999
    assert alike(still[40000:], changes[40000:]) < 0.9


def test_the_far_end_is_noisy_where_the_recipe_says_so(starter):
    quiet, noisy = (far_end(starter[0], noisy_far_share=share).reference for share in (0.0, 1.0))
    assert alike(quiet, noisy) < 0.9999


def test_a_loudspeaker_without_drive_is_linear_and_with_drive_adds_harmonics():
    tone = 0.1 * np.sin(2 * np.pi * 500 * np.arange(16000) / 16000).astype(np.float32)
    harmonics_db = []
    for drive in (0.0, 0.2, 1.0):
        played = play(np.random.default_rng(2), tone, drive)[4000:]
        power_hz = np.abs(np.fft.rfft(played * np.hanning(12000))) ** 2
        fundamental = power_hz[370:381].sum()
        harmonics_db.append(10 * np.log10((power_hz[700:].sum() + 1e-20) / fundamental))
    assert harmonics_db[0] < -70
    assert harmonics_db[0] < harmonics_db[1] < harmonics_db[2]
    first, second = (play(np.random.default_rng(2), gain * tone, 0.0) for gain in (1, 3))
    assert np.abs(3 * first - second).max() < 2e-4


def test_items_do_not_depend_on_how_they_are_grouped_and_stay_within_full_scale(starter):
    made = simulator(starter[0], EchoRecipe(), simulate_rooms(np.random.default_rng(0), 2))
    together = made.items(seed=4, first=7, count=6, length=8000)
    apart = [made.items(seed=4, first=7 + index, count=1, length=8000) for index in range(6)]
    for field, *single in zip(together, *apart, strict=True):
        assert np.array_equal(field, np.concatenate(single))
        assert np.all(np.isfinite(field))
    assert np.abs(together.microphone).max() <= 0.9901
    assert np.abs(together.reference).max() <= 0.9901
