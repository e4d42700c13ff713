"""The validation set is the same wherever it is made."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hearloop.models.simulation.corpus import Corpus, read_manifest
from hearloop.models.simulation.validation import SNR_BANDS_DB, snr_band, validation_set
from hearloop.runtime.errors import AudioError

MANIFEST = Path(__file__).parents[2].parent / "shared" / "data" / "MANIFEST.csv"


def corpus_of_noise(seed):
    audio = (3000 * np.random.default_rng(seed).standard_normal(200000)).astype(np.int16)
    return Corpus(audio, np.array([0, 80000, 200000]), ["a", "b"])


def test_two_makings_are_equal_bit_for_bit_and_a_shorter_set_begins_a_longer_one():
    speech, noise = corpus_of_noise(1), corpus_of_noise(2)
    longer, shorter = validation_set(speech, noise, 12, 4), validation_set(speech, noise, 8, 2)
    for first, second in zip((*longer.noisy[:8], *longer.clean[:2]), (*shorter.noisy, *shorter.clean), strict=True):
        assert np.array_equal(first.noisy, second.noisy)
        assert np.array_equal(first.target, second.target)


def test_every_band_of_snr_has_the_same_number_of_mixtures():
    made = validation_set(corpus_of_noise(1), corpus_of_noise(2), 40, 1)
    assert Counter(snr_band(item) for item in made.noisy) == dict.fromkeys(SNR_BANDS_DB, 10)
    assert [snr_band(item) for item in made.noisy[:4]] == list(SNR_BANDS_DB)


def test_clean_voices_are_their_own_target_at_an_ordinary_level():
    for item in validation_set(corpus_of_noise(1), corpus_of_noise(2), 1, 6).clean:
        assert np.array_equal(item.noisy, item.target)
        assert -36 < 10 * np.log10(np.mean(item.noisy**2)) < -19


def corpus_with_silence(seed):
    made = corpus_of_noise(seed)
    made.samples[80000:] = 0
    return made


@pytest.mark.parametrize("silent", ["voice", "noise"])
def test_where_a_recording_is_silent_another_one_is_drawn(silent):
    usual = corpus_of_noise(1), corpus_of_noise(2)
    part = ["voice", "noise"].index(silent)
    some = [corpus_with_silence(1 + at) if at == part else corpus for at, corpus in enumerate(usual)]
    made, without = validation_set(*some, 12, 6), validation_set(*usual, 12, 6)
    for item in (*made.noisy, *made.clean):
        assert np.mean(item.target**2) > 1e-8
    for item in made.noisy:
        assert np.isfinite(item.snr_db)
        assert np.mean((item.noisy - item.target) ** 2) > 1e-8
    kept = [np.array_equal(*(each.noisy[at].noisy for each in (made, without))) for at in range(12)]
    assert 0 < sum(kept) < 12  # those without the silent recording are as they were


def test_recordings_that_are_silent_everywhere_are_refused():
    speech, noise = corpus_of_noise(1), corpus_of_noise(2)
    speech.samples[:] = 0
    for mixtures, clean in ((1, 0), (0, 1)):
        with pytest.raises(AudioError, match=r"silent in 100 pieces of 4 s"):
            validation_set(speech, noise, mixtures, clean)


@pytest.mark.skipif(not MANIFEST.exists(), reason="the shared recordings are not here")
def test_the_real_set_has_noise_babble_and_rooms_and_no_silent_voice():
    made = validation_set(read_manifest(MANIFEST, "valid", "speech"), read_manifest(MANIFEST, "valid", "noise"))
    kinds = Counter(item.kind.split()[0] for item in made.noisy)
    assert kinds["noise"] > 80
    assert kinds["babble"] > 10
    assert 20 < sum("room" in item.kind for item in made.noisy) < 50
    for item in (*made.noisy, *made.clean):
        assert np.mean(item.target**2) > 1e-8
        assert len(item.noisy) == len(item.target) == 64000
        assert np.max(np.abs(item.noisy)) <= 0.9901
