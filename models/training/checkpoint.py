"""Checkpoint files: the averaged weights for export, and all that an identical continuation needs."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...runtime.errors import HearloopError
from .. import build

KEYS = {"model": str, "config": dict, "weights": dict, "training": dict, "quality": list}


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint so that a crash at any moment leaves the old file or the new one, never half of one.

    `content` has at least the keys model (name), config (arguments of its constructor), weights (state dict), training
    (facts about data and effort) and quality (a list of measurements). Of networks that were trained together `parts`
    says the model and config of each; its name is the first part of the names of its weights.

    Raises HearloopError if it cannot be written, such as to a full disk.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch raises the latter where a write fails
        partial.unlink(missing_ok=True)
        cause = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise HearloopError(f"{path}: cannot be written ({cause})") from error


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint; raises HearloopError if it is unreadable or lacks a key."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise HearloopError(f"{path}: no such checkpoint") from error
    except Exception as error:  # torch raises several unrelated types for a damaged file
        cause = (str(error) or type(error).__name__).splitlines()[0][:120]  # that an empty file ends has no words
        raise HearloopError(f"{path}: not a readable checkpoint ({cause})") from error
    for key, kind in KEYS.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise HearloopError(f"{path}: checkpoint key {key!r} is missing or not a {kind.__name__}")
    return content


def read_resumable(path: Path, expected: dict[str, Any]) -> dict[str, Any] | None:
    """Read the checkpoint that a run goes on from, or None if there is none yet.

    Raises HearloopError if it is unreadable, holds something else than `expected`, or weights alone.
    """
    if not path.exists():
        return None
    content = read_checkpoint(path)
    held = {key: content.get(key) for key in expected}
    if held != expected:
        raise HearloopError(f"{path} holds {held}, expected {expected}; give another output folder")
    if "resume" not in content:
        raise HearloopError(
            f"{path} holds weights and no run that could be continued; "
            "expected another output folder, and --from this file to take over its weights"
        )
    return content


def model_of_checkpoint(content: dict[str, Any], part: str | None = None) -> nn.Module:
    """A model of a checkpoint with its averaged weights, ready to run.

    Parameters
    ----------
    content : as `read_checkpoint` returns it
    part : str, optional
        Which one, of networks that were trained together; the main one if not given.

    Raises
    ------
    HearloopError
        If there is no such part.
    """
    name, config, prefix = _architecture(content, part)
    weights = content["weights"]
    model = build(name, **config)
    model.load_state_dict({key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)})
    return model.eval()


def architecture(content: dict[str, Any], part: str | None = None) -> dict[str, Any]:
    """What `hearloop.models.build` takes to make the model, or a part of those that were trained together.

    Raises HearloopError if there is no such part.
    """
    name, config, _ = _architecture(content, part)
    return {"model": name, "config": config}


def _architecture(content: dict[str, Any], part: str | None) -> tuple[str, dict[str, Any], str]:
    """Name and config of a model, and with what the names of its weights begin."""
    parts = content.get("parts") or {}
    if part is not None and part not in parts:
        known = ", ".join(parts) if parts else f"none, because {content['model']} was trained alone"
        raise HearloopError(f"part {part!r} is not in the checkpoint; known are {known}")
    if not parts:
        return content["model"], content["config"], ""
    part = part or next(iter(parts))
    return parts[part]["model"], parts[part]["config"], f"{part}."


def load_weights(model: nn.Module, path: str | Path) -> int:
    """Fill a model with the averaged weights of a checkpoint as `take_over` does."""
    return take_over(model, read_checkpoint(path)["weights"], str(path))


def take_over(model: nn.Module, held: Mapping[str, torch.Tensor], where: str) -> int:
    """Fill a model with weights from elsewhere, where name and shape agree; the rest stays as it is.

    Of networks that learn together, one may begin with weights of its own: the one that most weights fit. A network may
    have `translated`, which makes of another network's weights what they mean in it.

    Returns how many numbers were taken over, and warns if they are less than half. Raises HearloopError if no weight
    fits.
    """
    own = model.state_dict()
    fits = []
    for part, module in (("", model), *((f"{name}.", child) for name, child in model.named_children())):
        known = module.translated(held) if hasattr(module, "translated") else held
        placed = {part + name: value for name, value in known.items()}
        fitting = {name: each for name, each in placed.items() if name in own and each.shape == own[name].shape}
        fits.append((part, fitting))
    part, fitting = max(fits, key=lambda fit: len(fit[1]))
    if not fitting:
        raise HearloopError(f"{where}: none of its {len(held)} weights fits the model; is it this architecture?")
    taken = sum(value.numel() for name, value in held.items() if part + name in fitting)
    whole = sum(value.numel() for value in held.values())
    if taken < whole / 2:
        warnings.warn(f"{where}: no more than {taken:,} of its {whole:,} numbers fit the model", stacklevel=2)
    model.load_state_dict(fitting, strict=False)
    return taken
