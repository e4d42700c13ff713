"""Evaluation: no processing improves nothing, a better estimate scores better, and peers line up with their input."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pesq", reason="pesq is not installed")
pytest.importorskip("pystoi", reason="pystoi is not installed")

from hearloop.models.simulation.corpus import read_manifest
from hearloop.models.simulation.validation import validation_set
from hearloop.models.training.evaluate import ALL, evaluate, interval, markdown
from hearloop.models.training.peers import read_peers
from hearloop.models.training.systems import Unprocessed
from hearloop.runtime.errors import HearloopError

SHARED = Path(__file__).parents[2].parent / "shared"
needs_recordings = pytest.mark.skipif(
    not (SHARED / "data" / "MANIFEST.csv").exists(), reason="the shared recordings are not here"
)


class Oracle:
    """Knows the targets and returns halfway between mixture and target."""

    name, latency_ms = "oracle", 1.0

    def __init__(self, items):
        self.items = items

    def enhance(self, audio):
        for item in self.items:
            if np.array_equal(item.noisy, audio):
                return (audio + item.target) / 2
        raise AssertionError("unknown mixture")


@pytest.fixture(scope="module")
def items():
    manifest = SHARED / "data" / "MANIFEST.csv"
    return validation_set(read_manifest(manifest, "valid", "speech"), read_manifest(manifest, "valid", "noise"), 4, 2)


@needs_recordings
def test_no_processing_improves_nothing_and_half_the_noise_is_six_decibels_better(items):
    unprocessed, oracle = evaluate([Unprocessed(), Oracle([*items.noisy, *items.clean])], items)
    assert unprocessed.bands[ALL]["si_sdr_improvement_db"].mean == 0
    assert unprocessed.bands[ALL]["pesq_wb_improvement"].mean == 0
    assert unprocessed.clean_si_sdr_db.mean > 60
    assert set(unprocessed.bands) == {ALL, "-5..0 dB", "0..5 dB", "5..10 dB", "10..15 dB"}
    assert oracle.bands[ALL]["si_sdr_improvement_db"].mean == pytest.approx(6.0, abs=1.0)
    for measure in ("pesq_wb", "estoi"):
        assert oracle.bands[ALL][measure].mean > unprocessed.bands[ALL][measure].mean
    table = markdown([unprocessed, oracle])
    assert "| oracle | 1 ms | " in table


@needs_recordings
@pytest.mark.skipif(not (SHARED / "peers").is_dir(), reason="the peers' models are not here")
def test_peers_line_up_with_their_input_and_reduce_noise(items):
    for peer in read_peers(SHARED / "peers"):
        item = items.clean[0]
        assert peer.enhance(item.noisy[:-77]).shape == item.noisy[:-77].shape
        cross = np.fft.irfft(
            np.fft.rfft(peer.enhance(item.noisy), 1 << 17) * np.conj(np.fft.rfft(item.target, 1 << 17))
        )
        assert np.argmax(cross) == 0
        noise = 0.05 * np.random.default_rng(0).standard_normal(32000).astype(np.float32)
        assert np.std(peer.enhance(noise)[16000:]) < 0.3 * np.std(noise)


def test_a_folder_without_peers_is_named(tmp_path):
    with pytest.raises(HearloopError, match=f"{tmp_path.name}: no peers"):
        read_peers(tmp_path)


def test_an_interval_holds_the_mean_narrows_with_data_and_leaves_out_what_is_undefined():
    rng = np.random.default_rng(1)
    few, many = rng.standard_normal(20), rng.standard_normal(2000)
    small, large = interval(few), interval([*many, float("nan")])
    assert small.low < small.mean < small.high
    assert large.count == 2000
    assert large.high - large.low == pytest.approx(2 * 1.96 / np.sqrt(2000), rel=0.15)
    assert small.high - small.low > 3 * (large.high - large.low)
