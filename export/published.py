"""What others publish, as bundles: their checkpoint in, a step that the runtime executes out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..models.published import load
from ..models.published.gtcrn import PublishedGtcrn
from ..models.published.loth_separator import LothSeparator, LothStep
from ..runtime.bundle import BundleInfo
from ..runtime.errors import HearloopError
from .bundle import export_bundle
from .onnx import ExportError
from .steering import export_steering

# Under these keys authors keep the weights beside optimizers, epochs and settings.
WRAPPERS = ("state_dict", "model", "generator", "net", "model_state_dict")
# And so the names of tensors begin when the network was part of something else.
PREFIXES = ("model.", "module.")


@dataclass(frozen=True)
class Published:
    """A published system: its name in `models.published`, sizes, licence, and what makes its step, if it has one."""

    system: str
    config: Mapping[str, Any]
    license: str
    step: Callable[[Any], nn.Module] | None = None


def _step_of_separator(network: LothSeparator) -> nn.Module:
    return LothStep(network)


def _step_of_gtcrn(network: PublishedGtcrn) -> nn.Module:
    return network.net


PUBLISHED = {
    "look-once-to-hear": Published(
        "loth_separator",
        {
            "embed_dim": 256,
            "stft_chunk_size": 128,
            "stft_pad_size": 64,
            "num_ch": 2,
            "D": 64,
            "H": 64,
            "B": 3,
            "L": 4,
            "local_atten_len": 50,
        },
        "LicenseRef-look-once-to-hear-non-commercial",
        _step_of_separator,
    ),
    "gtcrn": Published("gtcrn", {}, "MIT", _step_of_gtcrn),
    "tiger": Published("tiger_speech", {}, "Apache-2.0"),
    "mossformer2": Published("mossformer2", {}, "Apache-2.0"),
    "mambattention": Published("mambattention", {}, "MIT"),
}


def export_published(
    name: str,
    checkpoint: str | Path,
    output: str | Path,
    license: str | None = None,
    comment: str = "",
    config: Mapping[str, Any] | None = None,
) -> BundleInfo:
    """Export the step of a published system with the weights of its authors.

    A system that is steered by a voice gets a second file, `<output>-steering.onnx`; see `export_steering`.

    Parameters
    ----------
    name : str
        One of `PUBLISHED`.
    checkpoint : str or Path
        A file of PyTorch as the authors offer it: tensors, perhaps wrapped, perhaps prefixed.
    output : str or Path
    license : str, optional
        Of the weights; by default that of the authors' code.
    comment : str
    config : mapping, optional
        Sizes under the authors' names, where they are not the published ones.

    Raises
    ------
    HearloopError
        If the system is unknown or not causal, or the checkpoint does not fit it.
    """
    if name not in PUBLISHED:
        raise HearloopError(f"published system {name!r} is unknown; known are {', '.join(PUBLISHED)}")
    published, output = PUBLISHED[name], Path(output)
    if published.step is None:
        raise ExportError(
            f"{name} looks at the whole recording at once, so it has no step that could run live; "
            f"those that have one are {', '.join(key for key, value in PUBLISHED.items() if value.step)}"
        )
    network = load(published.system, read_tensors(checkpoint), published.config if config is None else config)
    model = published.step(network)
    info = export_bundle(
        model,
        output,
        name=output.stem,
        license=license or published.license,
        training={"weights": "as published by the authors", "system": name},
        comment=comment,
    )
    if hasattr(model, "steering"):
        export_steering(model, output.with_name(f"{output.stem}-steering.onnx"))
    return info


def read_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint of PyTorch, under the names that the network itself gives them.

    Only tensors and plain data are read: a file that holds Python objects could run code, and is refused.

    Raises
    ------
    HearloopError
        If the file cannot be read so, or holds no weights.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise HearloopError(f"{path}: no such checkpoint") from error
    except Exception as error:  # torch raises several unrelated types for a damaged file
        raise HearloopError(
            f"{path}: not a checkpoint of tensors and plain data ({str(error).splitlines()[0][:120]})"
        ) from error
    while isinstance(content, dict) and (
        inner := next((key for key in WRAPPERS if isinstance(content.get(key), dict)), None)
    ):
        content = content[inner]
    items = content.items() if isinstance(content, dict) else ()
    tensors = {key: value for key, value in items if isinstance(value, torch.Tensor)}
    if not tensors:
        raise HearloopError(f"{path}: holds no weights; expected tensors by name, or one of {', '.join(WRAPPERS)}")
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors
