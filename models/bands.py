"""Bands on the ERB scale: wide where the ear resolves little."""

import numpy as np
import torch

from ..runtime.errors import HearloopError


def erb_filters(bands_in: int, bands_out: int, sample_rate: int) -> torch.Tensor:
    """Overlapping triangular filters that gather evenly spaced bands into fewer, evenly spaced on the ERB scale.

    Glasberg and Moore, "Derivation of auditory filter shapes from notched-noise data", Hearing Research 1990.

    Returns
    -------
    Tensor, float32, shape (bands_in, bands_out); each column sums to one.

    Raises
    ------
    HearloopError
        Unless there are two bands at least, and no more than evenly spaced ones.
    """
    if not 2 <= bands_out <= bands_in:
        raise HearloopError(f"bands is {bands_out}, expected 2 to {bands_in}: they are made of {bands_in}")
    centres_hz = (np.arange(bands_in) + 0.5) * sample_rate / 2 / bands_in
    erb_number = 21.4 * np.log10(1 + 0.00437 * centres_hz)
    # Where ERBs are narrower than the input bands, one band more per filter is the least that keeps them apart.
    edges = np.interp(np.linspace(erb_number[0], erb_number[-1], bands_out), erb_number, np.arange(bands_in))
    for index in range(1, bands_out):
        edges[index] = max(edges[index], edges[index - 1] + 1)
    edges = np.minimum(edges, np.arange(bands_in - bands_out, bands_in))
    position = np.arange(bands_in)[:, None]
    below = np.concatenate([[edges[0] - 1], edges[:-1]])
    above = np.concatenate([edges[1:], [edges[-1] + 1]])
    rising = (position - below) / (edges - below)
    falling = (above - position) / (above - edges)
    filters = np.clip(np.minimum(rising, falling), 0, None)
    return torch.from_numpy(filters / filters.sum(0)).float()
