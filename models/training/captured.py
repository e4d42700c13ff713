"""A step of training, recorded once and played again: one call then tells an accelerator all it has to do."""

from collections.abc import Callable
from typing import Any

import torch

from ...runtime.errors import HearloopError

WARM_UP = 3  # steps that run as they are: libraries choose their algorithms, kernels are compiled

# Finds the loss of items, and leaves the gradients with the parameters in the place of those that were there.
Find = Callable[[Any], torch.Tensor]


class CapturedStep:
    """`find`, which launches thousands of small operations, as a CUDA graph.

    A network of narrow layers can keep one core of the CPU busy with launching for longer than the accelerator
    computes. A graph is launched as a whole. It reads its items and writes the loss and the gradients where they were
    when it was recorded, so every batch must have the shapes of the first.

    Parameters
    ----------
    find : callable
        Must not ask for a value on the accelerator.
    warm_up, record : callables
        How to run it before the recording, and how to record: what plays the recording, and the loss that it leaves.
    """

    def __init__(
        self,
        find: Find,
        warm_up: Callable[[Find, Any], torch.Tensor] | None = None,
        record: Callable[[Callable[[], torch.Tensor]], tuple[Callable[[], object], torch.Tensor]] | None = None,
    ):
        self.find, self.warm_up, self.record = find, warm_up or _run_aside, record or _record
        self.steps = 0
        self.items: Any = None
        self.play: Callable[[], object]
        self.loss: torch.Tensor

    def __call__(self, items: Any) -> torch.Tensor:
        """The loss of items, a tensor or a tuple of tensors; the next call writes over it.

        Raises HearloopError if they have other shapes than those of the recording.
        """
        self.steps += 1
        if self.steps <= WARM_UP:
            return self.warm_up(self.find, items)
        if self.items is None:
            self.items = items
            self.play, self.loss = self.record(lambda: self.find(self.items))
        else:
            for place, value in zip(_tensors(self.items), _tensors(items), strict=True):
                if place.shape != value.shape:
                    raise HearloopError(f"items have shape {tuple(value.shape)}; recorded are {tuple(place.shape)}")
                place.copy_(value)
        self.play()
        return self.loss


def _tensors(items: Any) -> tuple[torch.Tensor, ...]:
    return (items,) if isinstance(items, torch.Tensor) else tuple(items)


def _run_aside(find: Find, items: Any) -> torch.Tensor:
    """On another stream, as what is to be recorded must have run before (PyTorch's notes on CUDA graphs)."""
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        loss = find(items)
    torch.cuda.synchronize()
    return loss


def _record(work: Callable[[], torch.Tensor]) -> tuple[Callable[[], object], torch.Tensor]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = work()
    return graph.replay, loss
