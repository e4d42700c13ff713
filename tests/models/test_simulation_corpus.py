"""Reading recordings: any format and rate becomes one array at 16 kHz; what cannot be read is named."""

import os

import numpy as np
import pytest
import soundfile

from hearloop.models.simulation.corpus import Corpus, read_folder, read_manifest
from hearloop.models.simulation.files import files_below
from hearloop.runtime.errors import AudioError


def sine(seconds, rate, frequency_hz=440.0):
    return 0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(int(seconds * rate)) / rate).astype(np.float32)


@pytest.mark.parametrize(("suffix", "rate", "channels"), [(".wav", 44100, 2), (".flac", 8000, 1), (".ogg", 48000, 1)])
def test_a_sine_keeps_its_frequency_level_and_length_at_any_rate(tmp_path, suffix, rate, channels):
    (tmp_path / "below").mkdir()
    audio = np.repeat(sine(1.0, rate)[:, None], channels, axis=1)
    soundfile.write(tmp_path / "below" / f"tone{suffix}", audio, rate)
    read = read_folder(tmp_path).recording(0)
    assert abs(len(read) - 16000) <= 1
    middle = read[2000:14000] * np.hanning(12000)
    peak_hz = np.argmax(np.abs(np.fft.rfft(middle))) * 16000 / 12000
    assert peak_hz == pytest.approx(440, abs=2)
    assert np.sqrt(2 * np.mean(read[2000:14000] ** 2)) == pytest.approx(0.5, rel=0.02)


def test_files_are_read_in_the_order_of_their_names(tmp_path):
    for name, level in (("b", 0.25), ("a", 0.5)):
        soundfile.write(tmp_path / f"{name}.wav", np.full(100, level, np.float32), 16000, subtype="FLOAT")
    corpus = read_folder(tmp_path)
    assert [corpus.recording(index)[0] for index in (0, 1)] == [0.5, 0.25]


def test_a_manifest_chooses_by_split_and_kind(tmp_path):
    for name in ("a", "b", "c"):
        soundfile.write(tmp_path / f"{name}.wav", np.ones(100 * (1 + ord(name) - ord("a"))), 16000)
    table = tmp_path / "table.csv"
    table.write_text("path,split,kind\na.wav,train,speech\nb.wav,valid,speech\nc.wav,valid,noise\n")
    assert len(read_manifest(table, "valid", "speech").samples) == 200
    with pytest.raises(AudioError, match=r"split 'train', kind 'noise'"):
        read_manifest(table, "train", "noise")


