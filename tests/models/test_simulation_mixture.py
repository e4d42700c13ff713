"""Mixtures: the SNR is what the recipe says, the target is aligned, nothing clips unless asked."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt, sosfreqz
from signals import clipped_share

from hearloop.models.simulation.corpus import Corpus
from hearloop.models.simulation.equalisation import peak, random_equaliser, shelf
from hearloop.models.simulation.mixture import Simulator
from hearloop.models.simulation.recipe import VALIDATION, Recipe
from hearloop.models.simulation.rooms import (
    EARLY_SAMPLES,
    RoomBank,
    decaying_noise,
    early_part,
    eyring_absorption,
    image_sources,
    reverberate,
    simulate_rooms,
)
from hearloop.models.simulation.variation import change_speed, clip, pause, random_loudness

LENGTH = 16000
FLAT = replace(
    Recipe(),
    speech_equalisation_db=0.0,
    noise_equalisation_db=0.0,
    microphone_equalisation_db=0.0,
    room_share=0.0,
    band_limit_share=0.0,
    clip_share=0.0,
    babble_share=0.0,
    synthetic_share=0.0,
)


def corpus_of_noise(seed, recordings=4, samples=24000):
    audio = (3000 * np.random.default_rng(seed).standard_normal(recordings * samples)).astype(np.int16)
    return Corpus(audio, np.arange(recordings + 1) * samples, [str(index) for index in range(recordings)])


def simulator(recipe=FLAT, rooms=None):
    bank = rooms or RoomBank(np.eye(1, 100, dtype=np.float32)[None].repeat(2, 1))
    return Simulator(recipe, corpus_of_noise(1), corpus_of_noise(2), bank)


def mixtures(snr_db, **changes):
    made = simulator(replace(FLAT, **{"pause_share": 0.0, **changes}))
    return [made.mixture(np.random.default_rng(seed), LENGTH, snr_db) for seed in range(5)]


def power(audio):
    return float(np.mean(audio.astype(np.float64) ** 2))


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), snr_db=st.floats(-10, 40))
def test_without_room_the_snr_of_a_mixture_is_the_one_asked_for(seed, snr_db):
    # The microphone's high-pass treats voice and noise alike, but not their spectra: allow it half a decibel.
    mixture = simulator().mixture(np.random.default_rng(seed), LENGTH, snr_db)
    found_db = 10 * np.log10(power(mixture.target) / power(mixture.noisy - mixture.target))
    assert found_db == pytest.approx(snr_db, abs=0.5)
    assert mixture.snr_db == snr_db


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), recipe=st.sampled_from([replace(Recipe(), clip_share=0.0), VALIDATION]))
def test_no_mixture_leaves_full_scale_and_its_level_is_not_above_the_recipe(seed, recipe):
    rooms = simulate_rooms(np.random.default_rng(0), 2)
    mixture = simulator(recipe, rooms).mixture(np.random.default_rng(seed), LENGTH)
    assert np.max(np.abs(mixture.noisy)) <= 0.9901
    assert 10 * np.log10(power(mixture.noisy) + 1e-12) <= recipe.level_dbfs[1] + 0.01
    assert mixture.noisy.dtype == mixture.target.dtype == np.float32


def test_the_recipe_keeps_its_range_of_snr():
    found = [simulator().mixture(np.random.default_rng(seed), 4000).snr_db for seed in range(400)]
    usual = [snr_db for snr_db in found if np.isfinite(snr_db) and snr_db < 20]
    assert -5 <= min(usual) < -3
    assert 13 < max(usual) <= 15
    assert found.count(np.inf) > 0
    assert found.count(-np.inf) > 0


def test_a_clean_mixture_equals_its_target_and_an_absent_voice_leaves_none():
    clean = simulator().mixture(np.random.default_rng(3), LENGTH, np.inf)
    assert np.array_equal(clean.noisy, clean.target)
    assert clean.kind == "clean"
    absent = simulator().mixture(np.random.default_rng(3), LENGTH, -np.inf)
    assert not np.any(absent.target)
    assert power(absent.noisy) > 0


@pytest.mark.parametrize(("silent", "snr_db", "kind"), [("noise", np.inf, "clean"), ("speech", -np.inf, "noise")])
def test_a_mixture_with_a_silent_recording_says_that_it_has_no_noise_or_no_voice(silent, snr_db, kind):
    made = simulator()
    getattr(made.sources, silent).samples[:] = 0
    mixture = made.mixture(np.random.default_rng(3), LENGTH, 5.0)
    assert (mixture.snr_db, mixture.kind) == (snr_db, kind)
    assert np.array_equal(mixture.noisy, mixture.target) == (silent == "noise")


def test_the_same_generator_gives_the_same_mixture_and_another_another():
    rooms = simulate_rooms(np.random.default_rng(0), 2)
    first, same, other = (
        simulator(Recipe(), rooms).mixture(np.random.default_rng(seed), LENGTH).noisy for seed in (5, 5, 6)
    )
    assert np.array_equal(first, same)
    assert not np.allclose(first, other)


def test_training_items_do_not_depend_on_how_they_are_grouped():
    made = simulator(Recipe())
    together = made.items(seed=9, first=10, count=4, length=4000)
    apart = np.concatenate([made.items(seed=9, first=10 + index, count=1, length=4000) for index in range(4)])
    assert np.array_equal(together, apart)


def test_in_a_room_the_target_is_aligned_with_the_mixture():
    rooms = simulate_rooms(np.random.default_rng(4), 4)
    made = simulator(replace(FLAT, room_share=1.0), rooms)
    for seed in range(6):
        mixture = made.mixture(np.random.default_rng(seed), LENGTH, np.inf)
        cross = np.fft.irfft(np.fft.rfft(mixture.noisy, 32768) * np.conj(np.fft.rfft(mixture.target, 32768)))
        assert np.argmax(np.abs(cross)) == 0
        assert "in a room" in mixture.kind


def test_direct_sound_comes_first_with_a_gain_of_one():
    bank = simulate_rooms(np.random.default_rng(7), 6)
    assert np.allclose(bank.responses[:, :, 0], 1, atol=0.25)
    assert np.all(np.argmax(np.abs(bank.responses), axis=-1) < EARLY_SAMPLES)


def test_images_and_tail_have_the_energy_of_all_reflections():
    """As images of the 20th order have it, which are too slow to make; below 600 Hz, where air takes nothing."""
    low = butter(4, 600, fs=16000, output="sos")
    edges_s = (0, 0.02, 0.05, 0.1, 0.2)
    found, expected = np.zeros(len(edges_s) - 1), np.zeros(len(edges_s) - 1)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        size, rt60_s = rng.uniform((3, 2.5, 2.3), (9, 7, 3.5)), rng.uniform(0.15, 0.7)
        source, microphone = size * rng.uniform(0.1, 0.9, 3), size * rng.uniform(0.25, 0.75, 3)
        volume, surface = np.prod(size), 2 * np.sum(size * np.roll(size, 1))
        paths, orders = image_sources(size, source, microphone, 20)
        distances = np.linalg.norm(paths, axis=1)
        swallowed = eyring_absorption(volume, surface, rt60_s)
        energies = (1 - swallowed) ** orders * (distances[0] / distances) ** 2
        delays_s = (distances - distances[0]) / 343
        images = np.histogram(delays_s[1:], edges_s, weights=energies[1:])[0]
        expected += images / images.sum()
        placed = orders <= 4
        both = np.histogram(delays_s[placed][1:], edges_s, weights=energies[placed][1:])[0]
        noise = rng.standard_normal((8, 3200))
        tail = sosfilt(low, decaying_noise(noise, volume, surface, rt60_s, distances[0])) * np.sqrt(8000 / 600)
        both += np.histogram(np.arange(3200) / 16000, edges_s, weights=np.square(tail).mean(0))[0]
        found += both / images.sum()
    np.testing.assert_allclose(10 * np.log10(found / expected), 0, atol=1.0)


def test_a_room_decays_by_sixty_decibels_in_its_reverberation_time():
    for rt60_s in (0.2, 0.4, 0.6):
        bank = simulate_rooms(np.random.default_rng(8), 3, longest_s=rt60_s + 0.2, shortest_s=rt60_s + 0.2)
        for response in bank.responses[:, 0]:
            remaining = np.cumsum(response[::-1] ** 2)[::-1]
            curve_db = 10 * np.log10(remaining / remaining[0] + 1e-12)
            late = np.arange(int(0.05 * 16000), int(0.5 * len(response)))
            slope_db = np.polyfit(late / 16000, curve_db[late], 1)[0]
            assert -60 / slope_db == pytest.approx(rt60_s + 0.2, rel=0.3)


def test_reverberation_is_convolution_and_its_early_part_is_a_prefix():
    rng = np.random.default_rng(9)
    audio, response = rng.standard_normal(3000).astype(np.float32), rng.standard_normal(1500).astype(np.float32)
    assert np.allclose(reverberate(audio, response), np.convolve(audio, response)[:3000], atol=1e-3)
    assert np.array_equal(early_part(response), response[:800])


@pytest.mark.parametrize("gain_db", [-9.0, 6.0])
def test_shelves_and_peaks_have_their_gain_where_they_should(gain_db):
    cases = (
        (shelf(500, gain_db, high=False), 5, gain_db),
        (shelf(500, gain_db, high=False), 7900, 0),
        (shelf(2000, gain_db, high=True), 7900, gain_db),
        (shelf(2000, gain_db, high=True), 5, 0),
        (peak(1000, gain_db, 1.0), 1000, gain_db),
        (peak(1000, gain_db, 1.0), 5, 0),
    )
    for section, frequency_hz, expected_db in cases:
        response = sosfreqz(np.array([section]), worN=[frequency_hz], fs=16000)[1]
        assert 20 * np.log10(abs(response[0])) == pytest.approx(expected_db, abs=0.2)


def test_random_equalisers_are_stable():
    for seed in range(200):
        for section in random_equaliser(np.random.default_rng(seed), 12.0):
            assert np.all(np.abs(np.roots(section[3:])) < 1)


def test_speed_moves_pitch_by_its_factor():
    tone = np.sin(2 * np.pi * 500 * np.arange(20000) / 16000).astype(np.float32)
    faster = change_speed(tone, 16000)
    assert np.argmax(np.abs(np.fft.rfft(faster))) == 625
    assert np.sqrt(np.mean(faster**2)) == pytest.approx(np.sqrt(0.5), rel=0.02)


def test_clipping_cuts_the_loudest_samples_only():
    audio = np.random.default_rng(2).standard_normal(100000).astype(np.float32)
    clipped = clip(audio, 0.01)
    changed = clipped != audio
    assert 0.005 < np.mean(changed) < 0.02
    assert np.min(np.abs(audio[changed])) >= np.max(np.abs(audio[~changed])) - 1e-6


@pytest.mark.parametrize("louder", [0, 1])
def test_both_ears_are_clipped_at_one_level_whichever_is_louder(louder):
    ears = np.random.default_rng(2).standard_normal((2, 100000)).astype(np.float32)
    ears[1 - louder] *= 0.3
    changed = clip(ears, 0.01) != ears
    assert 0.005 < np.mean(changed) < 0.02
    assert not changed[1 - louder].any()


def test_a_pause_is_silent_and_ramped():
    gain = pause(np.random.default_rng(3), 48000)
    assert 0.3 * 16000 - 1 <= np.count_nonzero(gain == 0) <= 1.2 * 16000 + 2
    assert np.max(np.abs(np.diff(gain))) < 0.01


def test_a_course_of_loudness_stays_within_its_range_below():
    for seed in range(20):
        gain_db = 20 * np.log10(random_loudness(np.random.default_rng(seed), 48000, 25.0))
        assert -25.001 <= gain_db.min() < gain_db.max() <= 0.001


@pytest.mark.parametrize(("share", "paused"), [(0.0, 0), (1.0, 5)])
def test_a_voice_pauses_as_often_as_the_recipe_says(share, paused):
    voices = [mixture.target for mixture in mixtures(np.inf, pause_share=share)]
    soft = [np.abs(voice) < 1e-3 * np.abs(voice).max() for voice in voices]
    assert sum(np.count_nonzero(each) >= 0.28 * 16000 for each in soft) == paused


@pytest.mark.parametrize(("share", "limited"), [(0.0, 0), (1.0, 5)])
def test_a_limit_of_the_band_takes_the_highest_frequencies_as_often_as_the_recipe_says(share, limited):
    spectra = [np.abs(np.fft.rfft(mixture.noisy)) ** 2 for mixture in mixtures(np.inf, band_limit_share=share)]
    middle, highest = slice(1000, 2000), slice(7500, None)  # Hz
    assert sum(power[highest].mean() < 0.25 * power[middle].mean() for power in spectra) == limited


@pytest.mark.parametrize(("share", "clipped"), [(0.0, 0), (1.0, 5)])
def test_a_mixture_is_clipped_as_often_as_the_recipe_says_and_its_target_is_not(share, clipped):
    made = mixtures(5.0, clip_share=share)
    assert sum(clipped_share(mixture.noisy) > 3e-4 for mixture in made) == clipped
    assert not any(clipped_share(mixture.target) > 3e-4 for mixture in made)


def test_what_is_nearly_clean_has_its_own_range_of_snr():
    made = mixtures(None, nearly_clean_share=1.0, clean_share=0.0, absent_speech_share=0.0)
    assert all(20 <= mixture.snr_db <= 40 for mixture in made)
