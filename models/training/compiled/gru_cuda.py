"""The recurrence of a GRU on an NVIDIA accelerator: all steps in one kernel, forward and backward.

cuDNN launches a kernel or more for each step. With the small layers of a streaming network a step has so little to do
that the launches are most of the time. Here a group of sequences stays in one block of threads from the first step to
the last, and nothing but its gates and its results goes to memory and back. What it multiplies, and keeps for the way
back, has the precision of the gates: bfloat16 where linear layers give that. Sums are float32.
"""

import torch
import triton
import triton.language as tl

GROUP = 16  # sequences of a block of threads: the fewest that tensor cores take


class CudaRecurrence(torch.autograd.Function):
    """`Steps` of compiled.gru, on an accelerator."""

    @staticmethod
    def forward(ctx, gates, start, weight, bias, backwards):
        gates, start, weight = gates.contiguous(), start.contiguous(), weight.contiguous()
        frames, rows, wide = gates.shape
        size = wide // 3
        hidden, activated = gates.new_empty(frames, rows, size), gates.new_empty(frames, rows, 4 * size)
        grid, sizes = _blocks(rows, size)
        _run[grid](gates, start, weight, bias, hidden, activated, frames, rows, BACKWARDS=backwards, **sizes)
        ctx.save_for_backward(start, weight, hidden, activated)
        ctx.backwards = backwards
        return hidden

    @staticmethod
    def backward(ctx, gradient):
        start, weight, hidden, activated = ctx.saved_tensors
        gradient = gradient.contiguous()
        frames, rows, size = hidden.shape
        to_gates, to_candidate = hidden.new_empty(frames, rows, 3 * size), torch.empty_like(hidden)
        to_start, to_bias = torch.empty_like(start), weight.new_empty(rows, 4 * size)
        grid, sizes = _blocks(rows, size)
        arrays = (gradient, hidden, start, activated, weight, to_gates, to_candidate, to_start, to_bias)
        _run_back[grid](*arrays, frames, rows, BACKWARDS=ctx.backwards, **sizes)
        to_sums = to_gates[..., : 2 * size]
        if ctx.backwards:
            first, others, before = -1, slice(None, -1), hidden[1:].flatten(0, 1)
        else:
            first, others, before = 0, slice(1, None), hidden[:-1].flatten(0, 1)
        begun = start.to(hidden)
        to_weight = torch.cat(
            [part[others].flatten(0, 1).T @ before + part[first].T @ begun for part in (to_sums, to_candidate)]
        )
        return to_gates, to_start, to_weight.to(weight), to_bias.sum(0), None


def _blocks(rows: int, size: int) -> tuple[tuple[int], dict[str, int]]:
    """The grid, and the sizes of a block: of threads enough that their registers hold the weights."""
    wide = max(16, triton.next_power_of_2(size))
    return (triton.cdiv(rows, GROUP),), {"SIZE": size, "WIDE": wide, "ROWS": GROUP, "num_warps": 8 if wide > 32 else 4}


@triton.jit
def _three(first, apart, inside):
    """What stands at some places, and at those that are so far and twice so far behind them: for r, z and n."""
    return tl.load(first, inside, 0.0), tl.load(first + apart, inside, 0.0), tl.load(first + 2 * apart, inside, 0.0)


@triton.jit
def _rounded(three, kind: tl.constexpr):
    return three[0].to(kind), three[1].to(kind), three[2].to(kind)


@triton.jit
def _run(
    gates,
    start,
    weight,
    bias,
    hidden,
    activated,
    frames,
    rows,
    SIZE: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    BACKWARDS: tl.constexpr,
):
    """Forward over all steps: the hidden vector after each step, and r, z, n, W_n h + b_n of each."""
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    j, k = tl.arange(0, WIDE), tl.arange(0, WIDE)
    here = (row < rows)[:, None] & (j < SIZE)[None, :]
    inside = (k < SIZE)[:, None] & (j < SIZE)[None, :]
    kind: tl.constexpr = gates.dtype.element_ty
    weight_r, weight_z, weight_n = _rounded(_three(weight + j[None, :] * SIZE + k[:, None], SIZE * SIZE, inside), kind)
    bias_r = tl.load(bias + j, j < SIZE, 0.0)[None, :]
    bias_z = tl.load(bias + SIZE + j, j < SIZE, 0.0)[None, :]
    bias_n = tl.load(bias + 2 * SIZE + j, j < SIZE, 0.0)[None, :]
    bias_candidate = tl.load(bias + 3 * SIZE + j, j < SIZE, 0.0)[None, :]
    h = tl.load(start + row[:, None] * SIZE + j[None, :], here, 0.0)
    first = (frames - 1) * rows if BACKWARDS else 0
    x = gates + (first + row[:, None]) * (3 * SIZE) + j[None, :]
    x_r, x_z, x_n = _rounded(_three(x, SIZE, here), tl.float32)
    for step in range(frames):
        t = (frames - 1 - step) if BACKWARDS else step
        at = t * rows + row[:, None]
        # Those of the next step are on their way while this one is computed.
        x = gates + ((at - rows) if BACKWARDS else (at + rows)) * (3 * SIZE) + j[None, :]
        following = here & (step + 1 < frames)
        next_r, next_z, next_n = _rounded(_three(x, SIZE, following), tl.float32)
        factor = h.to(kind)
        r = tl.sigmoid(tl.dot(factor, weight_r) + (x_r + bias_r))
        z = tl.sigmoid(tl.dot(factor, weight_z) + (x_z + bias_z))
        candidate = tl.dot(factor, weight_n) + bias_candidate
        n = 2 * tl.sigmoid(2 * (x_n + bias_n + r * candidate)) - 1
        h = n + z * (h - n)
        tl.store(hidden + at * SIZE + j[None, :], h, here)
        kept = activated + at * (4 * SIZE) + j[None, :]
        tl.store(kept, r, here)
        tl.store(kept + SIZE, z, here)
        tl.store(kept + 2 * SIZE, n, here)
        tl.store(kept + 3 * SIZE, candidate, here)
        x_r, x_z, x_n = next_r, next_z, next_n


