"""Where recordings come from: whose they are, that no split leaks into another, and recipes that make sense."""

import csv
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hearloop.models.simulation.corpus import Corpus, read_folder, read_manifest
from hearloop.models.simulation.echoes import EchoSimulator
from hearloop.models.simulation.head_files import read_manifest_heads
from hearloop.models.simulation.looks import LookSimulator
from hearloop.models.simulation.material import Material, check_disjoint, read_material
from hearloop.models.simulation.mixture import Simulator
from hearloop.models.simulation.pairs import PairSimulator
from hearloop.models.simulation.parallel import batches
from hearloop.models.simulation.recipe import EchoRecipe, PairRecipe, Recipe, SceneRecipe
from hearloop.models.simulation.rooms import simulate_rooms
from hearloop.models.simulation.scenes import SceneSimulator
from hearloop.models.simulation.speakers import speaker_of
from hearloop.models.simulation.starter import starter_material
from hearloop.models.simulation.voices import Voices
from hearloop.runtime.errors import AudioError, HearloopError


@pytest.mark.parametrize(
    ("path", "speaker"),
    [
        ("train-clean-100/1034/121119/1034-121119-0000.flac", "1034"),
        ("wav48_silence_trimmed/p225/p225_001_mic1.flac", "p225"),
        ("read_speech/book_00000_chp_0009_reader_06709_0_seg_1.wav", "reader_06709"),
        ("anna/monday.wav", "anna"),
        ("anna/2024/monday.wav", "2024"),
        ("monday.wav", "monday"),
        ("anna/2024-01-05.wav", "anna"),
        ("anna/1999_12_31_evening.wav", "anna"),
        ("1993/147149/1993-147149-0006.flac", "1993"),
        ("2001/12/2001-12-0006.flac", "2001"),
    ],
)
def test_speakers_are_told_by_how_collections_are_laid_out(path, speaker):
    assert speaker_of(Path("/data") / path, Path("/data")) == speaker


def write(path, seed, samples=2000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(samples), 16000)


def test_a_folder_as_it_comes_gives_its_speakers_and_each_noise_is_its_own(tmp_path):
    for index, name in enumerate(("19/198/19-198-0000", "19/198/19-198-0001", "26/495/26-495-0000")):
        write(tmp_path / "speech" / f"{name}.flac", index)
    for index, name in enumerate(("street", "office")):
        write(tmp_path / "noise" / "tr" / f"{name}.wav", 10 + index)
    material = read_material(tmp_path / "speech", tmp_path / "noise")
    assert material.speech.groups == ["19", "19", "26"]
    assert material.noise.groups == ["tr/office", "tr/street"]
    assert material.heads == ()


def test_noises_of_one_name_in_different_folders_are_different_recordings(tmp_path):
    for index, name in enumerate(("a/anna/x", "b/bert/y", "m/street/001", "n/car/001")):
        write(tmp_path / f"{name}.wav", index)
    check_disjoint(
        Material(read_folder(tmp_path / "a"), read_folder(tmp_path / "m", "noise")),
        Material(read_folder(tmp_path / "b"), read_folder(tmp_path / "n", "noise")),
    )
    table = tmp_path / "table.csv"
    table.write_text(f"path,split,kind,group\nm/street/001.wav,,noise,\n{tmp_path}/n/car/001.wav,,noise,mine\n")
    assert sorted(read_manifest(table, "", "noise").groups) == ["m/street/001", "mine"]


def test_so_many_hours_of_a_folder_are_an_always_equal_choice_of_its_files(tmp_path):
    for index in range(12):
        write(tmp_path / f"{index:02}.wav", index, samples=16000)
    few = read_folder(tmp_path, hours=3.5 / 3600)
    assert len(few) == 4
    assert few.names == read_folder(tmp_path, hours=3.5 / 3600).names == sorted(few.names)
    assert set(few.names) < set(read_folder(tmp_path, hours=8 / 3600).names)
    assert len(read_folder(tmp_path, hours=1)) == 12


