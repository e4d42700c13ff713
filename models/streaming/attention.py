"""Attention over a window of past frames, kept as an unordered ring."""

import torch
from torch import nn
from torch.nn import functional

from .state import Rings

# Added to the score of a slot that must not be seen: its weight becomes exactly zero in float32.
HIDDEN = -1e9


class WindowAttention(nn.Module):
    """Multi-head self-attention over time: each frame of [B, T, F, C] sees itself and the `window` frames before it.

    Weights are shared by all bands, bands do not see each other, and there is no positional term: every past frame is
    treated alike (as in Moonshine v2's ergodic encoder), so the cost is bounded for ever and the order of the frames
    in the state does not matter. A device may therefore overwrite the oldest slot in place instead of shifting.

    Parameters
    ----------
    channels : int
    heads : int
        Divides `channels`.
    window : int
        Number of past frames.
    bands : int

    State: {"key", "value"}, each [B, F, window, C], and "filled" [B, window], 0 for slots that hold no frame yet.
    """

    def __init__(self, channels: int, heads: int, window: int, bands: int):
        super().__init__()
        self.channels, self.heads, self.window, self.bands = channels, heads, window, bands
        self.project_in = nn.Linear(channels, 3 * channels)
        self.project_out = nn.Linear(channels, channels)

    def initial_state(self, batch: int) -> Rings:
        zeros = self.project_out.weight.new_zeros
        return Rings(
            key=zeros(batch, self.bands, self.window, self.channels),
            value=zeros(batch, self.bands, self.window, self.channels),
            filled=zeros(batch, self.window),
        )

    def forward(
        self,
        x: torch.Tensor,
        state: dict[str, torch.Tensor],
        asking: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Frames [B, T, F, C] and state -> what they see, and the next state.

        `asking` may ask in their place, [B, T, F, C]; `bias` is added to the scores of the oldest to the newest frame
        that is seen, [window + 1], and makes the order of the state matter.
        """
        outputs = []
        queries = (x if asking is None else asking).split(self.window, dim=1)
        # Blocks as long as the window: the banded score matrix then grows with T, not with its square.
        for block, query in zip(x.split(self.window, dim=1), queries, strict=True):
            y, state = self._block(block, query, bias, state)
            outputs.append(y)
        return torch.cat(outputs, dim=1), state

    def _block(
        self, x: torch.Tensor, asking: torch.Tensor, bias: torch.Tensor | None, state: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        batch, frames = x.shape[:2]
        query, key, value = self.project_in(x).transpose(1, 2).chunk(3, dim=-1)
        if asking is not x:
            weight, offset = self.project_in.weight[: self.channels], self.project_in.bias[: self.channels]
            query = functional.linear(asking, weight, offset).transpose(1, 2)
        key, value = torch.cat([state["key"], key], dim=2), torch.cat([state["value"], value], dim=2)
        filled = torch.cat([state["filled"], x.new_ones(batch, frames)], dim=1)

        split = [part.unflatten(-1, (self.heads, -1)).transpose(2, 3) for part in (query, key, value)]
        scores = split[0] @ split[1].transpose(-1, -2) * (self.channels // self.heads) ** -0.5
        scores = scores + (HIDDEN * (1 - filled))[:, None, None, None] + self._band(frames, x, bias)
        mixed = (scores.softmax(-1) @ split[2]).transpose(2, 3).flatten(-2)
        newest = slice(frames, frames + self.window)
        following = {"key": key[:, :, newest], "value": value[:, :, newest], "filled": filled[:, newest]}
        return self.project_out(mixed.transpose(1, 2)), following

    def _band(self, frames: int, like: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Frame t of a block sees entries t to t + window of the ring and the block: [T, window + T]."""
        ahead = torch.arange(self.window + frames)[None, :] - torch.arange(frames)[:, None]
        band = torch.where((ahead < 0) | (ahead > self.window), HIDDEN, 0.0).to(like)
        return band if bias is None else band + bias[ahead.clamp(0, self.window)]
