"""The endless stream of training items, from any step on."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..simulation.parallel import ItemSimulator

ROUND = 16  # batches that are kept to be heard again


class _Batches(Dataset):
    """Batch number `step` of one process; item i depends on the seed and i alone."""

    def __init__(self, simulator: ItemSimulator, seed: int, batch: int, first: int, count: int, samples: int):
        self.simulator, self.seed, self.samples = simulator, seed, samples
        self.batch, self.first, self.count = batch, first, count

    def __getitem__(self, step: int) -> Any:
        return self.simulator.items(self.seed, step * self.batch + self.first, self.count, self.samples)


class _Steps:
    """Step numbers from `first` on."""

    def __init__(self, first: int):
        self.first = first

    def __iter__(self) -> Iterator[int]:
        step = self.first
        while True:
            yield step
            step += 1


def batches(
    simulator: ItemSimulator,
    *,
    seed: int,
    step: int,
    batch: int,
    samples: int,
    rank: int = 0,
    processes: int = 1,
    workers: int = 0,
    repeats: int = 1,
) -> Iterator[Any]:
    """The share of process `rank` in the batches from `step` on: what the simulator makes of `batch / processes` items,
    arrays as tensors.

    A batch is the same, item by item, however many processes and workers make it, and whatever step is the first. With
    more than one of `repeats`, 16 batches are heard so many times, one after the other, before the next 16.
    """
    share = batch // processes
    kept = ROUND if repeats > 1 else 1
    rounds, turn = divmod(step, kept * repeats)
    made = iter(
        DataLoader(
            _Batches(simulator, seed, batch, rank * share, share, samples),
            batch_size=None,
            sampler=_Steps(rounds * kept),
            num_workers=workers,
            pin_memory=workers > 0 and torch.cuda.is_available(),
        )
    )
    return _repeated(made, turn, kept, repeats)


def _repeated(made: Iterator[Any], turn: int, kept: int, repeats: int) -> Iterator[Any]:
    """Rounds of `kept` batches, each heard `repeats` times, from some turn of the first round on."""
    while True:
        held: list[Any] = []
        for at in range(turn, kept * repeats):
            while len(held) <= at % kept:
                held.append(next(made))
            yield held[at % kept]
        turn = 0
