"""Where training runs: the cores of a CPU, accelerators, or several machines, all through Lightning Fabric."""

import logging
import signal
import warnings
from collections.abc import Callable
from multiprocessing import SimpleQueue
from multiprocessing.sharedctypes import RawValue
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.plugins.environments import TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch.multiprocessing import ProcessRaisedException

from ...runtime.errors import HearloopError


class StopRequest:
    """Set by SIGINT or SIGTERM, in whichever process of this machine it arrives; the others see it.

    One byte of shared memory and no lock: a lock that the interrupted code holds would never be given back.
    """

    def __init__(self) -> None:
        self._asked = RawValue("b", 0)

    def __bool__(self) -> bool:
        return bool(self._asked.value)

    def listen(self) -> None:
        """Take the signals; processes forked afterwards do as well."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._set)

    def _set(self, *_: Any) -> None:
        self._asked.value = 1


def open_fabric(processes: int = 1, accelerator: str = "auto", machines: int = 1, precision: str = "32-true") -> Fabric:
    """The group of processes that train together.

    Parameters
    ----------
    processes : int
        On each machine: one per core of a CPU, or per accelerator.
    accelerator : str
        "cpu", "cuda", "mps" or "auto": an accelerator where there is one.
    machines : int
        The same command runs on each, with MASTER_ADDR, MASTER_PORT and NODE_RANK set; or torchrun or a cluster starts
        the processes, which Fabric finds out by itself.
    precision : str
        As in `Settings`; for accelerators, because on a CPU it is a matter of the compiled layers.

    Raises
    ------
    HearloopError
        If there is no such accelerator, or fewer than asked for.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning_fabric")
    started_outside = TorchElasticEnvironment.detect()
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and _only_cpu())
    strategy: Any = "auto"
    if processes * machines > 1 or started_outside:
        # Processes of one machine are forked, so that they share the recordings; statistics of batch norms are averaged
        # by the loop, once per step.
        forked = machines == 1 and not started_outside and accelerator in ("auto", "cpu") and _only_cpu()
        strategy = DDPStrategy(start_method="fork" if forked else "popen", broadcast_buffers=False)
    try:
        fabric = Fabric(
            accelerator=accelerator,
            strategy=strategy,
            devices=processes,
            num_nodes=machines,
            precision="32-true" if on_cpu else precision,  # type: ignore[arg-type]
        )
    except Exception as error:  # Fabric raises several unrelated types for what a machine has not got
        found = f"accelerator {accelerator!r}, {processes} processes, {machines} machines, precision {precision!r}"
        raise HearloopError(f"{found}: {str(error).splitlines()[0]}") from error
    if not isinstance(fabric.accelerator, CPUAccelerator):
        torch.set_float32_matmul_precision("high")
    elif fabric.world_size > 1:
        # Two threads per operation would wait for each other hundreds of times a step.
        torch.set_num_threads(1)
    return fabric


def run_on(fabric: Fabric, work: Callable[[Fabric], Any]) -> Any:
    """Call `work(fabric)` in every process; returns what the first one returns.

    Raises HearloopError or OSError where one of them does.
    """
    # Of an error in another process torch hands on the text of its traceback alone.
    known: Any = SimpleQueue()

    def told(fabric: Fabric) -> Any:
        try:
            return work(fabric)
        except (HearloopError, OSError) as error:
            known.put(error)
            raise

    try:
        return fabric.launch(told)
    except ProcessRaisedException as error:
        if known.empty():
            raise
        raise known.get() from error


def summed(fabric: Fabric, values: torch.Tensor) -> torch.Tensor:
    """The sum over all processes, the same bits in each."""
    total = fabric.all_reduce(values, reduce_op="sum")
    assert isinstance(total, torch.Tensor)
    return total


def _only_cpu() -> bool:
    return not (torch.cuda.is_available() or torch.backends.mps.is_available())
