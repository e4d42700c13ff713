"""Pseudo-complex, densely connected convolutions in which every map has its own dilation."""

import torch
from torch import nn
from torch.nn import functional

from .history import empty_history, prepend_history
from .norm import FrameNorm
from .state import State

TAPS = 3  # of every kernel, along time and along frequency


class ComplexConv2d(nn.Module):
    """Complex convolution of maps [B, 2 C, T, F], real parts before imaginary parts; no padding along time.

    The weights W = A + i B act as [[A, -B], [B, A]] on the parts, which is four real convolutions in one.

    Parameters
    ----------
    channels_in, channels_out : int
        Complex.
    taps : int
        Along time and along frequency.
    dilation : int
        Distance of the taps, in frames and in bands.
    """

    def __init__(self, channels_in: int, channels_out: int, taps: int = 1, dilation: int = 1):
        super().__init__()
        self.dilation, self.padding = dilation, (taps // 2) * dilation
        bound = (2 * channels_in * taps * taps) ** -0.5
        self.weight = nn.Parameter(torch.empty(2, channels_out, channels_in, taps, taps).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(2 * channels_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        real, imaginary = self.weight
        weight = torch.cat([torch.cat([real, -imaginary], dim=1), torch.cat([imaginary, real], dim=1)])
        return functional.conv2d(x, weight, self.bias, padding=(0, self.padding), dilation=self.dilation)


class MultiDilatedBlock(nn.Module):
    """Layers that see all maps before them, each at its own dilation: [B, 2 C, T, F], the last one's result.

    The input has dilation 1, the first map 2, the next 4, along time (backwards only) and along frequency: as much as
    one value of that map has seen of the input already, so that nothing between the taps is missed. In a dense block
    with one dilation per layer the first maps would be sampled with gaps, and alias. The D2 block of
    Takahashi and Mitsufuji, "Densely connected multi-dilated convolutional networks for dense prediction tasks", 2021.

    Parameters
    ----------
    channels : int
        Complex, of every map.
    layers : int
    bands : int

    State: for each map that a layer looks at, as many past frames as its dilation reaches.
    """

    def __init__(self, channels: int, layers: int, bands: int):
        super().__init__()
        self.channels, self.bands = channels, bands
        self.convolutions = nn.ModuleList(
            nn.ModuleList(ComplexConv2d(channels, channels, TAPS, 2**source) for source in range(layer + 1))
            for layer in range(layers)
        )
        self.activations = nn.ModuleList(
            nn.Sequential(FrameNorm(2 * channels), nn.PReLU(2 * channels)) for _ in range(layers)
        )
        self.histories = [(TAPS - 1) * 2**source for source in range(layers)]

    def initial_state(self, batch: int) -> State:
        like = self.convolutions[0][0].weight  # type: ignore[index]
        return tuple(empty_history(like, batch, 2 * self.channels, frames, self.bands) for frames in self.histories)

    def forward(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        maps, following = [], []
        for convolutions, activation, before, history in zip(
            self.convolutions, self.activations, state, self.histories, strict=True
        ):
            seen, after = prepend_history(x, before, history)
            maps.append(seen)
            following.append(after)
            parts = [convolution(seen) for convolution, seen in zip(convolutions, maps, strict=True)]  # type: ignore[call-overload]
            x = activation(torch.stack(parts).sum(0))
        return x, tuple(following)
