"""Whole evaluations of separation and of a chosen voice, by systems whose figures are known beforehand."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

pytest.importorskip("pesq", reason="pesq is not installed")
pytest.importorskip("pystoi", reason="pystoi is not installed")

from hearloop.models.evaluation.evaluate import ALL, evaluate
from hearloop.models.evaluation.recordings import FOLDERS, of_pairs, of_scenes, read_folder, sexes_of
from hearloop.models.evaluation.report import as_json, markdown
from hearloop.models.evaluation.systems import common_task
from hearloop.models.simulation.pairs import Pair
from hearloop.models.simulation.speakers import read_sexes
from hearloop.models.simulation.validation import PairValidationSet, pair_validation_set, scene_validation_set
from hearloop.runtime.errors import AudioError, HearloopError


class Oracle:
    """Knows the recordings, and answers by a function of the one that it hears."""

    latency_ms = 12.0

    def __init__(self, name, task, recordings, answer):
        self.name, self.task, self.recordings, self.answer = name, task, recordings, answer

    def __call__(self):
        return self

    def process(self, mixture, looks=()):
        (known,) = (each for each in self.recordings if np.array_equal(each.mixture, mixture))
        assert known.looks is looks
        return np.ascontiguousarray(self.answer(known), np.float32)


@pytest.fixture(scope="module")
def pairs(starter):
    material = starter[1]
    sexes = ["f", "m", "f", None]
    return of_pairs(pair_validation_set(material, 4, 1, 2, 2, 1), sexes)


@pytest.fixture(scope="module")
def scenes(starter):
    return of_scenes(scene_validation_set(starter[1], 3, 2))


def means(result, group=ALL):
    return {name: found.mean for name, found in result.bands[group].items()}


def swapped_at(*seconds):
    def answer(recording):
        output = recording.target.copy()
        for at in seconds:
            output[:, at * 16000 :] = output[::-1, at * 16000 :]
        return output

    return answer


def test_ideal_outputs_in_the_other_order_swap_never_and_have_no_phantom(pairs):
    ideal = Oracle("ideal", "separate", pairs, lambda item: item.target[::-1])
    unprocessed, result = evaluate([ideal], pairs)
    found, before = means(result), means(unprocessed)
    assert found["swaps_per_minute"] == 0
    assert found["phantom_db"] == -100
    assert found["si_sdr_db"] > 75
    assert found["si_sdr_improvement_db"] == pytest.approx(found["si_sdr_db"] - before["si_sdr_db"], abs=1e-3)
    assert found["conversation_si_sdr_improvement_db"] > 60
    assert found["silence_db"] < -50
    for measure in ("phantom_db", "silence_db", "si_sdr_improvement_db"):
        assert before[measure] == pytest.approx(0, abs=1e-6)
    assert np.isnan(before["swaps_per_minute"])


@pytest.mark.parametrize(
    ("semitones", "expected"), [(0.5, "0..2 semitones"), (3, "2..4 semitones"), (12, "from 7 semitones"), (None, "")]
)
def test_pairs_are_grouped_by_how_far_their_pitches_are_apart(pairs, semitones, expected):
    time_s = np.arange(16000) / 16000
    pitches_hz = (110, 0 if semitones is None else 110 * 2 ** (semitones / 12))
    sources = np.stack([(np.cos(2 * np.pi * np.outer(np.arange(1, 20), hz * time_s))).sum(0) for hz in pitches_hz])
    sources = (sources * [[1], [semitones is not None]]).astype(np.float32)
    pair = Pair(sources.sum(0), sources, 0.0, np.inf, (0, 1), "overlap")
    groups = of_pairs(PairValidationSet((pair,), (), (), (), ()))[0].groups
    assert (groups[1:] or ("",)) == (expected,)
    talk = replace(pair, kind="conversation")
    groups = of_pairs(PairValidationSet((), (), (), (), (talk,)))[0].groups
    assert groups == (("conversation", f"conversation, {expected}") if expected else ("conversation",))


def test_talkers_that_change_places_three_times_in_a_minute_are_counted(pairs):
    system = Oracle("swapping", "separate", pairs, swapped_at(13, 29, 47))
    _, result = evaluate([system], pairs)
    assert means(result)["swaps_per_minute"] == 3
    assert means(result)["conversation_si_sdr_db"] < 10
    assert means(result)["si_sdr_db"] > 75  # those last four seconds


def test_pairs_are_grouped_by_noise_room_and_sexes_and_rooms_do_not_count_to_the_whole(pairs):
    _, result = evaluate([Oracle("ideal", "separate", pairs, lambda item: item.target)], pairs)
    counts = {group: found["si_sdr_db"].count for group, found in result.bands.items() if "si_sdr_db" in found}
    assert (counts[ALL], counts["overlap"], counts["overlap in noise"], counts["room"]) == (4, 2, 2, 1)
    assert counts.get("same sex", 0) + counts.get("two sexes", 0) < 4
    assert 0 < sum(count for group, count in counts.items() if group.endswith("semitones")) <= 4
    assert result.bands["one talker in noise"]["phantom_db"].count == 1
    table = markdown([result])
    assert "| swaps per minute |" in table
    assert "one talker (1)" in table


def test_the_sexes_of_talkers_are_those_of_the_table(tmp_path, starter):
    table = tmp_path / "table.csv"
    table.write_text(
        "path,split,kind,speaker_id,gender\na.wav,valid,speech,anna,f\nb.wav,valid,speech,bert,m\nc,,,,f\n"
    )
    assert read_sexes(table) == {"anna": "f", "bert": "m"}
    assert sexes_of(["zoe", "bert", "anna", "bert"], read_sexes(table)) == ["f", "m", None]
    with pytest.raises(AudioError, match="cannot be read"):
        read_sexes(tmp_path / "none.csv")


def test_the_target_itself_keeps_directions_and_opens_at_once(scenes):
    _, result = evaluate([Oracle("ideal", "target", scenes, lambda item: item.target)], scenes)
    found = means(result)
    assert found["si_sdr_db"] > 75
    assert found["wrong_talker_percent"] == found["ild_error_db"] == found["itd_error_us"] == 0
    assert found["reopening_s"] == 0
    assert found["leakage_db"] < -60
    assert result.bands[ALL]["leakage_db"].count == 2


def test_somebody_else_is_the_wrong_talker_and_swapped_ears_are_the_wrong_side(scenes):
    chosen = [item for item in scenes if item.part == "chosen"]
    wrong = Oracle("wrong", "target", scenes, lambda item: item.others[0])
    mirrored = Oracle("mirrored", "target", scenes, lambda item: item.target[::-1])
    unprocessed, wrong, mirrored = evaluate([wrong, mirrored], chosen)
    assert means(wrong)["wrong_talker_percent"] == 100
    assert means(mirrored)["ild_error_db"] > 1
    assert means(unprocessed)["si_sdr_improvement_db"] == 0
    assert "wrong talker, %" in markdown([unprocessed, wrong])


def test_scenes_are_grouped_by_band_and_by_every_condition(scenes):
    chosen = [item for item in scenes if item.part == "chosen"]
    assert all(len(item.groups) == 7 for item in chosen)
    assert {item.groups[6] for item in chosen} <= {"look below -6 dB", "look from -6 dB"}
    assert {item.groups[0] for item in chosen} <= {"-5..0 dB", "0..5 dB", "5..10 dB", "10..15 dB"}
    assert {item.groups[2] for item in chosen} <= {"room", "open"}
    assert [item.groups for item in scenes if item.part == "pausing"] == [("target pauses",)] * 2


def test_a_clean_look_is_another_one(starter, scenes):
    clean = of_scenes(scene_validation_set(starter[1], 1, 0), clean_looks=True)[0]
    assert np.array_equal(clean.mixture, scenes[0].mixture)
    assert clean.looks[0].shape == scenes[0].looks[0].shape
    assert not np.array_equal(clean.looks[0], scenes[0].looks[0])


def test_everything_is_in_the_json(scenes):
    results = evaluate([Oracle("ideal", "target", scenes, lambda item: item.target)], scenes)
    told = json.loads(json.dumps(as_json(results), allow_nan=False))
    assert told[1]["bands"]["all"]["wrong_talker_percent"] == {
        "mean": 0,
        "low": 0,
        "high": pytest.approx(56.2, abs=0.1),
        "count": 3,
    }
    assert len(told[1]["points"]["leakage_db"]) == 2


def write(folder, part, name, sound):
    (folder / part).mkdir(exist_ok=True)
    soundfile.write(folder / part / f"{name}.wav", sound.T, 16000, subtype="FLOAT")


def test_talkers_in_a_folder_are_measured_by_how_many_speak(tmp_path):
    speech = 0.1 * np.random.default_rng(0).standard_normal((2, 12 * 16000)).astype(np.float32)
    for name, gains, seconds in (("both", (1, 1), 12), ("one", (0, 1), 2), ("none", (0, 0), 2)):
        talkers = (speech * np.array(gains)[:, np.newaxis])[:, : seconds * 16000]
        hum = 0.01 * np.sin(np.arange(talkers.shape[1]) / 20)
        write(tmp_path, "noisy", name, talkers.sum(axis=0, keepdims=True) + hum)
        for number, talker in enumerate(talkers, start=1):
            write(tmp_path, f"talker{number}", name, talker[np.newaxis])
    recordings = read_folder(tmp_path, "separate")
    _, result = evaluate([Oracle("ideal", "separate", recordings, swapped_at(6))], recordings)
    counts = {name: found.count for name, found in result.bands[ALL].items()}
    assert counts["si_sdr_db"] == counts["swaps_per_minute"] == counts["phantom_db"] == counts["silence_db"] == 1
    assert means(result)["swaps_per_minute"] == 5  # one in 12 s
    (tmp_path / "talker2" / "one.wav").unlink()
    with pytest.raises(AudioError, match="talker2: no file for one"):
        read_folder(tmp_path, "separate")
    with pytest.raises(AudioError, match=r"clean: no such folder; expected .* to hold noisy/, clean/ and look/"):
        read_folder(tmp_path, "target")


def test_a_folder_with_looks_is_measured_for_a_target(tmp_path, scenes):
    for number, scene in enumerate(scenes[2:4]):
        for part, sound in (("noisy", scene.mixture), ("clean", scene.target), ("look", scene.looks[0])):
            write(tmp_path, part, number, sound)
    recordings = read_folder(tmp_path, "target")
    assert [item.looks[0].shape for item in recordings] == [item.looks[0].shape for item in scenes[2:4]]
    _, result = evaluate([Oracle("ideal", "target", recordings, lambda item: item.target)], recordings)
    assert means(result)["ild_error_db"] == 0
    assert means(result)["leakage_db"] < -60
    assert means(result)["reopening_s"] == 0
    assert "wrong_talker_percent" not in result.bands[ALL]  # nobody says who else speaks


@pytest.mark.parametrize(
    ("task", "part", "channels", "message"),
    [
        ("separate", "noisy", 2, r"noisy/0\.wav: has 2 channel\(s\) of 2000 samples; expected sound in 1$"),
        ("separate", "talker2", 2, r"talker2/0\.wav: has 2 channel"),
        ("target", "noisy", 1, r"noisy/0\.wav: has 1 channel\(s\) of 2000 samples; expected sound in 2$"),
        ("target", "look", 1, r"look/0\.wav: has 1 channel"),
        ("enhance", "clean", 3, r"clean/0\.wav: has 3 channel\(s\) .*; expected sound in 1 or 2$"),
    ],
)
def test_a_file_with_channels_that_do_not_fit_the_task_is_named(tmp_path, task, part, channels, message):
    for each in ("noisy", *FOLDERS[task]):
        usual = {"enhance": 1, "separate": 1, "target": 2}[task]
        write(tmp_path, each, 0, np.zeros((channels if each == part else usual, 2000)))
    with pytest.raises(AudioError, match=message):
        read_folder(tmp_path, task)


def test_systems_of_different_tasks_are_named():
    systems = [Oracle("this", "separate", [], None), Oracle("that", "target", [], None)]
    with pytest.raises(HearloopError, match="this separate; that target; expected one task"):
        common_task(systems)
    assert common_task(systems[:1]) == "separate"


@pytest.mark.parametrize("which", ["pairs", "scenes"])
def test_two_outputs_are_two_columns_of_a_picture(which, request, tmp_path):
    pytest.importorskip("matplotlib")
    from hearloop.models.evaluation.plots import plot_scatter, plot_spectrograms

    recordings = request.getfixturevalue(which)[:1]
    task = {"pairs": "separate", "scenes": "target"}[which]
    system = Oracle("ideal", task, recordings, lambda item: item.target)
    plot_spectrograms(tmp_path / "spectrograms.png", recordings[0], [system])
    plot_scatter(tmp_path / "scatter.png", evaluate([system], recordings))
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in ("spectrograms", "scatter"))
