"""Recipes are checked when they are made: the unit at the end of a name says which values make sense."""

from dataclasses import fields
from typing import Any

from ...runtime.errors import HearloopError

LIMITS: dict[str, tuple[float, float]] = {
    "_share": (0, 1),
    "_dbfs": (-120, 0),
    "_db": (-120, 120),
    "_ms": (0, 2000),
    "_s": (0, 120),
    "_deg": (-180, 360),
    "_frontal_deg": (0, 180),
    "_elsewhere_deg": (0, 180),
    "_deg_per_s": (0, 720),
    "_m": (0.05, 100),
    "_speed": (0.25, 4),
    "_talkers": (0, 32),
    "_directions": (1, 256),
    "_drive": (0.01, 100),
}
"""Ending of a name -> lowest and highest value; the longest ending that fits counts."""


def check_limits(recipe: Any) -> None:
    """Raise HearloopError, naming the key, if a value of the dataclass is not what its name and default allow.

    Where the default is a pair, the value must be one: a range from low to high. Where it is whole, so must it be.
    """
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        where = f"{type(recipe).__name__}: {field.name} is {value!r}"
        default: Any = field.default
        is_pair = isinstance(default, tuple)
        example = default[0] if is_pair else default
        if is_pair != isinstance(value, tuple) or (is_pair and len(value) != 2):
            raise HearloopError(f"{where}; expected {'a pair' if is_pair else 'one number'}")
        numbers = value if is_pair else (value,)
        kinds = (int,) if isinstance(example, int) else (int, float)
        if not all(isinstance(number, kinds) and not isinstance(number, bool) for number in numbers):
            raise HearloopError(f"{where}; expected {'whole numbers' if kinds == (int,) else 'numbers'}")
        low, high = _limits(field.name)
        if not all(low <= number <= high for number in numbers):
            raise HearloopError(f"{where}; expected {low:g} to {high:g}")
        if is_pair and value[0] > value[1]:
            raise HearloopError(f"{where}; expected the lower end of the range first")


def _limits(name: str) -> tuple[float, float]:
    endings = [ending for ending in LIMITS if f"_{name}".endswith(ending)]
    if not endings:
        raise AssertionError(f"{name}: no ending of LIMITS; a recipe's name ends in its unit")
    return LIMITS[max(endings, key=len)]