def test_what_is_in_both_splits_is_named(starter, tmp_path):
    training, validation = starter
    check_disjoint(training, validation)
    cases = {
        "speaker train-voice-0": replace(validation, speech=training.speech),
        "noise recording train-noise-0": replace(validation, noise=training.noise),
        "head sphere-78.0mm": replace(validation, heads=training.heads[:1]),
    }
    for message, leaking in cases.items():
        with pytest.raises(AudioError, match=f"{message}.* in both training and validation"):
            check_disjoint(training, leaking)


def test_a_copy_under_another_name_is_found_by_its_sound(tmp_path):
    write(tmp_path / "a" / "x.wav", 1)
    write(tmp_path / "b" / "y.wav", 1)
    write(tmp_path / "n" / "m.wav", 2)
    write(tmp_path / "o" / "k.wav", 3)
    training = Material(read_folder(tmp_path / "a"), read_folder(tmp_path / "n", "noise"))
    validation = Material(read_folder(tmp_path / "b"), read_folder(tmp_path / "o", "noise"))
    with pytest.raises(AudioError, match=r"recording .*y\.wav"):
        check_disjoint(training, validation)


def test_the_same_head_under_another_name_is_found(starter):
    training, validation = starter
    other = training.heads[0]
    copy = type(other)("somebody", other.azimuth_deg, other.elevation_deg, other.responses)
    with pytest.raises(AudioError, match="head somebody of validation is sphere"):
        check_disjoint(training, replace(validation, heads=(copy,)))


