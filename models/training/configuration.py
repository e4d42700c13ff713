"""Configuration files: which model is trained, how, on what mixtures; every key is checked."""

import math
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from torch import nn

from ...runtime.bundle import bundle_paths, load_bundle
from ...runtime.errors import HearloopError
from .. import MODELS, build, task_of
from ..simulation.recipe import PairRecipe, Recipe, SceneRecipe
from ..streaming.lookahead import learns_lookahead
from .loss import LossWeights, TargetLossWeights
from .settings import EnhanceSelection, EnrollSelection, Selection, SeparateSelection, Settings, TargetSelection
from .talker_loss import SeparateLossWeights
from .voice_loss import EnrollLossWeights

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED = Path(__file__).parent / "configs"
Table = TypeVar("Table")


@dataclass(frozen=True)
class Configuration:
    """model : its name; config : arguments of its constructor; and a table for each of the others.

    Every task has tables of its own kind, so that a key of another task is refused.
    """

    task: ClassVar[str]
    model: str
    config: dict[str, Any] = field(default_factory=dict)
    training: Settings = field(default_factory=Settings)
    loss: Any = None
    selection: Selection = field(default_factory=Selection)

    def check_start(self, processes: int, has_weights: bool) -> None:
        """Raise HearloopError for settings that contradict each other or the way in which the run begins.

        processes : among which a batch is divided; has_weights : whether there are weights to begin with
        """
        settings = self.training
        if settings.batch % processes:
            raise HearloopError(f"batch of {settings.batch} does not divide among {processes} processes")
        if settings.hold_norms and not has_weights:
            raise HearloopError("hold_norms is true, and batch norms hold nothing yet; expected weights to begin with")
        for length in getattr(self.loss, "resolutions", ()):
            # At its ends an item is continued by its mirror image, for half a transform.
            if length // 2 >= settings.samples:
                raise HearloopError(
                    f"loss.resolutions has {length} samples, and an item has {settings.samples}; "
                    "expected less than twice as many as that"
                )


@dataclass(frozen=True)
class EnhanceConfiguration(Configuration):
    """For speech enhancement."""

    task = "enhance"
    loss: LossWeights = field(default_factory=LossWeights)
    selection: EnhanceSelection = field(default_factory=EnhanceSelection)
    recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True)
class SeparateConfiguration(Configuration):
    """For the separation of talkers."""

    task = "separate"
    loss: SeparateLossWeights = field(default_factory=SeparateLossWeights)
    selection: SeparateSelection = field(default_factory=SeparateSelection)
    recipe: PairRecipe = field(default_factory=PairRecipe)


@dataclass(frozen=True)
class EnrollConfiguration(Configuration):
    """For the enrolment network alone, before it learns on together with a target network."""

    task = "enroll"
    loss: EnrollLossWeights = field(default_factory=EnrollLossWeights)
    selection: EnrollSelection = field(default_factory=EnrollSelection)
    recipe: SceneRecipe = field(default_factory=SceneRecipe)


@dataclass(frozen=True)
class TargetConfiguration(Configuration):
    """For target speech hearing.

    enroll_model : name of the enrolment network; enroll : arguments of its constructor
    enroll_learns : whether it learns on together with the target network, or stays as it begins
    learns : with what the names of the weights begin that learn, such as "target.whereabouts."; all of them if empty
    stays : the same for weights that do not, whatever `learns` says
    blur : what is added at random to a voice in training, which has the norm one; see `models.target.hearing`
    """

    task = "target"
    enroll_model: str = "enroll"
    enroll: dict[str, Any] = field(default_factory=dict)
    enroll_learns: bool = True
    learns: str = ""
    stays: tuple[str, ...] = ()
    blur: float = 0.0
    loss: TargetLossWeights = field(default_factory=TargetLossWeights)
    selection: TargetSelection = field(default_factory=TargetSelection)
    recipe: SceneRecipe = field(default_factory=SceneRecipe)

    def __post_init__(self) -> None:
        if task_of(self.enroll_model) != "enroll":
            raise HearloopError(
                f"enroll_model is {self.enroll_model!r}, for the task {task_of(self.enroll_model)!r}; expected 'enroll'"
            )
        if self.blur < 0:
            raise HearloopError(f"blur is {self.blur}; expected zero or more")


KINDS = {
    kind.task: kind for kind in (EnhanceConfiguration, SeparateConfiguration, TargetConfiguration, EnrollConfiguration)
}


