"""Models without metadata: what goes in, what comes out, and which outputs are the next values of which inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from .bundle import Bundle, load_bundle, model_bytes
from .bundle_info import Port, State
from .errors import BundleError, EngineError

# How the field names the next value of state x.
NEXT_NAMES = ("{}_out", "{}.next", "{}_next", "next_{}", "new_{}", "out_{}")


@dataclass(frozen=True)
class StepInfo:
    """The least that an engine must know of a model; a BundleInfo knows it as well, and more."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[State, ...]


def load_step(model: str | Path | Bundle, states: Mapping[str, str] | None = None) -> Bundle:
    """Load a model whose step an engine can run; see `load_model`.

    Raises
    ------
    BundleError
        If the file cannot be read.
    EngineError
        If the model hears whole recordings only, or its states do not fit.
    """
    bundle = load_model(model, states)
    if getattr(bundle.info, "mode", "stream") == "file":
        raise EngineError(
            f"model {bundle.info.name!r} hears whole recordings and has no step that could run live; "
            "`hearloop process` runs it on files"
        )
    return bundle


def load_model(model: str | Path | Bundle, states: Mapping[str, str] | None = None) -> Bundle:
    """Load a bundle, or any other streaming ONNX model.

    Parameters
    ----------
    model : str, Path or Bundle
        Name of a shipped bundle, path of a model, or a loaded bundle.
    states : mapping of str to str, optional
        Input -> output that is its next value. Without it a bundle's metadata tell; of other models an output named
        like an input (`x_out`, `x.next`, `x_next`, `next_x`, `new_x`, `out_x`) is its next value; if that leaves
        nothing for the signal, the first input and the first output are the signal after all. If no name tells,
        inputs and outputs of the same shape are paired in their order, where there are as many of the one as of the
        other; the first input and the first output are the signal. States start with zeros, and free dimensions are 1.

    Raises
    ------
    BundleError
        If the file cannot be read.
    EngineError
        If the states do not fit the model, or something in it is not float32.
    """
    if isinstance(model, Bundle):
        if states is None:
            return model
        found = {state.name: state.next for state in model.info.states}
        if dict(states) != found:
            raise EngineError(
                f"model {model.info.name!r} is loaded already, with the states {found}, not {dict(states)}"
            )
        return model
    path = Path(model)
    if path.suffix != ".onnx" or not path.is_file():
        return load_bundle(model)
    content = model_bytes(path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # onnxruntime raises several unrelated types, some of them private
        raise BundleError(f"{path}: not a readable ONNX model ({error})") from error
    if "hearloop" in session.get_modelmeta().custom_metadata_map and states is None:
        return load_bundle(path)
    inputs = {port.name: _shape(port, str(path)) for port in session.get_inputs()}
    outputs = {port.name: _shape(port, str(path)) for port in session.get_outputs()}
    pairs = _checked(dict(states), inputs, outputs, str(path)) if states is not None else find_states(inputs, outputs)
    for following in pairs.values():
        sharing = [other for other in pairs if pairs[other] == following]
        if len(sharing) > 1:
            raise EngineError(f"{path}: output {following!r} is the next value of {sharing}; expected of one state")
    info = StepInfo(
        name=path.stem,
        inputs=tuple(Port(name, "audio", shape) for name, shape in inputs.items() if name not in pairs),
        outputs=tuple(Port(name, "audio", shape) for name, shape in outputs.items() if name not in pairs.values()),
        states=tuple(State(name, following, inputs[name]) for name, following in pairs.items()),
    )
    return Bundle(info=info, model=content, path=path)  # type: ignore[arg-type]


def find_states(inputs: Mapping[str, tuple[int, ...]], outputs: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Pair inputs with the outputs that are their next values: by name, else by shape and order.

    Raises
    ------
    EngineError
        If a name says that an output is the next value of an input, but their shapes differ, or the names leave no
        input or no output for the signal.
    """
    pairs: dict[str, str] = {}
    for name, shape in inputs.items():
        for following in (form.format(name) for form in NEXT_NAMES):
            if following in outputs:
                if outputs[following] != shape:
                    raise EngineError(
                        f"output {following!r} has shape {list(outputs[following])}, but by its name it is the next "
                        f"value of {name!r}, which has {list(shape)}; say which outputs are next values with `states`"
                    )
                pairs[name] = following
                break
    if pairs and (pairs.keys() == inputs.keys() or set(pairs.values()) == set(outputs)):
        # The signal may be named as a state is, such as `audio` and `audio_out`.
        first, first_output = next(iter(inputs)), next(iter(outputs))
        if pairs.get(first) != first_output:
            raise EngineError(
                f"by their names all inputs or all outputs belong to states ({pairs}), and none to the signal; say "
                "which outputs are next values with `states`"
            )
        del pairs[first]
    if pairs:
        return pairs
    remembered, given = list(inputs.items())[1:], list(outputs.items())[1:]
    for wanted in dict.fromkeys(shape for _, shape in remembered):
        before = [name for name, shape in remembered if shape == wanted]
        after = [name for name, shape in given if shape == wanted]
        if len(before) == len(after):
            pairs |= dict(zip(before, after, strict=True))
    return {name: pairs[name] for name, _ in remembered if name in pairs}


def _checked(
    pairs: dict[str, str], inputs: Mapping[str, Any], outputs: Mapping[str, Any], where: str
) -> dict[str, str]:
    for name, following in pairs.items():
        for kind, given, known in (("input", name, inputs), ("output", following, outputs)):
            if given not in known:
                raise EngineError(f"{where}: state {name!r}: no {kind} {given!r}, expected one of {', '.join(known)}")
        if inputs[name] != outputs[following]:
            raise EngineError(
                f"{where}: state {name!r} has shape {list(inputs[name])}, but its next value {following!r} has "
                f"{list(outputs[following])}"
            )
    return pairs


def _shape(port: Any, where: str) -> tuple[int, ...]:
    if port.type != "tensor(float)":
        raise EngineError(f"{where}: {port.name!r} is a {port.type}, expected tensor(float)")
    return tuple(size if isinstance(size, int) else 1 for size in port.shape)
