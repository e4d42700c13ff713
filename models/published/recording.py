"""Published networks that hear a whole recording, all with one interface."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Recording(nn.Module):
    """Sound in, speech or talkers out: [B, 1, samples] -> [B, channels_out, samples].

    Parameters
    ----------
    network : nn.Module
    call : callable
        (network, audio [B, 1, samples]) -> [B, channels_out, samples].
    task : str
    channels_out : int
    piece : int
        Samples that it shall hear at once; as many as in its training.
    """

    channels_in = 1

    def __init__(
        self,
        network: Any,
        call: Callable[[Any, torch.Tensor], torch.Tensor],
        task: str,
        channels_out: int,
        piece: int,
    ):
        super().__init__()
        self.network, self.call, self.task, self.channels_out, self.piece = network, call, task, channels_out, piece

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        return self.call(self.network, audio)
