"""Pictures: spectrograms before and after, and what went in against what came out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..simulation.corpus import SAMPLE_RATE
from .evaluate import Result
from .recordings import Recording
from .systems import System

WINDOW, HOP = 512, 128
RANGE_DB = 70.0


def plot_spectrograms(path: Path, recording: Recording, systems: Sequence[System]) -> None:
    """The noisy recording, each system's output, and the target, below each other on one scale."""
    sounds = {"noisy": recording.noisy}
    sounds |= {system.name: system.enhance(recording.noisy) for system in systems} | {"target": recording.target}
    levels = {name: _spectrogram_db(audio) for name, audio in sounds.items()}
    loudest = max(level.max() for level in levels.values())
    figure = Figure(figsize=(9, 1.9 * len(levels)), layout="constrained")
    axes = figure.subplots(len(levels), 1, sharex=True, squeeze=False)[:, 0]
    extent = (0, len(recording.noisy) / SAMPLE_RATE, 0, SAMPLE_RATE / 2000)
    for axis, (name, level) in zip(axes, levels.items(), strict=True):
        image = axis.imshow(
            level, origin="lower", aspect="auto", extent=extent, vmin=loudest - RANGE_DB, vmax=loudest, cmap="magma"
        )
        axis.set(title=name, ylabel="kHz")
    axes[-1].set_xlabel("s")
    figure.colorbar(image, ax=axes, label="dB")
    figure.savefig(path, dpi=110)


def plot_scatter(path: Path, results: Sequence[Result], names: Sequence[str] = ("si_sdr_db", "pesq_wb")) -> None:
    """Each recording as a point: the measure without the system across, with it upwards; better is above the line."""
    figure = Figure(figsize=(4.5 * len(names), 4.2), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for result in results:
            before, after = np.array(result.points[name]).T
            axis.plot(before, after, ".", alpha=0.6, label=result.name)
        low, high = axis.get_xlim()
        axis.axline((low, low), (high, high), color="grey", linewidth=0.8)
        axis.set(xlabel=f"{name} of the input", ylabel=f"{name} of the output")
    axis.legend()
    figure.savefig(path, dpi=110)


def _spectrogram_db(audio: np.ndarray) -> np.ndarray:
    padded = np.pad(audio, (WINDOW - HOP, WINDOW))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    return 10 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(WINDOW))).T ** 2 + 1e-10)