def test_a_part_of_the_shared_recordings_has_speakers_and_heads_and_does_not_leak(shared, tmp_path):
    folder = shared / "data"
    with open(folder / "MANIFEST.csv", newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    with open(tmp_path / "part.csv", "w", newline="", encoding="utf-8") as table:
        writer = csv.DictWriter(table, rows[0].keys())
        writer.writeheader()
        writer.writerows({**row, "path": folder / row["path"]} for row in rows[::12])
    part = tmp_path / "part.csv"
    training, validation = (
        Material(*(read_manifest(part, split, kind) for kind in ("speech", "noise")), read_manifest_heads(part, split))
        for split in ("train", "valid")
    )
    check_disjoint(training, validation)
    assert all(group.startswith(("ls-", "so-", "vctk-")) for group in training.speech.groups)
    assert training.heads
    with pytest.raises(AudioError, match="in both training and validation"):
        check_disjoint(training, training)


def test_the_starter_says_that_it_is_only_to_try_things_and_is_always_the_same(starter):
    with pytest.warns(UserWarning, match="no recordings were given"):
        again = starter_material()
    for first, second in zip(starter, again, strict=True):
        assert np.array_equal(first.speech.samples, second.speech.samples)
        assert np.array_equal(first.noise.samples, second.noise.samples)
    assert np.all(np.abs(starter[0].speech.samples) < 32767)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Recipe, {"room_share": 1.2}, r"Recipe: room_share is 1\.2; expected 0 to 1"),
        (Recipe, {"snr_db": (15, -5)}, r"Recipe: snr_db is \(15, -5\); expected the lower end"),
        (Recipe, {"snr_db": 5}, "Recipe: snr_db is 5; expected a pair"),
        (Recipe, {"room_share": (0, 1)}, "room_share is .*; expected one number"),
        (Recipe, {"room_share": "often"}, "room_share is 'often'; expected numbers"),
        (PairRecipe, {"babble_talkers": (2.5, 4)}, "PairRecipe: babble_talkers .* expected whole numbers"),
        (SceneRecipe, {"look_s": (-1, 5)}, r"look_s is \(-1, 5\); expected 0 to 120"),
        (SceneRecipe, {"noise_directions": (0, 5)}, "noise_directions .* expected 1 to 256"),
        (SceneRecipe, {"snr_db": (0, 5)}, r"SceneRecipe: spread_db is 5; expected 0 to 2\.5, half the width of snr_db"),
        (SceneRecipe, {"spread_db": -1.0}, "spread_db is -1; expected 0 to 10"),
        (SceneRecipe, {"frontal_deg": -5.0}, r"frontal_deg is -5\.0; expected 0 to 180"),
        (SceneRecipe, {"elsewhere_deg": 200.0}, r"elsewhere_deg is 200\.0; expected 0 to 180"),
        (
            Recipe,
            {"babble_talkers": (0, 2)},
            r"babble_talkers is \(0, 2\); expected at least 1 with a babble_share of 0",
        ),
        (EchoRecipe, {"saturation_drive": (0.1, float("nan"))}, "saturation_drive .* expected 0.01 to 100"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused_by_its_key(kind, values, message):
    with pytest.raises(HearloopError, match=message):
        kind(**values)


@pytest.mark.parametrize("processes", [1, 2])
def test_worker_processes_make_the_same_items_in_the_same_order(starter, processes):
    material = starter[0]
    made = PairSimulator(PairRecipe(), material.speech, material.noise, simulate_rooms(np.random.default_rng(0), 2))
    here = list(itertools.islice(batches(made, 3, 2, 4000), 3))
    stream = batches(made, 3, 2, 4000, processes)
    there = list(itertools.islice(stream, 3))
    stream.close()
    for first, second in zip(here, there, strict=True):
        assert np.array_equal(first.mixture, second.mixture)
        assert np.array_equal(first.sources, second.sources)
    resumed = next(batches(made, 3, 2, 4000, first=4))
    assert np.array_equal(resumed.mixture, here[2].mixture)


@pytest.mark.parametrize(
    "make",
    [
        lambda m, rng: Simulator(Recipe(babble_share=1.0), m.speech, m.noise, simulate_rooms(rng, 2)).mixture(
            rng, 8000, 5.0
        ),
        lambda m, rng: PairSimulator(
            PairRecipe(babble_share=1.0, noise_share=1.0), m.speech, m.noise, simulate_rooms(rng, 2)
        ).pair(rng, 8000),
        lambda m, rng: EchoSimulator(
            EchoRecipe(babble_share=1.0, noise_share=1.0), m.speech, m.noise, simulate_rooms(rng, 2)
        ).scene(rng, 8000),
        lambda m, rng: SceneSimulator(SceneRecipe(babble_share=1.0), m.speech, m.noise, m.heads).scene(rng, 8000),
        lambda m, rng: LookSimulator(
            SceneRecipe(babble_share=1.0, look_talkers=(0, 0)), m.speech, m.noise, m.heads
        ).pair(rng, 48000),
    ],
    ids=["mixture", "pair", "echo", "scene", "look"],
)
def test_nobody_babbles_who_is_to_be_told_from_the_babble(starter, monkeypatch, make):
    """Of those who are heard by themselves, nobody is drawn once more."""
    material, drawn = starter[0], []
    choose, say = Corpus.choose, Voices.say
    told = set()

    def chosen(corpus, rng, without=()):
        index = choose(corpus, rng, without)
        drawn.append((corpus.groups[index], set(without)))
        return index

    def said(voices, rng, speaker, *more, **options):
        told.add(voices.names[speaker])
        return say(voices, rng, speaker, *more, **options)

    monkeypatch.setattr(Corpus, "choose", chosen)
    monkeypatch.setattr(Voices, "say", said)
    babbling = 0
    for seed in range(8):
        told.clear()
        drawn.clear()
        make(material, np.random.default_rng(seed))
        if not told:  # one voice, which is drawn like any recording
            told.add(drawn[0][0])
            del drawn[0]
        for name, without in drawn:
            if without:
                babbling += 1
                assert told <= without
                assert name not in told
    assert babbling > 20