def test_a_manifest_without_a_column_is_refused_by_name(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("path,kind\na.wav,speech\n")
    with pytest.raises(AudioError, match="column split is missing"):
        read_manifest(table, "train", "speech")


def test_an_empty_and_a_missing_folder_are_named(tmp_path):
    with pytest.raises(AudioError, match=f"{tmp_path.name}: no audio"):
        read_folder(tmp_path)
    with pytest.raises(AudioError, match="elsewhere: no such folder"):
        read_folder(tmp_path / "elsewhere")


def test_an_unreadable_file_is_named(tmp_path):
    soundfile.write(tmp_path / "good.wav", np.zeros(100), 16000)
    (tmp_path / "broken.wav").write_bytes(b"not audio at all")
    with pytest.raises(AudioError, match=r"broken\.wav"):
        read_folder(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("rate", [16000, 48000])
def test_a_file_that_is_not_finite_is_named(tmp_path, value, rate):
    audio = sine(0.1, rate)
    audio[100] = value
    soundfile.write(tmp_path / "broken.wav", audio, rate, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"broken\.wav: holds samples that are not finite"):
        read_folder(tmp_path)


def corpus_of(*recordings):
    starts = np.cumsum([0, *[len(recording) for recording in recordings]])
    return Corpus(np.concatenate(recordings).astype(np.int16), starts, [str(i) for i in range(len(recordings))])


def test_a_drawn_piece_stands_in_one_recording():
    corpus = corpus_of(np.full(500, 1000), np.full(300, 2000), np.full(900, 3000))
    rng = np.random.default_rng(0)
    pieces = [corpus.draw(rng, 200) for _ in range(200)]
    assert all(len(np.unique(piece)) == 1 for piece in pieces)
    assert {round(float(piece[0]) * 32768) for piece in pieces} == {1000, 2000, 3000}


def test_some_groups_are_not_drawn_unless_there_is_nothing_else():
    corpus = corpus_of(np.full(500, 1000), np.full(300, 2000), np.full(900, 3000))
    rng = np.random.default_rng(0)
    assert {round(float(corpus.draw(rng, 200, without=["0", "2"])[0]) * 32768) for _ in range(50)} == {2000}
    assert {corpus.choose(rng, "012") for _ in range(50)} == {0, 1, 2}
    np.testing.assert_array_equal(
        corpus.draw(np.random.default_rng(3), 200), corpus.draw(np.random.default_rng(3), 200, without=["nobody"])
    )


def test_a_short_recording_stands_in_silence_or_is_repeated():
    corpus = corpus_of(np.full(50, 1000))
    once = corpus.draw(np.random.default_rng(1), 200)
    assert np.count_nonzero(once) == 50
    assert np.all(np.diff(np.flatnonzero(once)) == 1)
    assert np.count_nonzero(corpus.draw(np.random.default_rng(1), 200, loop=True)) == 200


@pytest.mark.parametrize(("rate", "peak"), [(16000, 12.0), (48000, 12.0), (16000, 1.01)])
def test_a_recording_above_full_scale_is_made_softer_as_a_whole(tmp_path, rate, peak):
    """It was clipped: a quarter of the samples of a loud file stood at full scale, and that was what is clean."""
    voice = (peak * 2 * sine(1.0, rate) * np.hanning(rate)).astype(np.float32)
    for name, audio in (("loud", voice), ("soft", voice / np.float32(2 * peak))):
        soundfile.write(tmp_path / f"{name}.wav", audio, rate, subtype="FLOAT")
    with pytest.warns(UserWarning, match=r"1 of 2 recordings above full scale.*: \S*/loud\.wav$") as told:
        corpus = read_folder(tmp_path)
    assert len(told) == 1
    loud, soft = corpus.recording(0), corpus.recording(1)
    assert np.abs(loud).max() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(loud, 2 * soft, atol=2e-3)


def test_silent_recordings_are_named_and_a_folder_of_nothing_else_is_refused(tmp_path):
    for name in "abc":
        soundfile.write(tmp_path / f"{name}.wav", 0 * sine(0.1, 16000), 16000)
    with pytest.raises(AudioError, match=f"{tmp_path.name}: all of its recordings, 3, are silent"):
        read_folder(tmp_path)
    soundfile.write(tmp_path / "d.wav", sine(0.1, 16000), 16000)
    with pytest.warns(UserWarning, match=r"3 of 4 recordings silent: \S*/a\.wav, \S*/b\.wav, \S*/c\.wav$") as told:
        assert len(read_folder(tmp_path)) == 4
    assert len(told) == 1


def test_recordings_whose_channels_cancel_are_named_and_a_folder_of_nothing_else_is_refused(tmp_path):
    """Of a microphone on a balanced line, both wires as two channels."""
    line = sine(0.1, 16000)
    hiss = 1e-3 * np.random.default_rng(1).standard_normal((2, len(line)))
    for name, ears in (("exactly", [line, -line]), ("almost", np.stack([line, -line]) + hiss)):
        soundfile.write(tmp_path / f"{name}.wav", np.transpose(ears), 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"all of its recordings, 2, are silent, or their channels cancel"):
        read_folder(tmp_path)
    noise = np.random.default_rng(2).standard_normal((len(line), 8))
    soundfile.write(tmp_path / "eight.wav", 0.1 * noise, 16000, subtype="FLOAT")
    with pytest.warns(UserWarning, match=r"2 of 3 recordings of channels that .*: \S*/almost\.wav, \S*/exactly\.wav$"):
        read_folder(tmp_path)


def test_linked_folders_are_read_and_a_link_into_itself_once(tmp_path):
    below, elsewhere = tmp_path / "speech", tmp_path / "elsewhere"
    for folder, name in ((below, "a"), (elsewhere, "b"), (elsewhere / "deep", "c")):
        folder.mkdir()
        soundfile.write(folder / f"{name}.wav", sine(0.1, 16000), 16000)
    (below / "link").symlink_to(elsewhere)
    (elsewhere / "deep" / "round").symlink_to(elsewhere)
    (below / "self").symlink_to(below)
    (below / "one.wav").symlink_to(elsewhere / "b.wav")
    names = [str(path.relative_to(below)) for path in files_below(below, (".wav",))]
    assert names == ["a.wav", "link/b.wav", "link/deep/c.wav", "one.wav"]
    assert read_folder(below).groups == ["a", "link", "deep", "one"]


def test_what_is_no_sound_file_is_left_out_and_a_link_to_nothing_named(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "._a.wav").write_bytes(b"what macOS keeps of a.wav on a stick")
    os.mkfifo(tmp_path / "pipe.wav")
    soundfile.write(tmp_path / "a.wav", sine(0.1, 16000), 16000)
    soundfile.write(tmp_path / "folder.wav" / "b.WAV", sine(0.1, 16000), 16000, format="WAV")
    assert read_folder(tmp_path).names == [str(tmp_path / "a.wav"), str(tmp_path / "folder.wav" / "b.WAV")]
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    with pytest.raises(AudioError, match=r"gone\.wav: a link to nothing"):
        read_folder(tmp_path)
