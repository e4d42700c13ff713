"""The operator tests that the onnx package ships: all that use operators the compiler knows, with float32 data."""

import re
import warnings
from collections import defaultdict
from functools import cache

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from hearloop.runtime.compiler.lower import supported_operators
from hearloop.runtime.errors import UnsupportedModel

from .running import Compiled, Lowered

# What is refused, by name, and why. A case that runs although it is listed is a failure as well.
REFUSED = {
    r"test_attention_\w*qk_matmul\w*": "the scores are asked for",
    r"test_attention_\w*(padded_kv|nonpad|ext_cache)\w*": "nonpad_kv_seqlen is given",
    r"test_attention_\w*window(?!_ext_cache|_default)\w*": "(left|right)_window_size is|the scores are asked for",
    r"test_batchnorm_\w+_training_mode": "training_mode is 1",
    r"test_lstm_with_peepholes": "peepholes are given",
    r"test_maxpool_with_argmax_2d_\w+": "indices of the maxima",
    r"test_resize_\w*(linear|cubic|crop_and_resize)\w*": "mode is '(linear|cubic)'",
    r"test_resize_\w+_nearest_axes_\w+": "axes are given",
    r"test_resize_\w+_nearest_not_\w+": "keep_aspect_ratio_policy is 'not_(larger|smaller)'",
    r"test_scatter_elements_with_(duplicate|reduction)_\w+": "reduction is",
    r"test_scatternd_(add|multiply|max|min)\w*": "reduction is",
    r"test_gathernd_\w+_batch_dim1": "batch_dims is not 0",
}
# Random numbers, or data whose result the standard leaves open.
LEFT_OUT = r"test_(bernoulli|random|dropout_.*mask|training_dropout)\w*"
KNOWN = (np.float32, np.int64, np.int32, np.int16, np.uint16, np.int8, np.uint8, np.bool_)
OLDEST_OPSET = 9
TOLERANCE = {"rtol": 1e-3, "atol": 1e-5}  # the suite's own is 1e-3 and 1e-7, for sums in double precision


@cache
def cases():
    """Operator -> cases in which it, and perhaps others that are known, is tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        suite = load_model_tests(kind="node")
    known, found = set(supported_operators()), defaultdict(list)
    for case in suite:
        operators = {(node.domain, node.op_type) for node in case.model.graph.node}
        inputs, outputs = case.data_sets[0]
        plain = all(
            isinstance(array, np.ndarray | np.generic) and array.dtype in KNOWN for array in (*inputs, *outputs)
        )
        mine = all(domain in ("", "ai.onnx") and name in known for domain, name in operators)
        current = case.model.opset_import[0].version >= OLDEST_OPSET
        if plain and mine and current and not re.fullmatch(LEFT_OUT, case.name):
            found[case.model.graph.node[0].op_type].append(case)
    return found


def prepared(case, constants):
    """The model with static shapes, the inputs at these places as constants; and the other inputs by name."""
    model, feeds = onnx.ModelProto(), {}
    model.CopyFrom(case.model)
    model.ir_version = max(model.ir_version, 4)  # before, initializers had to be inputs as well
    ports = {port.name: port for port in model.graph.input}
    for place, (name, array) in enumerate(zip(list(ports), case.data_sets[0][0], strict=True)):
        if place in constants:
            model.graph.input.remove(ports[name])
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        else:
            feeds[name] = array
            shape = ports[name].type.tensor_type.shape
            del shape.dim[:]
            for size in array.shape:
                shape.dim.add().dim_value = size
    return model, feeds


def attempts(case):
    """First only axes, shapes and indices are constants; then everything behind the first input: weights."""
    inputs = case.data_sets[0][0]
    whole = {place for place, array in enumerate(inputs) if np.issubdtype(array.dtype, np.integer)}
    yield whole - {0} if len(inputs) == len(whole) else whole
    yield set(range(1, len(inputs)))


def run(way, case):
    """What the case gives; UnsupportedModel if it is refused in every form."""
    refusal = None
    for constants in attempts(case):
        model, feeds = prepared(case, constants)
        try:
            return way(model).step(feeds)
        except UnsupportedModel as error:
            refusal = error
    raise refusal


def check(way, case):
    expected = dict(zip([port.name for port in case.model.graph.output], case.data_sets[0][1], strict=True))
    reason = next((reason for name, reason in REFUSED.items() if re.fullmatch(name, case.name)), None)
    if reason is not None:
        with pytest.raises(UnsupportedModel, match=f"node .*{reason}"):
            run(way, case)
        return
    found = run(way, case)
    for name, values in expected.items():
        assert np.shape(found[name]) == values.shape, case.name
        np.testing.assert_allclose(
            np.asarray(found[name], np.float64), values.astype(np.float64), **TOLERANCE, err_msg=case.name
        )


@pytest.mark.parametrize("operator", supported_operators())
def test_operator(operator):
    """As lowered all cases; as machine code the first few of each operator, for the time that takes."""
    for case in cases()[operator]:
        check(Lowered, case)
    for case in cases()[operator][:3]:
        check(Compiled, case)


def test_the_suite_is_not_empty():
    found = cases()
    assert sum(map(len, found.values())) > 500
    assert len(found) > 100
