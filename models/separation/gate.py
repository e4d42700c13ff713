"""No phantom talker: what is left of a voice in the outputs of others."""

import torch
from torch import nn

from ..streaming.average import ExponentialAverage
from ..streaming.state import State

MEMORY_S = 0.1
ALONE = 0.04  # of the power of all outputs, -14 dB: below the softer of two talkers within 5 dB, leaks included
LEAST_POWER = 1e-6  # of a spectrum, -107 dBFS: below it nobody is louder than anybody


class PhantomGate(nn.Module):
    """Turns an output down that is far below the others, and gives what it loses back to them.

    The share that an output has of the power of all of them, over the last tenth of a second, is compared with 4 %.
    With less, its gain is the share over 4 %: what is some dB below that limit becomes three times as many. What is
    taken off goes to the outputs by their shares, so that their sum stays what it was. A downward expander, as hearing
    aids have it for each band, but against the other talkers instead of a fixed level.

    Parameters
    ----------
    talkers : int
    hop_length : int
        In samples.

    State: that of the average of the powers.
    """

    def __init__(self, talkers: int, hop_length: int, sample_rate: int = 16000):
        super().__init__()
        self.power = ExponentialAverage(MEMORY_S * sample_rate / hop_length, (talkers,))

    def initial_state(self, batch: int) -> State:
        return self.power.initial_state(batch)

    def forward(self, talkers: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Talkers [B, talkers, T, F, 2] and state -> the same with fewer traces of one another, and the next state."""
        power, state = self.power(talkers.square().sum((-1, -2)), state)
        power = power + LEAST_POWER
        share = (power / power.sum(1, keepdim=True))[..., None, None]
        kept = talkers * (share / ALONE).clamp(max=1)
        return kept + share * (talkers - kept).sum(1, keepdim=True), state
