"""Measures of one recording: what they must be for outputs whose answer is known, and where they are undefined."""

from types import SimpleNamespace

import numpy as np
import pytest
from signals import voice

pytest.importorskip("pesq", reason="pesq is not installed")
pytest.importorskip("pystoi", reason="pystoi is not installed")

from pesq import pesq

from hearloop.models.evaluation import quality
from hearloop.models.evaluation.measures import measures
from hearloop.models.evaluation.pesq_wb import pesq_wb
from hearloop.models.evaluation.quality import dnsmos, estoi, measure
from hearloop.models.evaluation.recordings import Recording
from hearloop.models.training.configuration import EnhanceConfiguration
from hearloop.models.training.settings import EnhanceSelection
from hearloop.models.training.tasks import enhance


def in_noise(clean):
    return clean + 0.02 * np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)


def test_pesq_of_a_long_recording_is_the_mean_over_equal_pieces_that_speak():
    clean = voice(3, seconds=42)
    clean[28 * 16000 :] = 0
    noisy = in_noise(clean)
    apart = [pesq(16000, clean[at : at + 14 * 16000], noisy[at : at + 14 * 16000], "wb") for at in (0, 14 * 16000)]
    assert pesq_wb(noisy, clean) == np.mean(apart)
    whole = 20 * 16000
    assert pesq_wb(noisy[:whole], clean[:whole]) == pesq(16000, clean[:whole], noisy[:whole], "wb")


@pytest.mark.parametrize("bad", [0, np.nan, np.inf])
def test_pesq_of_an_output_that_is_silent_or_not_finite_is_the_lowest(bad):
    clean = voice(3)
    output = np.full_like(clean, bad)
    assert pesq_wb(output, clean) == pytest.approx(1.043, abs=0.001)
    assert pesq_wb(clean, clean) > 4
    assert np.isnan(pesq_wb(output, 0 * clean))


def test_what_is_too_short_has_neither_pesq_nor_estoi():
    clean = voice(3)
    assert np.isnan(pesq_wb(in_noise(clean)[:3200], clean[:3200]))
    for samples in (1, 300, 6000, 6500):
        assert np.isnan(estoi(in_noise(clean)[:samples], clean[:samples]))
    click = np.eye(1, 32000, 5000, dtype=np.float32)[0]
    assert np.isnan(estoi(in_noise(click), click))


def test_nothing_is_measured_against_a_silent_target():
    clean = np.stack([voice(3), 0 * voice(3)])
    both = measure(np.stack([in_noise(each) for each in clean]), clean)
    assert both == measure(in_noise(clean[0])[np.newaxis], clean[:1])
    assert np.isnan(list(measure(in_noise(clean[1])[np.newaxis], clean[1:]).values())).all()


def test_estoi_is_always_the_same_and_leaves_the_chance_of_others_alone():
    clean = voice(3)
    before = np.random.get_state()[1]  # noqa: NPY002
    found = {estoi(in_noise(clean), clean) for _ in range(5)}
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    assert found == {estoi(in_noise(clean), clean)}


def test_estoi_does_not_hear_what_comes_out_while_the_target_pauses():
    clean = voice(3)
    clean[12000:20000] = 0
    output = clean.copy()
    output[12800:19200] += 0.02 * np.random.default_rng(0).standard_normal(6400).astype(np.float32)
    assert estoi(output, clean) == pytest.approx(1, abs=0.01)


def test_a_network_that_falls_silent_does_not_end_its_training(starter, monkeypatch):
    for name, count in (("ROOMS", 2), ("MIXTURES", 2), ("CLEAN", 1)):
        monkeypatch.setattr(enhance, name, count)
    monkeypatch.setattr(enhance, "outputs", lambda network, audio, fabric: [0 * noisy[np.newaxis] for noisy in audio])
    task = enhance.Enhance(EnhanceConfiguration("enhance-small", {}, selection=EnhanceSelection(pesq_wb=1)), *starter)
    found = task.measure(None, SimpleNamespace(global_rank=0, world_size=1))
    assert found["pesq_wb"] == [pytest.approx(1.043, abs=0.001)] * 2


def test_the_network_of_dnsmos_prefers_silence_around_a_voice_to_noise():
    pytest.importorskip("speechmos", reason="speechmos is not installed")
    clean = voice(2)
    noisy = clean + 0.05 * np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)
    before, after = dnsmos(noisy), dnsmos(clean)
    assert all(1 <= value <= 5 for value in [*before.values(), *after.values()])
    assert after["dnsmos_bak"] > before["dnsmos_bak"]


def test_dnsmos_of_a_long_recording_is_the_mean_of_the_opinions_of_its_pieces(monkeypatch):
    raw = iter([1.0, 4.0])
    session = SimpleNamespace(run=lambda names, inputs: [np.full((1, 3), next(raw), np.float32)])
    monkeypatch.setattr(quality, "_dnsmos_session", lambda: session)
    found = dnsmos(np.zeros(quality.DNSMOS_SAMPLES + 16000, np.float32))
    for name, scale in quality.DNSMOS_SCALES.items():
        assert found[name] == pytest.approx((np.polyval(scale, 1.0) + np.polyval(scale, 4.0)) / 2)


def test_dnsmos_hears_what_a_converter_would_play(monkeypatch):
    heard = []
    raw = np.ones((1, 3), np.float32)
    session = SimpleNamespace(run=lambda names, inputs: heard.append(inputs["input_1"]) or [raw])
    monkeypatch.setattr(quality, "_dnsmos_session", lambda: session)
    dnsmos(np.linspace(-3, 3, quality.DNSMOS_SAMPLES, dtype=np.float32))
    assert (heard[0].min(), heard[0].max()) == (-1, 1)


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_clean_speech_that_comes_out_softer_has_a_level_below_zero(gain):
    clean = voice(3)[np.newaxis]
    found = measures(gain * clean, Recording("any", clean, clean, part="clean"))
    assert found["clean_level_db"] == pytest.approx(20 * np.log10(gain), abs=0.01)


@pytest.mark.parametrize(("seconds", "counted"), [(9.5, False), (10.5, True)])
def test_swaps_are_counted_from_ten_seconds_on(seconds, counted):
    talkers = np.stack([voice(3, seconds=seconds), voice(4, seconds=seconds)])
    recording = Recording("any", talkers.sum(axis=0, keepdims=True), talkers, part="folder, separate")
    assert ("swaps_per_minute" in measures(talkers, recording)) == counted
