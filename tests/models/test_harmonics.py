"""Combs find the pitch of a voice in a spectrum."""

import numpy as np
import pytest
import torch

from hearloop.models import build
from hearloop.models.frontend import Stft
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


def test_bins_that_lie_too_far_apart_for_pitches_are_refused():
    with pytest.raises(HearloopError, match="symmetric-192 has bins 83 Hz apart; expected at most 35"):
        build("separate-small", window="symmetric-192", pitches=8)