def read_configuration(name_or_path: str) -> Configuration:
    """Read a `.toml` file, or the configuration that ships for a model; a model without one has the defaults.

    Raises
    ------
    HearloopError
        If the file cannot be read, or a key is unknown, missing or has a wrong value; the message names the key.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = SHIPPED / f"{name_or_path}.toml"
        if not path.exists():
            if name_or_path not in MODELS:
                known = sorted({*MODELS, *(each.stem for each in SHIPPED.glob("*.toml"))})
                raise HearloopError(f"{_problem(name_or_path)}; known are {', '.join(known)}")
            return _kind_for(name_or_path)(name_or_path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HearloopError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HearloopError(f"{path}: not a TOML file ({error})") from error
    model = checked(Configuration, {key: content[key] for key in content if key == "model"}, str(path)).model
    configuration = checked(_kind_for(model), content, str(path))
    network = _built(model, configuration.config, f"{path}: config")
    weight = configuration.training.lookahead_weight
    if weight > 0 and not learns_lookahead(network):
        raise HearloopError(
            f"{path}: training.lookahead_weight is {weight:g}; expected 0 with {model!r}, of which no layer learns "
            "how far to look ahead"
        )
    if isinstance(configuration, TargetConfiguration):
        _built(configuration.enroll_model, configuration.enroll, f"{path}: enroll")
    return configuration


def _problem(name: str) -> str:
    """Why a name is not that of a model or configuration: a bundle may be called otherwise than the model in it."""
    bundle = bundle_paths().get(name)
    model = load_bundle(bundle).info.training.get("model") if bundle else None
    if model:
        return f"{name!r} is a bundle, made of the model {model!r}; train that one"
    return f"model or configuration {name!r} is unknown"


def _kind_for(model: str) -> type[Configuration]:
    task = task_of(model)
    if task not in KINDS:
        raise HearloopError(
            f"model {model!r} is for the task {task!r}, which is not trained; expected {', '.join(KINDS)}"
        )
    return KINDS[task]


def _built(model: str, config: dict[str, Any], where: str) -> nn.Module:
    """Raise HearloopError for arguments of which the constructor of a model makes no network."""
    try:
        return build(model, **config)
    except Exception as error:  # what does not fit is of several unrelated types
        raise HearloopError(f"{where} is {config}; expected sizes of {model!r} ({error})") from error


def checked(kind: type[Table], values: Mapping[str, Any], where: str, prefix: str = "") -> Table:
    """Make a dataclass of a table of values; raises HearloopError that names the key, the value and the type."""
    types = get_type_hints(kind)
    names = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in names:
            raise HearloopError(f"{where}: key {prefix + key!r} is unknown; known are {', '.join(sorted(names))}")
    for item in fields(kind):  # type: ignore[arg-type]
        if item.default is MISSING and item.default_factory is MISSING and item.name not in values:
            raise HearloopError(f"{where}: key {prefix + item.name!r} is missing")
    defaults = {item.name: item.default for item in fields(kind)}  # type: ignore[arg-type]
    ready = {key: _value(types[key], value, where, prefix + key, defaults[key]) for key, value in values.items()}
    try:
        return kind(**ready)
    except HearloopError as error:
        raise HearloopError(f"{where}: {prefix.rstrip('.') or 'the file'}: {error}") from error


def _value(expected: Any, value: Any, where: str, key: str, default: Any = None) -> Any:
    if hasattr(expected, "__dataclass_fields__"):
        if not isinstance(value, Mapping):
            raise HearloopError(f"{where}: key {key!r} is {value!r}; expected a table")
        return checked(expected, value, where, f"{key}.")
    if expected is float and type(value) is int:
        return float(value)
    origin, parts = get_origin(expected) or expected, get_args(expected)
    if origin is tuple and isinstance(value, list):
        kinds = [parts[0]] * len(value) if Ellipsis in parts else list(parts)
        if len(kinds) == len(value):
            return tuple(
                _value(kind, each, where, f"{key}[{at}]")
                for at, (kind, each) in enumerate(zip(kinds, value, strict=True))
            )
    if type(value) is float and not math.isfinite(value) and value != default:
        raise HearloopError(f"{where}: key {key!r} is {value}; expected a finite number")
    if type(value) is not origin:
        name = str(expected) if parts else expected.__name__
        raise HearloopError(f"{where}: key {key!r} is {value!r}; expected {name}")
    return value
