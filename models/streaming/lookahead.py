"""Attention that may look ahead, as far as training finds it worth the delay."""

from collections.abc import Iterator

import torch
from torch import nn

from ...runtime.errors import HearloopError
from .attention import WindowAttention
from .state import State

OPEN = 0.5  # a gate below is closed when training is over


class LookaheadAttention(nn.Module):
    """Window attention with a bypass whose frames also see some that come after them: [B, T, F, C] to the same.

    What comes out is d = `lookahead_frames` frames late: y_t = x_(t-d) + attention of frame t - d to frames t - window
    .. t. Who joins it with something else has to delay that as well.

    How far to look is learned, after the adaptive lookahead of ANCAT: the frame k ahead has the gate
    sigmoid(a_1) ... sigmoid(a_k), so that none is open behind a closed one, and its logarithm is added to the score.
    `lookahead_price`, added to the loss with a weight, lets a gate stay open only if it helps more than it costs.
    `decide` ends that: gates that are closed are cut off, the others are opened, and the delay shrinks to what is left.
    From then on all frames are alike, and the memory is a ring without an order.

    Parameters
    ----------
    channels, heads, window, bands : int
        See `WindowAttention`; `window` counts from the newest frame.
    most : int
        Frames that it may look ahead at most; no more than `window`.

    State: {"late": the frames that still wait [B, d, F, C], "attention"}.

    Raises
    ------
    HearloopError
        If it may look further ahead than the window is long.
    """

    def __init__(self, channels: int, heads: int, window: int, bands: int, most: int):
        super().__init__()
        if most > window:
            raise HearloopError(f"a lookahead of {most} frames at most, expected no more than the window of {window}")
        self.attention = WindowAttention(channels, heads, window, bands)
        self.gates = nn.Parameter(torch.full((most,), 2.0))
        self.lookahead_frames, self.decided = most, False

    def reach(self) -> torch.Tensor:
        """How open the gates are: of one frame ahead, two, ...; [most], between 0 and 1, falling."""
        return self.gates.sigmoid().cumprod(0)

    def lookahead_price(self) -> torch.Tensor:
        """Frames of lookahead that the gates stand for, a scalar to be added to the loss with a weight."""
        return self.reach().sum()

    def decide(self) -> None:
        """Keep the lookahead that was learned, and no more; states of before do not fit any longer."""
        self.lookahead_frames, self.decided = int((self.reach() >= OPEN).sum()), True

    def get_extra_state(self) -> torch.Tensor:
        return torch.tensor([self.lookahead_frames, self.decided])

    def set_extra_state(self, state: torch.Tensor) -> None:
        self.lookahead_frames, self.decided = int(state[0]), bool(state[1])

    def initial_state(self, batch: int) -> State:
        attention: State = self.attention.initial_state(batch)
        if not self.decided:
            attention = dict(attention)  # the gates tell old from new: no ring
        late = self.gates.new_zeros(batch, self.lookahead_frames, self.attention.bands, self.attention.channels)
        return {"late": late if self.lookahead_frames else (), "attention": attention}

    def forward(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        late = torch.cat([state["late"], x], dim=1) if self.lookahead_frames else x
        asking, waiting = late.split([x.shape[1], self.lookahead_frames], dim=1)
        y, attention = self.attention(x, state["attention"], asking, None if self.decided else self._bias())
        return asking + y, {"late": waiting if self.lookahead_frames else (), "attention": attention}

    def _bias(self) -> torch.Tensor:
        """What is added to the scores of the oldest to the newest frame that is seen, [window + 1]."""
        behind = self.gates.new_zeros(self.attention.window + 1 - len(self.gates))
        return torch.cat([behind, self.reach().clamp(min=1e-9).log()])


def lookahead_price(model: nn.Module) -> torch.Tensor | float:
    """What the gates of all layers of a model that still learn how far to look ahead stand for, in frames."""
    return sum((layer.lookahead_price() for layer in _undecided(model)), 0.0)


def learns_lookahead(model: nn.Module) -> bool:
    """Whether any layer of a model still learns how far to look ahead."""
    return any(True for _ in _undecided(model))


def _undecided(model: nn.Module) -> Iterator[LookaheadAttention]:
    layers = (layer for layer in model.modules() if isinstance(layer, LookaheadAttention))
    return (layer for layer in layers if not layer.decided)
