"""Combs find the pitch of a voice in a spectrum, and the network that they are part of begins as it was."""

import numpy as np
import pytest
import torch

from hearloop.models import build
from hearloop.models.frontend import Stft, enhance
from hearloop.models.harmonics import HIGHEST_HZ, LOWEST_HZ, REACH, combs
from hearloop.runtime.errors import HearloopError

WINDOW = "asymmetric-512-192"
PITCHES = 96


@pytest.mark.parametrize("pitch_hz", [85.0, 110.0, 160.0, 220.0, 330.0])
def test_the_comb_of_its_pitch_answers_to_a_voice_most(pitch_hz):
    time_s = np.arange(4000) / 16000
    orders = np.arange(1, int(4000 / pitch_hz))
    voice = sum(np.sin(2 * np.pi * pitch_hz * order * time_s + order) / order for order in orders)
    spectrum, _ = Stft(WINDOW).analysis(torch.from_numpy(voice).float()[None, None, : 31 * 128])
    magnitudes = (spectrum[0, 0, -1].norm(dim=-1) / spectrum.norm()) ** 0.3
    answers = combs(PITCHES, 31.25) @ magnitudes[:REACH]
    found_hz = LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** (int(answers.argmax()) / (PITCHES - 1))
    assert found_hz == pytest.approx(pitch_hz, rel=0.06)


def test_a_network_that_hears_pitches_begins_as_it_was_and_learns_to():
    torch.manual_seed(0)
    plain, hearing = build("separate-small"), build("separate-small", pitches=16)
    unknown = hearing.load_state_dict(plain.state_dict(), strict=False)
    assert not unknown.unexpected_keys
    audio = 0.1 * torch.randn(2, 1, 4000)
    found = enhance(hearing.train(), audio)
    torch.testing.assert_close(found, enhance(plain.train(), audio), rtol=0, atol=1e-6)
    optimiser = torch.optim.SGD(hearing.parameters(), lr=1.0)
    for _ in range(2):  # what has no effect has no gradient either, but what leads back has one
        optimiser.zero_grad()
        (enhance(hearing, audio) - audio).square().mean().backward()
        optimiser.step()
    for name in unknown.missing_keys:
        gradient = hearing.get_parameter(name).grad
        assert gradient is not None, name
        assert gradient.abs().max() > 0, name


def test_bins_that_lie_too_far_apart_for_pitches_are_refused():
    with pytest.raises(HearloopError, match="symmetric-192 has bins 83 Hz apart; expected at most 35"):
        build("separate-small", window="symmetric-192", pitches=8)
