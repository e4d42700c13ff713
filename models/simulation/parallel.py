"""Items made ahead of their use, in worker processes, in the same order and the same bits for any number of them."""

import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, Protocol

AHEAD = 2  # batches per worker that wait to be used


class ItemSimulator(Protocol):
    """What every simulator offers: items `first` to `first + count`, each of which depends on seed and number alone."""

    def items(self, seed: int, first: int, count: int, length: int) -> Any: ...


def batches(
    simulator: ItemSimulator, seed: int, batch: int, length: int, processes: int = 0, first: int = 0
) -> Iterator[Any]:
    """Endless batches of `batch` items from item `first` on; with 0 processes, made here when they are asked for.

    The recordings are shared with the workers, not copied, where the system can fork. Close the iterator to end them.
    """
    if processes == 0:
        while True:
            yield simulator.items(seed, first, batch, length)
            first += batch
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(processes, context, initializer=_keep, initargs=(simulator,)) as workers:
        waiting: deque[Future[Any]] = deque()
        try:
            while True:
                while len(waiting) < AHEAD * processes:
                    waiting.append(workers.submit(_make, seed, first, batch, length))
                    first += batch
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


_kept: list[ItemSimulator] = []


def _keep(simulator: ItemSimulator) -> None:
    _kept[:] = [simulator]


def _make(seed: int, first: int, count: int, length: int) -> Any:
    return _kept[0].items(seed, first, count, length)
