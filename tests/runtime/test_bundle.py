"""Law 7: a bundle is never trusted."""

import contextlib
import copy
import json

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hearloop.runtime.bundle import load_bundle
from hearloop.runtime.bundle_info import BundleInfo, Port, State
from hearloop.runtime.bundle_reader import parse_info
from hearloop.runtime.engine import open_engine
from hearloop.runtime.errors import BundleError
from hearloop.runtime.golden import Golden

SHAPE = (1, 1, 1, 97, 2)


@pytest.fixture(scope="module")
def info() -> BundleInfo:
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((3, *SHAPE)).astype(np.float32)
    return BundleInfo(
        name="example",
        task="enhance",
        sample_rate=16000,
        frame=128,
        lookahead=64,
        channels_in=1,
        channels_out=1,
        front_end="stft",
        window="symmetric-192",
        inputs=(Port("spectrum", "spectrum", SHAPE, "noisy"),),
        outputs=(Port("enhanced", "spectrum", SHAPE),),
        states=(
            State("state.h", "state.h.next", (1, 4)),
            State("state.level", "state.level.next", (1, 1), initial=0.5),
        ),
        parameters=12,
        macs_per_frame=345,
        license="Apache-2.0",
        training={"hours": 3.5},
        quality=({"test": "fixed", "si_sdr_improvement_db": 4.0},),
        golden=Golden({"spectrum": frames}, {"enhanced": 2 * frames}, 1e-4),
    )


@pytest.fixture(scope="module")
def content(info) -> dict:
    return json.loads(info.to_json())


def changed(content: dict, path: str, value: object) -> str:
    """The JSON with another value at a path like "states.0.kind"; without the entry if the value is `...`."""
    content = copy.deepcopy(content)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = content
    for part in parents:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(content)


def test_a_description_survives_its_json(info):
    read = parse_info(info.to_json(), "x.onnx")
    assert np.array_equal(read.golden.inputs["spectrum"], info.golden.inputs["spectrum"])
    assert np.array_equal(read.golden.outputs["enhanced"], info.golden.outputs["enhanced"])
    assert json.loads(read.to_json()) == json.loads(info.to_json())


def test_latency_and_effort_follow_from_the_description(info):
    assert info.latency_samples == 192
    assert info.latency_ms == 12
    assert info.macs_per_second == 345 * 125


# Bundles of before had no mode.
KEYS = [key for key in BundleInfo.__dataclass_fields__ if key not in ("golden", "mode")]


