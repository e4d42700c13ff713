"""Attention between whole frames: what was heard before, wherever in frequency, helps to hear it again."""

import torch
from torch import nn

from .attention import HIDDEN
from .state import Rings


class FrameVectors(nn.Module):
    """One vector per frame and head, made of all bands: [B, T, F, C] -> [B, heads, T, F * size]."""

    def __init__(self, channels: int, heads: int, size: int, bands: int):
        super().__init__()
        self.heads = heads
        self.linear = nn.Linear(channels, heads * size)
        self.activation = nn.PReLU()
        self.norm = nn.LayerNorm(bands * size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.activation(self.linear(x)).unflatten(-1, (self.heads, -1))
        return self.norm(y.permute(0, 3, 1, 2, 4).flatten(3))


class FrameAttention(nn.Module):
    """Multi-head attention over time on whole frames: each sees itself and the `window` frames before it.

    As in Wang et al., "TF-GridNet", TASLP 2023, made causal as in Veluri et al., "Look Once to Hear", CHI 2024. There
    is no positional term, so the order of the frames in the state does not matter.

    The memory starts as zeros that are not masked, as published: a zero key has the score 0 and adds a zero value. It
    draws weight from the frames heard so far, until after `window` frames none is left.

    Keys and values of the past and of the present are multiplied apart, and only the scores are joined: joining the
    memories would copy megabytes in every frame.

    Parameters
    ----------
    channels : int
    heads : int
        Divides `channels`.
    window : int
        Number of past frames.
    bands : int
    query : int
        Values per band and head in queries and keys.

    Input and output [B, T, F, C].

    State: {"key" [B, heads, window, F * query], "value" [B, heads, window, F * C / heads]}.
    """

    def __init__(self, channels: int, heads: int, window: int, bands: int, query: int):
        super().__init__()
        self.heads, self.window, self.bands = heads, window, bands
        self.query = FrameVectors(channels, heads, query, bands)
        self.key = FrameVectors(channels, heads, query, bands)
        self.value = FrameVectors(channels, heads, channels // heads, bands)
        self.linear = nn.Linear(channels, channels)
        self.activation = nn.PReLU()
        self.norm = nn.LayerNorm(bands * channels)
        # Blocks as long as the window: the score matrix then grows with T, not with its square.
        self.block = window

    def initial_state(self, batch: int) -> Rings:
        zeros = self.linear.weight.new_zeros
        return Rings(
            key=zeros(batch, self.heads, self.window, self.key.norm.weight.numel()),
            value=zeros(batch, self.heads, self.window, self.value.norm.weight.numel()),
        )

    def forward(self, x: torch.Tensor, state: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        outputs = []
        for block in x.split(self.block, dim=1):
            y, state = self._block(block, state)
            outputs.append(y)
        return torch.cat(outputs, dim=1), state

    def _block(self, x: torch.Tensor, state: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        frames = x.shape[1]
        query, key, value = self.query(x), self.key(x), self.value(x)
        query = query * query.shape[-1] ** -0.5
        scores = torch.cat([query @ state["key"].transpose(-1, -2), query @ key.transpose(-1, -2)], dim=-1)
        if frames > 1:
            scores = scores + self._band(frames, x)
        past, present = scores.softmax(-1).split([self.window, frames], dim=-1)
        mixed = past @ state["value"] + present @ value
        mixed = mixed.unflatten(-1, (self.bands, -1)).permute(0, 2, 3, 1, 4).flatten(3)
        mixed = self.activation(self.linear(mixed))
        following = {
            name: torch.cat([state[name], new], dim=2)[:, :, frames:] for name, new in (("key", key), ("value", value))
        }
        return self.norm(mixed.flatten(2)).unflatten(2, (self.bands, -1)), following

    def _band(self, frames: int, like: torch.Tensor) -> torch.Tensor:
        """Frame t of a block sees entries t to t + window of the memory and the block: [T, window + T]."""
        steps = torch.arange(self.window + frames, device=like.device)
        ahead = steps[None, :] - steps[:frames, None]
        return torch.where((ahead < 0) | (ahead > self.window), HIDDEN, 0.0).to(like)
