"""The back end: a planned program becomes a module in LLVM's language.

Every kernel is a function of its own, so that equal layers share code and LLVM compiles quickly; `step` calls them one
after the other. `reset` starts a stream afresh.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..compiled import Options
from ..memory import Addresses, Buffer, Memory, offsets
from ..plan import ALIGNMENT, SLACK, Plan
from ..program import Contract, Cumulate, Kernel, Map, Normalize, Program, Reduce, Scan, Softmax, reads, writes
from ..target import Target
from .code import Code
from .contract import emit_contract
from .cumulate import emit_cumulate
from .map import emit_map
from .operands import Operands
from .rows import emit_normalize, emit_reduce, emit_softmax
from .scan import emit_scan

X86 = ("avx512", "avx2", "sse")
FLUSH_X86, FLUSH_ARM = 0x8040, 1 << 24  # see denormals.py


@dataclass(frozen=True, eq=False)
class Emitted:
    """A module as text, the constants that it reads, and what its kernels are."""

    ir: str
    constants: np.ndarray
    kernels: list[dict[str, Any]]


def emit_program(program: Program, plan: Plan, target: Target, options: Options) -> Emitted:
    """Write the module; places the constants."""
    memory = program.memory
    functions: dict[str, str] = {}  # text -> name
    declarations: set[str] = set()
    calls: list[tuple[str, list[tuple[int, int]]]] = []
    kernels = []
    for kernel in program.kernels:
        code, operands = Code(), Operands()
        _emit_kernel(kernel, memory, target, options, operands, code)
        parameters = ", ".join(f"ptr %p{number}" for number in range(len(operands.places)))
        text = f"({parameters}) #0 {{\nentry:\n" + "\n".join(code.lines) + "\n  ret void\n}"
        name = functions.setdefault(text, f"{type(kernel).__name__.lower()}_{len(functions)}")
        declarations |= code.declarations
        calls.append((name, operands.places))
        kernels.append(_described(kernel, name, memory, {number for number, _ in operands.places}))
    constants, image = _place_constants(memory, calls, plan.kept_image)
    parts = [f"define internal void @{name}{text}" for text, name in functions.items()]
    parts.append(_step(program, plan, target, calls, declarations))
    if options.timed:
        parts.append(_step(program, plan, target, calls, declarations, timed=True))
    parts.append(_reset(plan, image, declarations))
    parts += sorted(declarations)
    parts.append("attributes #0 = { nounwind }")
    return Emitted("\n\n".join(parts) + "\n", constants, kernels)


def _emit_kernel(
    kernel: Kernel, memory: Memory, target: Target, options: Options, operands: Operands, code: Code
) -> None:
    match kernel:
        case Map():
            emit_map(kernel, memory, target, operands, code)
        case Contract():
            emit_contract(kernel, memory, target, operands, code, options.half_weights)
        case Reduce():
            emit_reduce(kernel, target, operands, code)
        case Normalize():
            emit_normalize(kernel, target, operands, code)
        case Softmax():
            emit_softmax(kernel, target, operands, code)
        case Cumulate():
            emit_cumulate(kernel, target, operands, code)
        case Scan():
            emit_scan(kernel, memory, target, operands, code)


def _place_constants(
    memory: Memory, calls: list[tuple[str, list[tuple[int, int]]]], kept_image: np.ndarray | None
) -> tuple[np.ndarray, int | None]:
    """Lay out the constants that some kernel reads, in the order in which they are needed, then the image of what is
    kept; returns them, and where the image begins. Copied once: they may be most of the model."""
    placed: dict[int, Buffer] = {}
    top = 0
    for number in (number for _, places in calls for number, _ in places):
        buffer = memory.buffers[number]
        if buffer.kind == "constant" and number not in placed:
            placed[number] = buffer
            buffer.place, top = top, top + -(-(buffer.size + 1) // ALIGNMENT) * ALIGNMENT
    top = top or ALIGNMENT
    kept = np.zeros(0, np.float32) if kept_image is None else kept_image
    constants = np.zeros(top + len(kept) + SLACK, np.float32)
    for buffer in placed.values():
        assert buffer.data is not None
        constants[buffer.place : buffer.place + buffer.size] = buffer.data
    constants[top : top + len(kept)] = kept
    return constants, None if kept_image is None else top


def _step(
    program: Program,
    plan: Plan,
    target: Target,
    calls: list[tuple[str, list[tuple[int, int]]]],
    declarations: set[str],
    timed: bool = False,
) -> str:
    """All kernels in order, with denormal numbers taken as zero, and the rings' positions moved on.

    With `timed`, the function is `step_timed` and stores the time before each kernel and after the last one.
    """
    code = Code()
    restore = _flush_denormals(code, target, declarations)
    positions: dict[int, str] = {}
    for number, word in plan.positions.items():
        positions[number] = code.assign(f"load i64, ptr {_word(code, word)}, align 8")
    slots: dict[tuple[int, int], str] = {}

    def argument(number: int, offset: int) -> str:
        buffer = program.memory.buffers[number]
        if buffer.kind == "constant":
            return code.assign(f"getelementptr float, ptr %constants, i64 {buffer.place + offset}")
        if buffer.ring is None:
            return code.assign(f"getelementptr float, ptr %memory, i64 {buffer.place + offset}")
        ring = buffer.ring
        slot = offset // ring.stride % (2 * ring.slots)
        if (number, slot) not in slots:
            ahead = code.assign(f"add nsw i64 {positions[number]}, {slot}")
            over = code.assign(f"icmp uge i64 {ahead}, {2 * ring.slots}")
            wrapped = code.assign(f"sub nsw i64 {ahead}, {2 * ring.slots}")
            now = code.assign(f"select i1 {over}, i64 {wrapped}, i64 {ahead}")
            slots[number, slot] = code.assign(f"mul nsw i64 {now}, {ring.stride}")
        fixed = buffer.place + offset - slot * ring.stride
        base = code.assign(f"getelementptr float, ptr %memory, i64 {fixed}")
        return code.assign(f"getelementptr float, ptr {base}, i64 {slots[number, slot]}")

    for index, (name, places) in enumerate(calls):
        arguments = ", ".join(f"ptr {argument(*place)}" for place in places)
        if timed:
            _stamp(code, target, declarations, index)
        code.lines.append(f"  call void @{name}({arguments})")
    if timed:
        _stamp(code, target, declarations, len(calls))
    for number, word in plan.positions.items():
        moved = program.memory.buffers[number].ring
        assert moved is not None
        ahead = code.assign(f"add nsw i64 {positions[number]}, {moved.step % moved.slots}")
        code.lines.append(
            f"  store i64 {code.assign(f'urem i64 {ahead}, {moved.slots}')}, ptr {_word(code, word)}, align 8"
        )
    code.lines += restore
    body = "\n".join(code.lines)
    name, more = ("step_timed", ", ptr %stamps") if timed else ("step", "")
    return f"define void @{name}(ptr %memory, ptr %constants{more}) #0 {{\nentry:\n{body}\n  ret void\n}}"


def _stamp(code: Code, target: Target, declarations: set[str], index: int) -> None:
    """Store the processor's clock: on x86 the time stamp counter, on ARM the timer that programs may read."""
    clock = "llvm.readsteadycounter" if target.name == "neon" else "llvm.readcyclecounter"
    declarations.add(f"declare i64 @{clock}()")
    now = code.assign(f"call i64 @{clock}()")
    place = code.assign(f"getelementptr i64, ptr %stamps, i64 {index}")
    code.lines.append(f"  store i64 {now}, ptr {place}, align 8")


def _word(code: Code, word: int) -> str:
    return code.assign(f"getelementptr i64, ptr %memory, i64 {word}")


def _flush_denormals(code: Code, target: Target, declarations: set[str]) -> list[str]:
    """Set flush-to-zero; returns the lines that put the caller's setting back."""
    if target.name in X86 or (target.name == "plain" and "+sse" in target.features):
        declarations |= {
            "declare void @llvm.x86.sse.stmxcsr(ptr)",
            "declare void @llvm.x86.sse.ldmxcsr(ptr)",
        }
        old, new = code.assign("alloca i32"), code.assign("alloca i32")
        code.lines.append(f"  call void @llvm.x86.sse.stmxcsr(ptr {old})")
        flags = code.assign(f"or i32 {code.assign(f'load i32, ptr {old}')}, {FLUSH_X86}")
        code.lines += [f"  store i32 {flags}, ptr {new}", f"  call void @llvm.x86.sse.ldmxcsr(ptr {new})"]
        return [f"  call void @llvm.x86.sse.ldmxcsr(ptr {old})"]
    if target.name == "neon":
        declarations |= {"declare i64 @llvm.aarch64.get.fpcr()", "declare void @llvm.aarch64.set.fpcr(i64)"}
        before = code.assign("call i64 @llvm.aarch64.get.fpcr()")
        flags = code.assign(f"or i64 {before}, {FLUSH_ARM}")
        code.lines.append(f"  call void @llvm.aarch64.set.fpcr(i64 {flags})")
        return [f"  call void @llvm.aarch64.set.fpcr(i64 {before})"]
    return []


