"""What the partials of a voice have in common: they lie at the multiples of one pitch."""

import math

import torch
from torch import nn
from torch.nn import functional

from ..runtime.errors import HearloopError
from ..runtime.windows import window_pair

SAMPLE_RATE = 16000
LOWEST_HZ, HIGHEST_HZ = 70.0, 400.0  # pitches of grown-ups and children
REACH = 128  # bins, up to 4 kHz, where partials stand apart and most of the energy is
FAINT_HZ = 500.0  # above it partials count less and less
RUMBLE_HZ = 40.0
SCATTER = 0.02  # of the weights that learn, around what is known


class Harmonics(nn.Module):
    """Finds periods in a spectrum, and what a spectrum with these periods looks like.

    A linear layer correlates the compressed magnitudes with combs, one for each pitch: cosines over frequency, whose
    maxima are the multiples of the pitch. A small network decides between pitches, and combs lead back to the bins. A
    network of narrow layers, which sees a few bins at a time, finds it hard to learn that partials far apart belong
    together. Here it is known from the start, and all of it learns on; the output is zero until it does. Correlating a
    spectrum with cosines is an autocorrelation, as in Licklider, "A duplex theory of pitch perception", 1951.

    No state: each frame is looked at alone.

    Parameters
    ----------
    channels : int
        Of the output.
    pitches : int
        From 70 to 400 Hz, equally far apart on a logarithmic scale.
    spectra : int
        How many lead back from the pitches.
    window : str
        Window pair; of 512 samples, so that bins are 31 Hz apart.
    stride : int
        Bins that are one band in the output.
    """

    def __init__(self, channels: int, pitches: int, spectra: int, window: str, stride: int):
        super().__init__()
        bin_hz = SAMPLE_RATE / window_pair(window).n_fft
        if bin_hz > LOWEST_HZ / 2:
            raise HearloopError(
                f"{window} has bins {bin_hz:.0f} Hz apart; expected at most {LOWEST_HZ / 2:.0f}, for pitches"
            )
        self.spectra, self.stride = spectra, stride
        self.to_pitches = nn.Linear(REACH, pitches)
        self.activation, self.norm = nn.PReLU(), nn.LayerNorm(pitches)
        self.decide, self.decision = nn.Linear(pitches, pitches), nn.PReLU()
        self.to_bins = nn.Linear(pitches, spectra * REACH)
        self.to_channels = nn.Conv2d(spectra * stride, channels, 1)
        known = combs(pitches, bin_hz)
        with torch.no_grad():
            self.to_pitches.weight.copy_(known)
            self.to_pitches.bias.zero_()
            self.decide.weight.copy_(torch.eye(pitches) + SCATTER * torch.randn(pitches, pitches))
            self.to_bins.weight.copy_(known.T.repeat(spectra, 1) + SCATTER * torch.randn(spectra * REACH, pitches))
            nn.init.zeros_(self.to_channels.weight)
            assert self.to_channels.bias is not None
            nn.init.zeros_(self.to_channels.bias)

    def forward(self, magnitudes: torch.Tensor) -> torch.Tensor:
        """Compressed magnitudes [B, T, bins] -> [B, channels, T, bins // stride], zero above the reach."""
        bands = (magnitudes.shape[-1] - 1) // self.stride
        pitches = self.norm(self.activation(self.to_pitches(magnitudes[..., :REACH])))
        spectra = self.to_bins(self.decision(self.decide(pitches)))
        maps = spectra.unflatten(-1, (self.spectra, -1, self.stride)).permute(0, 2, 4, 1, 3).flatten(1, 2)
        return functional.pad(self.to_channels(maps), (0, bands - REACH // self.stride))


def combs(pitches: int, bin_hz: float) -> torch.Tensor:
    """One comb per pitch, of unit norm: [pitches, REACH]."""
    hz = bin_hz * torch.arange(REACH)
    pitch_hz = torch.logspace(math.log10(LOWEST_HZ), math.log10(HIGHEST_HZ), pitches)
    teeth = torch.cos(2 * math.pi * hz / pitch_hz[:, None]) * (hz > RUMBLE_HZ) / (1 + hz / FAINT_HZ).sqrt()
    return teeth / teeth.norm(dim=1, keepdim=True)
