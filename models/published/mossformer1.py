"""MossFormer, talkers from one microphone, as published; whole recordings only.

S. Zhao, B. Ma, "MossFormer: Pushing the performance limit of monaural speech separation using gated single-head
transformer with convolution-augmented joint self-attentions", ICASSP 2023; the attention is FLASH (W. Hua et al.,
"Transformer quality in linear time", ICML 2022).

    mixture -> learned filters of 1 ms -> layers of joint attention -> masks -> learned filters -> talkers

Names of modules follow the published weights. The streaming form is `hearloop.models.separation.mossformer`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

ROTARY_SIZE = 32  # so many numbers of queries and keys are turned by their place


def make(config: Mapping[str, Any]) -> nn.Module:
    """The network for the authors' configuration."""
    return MossFormer(config)


PREFIXES = ("model.",)  # some checkpoints put a name before everything


class MossFormer(nn.Module):
    """Masks on learned features.

    Parameters
    ----------
    config : mapping
        `dim`, `num_layers`, `num_spks`, `kernel_size`, and those of the layers.
    memory : callable, optional
        Makes what follows each layer of attention; see `mossformer2`.
    """

    def __init__(self, config: Mapping[str, Any], memory: Callable[[], nn.Module] | None = None):
        super().__init__()
        kernel = config["kernel_size"]
        self.enc = nn.ModuleDict({"conv1d": nn.Conv1d(1, config["dim"], kernel, kernel // 2, bias=False)})
        self.mask_net = MaskNet(config, memory)
        self.dec = nn.ConvTranspose1d(config["dim"], 1, kernel, kernel // 2, bias=False)

    def forward(self, mix: torch.Tensor) -> torch.Tensor:
        """[B, samples] -> [B, talkers, samples]."""
        features = functional.relu(self.enc["conv1d"](mix.unsqueeze(1)))
        talkers = torch.stack([self.dec(mask * features).squeeze(1) for mask in self.mask_net(features)], dim=1)
        return functional.pad(talkers, (0, mix.shape[-1] - talkers.shape[-1]))


class MaskNet(nn.Module):
    """[B, dim, T] -> [talkers, B, dim, T], not negative."""

    def __init__(self, config: Mapping[str, Any], memory: Callable[[], nn.Module] | None):
        super().__init__()
        dim, self.talkers = config["dim"], config["num_spks"]
        self.norm = GlobalNorm(dim)
        self.conv1d_encoder = nn.Conv1d(dim, dim, 1, bias=False)
        self.pos_enc = Sinusoids(dim)
        self.mdl = Whole(config, memory)
        self.prelu = nn.PReLU()
        self.conv1d_out = nn.Conv1d(dim, dim * self.talkers, 1)
        self.output = nn.Sequential(nn.Conv1d(dim, dim, 1), nn.Tanh())
        self.output_gate = nn.Sequential(nn.Conv1d(dim, dim, 1), nn.Sigmoid())
        self.conv1_decoder = nn.Conv1d(dim, dim, 1, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = self.conv1d_encoder(self.norm(features))
        x = self.mdl(x + self.pos_enc(x))
        x = self.conv1d_out(self.prelu(x)).unflatten(1, (self.talkers, -1)).flatten(0, 1)
        masks = functional.relu(self.conv1_decoder(self.output(x) * self.output_gate(x)))
        return masks.unflatten(0, (-1, self.talkers)).transpose(0, 1)


class GlobalNorm(nn.GroupNorm):
    """`nn.GroupNorm` of one group over [B, dim, T], in sums of T and then of dim numbers.

    In ONNX Runtime a sum of millions of numbers, one after the other, costs three digits.
    """

    def __init__(self, dim: int):
        super().__init__(1, dim, eps=1e-8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x - x.mean(-1, keepdim=True).mean(-2, keepdim=True)
        power = (x * x).mean(-1, keepdim=True).mean(-2, keepdim=True)
        return x * (power + self.eps).rsqrt() * self.weight[:, None] + self.bias[:, None]


class Sinusoids(nn.Module):
    """Where a frame is: sines and cosines of its number, times one learned scale; [dim, T]."""

    inv_freq: torch.Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("inv_freq", 10000.0 ** (-torch.arange(0, dim, 2) / dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        angle = self.inv_freq[:, None] * torch.arange(x.shape[-1], device=x.device)
        return torch.cat([angle.sin(), angle.cos()]) * self.scale


class Whole(nn.Module):
    """All layers, between a way around them, [B, dim, T] to the same."""

    def __init__(self, config: Mapping[str, Any], memory: Callable[[], nn.Module] | None):
        super().__init__()
        self.intra_mdl = nn.ModuleDict(
            {"mossformerM": Stack(config, memory), "norm": nn.LayerNorm(config["dim"], eps=1e-6)}
        )
        self.intra_norm = GlobalNorm(config["dim"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.intra_mdl["norm"](self.intra_mdl["mossformerM"](x.transpose(1, 2)))
        return x + self.intra_norm(y.transpose(1, 2))


class Stack(nn.Module):
    """Layers of attention, perhaps each followed by a memory: [B, T, dim] to the same."""

    def __init__(self, config: Mapping[str, Any], memory: Callable[[], nn.Module] | None):
        super().__init__()
        count = config["num_layers"]
        self.layers = nn.ModuleList(JointAttention(config) for _ in range(count))
        self.fsmn = nn.ModuleList(memory() for _ in range(count)) if memory is not None else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if self.fsmn is not None:
                x = self.fsmn[number](x)
        return x


class JointAttention(nn.Module):
    """Full attention within groups of frames, linear attention over all, and gates: [B, T, dim] to the same."""

    def __init__(self, config: Mapping[str, Any]):
        super().__init__()
        dim, key_size, kernel = config["dim"], config["query_key_dim"], config["conv_kernel"]
        hidden = int(dim * config["expansion_factor"])
        self.group = config["group_size"]
        self.rotary_pos_emb = Rotary(min(ROTARY_SIZE, key_size))
        self.to_hidden = Projection(ScaleNorm(dim), dim, hidden, kernel)
        self.to_qk = Projection(ScaleNorm(dim), dim, key_size, kernel)
        self.qk_offset_scale = OffsetScale(key_size)
        self.to_out = Projection(ScaleNorm(hidden // 2), hidden // 2, dim, kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        late, now = x.chunk(2, dim=-1)
        shifted = torch.cat([functional.pad(late[:, :-1], (0, 0, 1, 0)), now], dim=-1)
        hidden = self.to_hidden(shifted)
        value, gate = hidden.chunk(2, dim=-1)
        query, far_query, key, far_key = map(self.rotary_pos_emb, self.qk_offset_scale(self.to_qk(shifted)))
        near = self._within_groups(query, key, hidden)
        far = far_query @ (far_key.transpose(1, 2) @ hidden / x.shape[1])
        heard_value, heard_gate = (near + far).chunk(2, dim=-1)
        return x + self.to_out(heard_gate * value * torch.sigmoid(heard_value * gate))

    def _within_groups(self, query: torch.Tensor, key: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
        """Squared positive scores instead of a softmax; the last group is filled up with zeros, which score 0."""
        length = query.shape[1]
        missing = -length % self.group
        query, key, content = (
            functional.pad(each, (0, 0, 0, missing)).unflatten(1, (-1, self.group)) for each in (query, key, content)
        )
        scores = functional.relu(query @ key.transpose(-1, -2) / self.group) ** 2
        return (scores @ content).flatten(1, 2)[:, :length]


class Projection(nn.Module):
    """Norm, linear, SiLU, and the neighbouring frames of each channel: [B, T, in] -> [B, T, out]."""

    def __init__(self, norm: nn.Module, size_in: int, size_out: int, kernel: int):
        super().__init__()
        self.mdl = nn.Sequential(norm, nn.Linear(size_in, size_out), nn.SiLU(), Neighbours(size_out, kernel))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mdl(x)


class Neighbours(nn.Module):
    """x plus what its neighbours in time add."""

    def __init__(self, size: int, kernel: int):
        super().__init__()
        self.sequential = nn.Sequential(nn.Identity(), OverTime(size, kernel))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.sequential(x)


class OverTime(nn.Module):
    """A convolution of each channel of [B, T, size]."""

    def __init__(self, size: int, kernel: int):
        super().__init__()
        self.conv = nn.Conv1d(size, size, kernel, padding=kernel // 2, groups=size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x.transpose(1, 2)).transpose(1, 2)


class ScaleNorm(nn.Module):
    """A vector of unit mean square, times one learned gain."""

    def __init__(self, size: int):
        super().__init__()
        self.size, self.g = size, nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / (x.norm(dim=-1, keepdim=True) / self.size**0.5).clamp(min=1e-5) * self.g


class OffsetScale(nn.Module):
    """Four views of one vector: query and far query, key and far key."""

    def __init__(self, size: int):
        super().__init__()
        self.gamma, self.beta = (nn.Parameter(torch.zeros(4, size)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (x.unsqueeze(-2) * self.gamma + self.beta).unbind(-2)


class Rotary(nn.Module):
    """Turns pairs of numbers by an angle that grows with the frame's number; RoFormer, Su et al. 2021."""

    freqs: torch.Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("freqs", 10000.0 ** (-torch.arange(0, size, 2) / size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        angle = torch.arange(x.shape[1], device=x.device)[:, None] * self.freqs
        turned, kept = x.split([2 * len(self.freqs), x.shape[-1] - 2 * len(self.freqs)], dim=-1)
        a, b = turned[..., ::2], turned[..., 1::2]
        turned = torch.stack([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], dim=-1)
        return torch.cat([turned.flatten(-2), kept], dim=-1)
