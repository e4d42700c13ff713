"""Separation by gated attention with a convolutional memory: the streaming MossFormer2."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...runtime.windows import window_pair
from ..features import CompressedSpectrum
from ..streaming.attention import HIDDEN
from ..streaming.conv1d import CausalConv1d
from ..streaming.linear_attention import DecayedLinearAttention
from ..streaming.state import Rings, State
from .masks import TalkerMasks

FRAMES_PER_S = 125


class Projection(nn.Module):
    """Norm, linear layer, SiLU, and the past few frames added by a depthwise convolution: [B, T, in] -> [B, T, out].

    State: that of the convolution.
    """

    def __init__(self, size_in: int, size_out: int, kernel: int):
        super().__init__()
        self.norm = nn.LayerNorm(size_in)
        self.linear = nn.Linear(size_in, size_out)
        self.conv = CausalConv1d(size_out, size_out, kernel, groups=size_out, bias=False)

    def initial_state(self, batch: int) -> State:
        return self.conv.initial_state(batch)

    def forward(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        x = functional.silu(self.linear(self.norm(x)))
        past, state = self.conv(x.transpose(1, 2), state)
        return x + past.transpose(1, 2), state


class SquaredReluAttention(nn.Module):
    """Attention to the last `window` frames and the present one, weighted by relu(q k / size)^2, without a softmax.

    Without positions and without a sum over the weights the order of the memory does not matter.

    State: {"key" [B, window, keys], "value" [B, window, values]}.
    """

    def __init__(self, keys: int, values: int, window: int):
        super().__init__()
        self.keys, self.values, self.window = keys, values, window
        self.register_buffer("scale", torch.tensor(1 / (window + 1)), persistent=False)
        self.scale: torch.Tensor

    def initial_state(self, batch: int) -> Rings:
        sizes = {"key": self.keys, "value": self.values}
        return Rings({name: self.scale.new_zeros(batch, self.window, size) for name, size in sizes.items()})

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, state: State
    ) -> tuple[torch.Tensor, State]:
        outputs = []
        for q, k, v in zip(*(each.split(self.window, dim=1) for each in (query, key, value)), strict=True):
            frames = q.shape[1]
            scores = torch.cat([q @ state["key"].transpose(1, 2), q @ k.transpose(1, 2)], dim=-1) * self.scale
            if frames > 1:
                scores = scores + self._band(frames, q)
            past, present = functional.relu(scores).square().split([self.window, frames], dim=-1)
            outputs.append(past @ state["value"] + present @ v)
            state = {name: torch.cat([state[name], new], dim=1)[:, frames:] for name, new in (("key", k), ("value", v))}
        return torch.cat(outputs, dim=1), state

    def _band(self, frames: int, like: torch.Tensor) -> torch.Tensor:
        """Frame t of a block sees entries t to t + window of the memory and the block: [T, window + T]."""
        device = like.device
        ahead = (
            torch.arange(self.window + frames, device=device)[None, :] - torch.arange(frames, device=device)[:, None]
        )
        return torch.where((ahead < 0) | (ahead > self.window), HIDDEN, 0.0).to(like)


class GatedAttention(nn.Module):
    """One layer of attention, local and of long range, with one gate for both: [B, T, size] to the same.

    State: {"shift", "hidden", "key", "local", "far", "out"}.
    """

    def __init__(self, size: int, keys: int, window: int, kernel: int):
        super().__init__()
        self.size = size
        self.to_hidden = Projection(size, 4 * size, kernel)
        self.to_key = Projection(size, keys, kernel)
        self.gain = nn.Parameter(1 + 0.02 * torch.randn(4, keys))
        self.offset = nn.Parameter(torch.zeros(4, keys))
        self.local = SquaredReluAttention(keys, 4 * size, window)
        self.far = DecayedLinearAttention(keys, 4 * size, time_constant=1.5 * FRAMES_PER_S)
        self.to_out = Projection(2 * size, size, kernel)

    def initial_state(self, batch: int) -> State:
        return {
            "shift": self.gain.new_zeros(batch, 1, self.size // 2),
            "hidden": self.to_hidden.initial_state(batch),
            "key": self.to_key.initial_state(batch),
            "local": self.local.initial_state(batch),
            "far": self.far.initial_state(batch),
            "out": self.to_out.initial_state(batch),
        }

    def forward(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        # Half of the channels come one frame late, so that each frame is compared with what came just before it.
        late, direct = x.split([self.size // 2, self.size - self.size // 2], dim=-1)
        late = torch.cat([state["shift"], late], dim=1)
        shifted = torch.cat([late[:, :-1], direct], dim=-1)
        hidden, to_hidden = self.to_hidden(shifted, state["hidden"])
        key, to_key = self.to_key(shifted, state["key"])
        near_q, far_q, near_k, far_k = (key.unsqueeze(-2) * self.gain + self.offset).unbind(-2)
        near, local = self.local(near_q, near_k, hidden, state["local"])
        far, memory = self.far(far_q, far_k, hidden, state["far"])
        v, u = hidden.chunk(2, dim=-1)
        seen_v, seen_u = (near + far).chunk(2, dim=-1)
        out, to_out = self.to_out(seen_u * v * torch.sigmoid(seen_v * u), state["out"])
        following = {"shift": late[:, -1:], "hidden": to_hidden, "key": to_key}
        return x + out, following | {"local": local, "far": memory, "out": to_out}


class GatedMemory(nn.Module):
    """A recurrence without feedback: a gated branch remembers by long depthwise convolutions, one dilated by two.

    Zhao et al., "MossFormer2", ICASSP 2024 (gated FSMN). [B, T, size] to the same. State: {"u", "v", "near", "far"}.
    """

    def __init__(self, size: int, inner: int, kernel: int, taps: int):
        super().__init__()
        self.enter = nn.Sequential(nn.Linear(size, inner), nn.PReLU(), nn.LayerNorm(inner))
        self.u, self.v = Projection(inner, inner, kernel), Projection(inner, inner, kernel)
        self.mix = nn.Sequential(nn.Linear(inner, inner), nn.ReLU(), nn.Linear(inner, inner, bias=False))
        self.near = CausalConv1d(inner, inner, taps, groups=inner, bias=False)
        self.far = CausalConv1d(2 * inner, inner, taps, dilation=2, groups=inner, bias=False)
        self.norms = nn.ModuleList([nn.LayerNorm(inner), nn.LayerNorm(inner)])
        self.activations = nn.ModuleList([nn.PReLU(inner), nn.PReLU(inner)])
        self.leave = nn.Sequential(nn.LayerNorm(inner), nn.Linear(inner, size))

    def initial_state(self, batch: int) -> State:
        parts = {"u": self.u, "v": self.v, "near": self.near, "far": self.far}
        return {name: part.initial_state(batch) for name, part in parts.items()}

    def forward(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        entered = self.enter(x)
        u, u_state = self.u(entered, state["u"])
        v, v_state = self.v(entered, state["v"])
        mixed = self.mix(u).transpose(1, 2)
        near, near_state = self.near(mixed, state["near"])
        near = self._settled(0, near)
        # Pairs of one new and one old map: a group of the convolution sees both of its channel.
        pairs = torch.stack([near, mixed], dim=2).flatten(1, 2)
        far, far_state = self.far(pairs, state["far"])
        remembered = self._settled(1, far).transpose(1, 2) + u
        following = {"u": u_state, "v": v_state, "near": near_state, "far": far_state}
        return x + self.leave(v * remembered + entered), following

    def _settled(self, index: int, x: torch.Tensor) -> torch.Tensor:
        return self.activations[index](self.norms[index](x.transpose(1, 2)).transpose(1, 2))


class MossFormer(nn.Module):
    """Streaming separation of talkers, 12 ms algorithmic latency, one token per frame of 8 ms.

    Zhao et al., "MossFormer2", ICASSP 2024. Changed for streaming: STFT frames instead of a learned encoder of 2,000
    tokens a second, which no frame of 8 ms can pay for; norms within a frame instead of over the recording;
    convolutions that look back only; a sliding window instead of groups of attention; a decaying memory instead of the
    mean over the recording; no positions, which would grow without bound.

    Parameters
    ----------
    size : int
        Of a token.
    layers : int
    keys, window : int
        Size of keys, and past frames that attention sees.
    inner : int
        Size of the memory.
    talkers : int
    sum_to_one : bool
        Let the talkers add up to the mixture.

    State: {"level", "layers": one {"attention", "memory"} per layer}.
    """

    task = "separate"
    window = "asymmetric-512-192"
    channels_in = 1

    def __init__(
        self,
        size: int = 192,
        layers: int = 8,
        keys: int = 64,
        window: int = 64,
        inner: int = 96,
        talkers: int = 2,
        sum_to_one: bool = True,
    ):
        super().__init__()
        self.channels_out = talkers
        bins = window_pair(self.window).bins
        self.features = CompressedSpectrum(self.window)
        self.enter = nn.Linear(3 * bins, size)
        self.attention = nn.ModuleList(GatedAttention(size, keys, window, kernel=9) for _ in range(layers))
        self.memory = nn.ModuleList(GatedMemory(size, inner, kernel=9, taps=20) for _ in range(layers))
        self.leave = nn.Sequential(nn.LayerNorm(size), nn.PReLU(), nn.Linear(size, talkers * bins * 2))
        self.masks = TalkerMasks(talkers, sum_to_one)
        with torch.no_grad():
            self.leave[-1].weight.mul_(0.1)

    def initial_state(self, batch: int) -> State:
        layers = zip(self.attention, self.memory, strict=True)
        return {
            "level": self.features.initial_state(batch),
            "layers": tuple({"attention": a.initial_state(batch), "memory": m.initial_state(batch)} for a, m in layers),
        }

    def forward(self, spectrum: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Mixture [B, 1, T, 257, 2] and state -> talkers [B, talkers, T, 257, 2] and the next state."""
        features, level = self.features(spectrum, state["level"])
        x = self.enter(features.permute(0, 2, 1, 3).flatten(2))
        followers = []
        for attention, memory, before in zip(self.attention, self.memory, state["layers"], strict=True):
            x, attended = attention(x, before["attention"])
            x, remembered = memory(x, before["memory"])
            followers.append({"attention": attended, "memory": remembered})
        masks = self.leave(x).unflatten(-1, (self.channels_out, -1, 2)).transpose(1, 2)
        return self.masks(spectrum, masks), {"level": level, "layers": tuple(followers)}


def mossformer_base(**config: Any) -> MossFormer:
    """The larger one: 24 layers of 256."""
    return MossFormer(**({"size": 256, "layers": 24, "inner": 128} | config))
