"""Where the chosen voice comes from: blocks tell who, the ears tell from where, and so which bins are theirs."""

import torch
from torch import nn

from .directions import REACH, Directions
from .streaming.state import State

SOURCES = 2  # the voice, and all the rest
EXPECTATIONS = 4  # of what both ears hear


class Bearing(nn.Module):
    """Finds from where the voice comes that a network has made out so far, and what else does.

    Who speaks is told late, and badly where voices are alike; but whoever speaks stays where they are. A linear layer
    says of every band how much of it is the voice, `Directions` finds the direction of these shares, remembers it, and
    says of every bin how well it agrees.

    Parameters
    ----------
    channels, hidden : int
        Of what comes out for the bins, and for the bands of the blocks.
    delays : int
        See `Directions`.
    window : str
        Window pair.
    stride : int
        Bins that are one wide band.

    State: that of `Directions`.
    """

    def __init__(self, channels: int, hidden: int, delays: int, window: str, stride: int):
        super().__init__()
        self.bands, self.width = REACH // stride, stride
        self.whose = nn.Linear(hidden, SOURCES)
        self.directions = Directions(channels, delays, SOURCES, EXPECTATIONS, window, stride)
        self.to_hidden = nn.Linear(channels, hidden, bias=False)
        self.told: tuple[torch.Tensor, torch.Tensor] | None = None

    def initial_state(self, batch: int) -> State:
        return self.directions.initial_state(batch)

    def tell(self, shares: torch.Tensor, items: torch.Tensor) -> None:
        """What the next pass in training mode takes for the shares [B, T, 2, bands], in those items [B] that are true.

        A network that is told the truth learns at once what directions are good for.
        """
        self.told = (shares, items)

    def forward(
        self, narrow: torch.Tensor, alike: torch.Tensor, expand: torch.Tensor, compress: torch.Tensor, state: State
    ) -> tuple[torch.Tensor, torch.Tensor, State]:
        """Features of the blocks [B, T, bands, hidden] and what tells directions apart [B, 3, T, bins].

        `expand` [bands, wide] and `compress` [wide, bands] lead from the bands of the blocks to wide ones and back.
        Returns what to add to the wide features [B, channels, T, wide], to those of the blocks, and the next state.
        """
        shares = (self.whose(narrow).transpose(2, 3) @ expand)[..., : self.bands].sigmoid()
        if self.training:
            self.said = shares
            if self.told is not None:
                told, items = self.told
                shares, self.told = torch.where(items[:, None, None, None], told, shares), None
        heard, state = self.directions(alike, shares, state)
        return heard, self.to_hidden((heard @ compress).permute(0, 2, 3, 1)), state