@pytest.mark.parametrize("key", [*KEYS, "schema", "latency_samples"])
def test_a_missing_key_is_named(content, key):
    with pytest.raises(BundleError, match=f"x.onnx: key '{key}' is missing; expected"):
        parse_info(changed(content, key, ...), "x.onnx")


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("schema", 2, "key 'schema' is 2, this hearloop reads schema 1"),
        ("name", 7, "key 'name' is 7, expected a text"),
        ("task", "dereverb", "key 'task' is 'dereverb', expected one of enhance"),
        ("sample_rate", 0, "key 'sample_rate' is 0, expected a whole number from 1 to 768000"),
        ("sample_rate", 10**30, "key 'sample_rate' is 1000.*, expected a whole number from 1 to 768000"),
        ("sample_rate", 16000.0, "key 'sample_rate' is 16000.0, expected a whole number"),
        ("frame", 160, "key 'frame' is 160, but window 'symmetric-192' has 128"),
        ("frame", 10**11, "key 'frame' is 100000000000, expected a whole number from 1 to 3072000"),
        ("lookahead", -1, "key 'lookahead' is -1, expected a whole number from 0 to 3072000"),
        ("lookahead", 10**11, "key 'lookahead' is 100000000000, expected a whole number from 0 to 3072000"),
        ("lookahead", 100, "key 'lookahead' is 100, but window 'symmetric-192' has 64; expected that or whole frames"),
        ("mode", "batch", "key 'mode' is 'batch', expected one of stream, file"),
        ("latency_samples", 191, "key 'latency_samples' is 191, but frame 128 .* = 192"),
        ("channels_in", True, "key 'channels_in' is True, expected a whole number"),
        ("channels_out", 2, r"key 'outputs', port 'enhanced': shape \[1, 1, 1, 97, 2\], expected \[1, 2, 1, 97, 2\]"),
        ("front_end", "wavelet", "key 'front_end' is 'wavelet', expected one of stft, waveform"),
        ("window", "hann-512", "key 'window' is 'hann-512', expected one of symmetric-192"),
        ("window", "asymmetric-512-192", r"port 'spectrum': shape \[1, 1, 1, 97, 2\], expected \[1, 1, 1, 257, 2\]"),
        ("inputs", {}, "key 'inputs' is {}, expected a list of objects"),
        ("inputs", [], "key 'inputs' has 0 ports with role 'spectrum', expected one"),
        ("inputs.0", "spectrum", r"key 'inputs\[0\]' is 'spectrum', expected an object"),
        ("inputs.0.role", "picture", r"key 'inputs\[0\].role' is 'picture', expected one of audio"),
        ("inputs.0.meaning", ..., r"key 'inputs\[0\].meaning' is missing"),
        ("outputs.0.shape", [1, -1], r"key 'outputs\[0\].shape' is \[1, -1\], expected a list of positive"),
        ("states.1.kind", "stack", r"key 'states\[1\].kind' is 'stack', expected one of carry"),
        ("states.0.shape", [1, 10**13], r"key 'states\[0\].shape' is \[1, 10+\], expected at most 268435456 values"),
        (
            "outputs.0.shape",
            [2**62],
            r"key 'outputs\[0\].shape' is \[4611\d+\], expected at most 268435456 values in all",
        ),
        ("states.1.shape", [2] * 10**6, r"key 'states\[1\].shape' is \[2, 2, .*, expected at most 268435456 values"),
        ("name", "\ud800", r"key 'name' is '\\ud800', expected plain JSON"),
        ("inputs.0.meaning", "a\ud800", r"key 'inputs.0.meaning' is 'a\\ud800', expected plain JSON"),
        ("training", {"\ud800": {}}, r"key 'training.\\ud800' is {}, expected plain JSON"),
        ("training", {"hours": [float("nan")]}, "key 'training.hours.0' is nan, expected plain JSON"),
        ("states.0.shape", "1x4", r"key 'states\[0\].shape' is '1x4', expected a list of whole numbers"),
        ("states.0.next", ..., r"key 'states\[0\].next' is missing"),
        ("states.0.initial", "0", r"key 'states\[0\].initial' is '0', expected a number"),
        ("states.0.initial", True, r"key 'states\[0\].initial' is True, expected a finite number"),
        ("states.0.initial", float("nan"), r"key 'states\[0\].initial' is nan, expected a finite number"),
        ("states.0.initial", 10**400, r"key 'states\[0\].initial' is 1000.*, expected a finite number"),
        ("parameters", -5, "key 'parameters' is -5, expected a whole number from 0 to 9007199254740992"),
        ("macs_per_frame", 10**400, "key 'macs_per_frame' is 1000.*, expected a whole number from 0 to 90071992547409"),
        ("training", [], r"key 'training' is \[\], expected an object"),
        ("quality", "good", "key 'quality' is 'good', expected a list of objects"),
        ("quality", ["good"], r"key 'quality\[0\]' is 'good', expected an object"),
        ("golden", [], "key 'golden' must be an object"),
        ("golden.tolerance", 1.5, "key 'golden.tolerance' is 1.5, expected between 0 and 1"),
        ("golden.inputs", {}, "key 'golden.inputs' must be an object with at least one array"),
        ("golden.inputs.spectrum.float32", "%%", "key 'golden.inputs.spectrum' is not a base64 float32 array"),
        ("golden.outputs.enhanced.shape", [2, 3], "key 'golden.outputs.enhanced' is not a base64 float32 array"),
        ("golden.outputs.enhanced.shape", [10**30], "key 'golden.outputs.enhanced' is not a base64 float32 array"),
        ("golden.outputs.enhanced.shape", [1, 3, 1, 1, 97, 2], "golden arrays differ in their number of frames"),
        ("golden.outputs.enhanced.shape", [3, 1, 1, 194], r"key 'golden.outputs' has frames of .*\(1, 1, 194\)"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_its_value_and_the_rule(content, path, value, named):
    with pytest.raises(BundleError, match="x.onnx: .*" + named):
        parse_info(changed(content, path, value), "x.onnx")


def test_golden_vectors_of_other_ports_are_refused(content):
    content = copy.deepcopy(content)
    content["golden"]["inputs"]["sound"] = content["golden"]["inputs"].pop("spectrum")
    with pytest.raises(BundleError, match=r"key 'golden.inputs' has frames of .*sound.*expected those of the ports"):
        parse_info(json.dumps(content), "x.onnx")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000])
def test_what_is_not_a_json_object_is_refused(text):
    with pytest.raises(BundleError, match=r"metadata key 'hearloop' (is not JSON|holds a)"):
        parse_info(text, "x.onnx")


def test_a_description_that_is_nested_too_deeply_is_refused(content):
    text = changed(content, "training", "@").replace('"@"', '{"a":' * 5000 + "1" + "}" * 5000)
    with pytest.raises(BundleError, match=r"x\.onnx: .*recursion"):
        parse_info(text, "x.onnx")


def leaves(content: object, path: str = "") -> list[str]:
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    found = [path] if path else []
    for key, value in entries:
        found += leaves(value, f"{path}.{key}" if path else str(key))
    return found


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(10**300, 10**310) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), value=ANY_JSON | st.just(...))
def test_no_damage_to_the_description_raises_anything_but_bundle_error(content, data, value):
    path = data.draw(st.sampled_from(leaves(content)))
    # What still is a valid description loads; any other exception than BundleError fails here.
    with contextlib.suppress(BundleError):
        parse_info(changed(content, path, value), "x.onnx")


