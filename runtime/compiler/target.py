"""What the processor offers: vector width, registers, and the names by which LLVM knows it."""

from dataclasses import dataclass

import llvmlite.binding as llvm


@dataclass(frozen=True)
class Target:
    """A kind of processor.

    Attributes
    ----------
    name : str
        "avx512", "avx2", "sse", "neon", or "plain": loops without vectors, for anything else.
    width : int
        float32 lanes of a vector.
    registers : int
        Vector registers; a tile of a matrix product must fit into them.
    half : bool
        Whether it widens float16 to float32 as fast as it reads them.
    cpu, features, triple : str
        For LLVM; without a triple, this machine's.
    """

    name: str
    width: int
    registers: int
    half: bool = False
    cpu: str = ""
    features: str = ""
    triple: str = ""


KINDS = {"avx512": (16, 32), "avx2": (8, 16), "sse": (4, 16), "neon": (4, 32), "plain": (1, 16)}
ARM64 = Target("neon", *KINDS["neon"], half=True, cpu="cortex-a72", triple="aarch64-linux-gnu")
"""64-bit ARM under Linux, as of a Raspberry Pi 4: code for it can be written on any machine."""


def host_target(name: str | None = None) -> Target:
    """This machine's processor; a name restricts it to the vectors of a lesser one ("plain" runs everywhere)."""
    features = llvm.get_host_cpu_features()
    architecture = llvm.get_process_triple().split("-")[0]
    if name is None:
        if architecture.startswith(("aarch64", "arm64")):
            name = "neon"
        elif not architecture.startswith("x86_64"):
            name = "plain"
        elif features.get("avx512f") and features.get("avx512vl"):
            name = "avx512"
        else:
            name = "avx2" if features.get("avx2") and features.get("fma") else "sse"
    width, registers = KINDS[name]
    half = name == "neon" or (name in ("avx2", "avx512") and bool(features.get("f16c")))
    return Target(name, width, registers, half, llvm.get_host_cpu_name(), features.flatten())
