"""Keep one voice, chosen beforehand, at both ears, on small devices: the dual-path network of `separate-small`."""

import torch
from torch import nn

from ...runtime.bundle_info import Port
from ..dualpath import DualPath
from ..streaming.state import State
from .gridnet import Steering


class TargetSmall(DualPath):
    """Target speaker extraction, binaural, 12 ms algorithmic latency; parameters and state as in `DualPath`.

    It begins with what `separate-small` of the same sizes knows of two talkers, where the shapes fit, and is steered by
    the same embeddings as `Target`; the map of a voice scales and shifts the features before the blocks.

    Parameters
    ----------
    embedding : int
        Size of the embedding of a voice, which has unit norm.
    """

    task = "target"
    channels_in = 2
    channels_out = 2

    def __init__(
        self,
        channels: int = 24,
        hidden: int = 48,
        bands: int = 32,
        blocks: int = 3,
        attentive: int = 0,
        window: str = "asymmetric-512-192",
        embedding: int = 256,
    ):
        ears = self.channels_in
        super().__init__(channels, hidden, bands, blocks, attentive, values=2 * ears, window=window)
        self.extra_inputs = (Port("embedding", "embedding", (1, 2 * hidden, 1, bands), "map of the chosen voice"),)
        self.steering = Steering(embedding, 2 * hidden, bands)
        assert self.mask.bias is not None
        with torch.no_grad():
            # Any voice changes the features a little to begin with, and an untrained model passes its input.
            nn.init.constant_(self.steering.norm.weight, 0.3)
            self.mask.weight.mul_(0.1)
            self.mask.bias.copy_(torch.tensor([1.0, 0.0] * ears))
        self.register_buffer("quarter_turn", torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), persistent=False)

    def forward(self, spectrum: torch.Tensor, voice: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Spectrum [B, 2, T, 257, 2], map [B, 2 hidden, 1, bands], state -> spectrum of the voice, next state."""
        values, state = self.to_bins(spectrum, state, voice)
        real, imaginary = values.unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2).split(1, dim=-1)
        return real * spectrum + imaginary * (spectrum @ self.quarter_turn), state
