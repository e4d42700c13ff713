"""Keep one voice, chosen beforehand, at both ears: the streaming target model."""

import torch
from torch import nn

from ...runtime.bundle_info import Port
from ...runtime.windows import window_pair
from ..features import CompressedSpectrum
from ..streaming.state import State
from .gridnet import CausalGridNet, Steering, bands_of


class Target(nn.Module):
    """Target speaker extraction, binaural, 12 ms algorithmic latency.

    Causal TF-GridNet steered by a voice: Veluri et al., "Look Once to Hear", CHI 2024. Changed for streaming: windows
    that reconstruct perfectly instead of a Hann window whose ripple the network must undo; compressed spectra at their
    running level (of both ears together, so that the difference between them stays); a complex mask per ear instead of
    a spectrum, so that silence stays silence and the untrained model passes its input. The memory of the attention
    starts as zeros without a mask, as published.

    The step takes the *map* of a voice, [B, channels, 1, bands], not its embedding: `steering` makes the one of the
    other once per voice. In every frame that would be 1.6 M multiplications, and 6.4 MB of weights to read, for the
    same map.

    Parameters
    ----------
    channels, hidden : int
        Of the features, and of each direction of the recurrent layers.
    blocks, heads : int
    memory : int
        Past frames that attention sees.
    query : int
        Values per band and head in queries and keys.
    embedding : int
        Size of the embedding of a voice, which has unit norm.
    stride : int
        Bins to a band inside the network; 1 as published, 2 for half of the cost.

    State: {"level", "net"}.
    """

    task = "target"
    window = "symmetric-192"
    channels_in = 2
    channels_out = 2

    def __init__(
        self,
        channels: int = 64,
        hidden: int = 64,
        blocks: int = 3,
        heads: int = 4,
        memory: int = 49,
        query: int = 6,
        embedding: int = 256,
        stride: int = 1,
    ):
        super().__init__()
        ears, bins = self.channels_in, window_pair(self.window).bins
        bands = bands_of(bins, stride)
        self.extra_inputs = (Port("embedding", "embedding", (1, channels, 1, bands), "map of the chosen voice"),)
        self.features = CompressedSpectrum(self.window)
        self.steering = Steering(embedding, channels, bands)
        self.net = CausalGridNet(3 * ears, 2 * ears, channels, hidden, blocks, heads, memory, bins, query, stride)
        assert self.net.deconv.conv.bias is not None
        with torch.no_grad():
            # An untrained model passes its input with a gain of about one.
            self.net.deconv.conv.weight.mul_(0.1)
            self.net.deconv.conv.bias.copy_(torch.tensor([1.0, 0.0] * ears))
        self.register_buffer("quarter_turn", torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), persistent=False)

    def initial_state(self, batch: int) -> State:
        return {"level": self.features.initial_state(batch), "net": self.net.initial_state(batch)}

    def forward(self, spectrum: torch.Tensor, voice: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Spectrum [B, 2, T, 97, 2], map [B, channels, 1, bands], state -> spectrum of the voice, next state."""
        features, level = self.features(spectrum, state["level"])
        mask, net = self.net(features, voice, state["net"])
        real, imaginary = mask.unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2).split(1, dim=-1)
        kept = real * spectrum + imaginary * (spectrum @ self.quarter_turn)
        return kept, {"level": level, "net": net}
