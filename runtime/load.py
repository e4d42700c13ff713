"""Load a model, a bundle or any other: what goes in and out, and which outputs are the next values of which inputs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .bundle import Bundle, load_bundle, model_bytes, ports_and_metadata
from .bundle_info import Port, State
from .errors import EngineError
from .ort_session import DTYPES

# How the field names the next value of state x.
NEXT_NAMES = ("{}_out", "{}.next", "{}_next", "next_{}", "new_{}", "out_{}")


@dataclass(frozen=True)
class StepInfo:
    """The least that an engine must know of a model; a BundleInfo knows it as well, and more.

    `notes` say, a sentence each, what was assumed of the file and may be wrong.
    """

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[State, ...]
    notes: tuple[str, ...] = ()


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
        What remains doubtful is told in the notes of the `StepInfo`.

    Raises
    ------
    BundleError
        If the file cannot be read.
    EngineError
        If the states do not fit the model, or an input or output that belongs to none is not float32.
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
    given, made, metadata = ports_and_metadata(content, str(path))
    if "hearloop" in metadata and states is None:
        return load_bundle(path)
    inputs = {port.name: _shape(port) for port in given}
    outputs = {port.name: _shape(port) for port in made}
    pairs = _checked(dict(states), inputs, outputs, str(path)) if states is not None else find_states(inputs, outputs)
    for following in pairs.values():
        sharing = [other for other in pairs if pairs[other] == following]
        if len(sharing) > 1:
            raise EngineError(f"{path}: output {following!r} is the next value of {sharing}; expected of one state")
    _check_types(pairs, {port.name: port.type for port in given}, {port.name: port.type for port in made}, str(path))
    notes = _free_dimensions(given)
    if states is None:
        notes += [
            f"input {name!r} and output {following!r} have the same shape; if they are a state, say so: "
            f"--states {','.join('='.join(pair) for pair in {**pairs, name: following}.items())}"
            for name, following in possible_states(inputs, outputs, pairs).items()
        ]
    info = StepInfo(
        name=path.stem,
        inputs=tuple(Port(name, "audio", shape) for name, shape in inputs.items() if name not in pairs),
        outputs=tuple(Port(name, "audio", shape) for name, shape in outputs.items() if name not in pairs.values()),
        states=tuple(State(name, following, inputs[name]) for name, following in pairs.items()),
        notes=tuple(notes),
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


def possible_states(
    inputs: Mapping[str, tuple[int, ...]], outputs: Mapping[str, tuple[int, ...]], pairs: Mapping[str, str]
) -> dict[str, str]:
    """Inputs that may be states though no name says so: one of the outputs that are left has the same shape.

    They are not taken for states, because a condition may have the shape of a measure, such as one number. The first
    input and the first output that belong to no state are the signal; shapes that occur twice tell nothing.
    """
    left = [name for name in inputs if name not in pairs][1:]
    left_outputs = [name for name in outputs if name not in pairs.values()][1:]
    found = {}
    for name in left:
        alike = [other for other in left if inputs[other] == inputs[name]]
        following = [other for other in left_outputs if outputs[other] == inputs[name]]
        if len(alike) == len(following) == 1:
            found[name] = following[0]
    return found


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


def _check_types(pairs: Mapping[str, str], inputs: Mapping[str, str], outputs: Mapping[str, str], where: str) -> None:
    """States may be of any type that stays the same; everything else is float32."""
    for name, following in pairs.items():
        if inputs[name] != outputs[following]:
            raise EngineError(
                f"{where}: state {name!r} is a {inputs[name]}, but its next value {following!r} a {outputs[following]}"
            )
        if inputs[name] not in DTYPES:
            raise EngineError(f"{where}: state {name!r} is a {inputs[name]}, expected one of {', '.join(DTYPES)}")
    signals = {name: kind for name, kind in inputs.items() if name not in pairs}
    signals |= {name: kind for name, kind in outputs.items() if name not in pairs.values()}
    for name, kind in signals.items():
        if kind != "tensor(float)":
            raise EngineError(f"{where}: {name!r} is a {kind}, expected tensor(float)")


def _shape(port: Any) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else 1 for size in port.shape)


def _free_dimensions(ports: Iterable[Any]) -> list[str]:
    """A note on dimensions without a size, each named with the first input that has it, if there are any."""
    found: dict[Any, str] = {}
    for port in ports:
        for axis, size in enumerate(port.shape):
            if not isinstance(size, int):
                name = repr(size) if size else f"axis {axis}"  # ONNX Runtime has None for one without a name
                found.setdefault(size or (port.name, axis), f"{name} of {port.name!r}")
    return [f"free dimensions are taken as 1: {', '.join(found.values())}"] if found else []