def _reset(plan: Plan, image: int | None, declarations: set[str]) -> str:
    """What lives from step to step, as before the first step."""
    size = 4 * plan.kept_size
    if image is None:
        declarations.add("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        body = f"  call void @llvm.memset.p0.i64(ptr %memory, i8 0, i64 {size}, i1 false)"
    else:
        declarations.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        body = f"  %image = getelementptr float, ptr %constants, i64 {image}\n"
        body += f"  call void @llvm.memcpy.p0.p0.i64(ptr %memory, ptr %image, i64 {size}, i1 false)"
    return f"define void @reset(ptr %memory, ptr %constants) #0 {{\nentry:\n{body}\n  ret void\n}}"


def _described(kernel: Kernel, name: str, memory: Memory, touched: set[int]) -> dict[str, Any]:
    """For people to read: what a kernel is, and how much it has to do; `touched` are the buffers that its code uses."""
    shape = list(kernel.chains[0].out.shape) if isinstance(kernel, Scan) else list(kernel.out.shape)
    macs = 0
    if isinstance(kernel, Contract):
        macs = kernel.out.size * kernel.a.shape[2]
    elif isinstance(kernel, Scan):
        macs = sum(prod(chain.recurrent.shape) * len(chain.out) for chain in kernel.chains)
    operands = [each for each in (*reads(kernel), *writes(kernel)) if memory.owner(each.flat[:1]).kind != "constant"]
    # Constants as they were laid out for the code, which is not as the model has them.
    constants = sum(memory.buffers[number].size for number in touched if memory.buffers[number].kind == "constant")
    size = 4 * (constants + sum(_covered(operand) for operand in operands))
    return {
        "name": name,
        "kind": type(kernel).__name__.lower(),
        "shape": shape,
        "macs": macs,
        "bytes": size,
        "to": _place(memory, writes(kernel)[0]),
    }


def _place(memory: Memory, operand: Addresses) -> str:
    """Where an operand begins in the memory of a stream, for people to read."""
    buffer = memory.owner(operand.flat[:1])
    kind = "ring" if buffer.ring is not None else buffer.name or buffer.kind
    return f"{kind} @ {4 * (buffer.place + int(offsets(operand).flat[0]))}"


def _covered(operand: Addresses) -> int:
    """How many numbers an operand covers, each counted once; it lies in one buffer."""
    places = offsets(operand)
    covered = np.zeros(int(places.max()) + 1, bool)
    covered[places] = True
    return int(covered.sum())
