"""Two ears: superposition holds, movement does not click, noise from everywhere is as incoherent as it should be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import coherence

from hearloop.models.simulation.binaural import diffuse_noise, knot_count, render, render_moving
from hearloop.models.simulation.binaural_rooms import EARLY_TAPS, arrivals, diffuse_tail, early_reflections, random_room
from hearloop.models.simulation.directions import unit_vectors
from hearloop.models.simulation.motion import FINE_HOP, course
from hearloop.models.simulation.rooms import EARLY_SAMPLES, decaying_noise
from hearloop.models.simulation.sphere import spherical_head
from hearloop.models.simulation.surroundings import Place, Surroundings

LENGTH = 16000
HEAD = spherical_head()


def noise(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("taps", [100, 256, 5000])
def test_rendering_is_convolution(taps):
    sounds, responses = noise(1, 2, 6000), noise(2, 2, 2, taps)
    heard = render(sounds, responses)
    for sound in range(2):
        for ear in range(2):
            wanted = np.convolve(sounds[sound], responses[sound, ear])[:6000]
            assert np.abs(heard[sound, ear] - wanted).max() < 1e-5 * np.abs(wanted).max() * np.sqrt(taps)


@pytest.mark.parametrize("position", [3, 20, 55, 100, 300])
def test_a_rendered_source_has_the_time_and_level_differences_of_the_head(position):
    sound = noise(1, LENGTH)
    place = Place(HEAD.azimuth_deg[position], HEAD.elevation_deg[position], 1.0)
    heard = Surroundings(HEAD).hear(np.random.default_rng(0), sound, place)
    # Correlated with the sound itself, what the ears heard is the response that was measured.
    spectra = np.fft.rfft(np.pad(heard, ((0, 0), (0, 200))))
    found = np.fft.irfft(spectra * np.fft.rfft(np.pad(sound, (0, 200))).conj(), LENGTH + 200) / np.sum(sound**2)
    measured = HEAD.responses[position]
    assert np.array_equal(np.argmax(np.abs(found), axis=1), np.argmax(np.abs(measured), axis=1))
    levels_db = 10 * np.log10(np.sum(heard**2, axis=1) / np.sum(sound**2))
    assert levels_db == pytest.approx(10 * np.log10(np.sum(measured**2, axis=1)), abs=0.3)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), room=st.booleans(), moving=st.booleans())
def test_what_the_ears_hear_of_two_sounds_at_one_place_is_the_sum(seed, room, moving):
    rng = np.random.default_rng(seed)
    yaw_deg = course(rng, 6000, 50.0) if moving else None
    around = Surroundings(HEAD, random_room(rng) if room else None, yaw_deg)
    place = Place(rng.uniform(-180, 180), 0.0, 1.5)
    first, second = noise(seed, 2, 6000)
    heard = [around.hear(np.random.default_rng(3), sound, place) for sound in (first, second, first + second)]
    assert np.abs(heard[0] + heard[1] - heard[2]).max() < 1e-4 * np.abs(heard[2]).max()


@pytest.mark.parametrize("hop", [256, 512, 8192])
@pytest.mark.parametrize("length", [1, 1000, 16001])
def test_a_response_that_does_not_change_is_rendered_as_if_still(hop, length):
    sound, response = noise(1, length), noise(2, 2, 300)
    moving = render_moving(sound, np.repeat(response[None], knot_count(length, hop), axis=0), hop)
    still = render(sound[None], response[None])[0]
    assert moving.shape == still.shape
    assert np.abs(moving - still).max() < 1e-4 * np.abs(still).max()


def test_a_head_that_turns_does_not_click():
    """A click would be broad-band: a turned tone keeps to its own neighbourhood of frequencies."""
    tone = np.sin(2 * np.pi * 1000 * np.arange(2 * LENGTH) / 16000).astype(np.float32)
    yaw_deg = 60 * np.arange(knot_count(len(tone), FINE_HOP)) * FINE_HOP / 16000
    turning = Surroundings(HEAD, None, yaw_deg).hear(np.random.default_rng(0), tone, Place(0.0, 0.0, 1.0))
    middle = turning[:, 2000:-2000] * np.hanning(len(tone) - 4000)
    power = np.abs(np.fft.rfft(middle)) ** 2
    frequency_hz = np.fft.rfftfreq(middle.shape[1], 1 / 16000)
    away = np.abs(frequency_hz - 1000) > 200
    assert np.all(10 * np.log10(power[:, away].sum(axis=1) / power.sum(axis=1)) < -55)


@pytest.mark.parametrize(("who", "ends_deg"), [("head", -50.0), ("talker", 70.0)])
def test_a_source_that_moves_ends_with_the_response_of_where_it_is(who, ends_deg):
    sound = noise(4, 2 * LENGTH)
    to_the_left_deg = np.minimum(np.arange(knot_count(len(sound), FINE_HOP)) * 3.0, 60.0)
    yaw_deg, walk_deg = (to_the_left_deg, None) if who == "head" else (None, to_the_left_deg)
    heard = Surroundings(HEAD, None, yaw_deg).hear(np.random.default_rng(0), sound, Place(10.0, 0.0, 1.0, walk_deg))
    wanted = render(sound[None], HEAD.response(ends_deg)[None])[0]
    assert np.abs(heard - wanted)[:, -4000:].max() < 1e-4
    start = render(sound[None], HEAD.response(10.0)[None])[0]
    assert np.abs(heard - start)[:, :40].max() < np.abs(start[:, :40]).max() * 0.3


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), fastest=st.floats(1, 120))
def test_a_course_starts_at_zero_and_keeps_its_speed_limit(seed, fastest):
    angles_deg = course(np.random.default_rng(seed), 5 * LENGTH, fastest)
    assert angles_deg[0] == 0
    assert len(angles_deg) >= knot_count(5 * LENGTH, FINE_HOP)
    assert np.abs(np.diff(angles_deg)).max() <= fastest * FINE_HOP / 16000 * 1.001


def test_noise_from_everywhere_has_the_coherence_of_a_diffuse_field():
    spectra = np.fft.rfft(HEAD.diffuse_roots, 256)
    cross = np.sum(spectra[:, 0] * spectra[:, 1].conj(), axis=0)
    wanted = np.abs(cross) / np.sqrt(np.prod(np.sum(np.abs(spectra) ** 2, axis=0), axis=0))
    measured = []
    for seed in range(6):
        ears = diffuse_noise(np.random.default_rng(seed), HEAD, noise(seed, 48, 4 * LENGTH))
        frequency_hz, found = coherence(*ears, fs=16000, nperseg=256)
        measured.append(np.sqrt(found))
    found = np.mean(measured, axis=0)
    assert np.abs(found - wanted)[2:].max() < 0.2
    assert found[(frequency_hz > 60) & (frequency_hz < 250)].min() > 0.75
    assert found[frequency_hz > 2000].max() < 0.35


def test_diffuse_noise_is_the_sum_of_its_directions():
    sounds = noise(5, 3, 5000)
    each = [np.where(np.arange(3)[:, None] == index, sounds, 0).astype(np.float32) for index in range(3)]
    parts = [diffuse_noise(np.random.default_rng(6), HEAD, part) for part in each]
    whole = diffuse_noise(np.random.default_rng(6), HEAD, sounds)
    assert np.abs(sum(parts) - whole).max() < 1e-4 * np.abs(whole).max()
    assert whole.shape == (2, 5000)


def test_the_direct_sound_comes_first_and_reflections_are_those_of_the_walls():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        room = random_room(rng)
        found = arrivals(room, unit_vectors(rng.uniform(-180, 180)), 2.0)
        assert np.all(found.delays >= 0)
        assert found.vectors == pytest.approx(found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True))
        # The floor is below and the ceiling above: somewhere among the first reflections there is one of each.
        assert found.vectors[:12, 2].min() < -0.1
        assert found.vectors[:12, 2].max() > 0.1
        assert np.all(np.abs(found.gains) < 1)


def test_a_turned_head_hears_reflections_from_turned_directions():
    room = random_room(np.random.default_rng(2))
    found = arrivals(room, unit_vectors(30.0), 1.5)
    still, turned_once = early_reflections(HEAD, found, 0.0), early_reflections(HEAD, found, 360.0)
    assert np.array_equal(still, turned_once)
    assert not np.allclose(still, early_reflections(HEAD, found, 90.0))
    assert still.shape == (2, EARLY_TAPS)


def test_the_tail_is_as_loud_beside_the_direct_sound_as_without_a_head():
    """From everywhere, a head hears more or less than a microphone does, and of reflections as of the tail."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        room = random_room(rng, 0.4, 0.6)
        tails = np.stack([diffuse_tail(rng, HEAD, room, 1.5) for _ in range(8)])
        noise = rng.standard_normal((16, tails.shape[-1]))
        free = decaying_noise(noise, room.volume, room.surface, room.rt60_s, 1.5)
        louder = np.square(tails).sum(-1).mean() / np.square(free).sum(-1).mean()
        assert louder == pytest.approx(HEAD.diffuse_energy, rel=0.15)


