"""Evaluation: no processing improves nothing, a better estimate scores better, and peers line up with their input."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from signals import voice

pytest.importorskip("pesq", reason="pesq is not installed")
pytest.importorskip("pystoi", reason="pystoi is not installed")

from hearloop.models.evaluation.evaluate import ALL, evaluate
from hearloop.models.evaluation.interval import interval, share_interval
from hearloop.models.evaluation.peers import read_peers
from hearloop.models.evaluation.recordings import of_validation, read_folder
from hearloop.models.evaluation.report import as_json, markdown
from hearloop.models.evaluation.systems import CommandSystem
from hearloop.models.simulation.corpus import read_manifest
from hearloop.models.simulation.validation import validation_set
from hearloop.runtime.errors import HearloopError

SHARED = Path(__file__).parents[2].parent / "shared"
needs_recordings = pytest.mark.skipif(
    not (SHARED / "data" / "MANIFEST.csv").exists(), reason="the shared recordings are not here"
)


class Oracle:
    """Knows the targets and returns halfway between mixture and target."""

    name, task, latency_ms = "oracle", "enhance", 1.0

    def __init__(self, items):
        self.items = items

    def process(self, mixture, looks=()):
        for item in self.items:
            if np.array_equal(item.noisy, mixture[0]):
                return (mixture + item.target) / 2
        raise AssertionError("unknown mixture")


@pytest.fixture(scope="module")
def items():
    manifest = SHARED / "data" / "MANIFEST.csv"
    return validation_set(read_manifest(manifest, "valid", "speech"), read_manifest(manifest, "valid", "noise"), 4, 2)


@needs_recordings
def test_no_processing_improves_nothing_and_half_the_noise_is_six_decibels_better(items):
    oracle = Oracle([*items.noisy, *items.clean])
    unprocessed, oracle = evaluate([lambda: oracle], of_validation(items))
    assert unprocessed.bands[ALL]["si_sdr_improvement_db"].mean == 0
    assert unprocessed.bands[ALL]["pesq_wb_improvement"].mean == 0
    assert unprocessed.bands[ALL]["clean_si_sdr_db"].mean > 60
    assert unprocessed.bands[ALL]["clean_si_sdr_db"].count == 2
    assert unprocessed.bands[ALL]["clean_level_db"].mean == 0
    assert set(unprocessed.bands) >= {ALL, "-5..0 dB", "0..5 dB", "5..10 dB", "10..15 dB"}
    assert set(unprocessed.bands) >= {item.kind for item in items.noisy}
    assert oracle.bands[ALL]["si_sdr_improvement_db"].mean == pytest.approx(6.0, abs=1.0)
    for name in ("pesq_wb", "estoi"):
        assert oracle.bands[ALL][name].mean > unprocessed.bands[ALL][name].mean
    table = markdown([unprocessed, oracle])
    assert "| oracle | 1 ms | " in table


@needs_recordings
@pytest.mark.skipif(not (SHARED / "peers").is_dir(), reason="the peers' models are not here")
def test_peers_line_up_with_their_input_and_reduce_noise(items):
    for peer in (opener() for opener in read_peers(SHARED / "peers")):
        item = items.clean[0]
        assert peer.process(item.noisy[None, :-77]).shape == (1, len(item.noisy) - 77)
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


@pytest.mark.parametrize("count", [4, 8])
def test_intervals_of_few_values_hold_the_mean_as_often_as_they_say(count):
    rng = np.random.default_rng(1)
    found = [interval(rng.standard_normal(count)) for _ in range(1000)]
    assert np.mean([each.low < 0 < each.high for each in found]) == pytest.approx(0.95, abs=0.02)


def test_one_value_alone_says_nothing_about_the_mean():
    found = interval([3.0, float("nan")])
    assert (found.mean, found.count) == (3, 1)
    assert np.isnan([found.low, found.high]).all()


def test_a_share_that_is_the_same_everywhere_may_still_be_another_one():
    never, always = share_interval([0.0] * 120), share_interval([100.0] * 120 + [float("nan")])
    assert (never.mean, never.low, never.count) == (0, 0, 120)
    assert never.high == pytest.approx(3.10, abs=0.01)
    assert (always.mean, always.low, always.high) == (100, pytest.approx(100 - never.high), 100)
    some = share_interval([100.0] * 30 + [0.0] * 90)
    assert (some.mean, some.low, some.high) == (25, pytest.approx(18.1, abs=0.1), pytest.approx(33.4, abs=0.1))


@pytest.fixture
def folder(tmp_path):
    """Two pairs, in the root at 5 dB and in a subfolder at 20 dB, at another rate."""
    for part, share in (("noisy", 1), ("clean", 0)):
        (tmp_path / part / "street").mkdir(parents=True)
        noise = np.random.default_rng(9).standard_normal(32000)
        for name, snr_db in (("one", 3), ("street/two", 20)):
            clean = voice(len(name))
            level = np.linalg.norm(clean) / np.linalg.norm(noise) * 10 ** (-snr_db / 20)
            soundfile.write(tmp_path / part / f"{name}.wav", clean + share * level * noise, 16000, subtype="FLOAT")
    return tmp_path


def test_pairs_are_found_by_name_and_grouped_by_what_they_are(folder):
    one, two = read_folder(folder)
    assert (one.name, one.groups) == ("one", ("0..5 dB",))
    assert (two.name, two.groups) == ("street/two", ("from 15 dB", "street"))
    (folder / "clean" / "one.wav").unlink()
    with pytest.raises(HearloopError, match="no file for one"):
        read_folder(folder)
    soundfile.write(folder / "clean" / "one.wav", np.zeros(100), 16000)
    with pytest.raises(HearloopError, match="clean 100 in 1; expected as many"):
        read_folder(folder)
    with pytest.raises(HearloopError, match="hold noisy/ and clean/"):
        read_folder(folder / "noisy")


HALVE_LATE = """
import sys, numpy, soundfile
audio, rate = soundfile.read(sys.argv[1], dtype="float32")
soundfile.write(sys.argv[2], 0.5 * numpy.pad(audio, ((160, 0), (0, 0))), rate, subtype="FLOAT")
"""

SPLIT_LATE = """
import sys, numpy, soundfile
audio, rate = soundfile.read(sys.argv[1], dtype="float32")
for name, share in zip(sys.argv[2:], (0.7, 0.3)):
    soundfile.write(name, share * numpy.pad(audio, (99, 0)), rate, subtype="FLOAT")
