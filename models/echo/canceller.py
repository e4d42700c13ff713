"""Remove the echo of the loudspeaker, and noise, from what a microphone hears."""

from typing import Any

import torch
from torch import nn

from ...runtime.bundle_info import Port
from ...runtime.windows import window_pair
from ..streaming.average import ExponentialAverage
from ..streaming.dilated import ComplexConv2d, MultiDilatedBlock
from ..streaming.state import State

COMPRESSION = 0.3
SILENCE_DBFS = -90.0


class EchoCanceller(nn.Module):
    """Echo and noise suppression with dual complex masks, one channel, 12 ms algorithmic latency.

    After Watcharasupat et al., "End-to-end complex-valued multidilated convolutional neural network for joint acoustic
    echo cancellation and noise suppression", ICASSP 2022. Blocks of pseudo-complex multi-dilated convolutions, densely
    connected again (D3), at full resolution; the result is one complex mask times the microphone plus one times the
    far-end reference, which may thus be subtracted. There is no adaptive filter in front, so the reference must be
    aligned to what the convolutions reach: 240 ms per block.

    What differs, so that it runs frame by frame: taps look backwards only, norms are those of a frame, and the levels
    of both signals are running ones.

    Parameters
    ----------
    channels : int
        Complex, of every map. 16 with 7 blocks has the published number of parameters, 0.35 M; see `echo_large`.
    blocks, layers : int
        D2 blocks, and layers of each.

    State: {"levels", "blocks"}.
    """

    task = "echo"
    window = "symmetric-192"
    channels_in = 1
    channels_out = 1

    def __init__(self, channels: int = 16, blocks: int = 3, layers: int = 4):
        super().__init__()
        pair = window_pair(self.window)
        bands = pair.bins
        self.extra_inputs = (Port("reference", "reference", (1, 1, 1, bands, 2), "what the loudspeaker plays"),)
        self.levels = nn.ModuleList(ExponentialAverage(1.0 * 16000 / pair.hop_length) for _ in range(2))
        self.silence = float((pair.analysis**2).sum()) * 10 ** (SILENCE_DBFS / 10)
        self.split = ComplexConv2d(2, channels)
        self.mixtures = nn.ModuleList(ComplexConv2d(index * channels, channels) for index in range(1, blocks + 1))
        self.blocks = nn.ModuleList(MultiDilatedBlock(channels, layers, bands) for _ in range(blocks))
        self.masks = ComplexConv2d((blocks + 1) * channels, 2)
        with torch.no_grad():
            # An untrained model passes the microphone.
            self.masks.weight.mul_(0.1)
            self.masks.bias[0] = 1.0
        self.register_buffer("quarter_turn", torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), persistent=False)

    def initial_state(self, batch: int) -> State:
        return {
            "levels": tuple(level.initial_state(batch) for level in self.levels),
            "blocks": tuple(block.initial_state(batch) for block in self.blocks),
        }

    def forward(self, spectrum: torch.Tensor, reference: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Spectrum and reference [B, 1, T, 97, 2] and state -> speech [B, 1, T, 97, 2] and the next state."""
        microphone, scale, near = self._levelled(0, spectrum, state["levels"][0])
        loudspeaker, _, far = self._levelled(1, reference, state["levels"][1])
        both = torch.cat([microphone, loudspeaker], dim=1)
        maps, following = [self.split(_compressed(both).permute(0, 4, 1, 2, 3).flatten(1, 2))], []
        for mixture, block, before in zip(self.mixtures, self.blocks, state["blocks"], strict=True):
            x, after = block(mixture(_joined(maps)), before)
            maps.append(x)
            following.append(after)
        real, imaginary = self.masks(_joined(maps)).unsqueeze(-1).chunk(2, dim=1)
        masked = real * both + imaginary * (both @ self.quarter_turn)
        speech = masked.sum(1, keepdim=True) * scale
        return speech, {"levels": (near, far), "blocks": tuple(following)}

    def _levelled(self, index: int, spectrum: torch.Tensor, state: State) -> tuple[torch.Tensor, torch.Tensor, State]:
        """A spectrum at a level of one, the factor that undoes it [B, 1, T, 1, 1], and the next state."""
        level, state = self.levels[index]((spectrum * spectrum).sum(-1).mean(-1).squeeze(1), state)
        # The floor keeps digital silence silent: what is below it is not turned up.
        scale = level.clamp(min=self.silence).sqrt()[:, None, :, None, None]
        return spectrum / scale, scale, state


def _compressed(spectrum: torch.Tensor) -> torch.Tensor:
    """The magnitude to the power of `COMPRESSION`, the phase as it is."""
    power = (spectrum * spectrum).sum(-1, keepdim=True) + 1e-6
    return spectrum * power ** (COMPRESSION / 2 - 0.5)


def _joined(maps: list[torch.Tensor]) -> torch.Tensor:
    """Complex maps side by side: all real parts, then all imaginary parts."""
    parts = [each.chunk(2, dim=1) for each in maps]
    return torch.cat([real for real, _ in parts] + [imaginary for _, imaginary in parts], dim=1)


def echo_small(**config: Any) -> EchoCanceller:
    """The smaller one."""
    return EchoCanceller(**{"channels": 8, "blocks": 3, **config})


def echo_large(**config: Any) -> EchoCanceller:
    """As large as the published network, 0.35 M parameters: offline, or where there is time to spare."""
    return EchoCanceller(**{"blocks": 7, **config})
