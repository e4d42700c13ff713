"""Random models, with states, three ways: ONNX Runtime, as lowered in NumPy, and as machine code."""

import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hearloop.runtime.compiler.lower import lower
from hearloop.runtime.compiler.read import read_model
from hearloop.runtime.compiler.target import host_target

from .machine_run import MachineRun
from .programs import improve
from .running import Expected, Lowered

FRAMES = 5
# More for a long search: HEARLOOP_GRAPHS=2000 pytest tests/runtime/compiler/test_random_graphs.py
GRAPHS = int(os.environ.get("HEARLOOP_GRAPHS", "40"))
TOLERANCE = 1e-4
LARGEST = 3000  # elements of a tensor


class Graph:
    """A model that grows node by node; every tensor has three or four axes and a known shape."""

    def __init__(self, seed: int):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants, self.shapes = [], [], {}
        self.inputs, self.outputs, self.states = {}, [], {}

    def size(self, most=6):
        return int(self.random.integers(1, most + 1))

    def pick(self, *options):
        return options[int(self.random.integers(len(options)))]

    def constant(self, values):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def weights(self, *shape):
        return self.constant((self.random.normal(size=shape) / np.sqrt(max(shape[-1], 1))).astype(np.float32))

    def numbers(self, *values):
        return self.constant(np.array(values, np.int64))

    def add(self, operator, inputs, shape, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=f"n{len(self.nodes)}", **attributes))
        self.shapes[name] = tuple(shape)
        return name

    def feed(self, name, shape):
        self.inputs[name] = self.shapes[name] = tuple(shape)
        return name

    def any(self):
        return self.pick(*self.shapes)

    # Each of these adds one node, or a few, to a tensor that is there.

    def elementwise(self):
        x = self.any()
        return self.add(self.pick("Tanh", "Sigmoid", "Neg", "Abs", "Relu", "Softsign", "Elu"), [x], self.shapes[x])

    def binary(self):
        x = self.any()
        shape = list(self.shapes[x])
        alike = [name for name, other in self.shapes.items() if other == tuple(shape)]
        other = self.pick(*alike)
        if self.random.random() < 0.5:
            kept = [size if self.random.random() < 0.6 else 1 for size in shape]
            other = self.weights(*kept[int(self.random.integers(len(kept))) :])
        return self.add(self.pick("Add", "Sub", "Mul", "Max", "Min"), [x, other], shape)

    def transpose(self):
        x = self.any()
        order = self.random.permutation(len(self.shapes[x])).tolist()
        return self.add("Transpose", [x], [self.shapes[x][axis] for axis in order], perm=order)

    def reshape(self):
        x = self.any()
        *front, a, b = self.shapes[x]
        shape = self.pick([*front[:-1], front[-1] * a, 1, b], [1, *front[:-1], front[-1], a * b], [b, a, *front])
        if len(shape) > 4:
            shape = [*shape[:3], int(np.prod(shape[3:]))]
        return self.add("Reshape", [x, self.numbers(*shape)], shape)

    def slice(self):
        x = self.any()
        axis = int(self.random.integers(len(self.shapes[x])))
        length, step = self.shapes[x][axis], self.pick(1, 1, 2, -1)
        shape = list(self.shapes[x])
        low = int(self.random.integers(length))
        high = int(self.random.integers(low + 1, length + 1))
        shape[axis] = len(range(low, high, abs(step)))
        start, end = (low, high) if step > 0 else (high - 1, low - length - 1)
        return self.add("Slice", [x, *map(self.numbers, (start, end, axis, step))], shape)

    def concat(self):
        x = self.any()
        axis = int(self.random.integers(len(self.shapes[x])))
        fits = [name for name, shape in self.shapes.items() if self._differ_at_most(shape, self.shapes[x], axis)]
        parts = [x, *(self.pick(*fits) for _ in range(self.size(2)))]
        shape = list(self.shapes[x])
        shape[axis] = sum(self.shapes[part][axis] for part in parts)
        return self.add("Concat", parts, shape, axis=axis)

    @staticmethod
    def _differ_at_most(one, other, axis):
        return len(one) == len(other) and (*one[:axis], *one[axis + 1 :]) == (*other[:axis], *other[axis + 1 :])

    def pad(self):
        x = self.any()
        pads = self.random.integers(0, 3, size=2 * len(self.shapes[x])).tolist()
        half = len(pads) // 2
        shape = [size + pads[axis] + pads[axis + half] for axis, size in enumerate(self.shapes[x])]
        mode = self.pick("constant", "edge")
        return self.add("Pad", [x, self.numbers(*pads)], shape, mode=mode)

    def matmul(self):
        x = self.any()
        *front, length = self.shapes[x]
        width = self.size(20)
        return self.add("MatMul", [x, self.weights(length, width)], [*front, width])

    def product(self):
        x = self.any()
        *front, rows, columns = self.shapes[x]
        order = [*range(len(front)), len(front) + 1, len(front)]
        turned = self.add("Transpose", [x], [*front, columns, rows], perm=order)
        return self.add("MatMul", [x, turned], [*front, rows, rows])

    def convolution(self):
        x = self.any()
        if len(self.shapes[x]) != 4:
            return self.elementwise()
        batch, channels, high, wide = self.shapes[x]
        groups = self.pick(1, channels)
        made, kernel = groups * self.size(4), [self.size(3), self.size(3)]
        strides, pads = [self.size(2), self.size(2)], self.random.integers(0, 3, size=4).tolist()
        shape = [
            (size + pads[axis] + pads[axis + 2] - kernel[axis]) // strides[axis] + 1
            for axis, size in enumerate((high, wide))
        ]
        if min(high + pads[0] + pads[2] - kernel[0], wide + pads[1] + pads[3] - kernel[1]) < 0:
            return self.elementwise()
        weights = [self.weights(made, channels // groups, *kernel), self.weights(made)]
        return self.add("Conv", [x, *weights], [batch, made, *shape], group=groups, strides=strides, pads=pads)

    def reduction(self):
        x = self.any()
        axis = int(self.random.integers(len(self.shapes[x])))
        shape = [1 if at == axis else size for at, size in enumerate(self.shapes[x])]
        name = self.pick("ReduceMean", "ReduceMax")
        return self.add(name, [x, self.numbers(axis)], shape, keepdims=1)

    def rows(self):
        x = self.any()
        shape = self.shapes[x]
        if self.random.random() < 0.5:
            return self.add("Softmax", [x], shape, axis=int(self.random.integers(len(shape))))
        if shape[-1] < 2:
            return self.elementwise()
        inputs = [x, self.weights(shape[-1]), self.weights(shape[-1])]
        return self.add("LayerNormalization", inputs, shape, axis=-1, epsilon=1e-2)

    def recurrence(self):
        x = self.any()
        if len(self.shapes[x]) != 3:
            return self.elementwise()
        steps, batch, length = self.shapes[x]
        name, gates = self.pick(("GRU", 3), ("LSTM", 4))
        hidden, ways = self.pick(1, 4, 8, 5), self.pick(1, 2)
        inputs = [x, self.weights(ways, gates * hidden, length), self.weights(ways, gates * hidden, hidden)]
        inputs.append(self.weights(ways, 2 * gates * hidden))
        more = {"linear_before_reset": 1} if name == "GRU" else {}
        direction = "forward" if ways == 1 else "bidirectional"
        y = self.add(name, inputs, [steps, ways, batch, hidden], hidden_size=hidden, direction=direction, **more)
        return self.add("Transpose", [y], [steps, batch, ways, hidden], perm=[0, 2, 1, 3])

    def shifted(self):
        """A memory of past values: Concat and Slice, as the field writes it."""
        x = self.any()
        shape = self.shapes[x]
        axis, length = int(self.random.integers(len(shape))), self.size(4)
        state = f"s{len(self.states)}"
        self.feed(state, [length if at == axis else size for at, size in enumerate(shape)])
        whole = [length + size if at == axis else size for at, size in enumerate(shape)]
        window = self.add("Concat", [state, x], whole, axis=axis)
        starts = self.numbers(shape[axis]), self.numbers(whole[axis]), self.numbers(axis)
        self.states[state] = self.add("Slice", [window, *starts], self.shapes[state])
        return window

    def carried(self):
        """A running average."""
        x = self.any()
        state = self.feed(f"s{len(self.states)}", self.shapes[x])
        kept = self.add("Mul", [state, self.constant(np.float32(0.7))], self.shapes[x])
        self.states[state] = self.add("Add", [kept, x], self.shapes[x])
        return self.states[state]

    STEPS = (
        elementwise,
        binary,
        binary,
        transpose,
        reshape,
        slice,
        concat,
        pad,
        matmul,
        product,
        convolution,
        reduction,
    )
    STEPS += (rows, recurrence, shifted, shifted, carried)

    def model(self):
        """Grow, and take some tensors as outputs."""
        self.feed("x", [self.size(), self.size(), self.size(), self.size(12)])
        self.feed("u", [self.size(4), self.size(3), self.size(12)])
        for _ in range(int(self.random.integers(3, 13))):
            made = self.STEPS[int(self.random.integers(len(self.STEPS)))](self)
            if np.prod(self.shapes[made]) > LARGEST:
                break
        free = [name for name in self.shapes if name.startswith("t") and name not in self.states.values()]
        wanted = dict.fromkeys([free[-1], self.pick(*free), *self.states.values()]) if free else self.states.values()
        ports = [
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, self.shapes[n]) for n in of]
            for of in (self.inputs, wanted)
        ]
        graph = helper.make_graph(self.nodes, "random", *ports, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def lowered_and_improved(model: onnx.ModelProto, states: dict[str, str]):
    program = lower(read_model(model.SerializeToString()), states)
    improve(program)
    return program


class Machine(Lowered):
    def __init__(self, model: onnx.ModelProto, states: dict[str, str], target: str | None):
        self.program = lowered_and_improved(model, states)
        self.engine = MachineRun(self.program, host_target(target))


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_three_ways_give_the_same(seed):
    made = Graph(seed)
    model = made.model()
    expected = Expected(model, made.states)
    ways = {"lowered": Lowered(model, made.states), "machine": Machine(model, made.states, None)}
    if seed % 4 == 0:
        ways["plain"] = Machine(model, made.states, "plain")
    signals = [name for name in made.inputs if name not in made.states]
    for frame in range(FRAMES):
        feeds = {name: made.random.normal(size=made.inputs[name]).astype(np.float32) for name in signals}
        wanted = expected.step(feeds)
        for way, engine in ways.items():
            found = engine.step(feeds)
            for name, values in wanted.items():
                if name in found:
                    scale = max(1.0, float(np.abs(values).max(initial=0)))
                    error = np.abs(found[name] - values).max(initial=0) / scale
                    assert error <= TOLERANCE, f"seed {seed}, frame {frame}, {way}, {name}"
