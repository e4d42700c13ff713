"""Models from operators, and ways to run them, to be compared with ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from hearloop.runtime.compiler.lower import lower
from hearloop.runtime.compiler.read import read_model
from hearloop.runtime.compiler.reference import Reference

from .machine_run import MachineRun
from .programs import improve

# Relative to the largest value of an output (and to 1): sums in another order, and a few units in the last place.
TOLERANCE = 2e-5


class Lowered:
    """A model as it is lowered, run with NumPy."""

    def __init__(self, model: onnx.ModelProto, states: dict[str, str] | None = None):
        self.program = lower(read_model(model.SerializeToString()), states or {})
        self.engine = self.prepare()

    def prepare(self):
        return Reference(self.program)

    def step(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for name, addresses in self.program.inputs.items():
            self.engine.store(addresses, np.asarray(feeds[name], np.float32))
        self.engine.step()
        return {name: self.engine.load(addresses) for name, addresses in self.program.outputs.items()}


class Compiled(Lowered):
    """A model as machine code."""

    def prepare(self):
        improve(self.program)
        return MachineRun(self.program)


WAYS = {"lowered": Lowered, "compiled": Compiled}


class Expected:
    """The same model in ONNX Runtime, states carried by hand from zeros."""

    def __init__(self, model: onnx.ModelProto, states: dict[str, str] | None = None):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
        self.following = states or {}
        self.states = {
            port.name: np.zeros([size if isinstance(size, int) else 1 for size in port.shape], TYPES[port.type])
            for port in self.session.get_inputs()
            if port.name in self.following
        }

    def step(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [port.name for port in self.session.get_outputs()]
        found = dict(
            zip(
                names,
                self.session.run(None, {name: np.asarray(value) for name, value in (feeds | self.states).items()}),
                strict=True,
            )
        )
        self.states = {name: found.pop(following) for name, following in self.following.items()}
        return found


TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, np.ndarray],
    outputs: list[str],
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 18,
    functions: list[onnx.FunctionProto] | None = None,
) -> onnx.ModelProto:
    """A model of these nodes; the inputs are examples that give types and shapes."""
    ports = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        ports,
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in ("com.microsoft", "hearloop"))]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=functions or [])
    # Types and ranks of the outputs have to be written down.
    known = {value.name: value for value in onnx.shape_inference.infer_shapes(made).graph.output}
    for port in made.graph.output:
        port.CopyFrom(known[port.name])
        if not port.type.WhichOneof("value"):
            port.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return made


def agree(way, model: onnx.ModelProto, feeds, states: dict[str, str] | None = None, tolerance: float = TOLERANCE):
    """Compare all outputs over some steps; `feeds` are the inputs of each step."""
    found, expected = way(model, states), Expected(model, states)
    for number, feed in enumerate(feeds):
        results, wanted = found.step(feed), expected.step(feed)
        assert results.keys() == wanted.keys()
        for name, value in wanted.items():
            assert_close(results[name], value, f"{name} in step {number}", tolerance)


def assert_close(found: np.ndarray, expected: np.ndarray, what: str = "", tolerance: float = TOLERANCE) -> None:
    assert found.shape == expected.shape, (what, found.shape, expected.shape)
    expected = np.asarray(expected, np.float64)
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(1.0, float(finite.max())) if finite.size else 1.0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=tolerance * scale, err_msg=what)
