"""Two talkers apart by the network of `enhance-small`, larger; and larger still, with attention between frames."""

from typing import Any

import torch

from ...runtime.windows import window_pair
from ..dualpath import DualPath
from ..streaming.state import State
from .gate import PhantomGate
from .masks import TalkerMasks


class DualPathSeparator(DualPath):
    """Streaming separation of talkers, 12 ms algorithmic latency; parameters as in `DualPath`.

    Parameters
    ----------
    talkers : int
    sum_to_one : bool
        Let the talkers add up to the mixture.

    State: that of `DualPath`, and "gate".
    """

    task = "separate"

    def __init__(
        self,
        channels: int = 24,
        hidden: int = 48,
        bands: int = 32,
        blocks: int = 3,
        attentive: int = 0,
        window: str = "asymmetric-512-192",
        talkers: int = 2,
        sum_to_one: bool = True,
        pitches: int = 0,
    ):
        super().__init__(channels, hidden, bands, blocks, attentive, 2 * talkers, window, pitches)
        assert self.mask.bias is not None
        self.channels_out = talkers
        self.masks = TalkerMasks(talkers, sum_to_one)
        self.gate = PhantomGate(talkers, window_pair(window).hop_length)
        with torch.no_grad():
            self.mask.weight.mul_(0.1)
            self.mask.bias.zero_()

    def initial_state(self, batch: int) -> State:
        return {**super().initial_state(batch), "gate": self.gate.initial_state(batch)}

    def forward(self, spectrum: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Mixture [B, 1, T, 257, 2] and state -> talkers [B, talkers, T, 257, 2] and the next state."""
        values, following = self.to_bins(spectrum, state)
        masks = values.unflatten(1, (self.channels_out, 2)).permute(0, 1, 3, 4, 2)
        talkers, gate = self.masks(spectrum, masks), state["gate"]
        # What the gate takes off while it learns, the network does not learn to leave out.
        if not self.training:
            talkers, gate = self.gate(talkers, gate)
        return talkers, {**following, "gate": gate}


def separate_base(**config: Any) -> DualPathSeparator:
    """The small one, wider, with combs and three blocks with attention: it can begin with what the small one knows."""
    return DualPathSeparator(**({"channels": 32, "hidden": 64, "attentive": 3, "pitches": 128} | config))
