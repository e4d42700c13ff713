"""The published encoder of voices: golden vectors of the package Resemblyzer, and every tensor accounted for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hearloop.models.mel import mel_filters
from hearloop.models.published import load
from hearloop.models.published.dvector import DVector, read_dvector
from hearloop.runtime.errors import HearloopError

GOLDEN = Path(__file__).parent / "golden" / "dvector.npz"


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN))


@pytest.fixture(scope="module")
def encoder(golden):
    weights = {key.removeprefix("sd/"): value for key, value in golden.items() if key.startswith("sd/")}
    return load("dvector", weights, json.loads(str(golden["config"]))).requires_grad_(False)


def test_bands_and_voice_are_as_published(encoder, golden):
    speech = torch.from_numpy(golden["speech"])[None]
    mel = encoder.mel(speech, torch.tensor([speech.shape[-1]]))
    np.testing.assert_allclose(mel[0], golden["mel"], rtol=1e-4, atol=1e-6 * golden["mel"].max())
    voice = encoder.voices(encoder.lstm(mel)[0])[:, -1]
    np.testing.assert_allclose(voice, golden["embed"], atol=1e-5)


def test_neither_the_level_nor_what_is_behind_the_end_matters(encoder, golden):
    speech = torch.from_numpy(golden["speech"])
    padded = torch.zeros(2, 20000)
    padded[0, :16000], padded[1, :9000] = 3 * speech, speech[:9000]
    found = encoder(padded, torch.tensor([16000, 9000]))
    np.testing.assert_allclose(found[0], encoder(speech[None])[0], atol=1e-5)
    np.testing.assert_allclose(found[1], encoder(speech[None, :9000])[0], atol=1e-5)
    np.testing.assert_allclose(found.norm(dim=-1), 1, atol=1e-6)
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_silence_and_a_moment_of_sound_give_numbers(encoder):
    for speech in (torch.zeros(1, 4000), torch.randn(1, 300)):
        assert torch.isfinite(encoder(speech)).all()


@pytest.mark.parametrize(("bins", "bands"), [(201, 40), (257, 40), (513, 20)])
def test_every_mel_band_has_unit_area_and_they_follow_one_another(bins, bands):
    filters = mel_filters(bins, bands, 16000).numpy()
    centres = (filters * np.arange(bins)[:, None]).sum(0) / filters.sum(0)
    assert np.all(np.diff(centres) > 0)
    # Bands as narrow as the bins are sampled too coarsely to say what their area is.
    wide = (filters > 0).sum(0) >= 6
    np.testing.assert_allclose(filters.sum(0)[wide] * 8000 / (bins - 1), 1, rtol=0.05)


def test_the_published_file_is_read_and_anything_else_is_refused(tmp_path):
    torch.manual_seed(0)
    weights = DVector().state_dict() | {"similarity_weight": torch.zeros(1), "similarity_bias": torch.zeros(1)}
    path = tmp_path / "pretrained.pt"
    torch.save({"model_state": weights}, path)
    read = read_dvector(path)
    assert torch.equal(read.linear.weight, weights["linear.weight"])
    assert not any(parameter.requires_grad for parameter in read.parameters())
    torch.save({"model_state": {key: weights[key] for key in weights if key != "linear.bias"}}, path)
    with pytest.raises(HearloopError, match=r"1 tensors are missing, the first is 'linear.bias'"):
        read_dvector(path)
    path.write_bytes(b"something else")
    with pytest.raises(HearloopError, match="not weights of a d-vector"):
        read_dvector(path)
    with pytest.raises(HearloopError, match=r"absent\.pt: not weights of a d-vector"):
        read_dvector(tmp_path / "absent.pt")
