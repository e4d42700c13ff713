"""What a bundle for whole recordings says of itself, and in which format its graph answers."""

from dataclasses import replace

import onnx
import pytest
from onnx import TensorProto, helper

from hearloop.runtime import BundleError, load_bundle
from hearloop.runtime.bundle_checks import check_info
from hearloop.runtime.bundle_info import BundleInfo, Port, State

WHOLE = BundleInfo(
    name="whole",
    task="separate",
    sample_rate=16000,
    frame=4000,
    lookahead=0,
    channels_in=1,
    channels_out=2,
    front_end="waveform",
    window=None,
    inputs=(Port("audio", "audio", (1, 1, 4000)),),
    outputs=(Port("enhanced", "audio", (1, 2, 4000)),),
    states=(),
    parameters=0,
    macs_per_frame=0,
    license="CC0-1.0",
    mode="file",
)


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("front_end", "stft"),
        ("lookahead", 64),
        ("states", (State("h", "h.next", (1, 1)),)),
        ("inputs", (Port("audio", "audio", (1, 2, 4000)),)),
        ("inputs", (Port("audio", "audio", (1, 1, 4001)),)),
        ("outputs", (Port("enhanced", "audio", (1, 1, 4000)),)),
        ("outputs", WHOLE.outputs + WHOLE.inputs),
    ],
)
def test_a_bundle_for_files_hears_samples_gives_samples_and_carries_nothing_over(key, wrong):
    check_info(WHOLE, "x.onnx")
    with pytest.raises(BundleError, match=f"x.onnx: key '{key}' is .*, but mode 'file' has"):
        check_info(replace(WHOLE, **{key: wrong}), "x.onnx")


def test_an_output_of_another_number_format_is_refused(make_bundle, tmp_path):
    model = onnx.load(make_bundle())
    model.graph.node[-1].output[0] = "single"
    model.graph.node.append(helper.make_node("Cast", ["single"], ["enhanced"], to=TensorProto.DOUBLE))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    onnx.save(model, tmp_path / "double.onnx")
    with pytest.raises(BundleError, match=r"output 'enhanced' of the graph is a tensor\(double\), expected tensor"):
        load_bundle(tmp_path / "double.onnx")