# From here on whole files.


def rewrite(path, tmp_path, **changes) -> str:
    """A copy of a bundle with other metadata entries; without those whose value is None."""
    model = onnx.load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props} | changes
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {key: value for key, value in metadata.items() if value is not None})
    copied = tmp_path / "copy.onnx"
    onnx.save(model, copied)
    return str(copied)


def test_a_bundle_loads_with_what_it_says(make_bundle):
    bundle = load_bundle(make_bundle(name="through"))
    assert bundle.info.name == "through"
    assert bundle.info.states == (State("state.count", "state.count.next", (1,)),)


def test_a_bundle_knows_where_it_lies_from_any_folder(make_bundle, monkeypatch):
    path = make_bundle()
    monkeypatch.chdir(path.parent)
    assert load_bundle(path.name).path == path


def test_a_file_that_is_not_there_is_refused_with_what_is_shipped():
    with pytest.raises(BundleError, match=r"'nowhere\.onnx': no such file, and no shipped bundle"):
        load_bundle("nowhere.onnx")


def test_a_bundle_whose_weights_lie_beside_it_loads_as_one(make_bundle, tmp_path):
    whole, path = make_bundle(gain=0.5), tmp_path / "apart.onnx"
    options = {"save_as_external_data": True, "location": "apart.data", "size_threshold": 0}
    onnx.save(onnx.load(whole), path, **options)
    bundle = load_bundle(path)
    path.with_name("apart.data").unlink()
    spectrum = np.ones((1, 1, 1, 257, 2), np.float32)
    assert (open_engine(bundle, "ort").step({"spectrum": spectrum})["enhanced"] == 0.5).all()
    with pytest.raises(BundleError, match=r"apart\.onnx: not a readable ONNX model"):
        load_bundle(path)


def test_the_word_that_tells_of_weights_elsewhere_may_stand_in_a_comment(make_bundle):
    path = make_bundle(comment="trained at another location")
    assert load_bundle(path).model == path.read_bytes()


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(make_bundle, tmp_path, keep):
    whole = make_bundle().read_bytes()
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(BundleError, match=r"damaged\.onnx"):
        load_bundle(damaged)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_with_a_flipped_byte_is_refused_or_loads_but_never_fails_otherwise(make_bundle, tmp_path, data):
    damaged = bytearray(make_bundle().read_bytes())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "damaged.onnx"
    path.write_bytes(damaged)
    with contextlib.suppress(BundleError):
        assert load_bundle(path).model == bytes(damaged)


def test_a_model_without_our_metadata_is_refused_with_the_keys_it_has(make_bundle, tmp_path):
    with pytest.raises(BundleError, match=r"no metadata key 'hearloop'.*keys found: .*sample_rate"):
        load_bundle(rewrite(make_bundle(), tmp_path, hearloop=None))


@pytest.mark.parametrize(("key", "value"), [("sample_rate", "8000"), ("window_type", "hann"), ("n_fft", None)])
def test_flat_keys_that_contradict_the_description_are_refused(make_bundle, tmp_path, key, value):
    with pytest.raises(BundleError, match=f"metadata key '{key}' is {value!r}, expected .* as in the key 'hearloop'"):
        load_bundle(rewrite(make_bundle(), tmp_path, **{key: value}))


@pytest.mark.parametrize(
    ("states", "named"),
    [
        ((), "the graph has input 'state.count', which the metadata does not name"),
        ((State("state.count", "gone", (1,)),), "the metadata names output 'gone', which the graph does not have"),
        (
            (State("state.count", "state.count.next", (1,)), State("state.more", "state.count.next", (1,))),
            "the metadata names input 'state.more', which the graph does not have",
        ),
        (
            (State("state.count", "state.count.next", (1,)), State("state.count", "state.count.next", (1,))),
            "the metadata names input 'state.count' more than once",
        ),
        ((State("state.count", "state.count.next", (2,)),), r"'state.count' has shape \[2\] in the metadata, \[1\] in"),
    ],
)
def test_states_that_the_graph_does_not_have_so_are_refused(make_bundle, states, named):
    with pytest.raises(BundleError, match=named):
        load_bundle(make_bundle(states=states))


def test_a_graph_of_another_number_format_is_refused(make_bundle, tmp_path):
    model = onnx.load(make_bundle())
    for value in (model.graph.input[1], model.graph.output[1]):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    for tensor in model.graph.initializer:
        if tensor.name in ("one", "from", "to"):
            wide = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))
    path = tmp_path / "double.onnx"
    onnx.save(model, path)
    with pytest.raises(BundleError, match=r"input 'state.count' of the graph is a tensor\(double\), expected tensor"):
        load_bundle(path)
