"""The functions of the domain `hearloop`: what ONNX has no operator for, with a body of plain operators.

ONNX Runtime runs the body. The compiler knows `SelectiveScan` by its name; the bodies of `RingPush` and
`DilatedHistory` are already what it turns into rings. `MambaScan` is for whole recordings only, which are not compiled.
"""

# The bodies are Python only in form: they are parsed, never run, and ONNX converts their numbers to tensors.
# mypy: disable-error-code="arg-type,type-var,no-untyped-def,misc,return-value"

from collections.abc import Callable, Sequence
from typing import Any

import onnx
import onnxscript
import torch
from onnxscript import FLOAT
from onnxscript import opset18 as op

from ..models.streaming import scan  # noqa: F401 (defines the operator of PyTorch that is translated)

DOMAIN = onnxscript.values.Opset("hearloop", 1)


@onnxscript.script(DOMAIN)
def SelectiveScan(x: FLOAT, dt: FLOAT, a: FLOAT, b: FLOAT, c: FLOAT, d: FLOAT, state: FLOAT) -> tuple[FLOAT, FLOAT]:
    """h_l = exp(dt_l a) h_(l-1) + dt_l b_l x_l^T, y_l = h_l^T c_l + d x_l; shapes as in `models.streaming.scan`.

    The body sums over all pairs of entries, each weighed by the decay between them.
    """
    entered = op.Transpose(op.Mul(x, op.Unsqueeze(dt, [3])), perm=[0, 2, 1, 3])
    logarithm = op.Transpose(op.CumSum(op.Mul(dt, a), 1), perm=[0, 2, 1])
    gap = op.Sub(op.Unsqueeze(logarithm, [3]), op.Unsqueeze(logarithm, [2]))
    decay = op.Trilu(op.Exp(op.Min(gap, 0.0)), upper=0)
    entering = op.Transpose(b, perm=[0, 2, 1])
    weights = op.Mul(op.Unsqueeze(op.MatMul(c, entering), [1]), decay)
    since = op.Exp(op.Unsqueeze(logarithm, [3]))
    remembered = op.Mul(op.MatMul(op.Unsqueeze(c, [1]), state), since)
    summed = op.Transpose(op.Add(op.MatMul(weights, entered), remembered), perm=[0, 2, 1, 3])
    y = op.Add(summed, op.Mul(x, op.Unsqueeze(d, [1])))
    last = op.Slice(logarithm, [-1], [9223372036854775807], [2])
    left = op.Mul(entered, op.Exp(op.Unsqueeze(op.Sub(last, logarithm), [3])))
    added = op.MatMul(op.Unsqueeze(entering, [1]), left)
    following = op.Add(op.Mul(state, op.Exp(op.Unsqueeze(last, [3]))), added)
    return y, following


@onnxscript.script(DOMAIN)
def RingPush(memory: FLOAT, new: FLOAT, axis: int):
    """The memory with the new frames behind it, and the newest of it, as many as the memory had."""
    at = op.Reshape(op.Constant(value_int=axis), [1])
    window = op.Concat(memory, new, axis=axis)
    following = op.Slice(window, op.Gather(op.Shape(new), at), [9223372036854775807], at)
    return window, following


@onnxscript.script(DOMAIN)
def DilatedHistory(memory: FLOAT, new: FLOAT, axis: int, dilation: int):
    """What a dilated convolution sees, every `dilation`-th frame of memory and new one; and the next memory."""
    at = op.Reshape(op.Constant(value_int=axis), [1])
    distance = op.Reshape(op.Constant(value_int=dilation), [1])
    window, following = RingPush(memory, new, axis=axis)
    taps = op.Slice(window, [0], [9223372036854775807], at, distance)
    return taps, following


@onnxscript.script(DOMAIN)
def MambaScan(x: FLOAT, dt: FLOAT, a: FLOAT, b: FLOAT, c: FLOAT) -> FLOAT:
    """h_l = exp(dt_l a) h_(l-1) + dt_l x_l b_l^T, y_l = h_l c_l; shapes as in `models.published.selective`."""

    @onnxscript.graph()
    def step(state, x_l, dt_l, b_l, c_l):
        size = op.Unsqueeze(dt_l, [2])
        entered = op.Mul(op.Mul(size, op.Unsqueeze(x_l, [2])), op.Unsqueeze(b_l, [1]))
        following = op.Add(op.Mul(op.Exp(op.Mul(size, a)), state), entered)
        y = op.Squeeze(op.MatMul(following, op.Unsqueeze(c_l, [2])), [2])
        return following, y

    start = op.Expand(op.Constant(value_float=0.0), op.Concat(op.Shape(x, start=0, end=1), op.Shape(a), axis=0))
    _, y = op.Scan(
        start,
        x,
        dt,
        b,
        c,
        body=step,
        num_scan_inputs=4,
        scan_input_axes=[1, 1, 1, 1],
        scan_output_axes=[1],
    )
    return y


FUNCTIONS = {function.name: function for function in (SelectiveScan, RingPush, DilatedHistory, MambaScan)}


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Operator of PyTorch -> maker of the node, as `torch.onnx.export` wants it."""
    return {torch.ops.hearloop.selective_scan.default: _node("SelectiveScan")}


def define_functions(model: onnx.ModelProto) -> None:
    """Give the nodes of the domain their bodies, once the tracer, which would replace them by these, is done."""
    used = {node.op_type for node in model.graph.node if node.domain == DOMAIN.domain}
    model.functions.extend(FUNCTIONS[name].to_function_proto() for name in sorted(used))


def _node(name: str) -> Callable[..., Any]:
    function = FUNCTIONS[name].to_function_proto()

    def ports(names: Sequence[str]) -> list[onnx.defs.OpSchema.FormalParameter]:
        return [onnx.defs.OpSchema.FormalParameter(each, "tensor(float)") for each in names]

    schema = onnx.defs.OpSchema(
        name, DOMAIN.domain, DOMAIN.version, inputs=ports(function.input), outputs=ports(function.output)
    )
    operator = onnxscript.values.Op(DOMAIN, name, schema)
    return lambda *inputs: operator(*inputs)
