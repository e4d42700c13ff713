"""What others publish, as bundles: their checkpoint in; out a step that runs live, or a network that hears files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..models.published import load
from ..models.published.gtcrn import PublishedGtcrn
from ..models.published.loth_separator import LothSeparator, LothStep
from ..models.published.mambattention import MambAttentionOnSound
from ..models.published.recording import Recording
from ..runtime.bundle_info import BundleInfo
from ..runtime.errors import HearloopError
from ..runtime.voice import steering_path
from .bundle import export_bundle
from .recording import export_recording
from .steering import export_steering

# Under these keys authors keep the weights beside optimizers, epochs and settings.
WRAPPERS = ("state_dict", "model", "generator", "net", "model_state_dict")
# And so the names of tensors begin when the network was part of something else.
PREFIXES = ("model.", "module.")


SECOND = 16000  # samples


@dataclass(frozen=True)
class Published:
    """A published system: its name in `models.published`, sizes, licence, and what makes it a model to export.

    That has a step, or it is a `Recording`.
    """

    system: str
    config: Mapping[str, Any]
    license: str
    model: Callable[[Any, Mapping[str, Any]], nn.Module]


def _step_of_separator(network: LothSeparator, config: Mapping[str, Any]) -> nn.Module:
    return LothStep(network)


def _step_of_gtcrn(network: PublishedGtcrn, config: Mapping[str, Any]) -> nn.Module:
    return network.net


def _tiger(rounds: int) -> Callable[[Any, Mapping[str, Any]], nn.Module]:
    def on_recordings(network: nn.Module, config: Mapping[str, Any]) -> nn.Module:
        talkers = config["num_sources"]
        return Recording(network, lambda net, audio: net(audio, rounds), "separate", talkers, 3 * SECOND)

    return on_recordings


def _mossformer(network: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    return Recording(network, lambda net, audio: net(audio.squeeze(1)), "separate", config["num_spks"], 2 * SECOND)


def _mambattention(network: Any, config: Mapping[str, Any]) -> nn.Module:
    on_sound = MambAttentionOnSound(network, config["n_fft"], config["hop_size"], config["compress_factor"])
    return Recording(on_sound, lambda net, audio: net(audio.squeeze(1)).unsqueeze(1), "enhance", 1, 2 * SECOND)


TIGER = {
    "out_channels": 128,
    "in_channels": 256,
    "upsampling_depth": 5,
    "att_n_head": 4,
    "att_hid_chan": 4,
    "win": 640,
    "stride": 160,
    "num_sources": 2,
}
MOSSFORMER = {
    "dim": 512,
    "num_layers": 24,
    "num_spks": 2,
    "kernel_size": 16,
    "group_size": 256,
    "query_key_dim": 128,
    "expansion_factor": 4.0,
    "conv_kernel": 17,
}
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
    "tiger": Published("tiger_speech", TIGER, "Apache-2.0", _tiger(rounds=8)),
    "tiger-small": Published("tiger_speech", TIGER, "Apache-2.0", _tiger(rounds=4)),
    "mossformer": Published("mossformer1", MOSSFORMER, "Apache-2.0", _mossformer),
    "mossformer2": Published(
        "mossformer2", {**MOSSFORMER, "fsmn_inner": 256, "fsmn_lorder": 20}, "Apache-2.0", _mossformer
    ),
    "mambattention": Published(
        "mambattention",
        {
            "hid_feature": 64,
            "num_tfmamba": 4,
            "d_state": 16,
            "d_conv": 4,
            "expand": 4,
            "norm_epsilon": 1e-5,
            "beta": 2.0,
            "n_head": 8,
            "dense_depth": 4,
            "n_fft": 400,
            "hop_size": 100,
            "compress_factor": 0.3,
        },
        "MIT",
        _mambattention,
    ),
}


def export_published(
    name: str,
    checkpoint: str | Path,
    output: str | Path,
    license: str | None = None,
    comment: str = "",
    config: Mapping[str, Any] | None = None,
    bundle_name: str | None = None,
) -> BundleInfo:
    """Export a published system with the weights of its authors.

    A causal system becomes a step; one that hears the whole recording at once, a bundle for `hearloop process`. A
    system that is steered by a voice gets a second file, `<output>-steering.onnx`; see `export_steering`.

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
    bundle_name : str, optional
        By default that of the output file.

    Raises
    ------
    HearloopError
        If the system is unknown, or the checkpoint does not fit it.
    """
    if name not in PUBLISHED:
        raise HearloopError(f"published system {name!r} is unknown; known are {', '.join(PUBLISHED)}")
    published, output = PUBLISHED[name], Path(output)
    config = published.config if config is None else config
    model = published.model(load(published.system, read_tensors(checkpoint), config), config)
    write = export_recording if isinstance(model, Recording) else export_bundle
    info = write(
        model,
        output,
        name=bundle_name or output.stem,
        license=license or published.license,
        training={"weights": "as published by the authors", "system": name},
        comment=comment,
    )
    if hasattr(model, "steering"):
        export_steering(model, steering_path(output), target_version=info.version)
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