@triton.jit
def _of_step(gradient, activated, at, j, inside, SIZE: tl.constexpr):
    """The gradient that a step is given, and r, z, n, W_n h + b_n of it."""
    kept = activated + at * (4 * SIZE) + j[None, :]
    r, z, n = _rounded(_three(kept, SIZE, inside), tl.float32)
    candidate = tl.load(kept + 3 * SIZE, inside, 0.0).to(tl.float32)
    return tl.load(gradient + at * SIZE + j[None, :], inside, 0.0).to(tl.float32), r, z, n, candidate


@triton.jit
def _run_back(
    gradient,
    hidden,
    start,
    activated,
    weight,
    to_gates,
    to_candidate,
    to_start,
    to_bias,
    frames,
    rows,
    SIZE: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    BACKWARDS: tl.constexpr,
):
    """Backward over all steps: the gradients of the gates, of W_n h + b_n, of the start, and of the bias."""
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    j, k = tl.arange(0, WIDE), tl.arange(0, WIDE)
    here = (row < rows)[:, None] & (j < SIZE)[None, :]
    inside = (k < SIZE)[:, None] & (j < SIZE)[None, :]
    kind: tl.constexpr = hidden.dtype.element_ty
    weight_r, weight_z, weight_n = _rounded(_three(weight + k[:, None] * SIZE + j[None, :], SIZE * SIZE, inside), kind)
    carried = tl.zeros((ROWS, WIDE), tl.float32)
    total_r, total_z, total_n, total_candidate = carried, carried, carried, carried
    beginning = tl.load(start + row[:, None] * SIZE + j[None, :], here, 0.0)
    last = 0 if BACKWARDS else (frames - 1) * rows
    given, r, z, n, candidate = _of_step(gradient, activated, last + row[:, None], j, here, SIZE)
    for step in range(frames):
        t = step if BACKWARDS else frames - 1 - step
        at = t * rows + row[:, None]
        earlier = (at + rows) if BACKWARDS else (at - rows)
        # Those of the next step are on their way while this one is computed.
        following = here & (step + 1 < frames)
        old = tl.load(hidden + earlier * SIZE + j[None, :], following, 0.0).to(tl.float32)
        next_given, next_r, next_z, next_n, next_candidate = _of_step(gradient, activated, earlier, j, following, SIZE)
        old = tl.where(step + 1 < frames, old, beginning)
        whole = carried + given
        inner = whole * (1 - z) * (1 - n * n)
        sum_r = inner * candidate * r * (1 - r)
        sum_z = whole * (old - n) * z * (1 - z)
        sum_n = inner * r
        carried = whole * z + tl.dot(sum_r.to(kind), weight_r)
        carried = tl.dot(sum_z.to(kind), weight_z, carried)
        carried = tl.dot(sum_n.to(kind), weight_n, carried)
        to = to_gates + at * (3 * SIZE) + j[None, :]
        tl.store(to, sum_r, here)
        tl.store(to + SIZE, sum_z, here)
        tl.store(to + 2 * SIZE, inner, here)
        tl.store(to_candidate + at * SIZE + j[None, :], sum_n, here)
        total_r, total_z = total_r + sum_r, total_z + sum_z
        total_n, total_candidate = total_n + inner, total_candidate + sum_n
        given, r, z, n, candidate = next_given, next_r, next_z, next_n, next_candidate
    tl.store(to_start + row[:, None] * SIZE + j[None, :], carried, here)
    totals = to_bias + row[:, None] * (4 * SIZE) + j[None, :]
    tl.store(totals, total_r, here)
    tl.store(totals + SIZE, total_z, here)
    tl.store(totals + 2 * SIZE, total_n, here)
    tl.store(totals + 3 * SIZE, total_candidate, here)