"""


def test_another_program_is_measured_without_its_delay_and_its_failure_is_told(tmp_path):
    program = tmp_path / "tool.py"
    program.write_text(HALVE_LATE)
    system = CommandSystem(f"{sys.executable} {program} {{input}} {{output}}")
    audio = np.stack([voice(1), voice(2)])
    np.testing.assert_allclose(system.process(audio), audio / 2, atol=1e-6)
    program.write_text("raise SystemExit('no licence')")
    with pytest.raises(HearloopError, match="no licence"):
        system.process(audio)
    with pytest.raises(HearloopError, match=r"expected the words \{input\}"):
        CommandSystem("tool")


class Halver:
    name, task, latency_ms = "halver", "enhance", 0.0

    def process(self, mixture, looks=()):
        return mixture / 2


class Cut(Halver):
    def process(self, mixture, looks=()):
        return mixture[:, 1:]


class Broken(Halver):
    def process(self, mixture, looks=()):
        output = mixture.copy()
        output[0, 100] = np.nan
        return output


def test_results_do_not_depend_on_the_number_of_processes(folder):
    recordings = read_folder(folder)
    found = [json.dumps(as_json(evaluate([Halver], recordings, processes=n)), allow_nan=False) for n in (1, 2)]
    # A sum by several threads has another last digit than one by a single thread, as each of two processes has.
    one, two = (json.loads(text, parse_float=lambda number: round(float(number), 9)) for text in found)
    assert one == two


def test_an_output_of_another_length_is_refused(folder):
    with pytest.raises(HearloopError, match=r"halver: one: gave 1 output\(s\) of 31999 samples; expected 1 of 32000"):
        evaluate([Cut], read_folder(folder))


def test_an_output_that_is_not_finite_is_refused(folder):
    with pytest.raises(HearloopError, match="halver: one: gave 1 samples that are not finite; expected none"):
        evaluate([Broken], read_folder(folder))


def test_a_file_that_is_not_finite_is_refused(folder):
    soundfile.write(folder / "clean" / "one.wav", np.full(32000, np.nan), 16000, subtype="FLOAT")
    with pytest.raises(HearloopError, match=r"one\.wav: holds samples that are not finite"):
        read_folder(folder)


def test_two_channels_have_directions_and_one_channel_has_none(folder, tmp_path):
    one = evaluate([Halver], read_folder(folder))[1].bands[ALL]
    assert not {"ild_error_db", "itd_error_us"} & set(one)
    for part in ("noisy", "clean"):
        for path in (folder / part).rglob("*.wav"):
            audio, rate = soundfile.read(path)
            ears = np.stack([audio, 0.5 * np.roll(audio, 4)], axis=1)
            soundfile.write(path, ears, rate, subtype="FLOAT")
    unprocessed, halved = evaluate([Halver], read_folder(folder))
    assert halved.bands[ALL]["itd_error_us"].mean == 0
    assert halved.bands[ALL]["ild_error_db"].mean == pytest.approx(
        unprocessed.bands[ALL]["ild_error_db"].mean, abs=0.01
    )
    assert halved.bands[ALL]["si_sdr_db"].mean == pytest.approx(one["si_sdr_db"].mean, abs=0.1)
    assert "| ILD error, dB | ITD error, us |" in markdown([unprocessed, halved])


def test_a_program_that_separates_or_looks_is_told_by_its_words(tmp_path):
    assert CommandSystem("tool {input} {output}").task == "enhance"
    assert CommandSystem("tool {look} {input} {output}").task == "target"
    program = tmp_path / "tool.py"
    program.write_text(SPLIT_LATE)
    system = CommandSystem(f"{sys.executable} {program} {{input}} {{output1}} {{output2}}")
    assert system.task == "separate"
    audio = voice(3)[np.newaxis]
    np.testing.assert_allclose(system.process(audio), np.concatenate([0.7 * audio, 0.3 * audio]), atol=1e-6)


def test_pictures_are_written(folder, tmp_path):
    pytest.importorskip("matplotlib")
    from hearloop.models.evaluation.plots import plot_scatter, plot_spectrograms

    recordings = read_folder(folder)
    plot_spectrograms(tmp_path / "spectrograms.png", recordings[0], [Halver()])
    plot_scatter(tmp_path / "scatter.png", evaluate([Halver], recordings))
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in ("spectrograms", "scatter"))