@pytest.mark.parametrize("rt60_s", [0.2, 0.5, 0.8])
def test_the_tail_decays_by_sixty_decibels_in_its_reverberation_time(rt60_s):
    slopes_db = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        room = random_room(rng, rt60_s, rt60_s)
        tail = diffuse_tail(rng, HEAD, room, 1.0)
        remaining = np.cumsum(tail[:, ::-1] ** 2, axis=1)[:, ::-1].sum(axis=0)
        kept = np.arange(int(0.05 * 16000), int(0.6 * rt60_s * 16000))
        curve_db = 10 * np.log10(remaining / remaining[0])
        slopes_db.append(np.polyfit(kept / 16000, curve_db[kept], 1)[0])
    assert -60 / np.mean(slopes_db) == pytest.approx(rt60_s, rel=0.25)


def test_early_and_late_sound_are_apart_by_fifty_milliseconds_and_sum_to_the_whole():
    room = random_room(np.random.default_rng(8), 0.5, 0.5)
    around = Surroundings(HEAD, room)
    pulse = np.eye(1, LENGTH, dtype=np.float32)[0]
    place = Place(40.0, 0.0, 1.5)
    early, late = around.hear_apart(np.random.default_rng(1), pulse, place)
    whole = around.hear(np.random.default_rng(1), pulse, place)
    assert np.abs(early + late - whole).max() < 1e-4
    assert np.abs(late[:, :EARLY_SAMPLES]).max() < 1e-4
    assert np.abs(early[:, EARLY_TAPS + 1 :]).max() < 1e-4
    assert np.sum(late**2) > 0.01 * np.sum(early**2)
