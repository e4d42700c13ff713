"""Pictures: spectrograms before and after, and what went in against what came out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..simulation.corpus import SAMPLE_RATE
from .evaluate import Result, output_of
from .ratio import in_best_order
from .recordings import Recording
from .systems import System

WINDOW, HOP = 512, 128
RANGE_DB = 70.0
MEASURES = ("si_sdr_db", "pesq_wb")
# What the columns of the spectrograms are, where there are two.
COLUMNS = {"separate": ("talker 1", "talker 2"), "target": ("left", "right"), "enhance": ("left", "right")}


def plot_spectrograms(path: Path, recording: Recording, systems: Sequence[System]) -> None:
    """The mixture, each system's output, and what it should be, in rows on one scale; talkers or ears in columns."""
    sounds = [
        ("mixture", recording.unprocessed),
        *((system.name, _output(system, recording)) for system in systems),
        ("reference", recording.target),
    ]
    levels = [[_spectrogram_db(audio) for audio in outputs] for _, outputs in sounds]
    loudest = max(level.max() for row in levels for level in row)
    count = len(recording.target)
    figure = Figure(figsize=(9, 1.9 * len(levels)), layout="constrained")
    axes = figure.subplots(len(levels), count, sharex=True, sharey=True, squeeze=False)
    extent = (0, recording.mixture.shape[1] / SAMPLE_RATE, 0, SAMPLE_RATE / 2000)
    for row, (name, _), outputs in zip(axes, sounds, levels, strict=True):
        for axis, level in zip(row, outputs, strict=True):
            image = axis.imshow(
                level, origin="lower", aspect="auto", extent=extent, vmin=loudest - RANGE_DB, vmax=loudest, cmap="magma"
            )
        row[0].set_ylabel("kHz")
        row[0].set_title(name, loc="left", fontsize="medium")
    if count == 2:
        for axis, column in zip(axes[0], COLUMNS[systems[0].task], strict=True):
            axis.set_title(column, loc="right", fontsize="medium")
    for axis in axes[-1]:
        axis.set_xlabel("s")
    figure.colorbar(image, ax=axes, label="dB")
    figure.savefig(path, dpi=110)


def plot_scatter(path: Path, results: Sequence[Result], names: Sequence[str] = MEASURES) -> None:
    """Each recording as a point: the measure without the system across, with it upwards; better is above the line."""
    names = [name for name in names if all(name in result.points for result in results)]
    if not names:
        return  # nobody speaks in noise, or two at once
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


def _output(system: System, recording: Recording) -> np.ndarray:
    output = output_of(system, recording)
    return in_best_order(output, recording.target) if system.task == "separate" else output


def _spectrogram_db(audio: np.ndarray) -> np.ndarray:
    padded = np.pad(audio, (WINDOW - HOP, WINDOW))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    return 10 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(WINDOW))).T ** 2 + 1e-10)
