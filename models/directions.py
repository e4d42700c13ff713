"""Where the sound at two ears comes from: all bins of one source share the delay between them."""

import math

import torch
from torch import nn
from torch.nn import functional

from ..runtime.errors import HearloopError
from ..runtime.windows import window_pair
from .streaming.recurrent import TimeGRU
from .streaming.state import State

SAMPLE_RATE = 16000
REACH = 128  # bins, up to 4 kHz, above which a head is many wavelengths wide
LONGEST_DELAY_S = 8e-4  # around a large head
FAINT_HZ = 1000.0  # above it a delay leads to less and less certain phases
KINDS = 3  # of what tells directions apart, see `BinauralSpectrum`


class Directions(nn.Module):
    """Finds from where sources come, and how well every bin agrees with that.

    The product of both ears turns with frequency, the faster the later one of them hears a source. A linear layer
    correlates it with the turns of so many delays (Knapp and Carter, "The generalized correlation method for estimation
    of time delay", 1976), a GRU remembers what was found, and a linear layer makes of both some expectations of what
    the product is like; its agreement with them in every bin is what comes out. A network of narrow layers shares its
    weights between bands, and the phase of one direction is another one in each: it finds it hard to learn that they
    belong together. Here it is known from the start, and all of it learns on; the output is zero until it does.

    Parameters
    ----------
    channels : int
        Of the output.
    delays : int
        Between -0.8 and 0.8 ms, equally far apart.
    sources : int
        How many are looked for, each by weights of its own.
    expectations : int
    window : str
        Window pair.
    stride : int
        Bins that are one band in the output.

    State: that of the GRU.
    """

    def __init__(self, channels: int, delays: int, sources: int, expectations: int, window: str, stride: int):
        super().__init__()
        bins = window_pair(window).bins
        if bins <= REACH:
            raise HearloopError(f"{window} has {bins} bins; expected more than {REACH}, for directions")
        self.expectations, self.stride = expectations, stride
        found = sources * delays
        self.to_delays, self.norm = nn.Linear(KINDS * REACH, delays), nn.LayerNorm(delays)
        self.memory = TimeGRU(found, found, 1)
        self.expect = nn.Linear(2 * found, expectations * delays)
        self.to_bins = nn.Linear(delays, KINDS * REACH)
        self.to_channels = nn.Conv2d(expectations * stride, channels, 1)
        bin_hz = SAMPLE_RATE / window_pair(window).n_fft
        turns = turns_of(delays, bin_hz)
        certain = turns / (1 + bin_hz * torch.arange(REACH) / FAINT_HZ)
        with torch.no_grad():
            self.to_delays.weight.copy_(functional.normalize(certain.flatten(1), dim=1))
            self.to_bins.weight.copy_(turns.flatten(1).T / math.sqrt(delays))
            for layer in (self.to_delays, self.to_bins, self.to_channels):
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
            nn.init.zeros_(self.to_channels.weight)

    def initial_state(self, batch: int) -> State:
        return self.memory.initial_state(batch)

    def forward(self, alike: torch.Tensor, weights: torch.Tensor | None, state: State) -> tuple[torch.Tensor, State]:
        """What tells directions apart [B, 3, T, bins] and state -> [B, channels, T, bins // stride], and next state.

        `weights` [B, T, sources, REACH // stride] say how much of a band belongs to each source; one source is all of
        it, where not given. The output is zero above the reach.
        """
        near = alike[..., :REACH].permute(0, 2, 1, 3).unsqueeze(2)  # [B, T, 1, KINDS, REACH]
        weighed = near if weights is None else near * _of_bins(weights, self.stride).unsqueeze(3)
        found = self.norm(self.to_delays(weighed.flatten(3))).flatten(2)
        remembered, state = self.memory(found.unsqueeze(2), state)
        expected = self.expect(torch.cat([found, remembered.squeeze(2)], dim=-1)).unflatten(-1, (self.expectations, -1))
        agreement = (self.to_bins(expected).unflatten(-1, (KINDS, -1)) * near).sum(3)
        maps = agreement.unflatten(-1, (-1, self.stride)).permute(0, 2, 4, 1, 3).flatten(1, 2)
        bands = (alike.shape[-1] - 1) // self.stride
        return functional.pad(self.to_channels(maps), (0, bands - REACH // self.stride)), state


def turns_of(delays: int, bin_hz: float) -> torch.Tensor:
    """What the product of both ears is like for sound of each delay: [delays, KINDS, REACH].

    The delay is that of the left ear; levels are the same at both.
    """
    delay_s = torch.linspace(-LONGEST_DELAY_S, LONGEST_DELAY_S, delays)
    phase = 2 * math.pi * bin_hz * torch.arange(REACH) * delay_s[:, None]
    return torch.stack([phase.cos(), -phase.sin(), torch.zeros_like(phase)], dim=1)


def _of_bins(weights: torch.Tensor, stride: int) -> torch.Tensor:
    """The weight of its band for each bin: [..., bands] -> [..., bins]."""
    return weights.unsqueeze(-1).expand(*weights.shape, stride).flatten(-2)
