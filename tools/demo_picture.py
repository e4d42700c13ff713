"""The picture of a demonstration: what came in, what was heard, and how long each frame took."""

from pathlib import Path

import matplotlib
import numpy as np

from ..runtime.telemetry import BIN_NS, Times

matplotlib.use("Agg")
from matplotlib import pyplot as plt

N_FFT, HOP_LENGTH = 512, 128
RANGE_DB = 70.0
BUDGET_MS = 8.0
BAR_MS = 0.1
PERCENTILES = {"p50": 50, "p99": 99, "max": 100}
STYLE: dict = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "0.4",
    "xtick.color": "0.3",
    "ytick.color": "0.3",
    "axes.labelcolor": "0.2",
}


def draw(path: Path, panels: dict[str, np.ndarray], sample_rate: int, times: Times) -> None:
    """Write a PNG with all spectrograms on one scale, and the histogram of frame times against their budget.

    Parameters
    ----------
    panels : dict
        Title -> signal, shape (samples,); what came in is the first one.
    times : Times
        Of all frames of the run.
    """
    with plt.rc_context(STYLE):
        figure, (*above, histogram) = plt.subplots(
            len(panels) + 1,
            1,
            figsize=(10, 2.5 + 3.5 * len(panels)),
            height_ratios=(*[1] * len(panels), 0.75),
            layout="constrained",
        )
        levels = [spectrogram_db(signal) for signal in panels.values()]
        # The scale ends at the loudest bins but for a few; one click shall not make the rest dark.
        top = 5 * np.ceil(np.percentile(levels[0], 99.9) / 5)
        for axes, level, (title, signal) in zip(above, levels, panels.items(), strict=True):
            extent = (0, len(signal) / sample_rate, 0, sample_rate / 2000)
            image = axes.imshow(
                level, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=top - RANGE_DB, vmax=top
            )
            axes.set(title=title, ylabel="frequency / kHz")
            axes.tick_params(labelbottom=axes is above[-1])
        above[-1].set_xlabel("time / s")
        figure.colorbar(image, ax=above, label="level / dBFS", pad=0.01, aspect=40)
        _histogram(histogram, times)
        figure.savefig(path, dpi=110)
        plt.close(figure)


def spectrogram_db(signal: np.ndarray) -> np.ndarray:
    """Levels of a Hann-windowed STFT, [bins, frames], in dB; 0 dB is a full-scale sine."""
    window = np.hanning(N_FFT + 1)[:-1]
    padded = np.pad(signal, (N_FFT // 2, N_FFT // 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP_LENGTH]
    magnitude = np.abs(np.fft.rfft(frames * window)).T / (window.sum() / 2)
    return 20 * np.log10(magnitude + 1e-9)


def _histogram(axes: plt.Axes, times: Times) -> None:
    most_ms = times.to_json()["max"] / 1000 if len(times) else 0.0
    longest_ms = max(most_ms, BUDGET_MS) + 0.5
    bars = np.add.reduceat(times.record.bins, np.arange(0, len(times.record.bins), round(BAR_MS * 1e6 / BIN_NS)))
    bars = bars[: int(np.ceil(longest_ms / BAR_MS))]
    late = np.arange(len(bars)) * BAR_MS >= BUDGET_MS
    for chosen, colour in ((~late, "#3b6fb6"), (late, "#c8352b")):
        axes.bar(np.flatnonzero(chosen) * BAR_MS, bars[chosen], BAR_MS, align="edge", color=colour)
    axes.axvline(BUDGET_MS, color="#c8352b", linewidth=2)
    axes.text(
        BUDGET_MS - 0.06,
        0.94,
        f"budget {BUDGET_MS:g} ms",
        color="#c8352b",
        ha="right",
        va="top",
        transform=axes.get_xaxis_transform(),
    )
    facts = ", ".join(f"{name} {times.percentile(rank) / 1000:.2f} ms" for name, rank in PERCENTILES.items())
    axes.text(0.5, 0.94, facts, ha="center", va="top", color="0.2", transform=axes.transAxes)
    axes.set(title=f"time to compute each of {len(times):,} frames", xlabel="ms", ylabel="frames", xlim=(0, longest_ms))
    # Logarithmic, so that a single late frame among thousands is seen.
    axes.set_yscale("symlog", linthresh=1)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(0, 3 * max(bars.max(), 1))
