"""Attention over a window of past frames, kept as an unordered ring."""

import torch
from torch import nn
from torch.nn import functional

from .state import Rings

# Added to the score of a slot that must not be seen: its weight becomes exactly zero in float32.
HIDDEN = -1e9


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    heads: int,
    hidden: torch.Tensor | None,
    window: int,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mix values by the softmax of scaled products of query and key, head by head.

    Parameters
    ----------
    query : Tensor, [B, F, T, C]
    key, value : Tensor, [B, F, K, C]
    heads : int
    hidden : Tensor, [B, K], optional
        Added to the scores.
    window : int
        Query t sees keys t to t + window, of window + T; or 0: every query sees every key.
    bias : Tensor, [window + 1], optional
        Added to the scores of the oldest to the newest key that a query sees.

    Returns
    -------
    Tensor, [B, F, T, C]
    """
    query, key, value = (part.unflatten(-1, (heads, -1)).transpose(2, 3) for part in (query, key, value))
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if hidden is not None:
        scores = scores + hidden[:, None, None, None]
    if window:
        frames = query.shape[-2]
        device = query.device
        ahead = torch.arange(window + frames, device=device)[None, :] - torch.arange(frames, device=device)[:, None]
        scores = scores + torch.where((ahead < 0) | (ahead > window), HIDDEN, 0.0).to(scores)
        if bias is not None:
            scores = scores + bias[ahead.clamp(0, window)]
    return (scores.softmax(-1) @ value).transpose(2, 3).flatten(-2)


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

    attend = staticmethod(attend)  # an instance may run another form; training on a CPU does

    def __init__(self, channels: int, heads: int, window: int, bands: int):
        super().__init__()
        self.channels, self.heads, self.window, self.bands = channels, heads, window, bands
        # Blocks as long as the window: the banded score matrix then grows with T, not with its square.
        self.block = window
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
        blocks = x.split(self.block, dim=1)
        asked = [None] * len(blocks) if asking is None else asking.split(self.block, dim=1)
        for block, ask in zip(blocks, asked, strict=True):
            y, state = self._block(block, ask, bias, state)
            outputs.append(y)
        return torch.cat(outputs, dim=1), state

    def among_bands(self, x: torch.Tensor) -> torch.Tensor:
        """The same attention, with the same weights, among the bands of each frame of [B, T, F, C]. No state."""
        query, key, value = self.project_in(x).chunk(3, dim=-1)
        mixed = self.attend(query, key, value, self.heads, None, 0)
        return self.project_out(mixed)

    def _block(
        self,
        x: torch.Tensor,
        asking: torch.Tensor | None,
        bias: torch.Tensor | None,
        state: dict[str, torch.Tensor],
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        batch, frames = x.shape[:2]
        query, key, value = self.project_in(x).transpose(1, 2).chunk(3, dim=-1)
        if asking is not None:
            weight, offset = self.project_in.weight[: self.channels], self.project_in.bias[: self.channels]
            query = functional.linear(asking, weight, offset).transpose(1, 2)
        key, value = torch.cat([state["key"], key], dim=2), torch.cat([state["value"], value], dim=2)
        filled = torch.cat([state["filled"], x.new_ones(batch, frames)], dim=1)

        mixed = self.attend(query, key, value, self.heads, HIDDEN * (1 - filled), self.window, bias)
        newest = slice(frames, frames + self.window)
        following = {"key": key[:, :, newest], "value": value[:, :, newest], "filled": filled[:, newest]}
        return self.project_out(mixed.transpose(1, 2)), following
