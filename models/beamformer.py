"""Filters that take from both ears, made of what a network let pass so far."""

import torch
from torch import nn

from ..runtime.windows import window_pair
from .features import EarProducts
from .harmonics import SAMPLE_RATE
from .streaming.average import ExponentialAverage
from .streaming.state import State

LATELY_S = 0.8  # over which people stay where they are
LEAST_POWER = 1e-9  # of a bin, for both ears
LEAST_SPREAD = 1e-4  # of a voice that comes from one place: how far it is from coming from everywhere
LOADING = 3e-3  # of the rest that comes from everywhere: filters stay tame where it comes from one place
LEAST_GAIN = 1e-4  # that the second filter is divided by, where no voice has been heard yet


class Beamformer(nn.Module):
    """What both ears hear together, where a network has said of each ear alone what to let pass.

    As long as nobody moves, the voice reaches the ears with the same difference in level and phase, in every bin, and
    so does somebody else. So the products of both ears are shared out between the voice and the rest, by what the
    network lets pass, and averaged over the last second. From these two matrices come two candidates for each ear: what
    passed, as far as it has the difference between the ears that the voice has (the projection onto the principal
    component); and what a filter leaves that does not change the voice at that ear and lets through as little as
    possible of the rest (MVDR as in Souden, Benesty and Affes, "On optimal frequency-domain multichannel linear
    filtering for noise reduction", TASLP 2010). The network says for each bin how much of them to take.

    Parameters
    ----------
    window : str
        Window pair.

    State: that of the averages.
    """

    begins = (1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0)
    """Values of a bin to begin with: a complex gain for each ear; how much the bin counts for the voice, and for the
    rest; for each ear how much is projected; and a complex gain of the second filter for each ear."""

    def __init__(self, window: str):
        super().__init__()
        pair = window_pair(window)
        self.ears = EarProducts()
        self.lately = ExponentialAverage(LATELY_S * SAMPLE_RATE / pair.hop_length, (8, pair.bins))
        self.register_buffer("quarter_turn", torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), persistent=False)
        self.quarter_turn: torch.Tensor

    def initial_state(self, batch: int) -> State:
        return self.lately.initial_state(batch)

    def forward(self, spectrum: torch.Tensor, values: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Spectrum [B, 2, T, bins, 2], values [B, 12, T, bins] and state -> [B, 2, T, bins, 2] and the next state."""
        gains, counts, share, second = values.split([4, 2, 2, 4], dim=1)
        gain, gain_turned = gains.unflatten(1, (2, 2)).unbind(2)
        passed = self._times(gain, gain_turned, spectrum)
        let_pass = (gain.square() + gain_turned.square()).mean(1)
        held_back = ((1 - gain).square() + gain_turned.square()).mean(1)
        counted = 2 * counts.sigmoid() * torch.stack([let_pass, held_back], dim=1).clamp(max=1)
        products = torch.stack(self.ears(spectrum), dim=1)  # [B, 4, T, bins]
        apart = (counted.unsqueeze(2) * products.unsqueeze(1)).flatten(1, 2)
        average, state = self.lately(apart.transpose(2, 3), state)
        voice, rest = (_of_unit_power(part) for part in average.transpose(2, 3).chunk(2, dim=1))
        projected, certain = self._projected(voice, passed)
        heard = passed + (share * certain).unsqueeze(-1) * (projected - passed)
        second_gain, second_turned = second.unflatten(1, (2, 2)).unbind(2)
        return heard + self._times(second_gain, second_turned, self._undistorted(voice, rest, spectrum)), state

    def _times(self, real: torch.Tensor, imaginary: torch.Tensor, spectrum: torch.Tensor) -> torch.Tensor:
        return real.unsqueeze(-1) * spectrum + imaginary.unsqueeze(-1) * (spectrum @ self.quarter_turn)

    def _across(self, own: torch.Tensor, other: torch.Tensor, spectrum: torch.Tensor) -> torch.Tensor:
        """Each ear with complex gains `own`, and with `other` what the other ear hears; gains [B, 2, T, bins, 2]."""
        crossed = torch.cat(spectrum.chunk(2, dim=1)[::-1], dim=1)
        return self._times(own[..., 0], own[..., 1], spectrum) + self._times(other[..., 0], other[..., 1], crossed)

    def _projected(self, voice: torch.Tensor, passed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What passed, as far as it comes from where the voice comes from, and how certain that is [B, 1, T, bins]."""
        left, right, real, imaginary = voice.unbind(1)
        spread = (((left - right) / 2).square() + real.square() + imaginary.square()).clamp(min=LEAST_SPREAD).sqrt()
        more_left, real, imaginary = (part / (2 * spread) for part in ((left - right) / 2, real, imaginary))
        own = torch.stack([0.5 + more_left, 0.5 - more_left], dim=1)
        other = torch.stack([torch.stack([real, imaginary], -1), torch.stack([real, -imaginary], -1)], dim=1)
        own = torch.stack([own, torch.zeros_like(own)], dim=-1)
        return self._across(own, other, passed), (4 * spread.square()).clamp(max=1).unsqueeze(1)

    def _undistorted(self, voice: torch.Tensor, rest: torch.Tensor, spectrum: torch.Tensor) -> torch.Tensor:
        """The voice as each ear hears it, and as little of the rest as two ears can let through."""
        left, right, real, imaginary = voice.unbind(1)
        rest_left, rest_right, rest_real, rest_imaginary = rest.unbind(1)
        rest_left, rest_right = rest_left + LOADING, rest_right + LOADING
        # The inverse of the rest, times the voice; the determinant cancels.
        alike = rest_real * real + rest_imaginary * imaginary
        turned = rest_imaginary * real - rest_real * imaginary
        of_left, of_right = rest_right * left - alike, rest_left * right - alike
        total = (of_left + of_right).clamp(min=LEAST_GAIN)
        own = torch.stack([torch.stack([of_left, turned], -1), torch.stack([of_right, -turned], -1)], dim=1)
        from_right = torch.stack(
            [rest_left * real - rest_real * left, rest_left * imaginary - rest_imaginary * left], -1
        )
        from_left = torch.stack(
            [rest_right * real - rest_real * right, rest_imaginary * right - rest_right * imaginary], -1
        )
        other = torch.stack([from_right, from_left], dim=1)
        return self._across(own, other, spectrum) / total[:, None, ..., None]


def _of_unit_power(products: torch.Tensor) -> torch.Tensor:
    """Products of both ears, [B, 4, T, bins], with the powers of both ears together one."""
    return products / (products[:, 0] + products[:, 1]).clamp(min=LEAST_POWER).unsqueeze(1)
