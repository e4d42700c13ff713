"""From masks to talkers."""

import torch
from torch import nn


class TalkerMasks(nn.Module):
    """One complex mask per talker, applied to the mixture.

    With `sum_to_one` the masks are shifted by what their sum lacks to one, as in Xu et al., "TIGER", ICLR 2025: the
    talkers then add up to the mixture, and nothing is lost or made up between them.

    Parameters
    ----------
    talkers : int
    sum_to_one : bool
    """

    def __init__(self, talkers: int, sum_to_one: bool):
        super().__init__()
        self.talkers, self.sum_to_one = talkers, sum_to_one
        self.register_buffer("quarter_turn", torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), persistent=False)
        self.register_buffer("one", torch.tensor([1.0, 0.0]), persistent=False)
        self.quarter_turn: torch.Tensor
        self.one: torch.Tensor

    def forward(self, spectrum: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Mixture [B, 1, T, F, 2] and masks [B, talkers, T, F, 2] -> talkers [B, talkers, T, F, 2]."""
        # An untrained network gives masks near zero: every talker gets an equal share of the mixture.
        masks = masks + self.one / self.talkers
        if self.sum_to_one:
            masks = masks - (masks.sum(1, keepdim=True) - self.one) / self.talkers
        real, imaginary = masks.split(1, dim=-1)
        return real * spectrum + imaginary * (spectrum @ self.quarter_turn)
