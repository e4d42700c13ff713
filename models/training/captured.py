"""A step of training, recorded once and played again: one call then tells an accelerator all it has to do."""

from collections.abc import Callable
from typing import Any

import torch
from lightning_fabric import Fabric

from ...runtime.errors import HearloopError

WARM_UP = 3  # steps that run as they are: libraries choose their algorithms, kernels are compiled

# A step from items to other weights, in the place of those that were there; returns the loss.
Learn = Callable[[Any], torch.Tensor]


class CapturedStep:
    """`learn`, which launches thousands of small operations, as a CUDA graph.

    A network of narrow layers can keep one core of the CPU busy with launching for longer than the accelerator
    computes. A graph is launched as a whole. It reads its items and writes loss and weights where they were when it was
    recorded, so every batch must have the shapes of the first.

    Parameters
    ----------
    learn : callable
        Must not ask for a value on the accelerator.
    warm_up, record : callables
        How to run it before the recording, and how to record: what plays the recording, and the loss that it leaves.
    """

    def __init__(
        self,
        learn: Learn,
        warm_up: Callable[[Learn, Any], torch.Tensor] | None = None,
        record: Callable[[Callable[[], torch.Tensor]], tuple[Callable[[], object], torch.Tensor]] | None = None,
    ):
        self.learn, self.warm_up, self.record = learn, warm_up or _run_aside, record or _record
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
            return self.warm_up(self.learn, items)
        if self.items is None:
            self.items = items
            self.play, self.loss = self.record(lambda: self.learn(self.items))
        else:
            for place, value in zip(_tensors(self.items), _tensors(items), strict=True):
                if place.shape != value.shape:
                    raise HearloopError(f"items have shape {tuple(value.shape)}; recorded are {tuple(place.shape)}")
                place.copy_(value)
        self.play()
        return self.loss


def captured(learn: Learn, optimiser: torch.optim.Optimizer, fabric: Fabric) -> CapturedStep:
    """`learn`, recorded; the learning rates of the optimiser become tensors, which a recording reads again.

    Raises HearloopError unless it runs in one process on an accelerator of NVIDIA.
    """
    found = (fabric.device.type, fabric.world_size)
    if found != ("cuda", 1):
        raise HearloopError(f"capture is true on {found[0]} in {found[1]} processes; expected cuda and one")
    for group in optimiser.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), device=fabric.device)
    return CapturedStep(learn)


def _tensors(items: Any) -> tuple[torch.Tensor, ...]:
    return (items,) if isinstance(items, torch.Tensor) else tuple(items)


def _run_aside(learn: Learn, items: Any) -> torch.Tensor:
    """On another stream, as what is to be recorded must have run before (PyTorch's notes on CUDA graphs)."""
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        loss = learn(items)
    torch.cuda.synchronize()
    return loss


def _record(work: Callable[[], torch.Tensor]) -> tuple[Callable[[], object], torch.Tensor]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        loss = work()
    return graph.replay, loss
