"""Recipes are checked when they are made: the unit at the end of a name says which values make sense."""

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ...runtime.errors import HearloopError

LIMITS: dict[str, tuple[float, float]] = {
    "_share": (0, 1),
    "_dbfs": (-120, 0),
    "_db": (-120, 120),
    "_ms": (0, 2000),
    "_s": (0, 120),
    "_hz": (1, 8000),
    "_deg": (-180, 360),
    "_deg_per_s": (0, 720),
    "_m": (0.05, 100),
    "_speed": (0.25, 4),
    "_talkers": (0, 32),
    "_directions": (1, 256),
    "_drive": (0.01, 100),
}
"""Ending of a name -> lowest and highest value; the longest ending that fits counts."""

R = TypeVar("R")


def check_limits(recipe: Any) -> None:
    """Raise HearloopError, naming the key, if a value of the dataclass is no number or range that its name allows.

    A pair is a range from low to high.
    """
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        low, high = _limits(field.name)
        numbers = value if isinstance(value, tuple) else (value,)
        where = f"{type(recipe).__name__}: {field.name} is {value!r}"
        if not all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers):
            raise HearloopError(f"{where}; expected a number or a pair of numbers")
        if not all(low <= number <= high for number in numbers):
            raise HearloopError(f"{where}; expected {low:g} to {high:g}")
        if len(numbers) == 2 and numbers[0] > numbers[1]:
            raise HearloopError(f"{where}; expected the lower end of the range first")


def recipe_from(kind: type[R], values: Mapping[str, Any]) -> R:
    """A recipe of a kind from a mapping as configuration files have it: lists are ranges, what is not named is default.

    Raises HearloopError that names an unknown key, or a value of a wrong kind or out of its range.
    """
    expected = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    given: dict[str, Any] = {}
    for key, value in values.items():
        if key not in expected:
            close = get_close_matches(key, expected, 1)
            raise HearloopError(
                f"{kind.__name__}: unknown key {key!r}" + (f"; did you mean {close[0]!r}?" if close else "")
            )
        pair = get_origin(hints[key]) is tuple
        if pair != isinstance(value, (list, tuple)) or (pair and len(value) != len(get_args(hints[key]))):
            raise HearloopError(f"{kind.__name__}: {key} is {value!r}; expected {'a pair' if pair else 'one number'}")
        given[key] = tuple(value) if pair else value
    return kind(**given)


def _limits(name: str) -> tuple[float, float]:
    endings = [ending for ending in LIMITS if f"_{name}".endswith(ending)]
    if not endings:
        raise AssertionError(f"{name}: no ending of LIMITS; a recipe's name ends in its unit")
    return LIMITS[max(endings, key=len)]
