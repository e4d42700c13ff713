"""Keep one voice, chosen beforehand, at both ears, on small devices: the dual-path network of `separate-small`."""

from collections.abc import Mapping

import torch
from torch import nn

from ...runtime.bundle_info import Port
from ..beamformer import Beamformer
from ..dualpath import DualPath
from ..features import CompressedSpectrum
from ..streaming.state import State
from ..widening import widened
from .gridnet import Steering

TALKERS = 2  # of the separator that it can begin with
UNTRAINED = 0.3  # of their size: features that a network with one ear does not have, beside those that it knows


class TargetSmall(DualPath):
    """Target speaker extraction, binaural, 12 ms algorithmic latency; parameters and state as in `DualPath`.

    It begins with what `separate-small` of the same sizes knows of two talkers, where the shapes fit, and is steered by
    the same embeddings as `Target`; the map of a voice scales and shifts the features before the blocks and after each.

    Parameters
    ----------
    embedding : int
        Size of the embedding of a voice, which has unit norm.
    rank : int
        How many sums of the embedding the network sees: few, to tell voices apart that it has not learned.
    beamforming : bool
        Whether each ear takes from both, by a `Beamformer`; else it takes what a complex gain lets pass of its own.

    State: that of `DualPath`, and with beamforming "beamformer".
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
        rank: int = 24,
        pitches: int = 0,
        delays: int = 0,
        beamforming: bool = False,
    ):
        ears = self.channels_in
        begins = Beamformer.begins if beamforming else (1.0, 0.0) * ears
        super().__init__(channels, hidden, bands, blocks, attentive, len(begins), window, pitches, delays)
        self.beamformer = Beamformer(window) if beamforming else None
        columns = bands + len(self.ends)
        shape = (1, 2 * hidden, 1, columns + (delays > 0))
        self.extra_inputs = (Port("embedding", "embedding", shape, "map of the chosen voice"),)
        self.steering = Steering(embedding, 2 * hidden, columns, rank, wanted=delays > 0)
        assert self.mask.bias is not None
        with torch.no_grad():
            # Any voice changes the features a little to begin with, and an untrained model passes its input.
            nn.init.constant_(self.steering.norm.weight, 0.3)
            self.mask.weight[:, : 2 * ears] *= 0.1
            self.mask.weight[:, 2 * ears :] = 0
            self.mask.bias.copy_(torch.tensor(begins))
        self.register_buffer("quarter_turn", torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), persistent=False)

    def initial_state(self, batch: int) -> State:
        state = super().initial_state(batch)
        return state if self.beamformer is None else {**state, "beamformer": self.beamformer.initial_state(batch)}

    def translated(self, held: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights of a separator of two talkers, with one ear, as those of this network; any other ones as they are.

        What one ear said of a bin, both say together, half each. The masks of two talkers add up to one; both ears get
        that of the first one, for the voice to decide whether it is rather the other. Gains alone become the first
        values of a beamformer. Networks with fewer channels are widened.
        """
        own, weights = self.split.get_parameter("0.weight").detach(), self._of_as_many_places(held)
        kernel, mask = weights.get("split.0.weight"), weights.get("mask.bias")
        one_ear = (CompressedSpectrum.of_a_bin(1), *own.shape[2:])
        if kernel is None or mask is None or kernel.shape[1:] != one_ear or len(mask) != 2 * TALKERS:
            return widened(self, weights)
        if len(kernel) > len(own):
            return weights
        both = kernel.repeat(1, self.channels_in, 1, 1) / self.channels_in
        further = UNTRAINED * own[: len(both), both.shape[1] :]
        weights["split.0.weight"] = torch.cat([both, further], dim=1)
        first, second = weights["mask.weight"].chunk(TALKERS, dim=1)
        weights["mask.weight"] = ((first - second) / 2).repeat(1, self.channels_in, 1, 1)
        first, second = mask.chunk(TALKERS)
        weights["mask.bias"] = ((first - second) / 2 + torch.tensor([0.5, 0.0])).repeat(self.channels_in)
        return widened(self, weights)

    def _of_as_many_places(self, held: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Without the steering of a network with other bands or blocks, where each place would get that of another."""
        norm, hidden = held.get("steering.norm.weight"), held.get("to_hidden.bias")
        places = self.steering.norm.weight.numel() / self.to_hidden.out_features
        alike = norm is None or hidden is None or len(norm) / len(hidden) == places
        return {name: value for name, value in held.items() if alike or "steering." not in name}

    def forward(self, spectrum: torch.Tensor, voice: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Spectrum [B, 2, T, 257, 2], map [B, 2 hidden, 1, bands + blocks], state -> the voice, and the next state."""
        return self.kept(spectrum, voice, state)

    def kept(
        self, spectrum: torch.Tensor, map_: torch.Tensor, state: State, heard: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, State]:
        """As `forward`; `heard` as `Whereabouts` takes it."""
        values, following = self.to_bins(spectrum, state, map_, heard)
        if self.beamformer is not None:
            kept, following["beamformer"] = self.beamformer(spectrum, values, state["beamformer"])
            return kept, following
        real, imaginary = values.unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2).split(1, dim=-1)
        return real * spectrum + imaginary * (spectrum @ self.quarter_turn), following
