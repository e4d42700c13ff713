"""Depthwise convolutions: one channel in, one channel out, so it is no matrix product.

Written as a product it would be a small sum per channel, each with weights of its own. As a reduction whose rows are
the channels, side by side, the lanes of a vector work on as many channels as there are lanes. For that the weights are
laid out tap by tap, and the channels of inputs and results come last; where the input is a window that is filled from
a tensor with channels last, as linear layers leave it, that saves the transposition as well.
"""

import numpy as np

from ..expression import Apply, Load, rewrite
from ..memory import Addresses, Buffer, Memory, offsets
from ..program import Contract, Kernel, Program, Reduce, is_copy, readdress
from .uses import Uses


def sum_by_channel(program: Program) -> None:
    """Turn depthwise convolutions into reductions over their taps, where the channels lie side by side or can."""
    for index, kernel in enumerate(program.kernels):
        if isinstance(kernel, Contract) and kernel.out.shape[0] > 1 == kernel.out.shape[1]:
            single = kernel.out.shape[2] == 1
            if single or _has_channels_last(kernel.b) or _put_channels_last(program, kernel):
                program.kernels[index] = _reduced(program.memory, kernel)
                if not single:
                    _lay_out_results(program, kernel)


def _has_channels_last(b: Addresses) -> bool:
    return bool((np.diff(b[:, 0, 0]) == 1).all())


def _put_channels_last(program: Program, kernel: Contract) -> bool:
    """Lay out the window that is read with its channels last, if that is how it is filled."""
    uses = Uses(program)
    window = uses.buffer(kernel.b)
    fillers = uses.writers[window.number]
    if window.kind != "scratch" or not all(is_copy(each) for each in fillers) or len(uses.readers[window.number]) > 1:
        return False
    origin = window.addresses.ravel()
    for copy in fillers:
        source = copy.value.addresses  # type: ignore[union-attr]
        if uses.buffer(source).kind != "state":
            origin[offsets(copy.out)] = source  # type: ignore[union-attr]
    taps = origin[offsets(kernel.b)]
    new = (taps >> 40 != window.number).all(axis=(0, 2))
    stride = int(kernel.b[1, 0, 0] - kernel.b[0, 0, 0])
    strides = [int(np.prod(window.shape[axis + 1 :])) for axis in range(len(window.shape))]
    if not new.any() or not _has_channels_last(taps[:, new]) or stride not in strides:
        return False
    _lay_out(program, window, strides.index(stride))
    return True


def _lay_out_results(program: Program, kernel: Contract) -> None:
    """Give the results of a convolution, [G, 1, N], an order in which the channels come last."""
    buffer = program.memory.owner(kernel.out.flat[:1])
    if buffer.kind == "scratch" and not buffer.kept and np.array_equal(kernel.out.ravel(), buffer.addresses.ravel()):
        buffer.shape = kernel.out.shape
        _lay_out(program, buffer, 0)


def _lay_out(program: Program, buffer: Buffer, last: int) -> None:
    """Change the layout of a buffer so that one of its axes comes last."""
    order = [axis for axis in range(len(buffer.shape)) if axis != last] + [last]
    new = program.memory.new("scratch", tuple(np.take(buffer.shape, order)), buffer.name, buffer.kept)
    if buffer.data is not None:
        new.data = buffer.data.reshape(buffer.shape).transpose(order).ravel()
    table = np.moveaxis(new.addresses, -1, last).ravel()

    def change(operand: Addresses) -> Addresses:
        here = (operand >> 40) == buffer.number
        return np.where(here, table[offsets(operand) % table.size], operand) if here.any() else operand

    for kernel in program.kernels:
        readdress(kernel, change)
    for state in program.states:
        state.following = change(state.following)
    for name, addresses in program.outputs.items():
        program.outputs[name] = change(addresses)


def _reduced(memory: Memory, kernel: Contract) -> Kernel:
    """Rows are [N, G]."""
    channels, _, positions = kernel.out.shape
    weights = np.broadcast_to(_by_tap(memory, kernel.a[:, 0]), (positions, channels, kernel.a.shape[2]))
    inputs = kernel.b.transpose(2, 0, 1)
    factors = tuple(Load(each.reshape(-1, kernel.a.shape[2])) for each in (weights, inputs))
    value = rewrite(kernel.value, lambda leaf: Load(leaf.addresses[:, 0].T.ravel()) if isinstance(leaf, Load) else leaf)
    return Reduce(kernel.out[:, 0].T.ravel(), Apply("mul", factors), "sum", value)


def _by_tap(memory: Memory, weights: Addresses) -> Addresses:
    """Weights [G, K]; if they are constant, laid out [K, G]."""
    buffer = memory.owner(weights.flat[:1])
    if buffer.kind != "constant" or buffer.data is None:
        return weights
    return memory.constant(buffer.data[offsets(weights)].T).addresses.T
