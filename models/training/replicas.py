"""Data-parallel training on the cores of one machine: a process per core, gradients averaged after every step.

One thread per process and one exchange per step keep two cores busy where two threads per operation would wait for
each other hundreds of times a step, the more so on a machine that does other things as well.
"""

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from datetime import timedelta

import torch
from torch import distributed

from ...runtime.errors import HearloopError


class Replicas:
    """The group of processes that train together, seen from one of them.

    rank : this process, 0 for the first; count : how many there are
    """

    def __init__(self, rank: int = 0, count: int = 1):
        self.rank, self.count = rank, count

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of `values` over all processes, the same bits in each."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values


def run_replicas(work: Callable[[Replicas], None], count: int) -> None:
    """Call `work(replicas)` in `count` processes at once, this one being the first; returns when it is done here."""
    if count == 1:
        torch.set_num_threads(max(1, torch.get_num_threads()))
        work(Replicas())
        return
    if "fork" not in multiprocessing.get_all_start_methods():
        raise HearloopError(f"{count} training processes: this system cannot fork; expected 1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.set_num_threads(1)
    others = [
        multiprocessing.get_context("fork").Process(target=_join, args=(work, rank, count, port), daemon=True)
        for rank in range(1, count)
    ]
    for other in others:
        other.start()
    _join(work, 0, count, port)
    for other in others:
        other.join(timeout=60)


def _join(work: Callable[[Replicas], None], rank: int, count: int, port: int) -> None:
    if rank > 0:
        # Only the first process decides when to stop; it tells the others with the gradients.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=count,
        timeout=timedelta(minutes=30),
    )
    try:
        work(Replicas(rank, count))
    finally:
        distributed.destroy_process_group()
