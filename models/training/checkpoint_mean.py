"""The mean of the checkpoints of several runs, a network of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...runtime.errors import HearloopError


def mean_of(contents: Mapping[str, dict[str, Any]], shares: Sequence[float]) -> dict[str, Any]:
    """One checkpoint, as of `read_checkpoint`, of several by name: the mean of their weights (Wortsman et al. 2022).

    Where one run went on from another, or two from a third, networks on the way between them are often better than
    either, because a part of what the last steps of a run have changed is noise. Whole numbers are those of the last.

    Raises HearloopError if they are not all of one architecture, weight by weight. The shares sum to one.
    """
    (first, of_first), *others = contents.items()
    for name, content in others:
        for key in ("model", "config", "parts"):
            if content.get(key) != of_first.get(key):
                raise HearloopError(
                    f"{name}: {key} is {content.get(key)}, that of {first} is {of_first.get(key)}; expected the same"
                )
        if alone := content["weights"].keys() ^ of_first["weights"].keys():
            raise HearloopError(f"{name} or {first} lacks the weight {min(alone)}; expected the same names in both")
    *_, last = contents.values()
    weights = {
        name: sum(share * content["weights"][name] for share, content in zip(shares, contents.values(), strict=True))
        if value.is_floating_point()
        else value
        for name, value in last["weights"].items()
    }
    # The folder of a run and the file in it; where that lies concerns nobody who gets the bundle.
    names = ["/".join(Path(name).parts[-2:]) for name in contents]
    parts = ", ".join(f"{share:.2f} of {name}" for name, share in zip(names, shares, strict=True))
    content = {key: last[key] for key in ("model", "config", "parts") if key in last}
    return content | {"weights": weights, "training": last["training"] | {"mean_of": parts}, "quality": []}
