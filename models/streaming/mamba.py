"""Selective state space layers along the two axes of a map [B, T, F, C]: time with a state, frequency without."""

import math

import torch
from torch import nn
from torch.nn import functional

from .scan import selective_scan

STEPS = (1e-3, 1e-1)  # range of the step sizes before training, as in Mamba
DECAYS = (1.0, 16.0)


def convolve(window: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """SiLU of a convolution per channel: [S, taps - 1 + L, I], [I, 1, taps], [I] -> [S, L, I]."""
    return functional.silu(functional.conv1d(window.transpose(1, 2), weight, bias, groups=len(weight))).transpose(1, 2)


class StateSpace(nn.Module):
    """A Mamba layer over sequences [S, L, C]: gate, short causal convolution, selective scan.

    As in Gu and Dao, "Mamba: linear-time sequence modeling with selective state spaces", 2023, but with one decay per
    head of `head` channels (Dao and Gu, 2024), because its scan is a matrix product in training and needs `head` times
    fewer exponentials on the device.

    Parameters
    ----------
    channels : int
    expand : int
        Inner channels per channel.
    states : int
        Size of the state of each inner channel.
    head : int
        Inner channels that share a decay.
    kernel : int
        Taps of the convolution.

    State: {"convolution" [S, kernel - 1, inner], "scan" [S, heads, states, head]}.
    """

    # An instance may run other forms of these; training on a CPU does.
    convolve = staticmethod(convolve)
    scan = staticmethod(selective_scan)

    def __init__(self, channels: int, expand: int, states: int, head: int, kernel: int = 4):
        super().__init__()
        self.inner, self.states, self.head, self.kernel = expand * channels, states, head, kernel
        self.heads = self.inner // head
        self.project_in = nn.Linear(channels, 2 * self.inner, bias=False)
        self.convolution = nn.Conv1d(self.inner, self.inner, kernel, groups=self.inner)
        self.select = nn.Linear(self.inner, self.heads + 2 * states, bias=False)
        step = torch.exp(torch.empty(self.heads).uniform_(*map(math.log, STEPS)))
        self.step_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # softplus of it is `step`
        self.log_decay = nn.Parameter(torch.empty(self.heads).uniform_(*DECAYS).log())
        self.direct = nn.Parameter(torch.ones(self.heads))
        self.project_out = nn.Linear(self.inner, channels, bias=False)

    def initial_state(self, sequences: int) -> dict[str, torch.Tensor]:
        zeros = self.step_bias.new_zeros
        return {
            "convolution": zeros(sequences, self.kernel - 1, self.inner),
            "scan": zeros(sequences, self.heads, self.states, self.head),
        }

    def forward(self, x: torch.Tensor, state: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        entered, gate = self.project_in(x).chunk(2, dim=-1)
        window = torch.cat([state["convolution"], entered], dim=1)
        entered = self.convolve(window, self.convolution.weight, self.convolution.bias)
        step, b, c = self.select(entered).split([self.heads, self.states, self.states], dim=-1)
        y, scanned = self.scan(
            entered.unflatten(-1, (self.heads, self.head)),
            functional.softplus(step + self.step_bias),
            -self.log_decay.exp(),
            b,
            c,
            self.direct,
            state["scan"],
        )
        following = {"convolution": window[:, x.shape[1] :], "scan": scanned}
        return self.project_out(y.flatten(-2) * functional.silu(gate)), following


class TimeMamba(nn.Module):
    """State space layer over time with weights shared by all bands: x + layer(norm(x)), [B, T, F, C].

    State: that of the layer with the sequences split into [B, F].
    """

    def __init__(self, channels: int, expand: int, states: int, head: int, bands: int):
        super().__init__()
        self.bands = bands
        self.norm = nn.LayerNorm(channels)
        self.layer = StateSpace(channels, expand, states, head)

    def initial_state(self, batch: int) -> dict[str, torch.Tensor]:
        flat = self.layer.initial_state(batch * self.bands)
        return {name: value.unflatten(0, (batch, self.bands)) for name, value in flat.items()}

    def forward(self, x: torch.Tensor, state: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        sequences = self.norm(x).transpose(1, 2).flatten(0, 1)
        y, following = self.layer(sequences, {name: value.flatten(0, 1) for name, value in state.items()})
        y = y.unflatten(0, (x.shape[0], self.bands)).transpose(1, 2)
        return x + y, {name: value.reshape(state[name].shape) for name, value in following.items()}


class FrequencyMamba(nn.Module):
    """State space layers up and down the bands of each frame: [B, T, F, C] -> [B, T, F, 2 C]. No state.

    Each direction is x + layer(norm(x)); the two are concatenated.
    """

    def __init__(self, channels: int, expand: int, states: int, head: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.layers = nn.ModuleList(StateSpace(channels, expand, states, head) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sequences = x.flatten(0, 1)
        upward = self._direction(0, sequences)
        downward = self._direction(1, sequences.flip(1)).flip(1)
        return torch.cat([upward, downward], dim=-1).unflatten(0, x.shape[:2])

    def _direction(self, index: int, x: torch.Tensor) -> torch.Tensor:
        layer = self.layers[index]
        y, _ = layer(self.norms[index](x), layer.initial_state(len(x)))
        return x + torch.as_tensor(y)
