"""What both ears hear together: the matrices, the filters that linear algebra makes of them, and what they do."""

import math

import numpy as np
import pytest
import torch

from hearloop.models import build
from hearloop.models.beamformer import LATELY_S, LOADING, Beamformer
from hearloop.models.frontend import Stft
from hearloop.models.training.checkpoint import take_over

WINDOW = "asymmetric-512-192"
BINS, FRAME_S = 257, 0.008
SIZES = {"channels": 8, "hidden": 12, "bands": 16, "blocks": 2, "embedding": 8}


def complex_gains(values: torch.Tensor) -> np.ndarray:
    """[1, 4, T, bins] -> [2, T, bins]."""
    real, imaginary = values[0].unflatten(0, (2, 2)).unbind(1)
    return torch.complex(real, imaginary).numpy()


def by_linear_algebra(spectrum: torch.Tensor, values: torch.Tensor) -> np.ndarray:
    """The same as `Beamformer`, bin by bin, from the definitions."""
    heard = torch.view_as_complex(spectrum)[0].numpy()
    gains, second = complex_gains(values[:, :4]), complex_gains(values[:, 8:])
    counts = 2 * values[0, 4:6].sigmoid().numpy()
    passed, decay = gains * heard, math.exp(-FRAME_S / LATELY_S)
    counts[0] *= np.minimum((np.abs(gains) ** 2).mean(0), 1)
    counts[1] *= np.minimum((np.abs(1 - gains) ** 2).mean(0), 1)
    result = np.empty_like(heard)
    for f in range(BINS):
        sums, weight = np.zeros((2, 2, 2), complex), 0.0
        for t in range(heard.shape[1]):
            ears = heard[:, t, f]
            sums = decay * sums + (1 - decay) * counts[:, t, f, None, None] * np.outer(ears, ears.conj())
            weight = decay * weight + 1 - decay
            voice, rest = (each / np.trace(each) for each in sums / weight)
            powers, principal = np.linalg.eigh(voice)
            place = principal[:, 1]
            projected = place * (place.conj() @ passed[:, t, f])
            filters = np.linalg.solve(rest + LOADING * np.eye(2), voice)
            filters /= np.trace(filters)
            share = values[0, 6:8, t, f].numpy() * (powers[1] - powers[0]) ** 2
            result[:, t, f] = passed[:, t, f] + share * (projected - passed[:, t, f])
            result[:, t, f] += second[:, t, f] * (filters.conj().T @ ears)
    return result


def test_it_computes_what_linear_algebra_says():
    generator = torch.Generator().manual_seed(1)
    values, spectrum = (
        torch.rand(1, 12, 9, BINS, generator=generator),
        torch.randn(1, 2, 9, BINS, 2, generator=generator),
    )
    values[:, 4:6] = 2 * torch.randn(1, 2, 9, BINS, generator=generator)
    beamformer = Beamformer(WINDOW)
    found, _ = beamformer(spectrum, values, beamformer.initial_state(1))
    torch.testing.assert_close(
        torch.view_as_complex(found)[0], torch.from_numpy(by_linear_algebra(spectrum, values)), rtol=1e-3, atol=1e-3
    )


def two_places(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectra of two noises from two places, each [1, 2, T, bins, 2]: one ear hears them later, and softer."""
    generator = torch.Generator().manual_seed(seed)
    stft, spectra = Stft(WINDOW), []
    for late, level in ((5, 0.7), (-4, 0.8)):
        noise = torch.randn(200 * 128 + 20, generator=generator)
        one, other = noise[10 : 10 + 200 * 128], level * noise[10 - late : 10 - late + 200 * 128]
        spectra.append(stft.analysis(torch.stack([one, other])[None])[0])
    return spectra[0], spectra[1]


def level_db(sound: torch.Tensor, reference: torch.Tensor) -> float:
    late = slice(sound.shape[2] // 2, None)
    return float(10 * torch.log10(sound[:, :, late].square().sum() / reference[:, :, late].square().sum()))


def test_the_second_filter_lets_the_voice_through_and_shuts_out_another_from_elsewhere():
    # The voice pauses for the first half second, so the gains need not tell bins apart.
    voice, rest = two_places(3)
    voice[:, :, :60] = 0
    values = torch.zeros(1, 12, voice.shape[2], BINS)
    values[:, [0, 2], 60:] = 0.9
    values[:, [0, 2], :60] = 0.05
    values[:, [8, 10]] = 1
    beamformer, mixture = Beamformer(WINDOW), voice + 0.3 * rest
    both, _ = beamformer(mixture, values, beamformer.initial_state(1))
    second = both - values[:, [0, 2]].unsqueeze(-1) * mixture
    assert level_db(second - voice, voice) < level_db(mixture - voice, voice) - 8


def test_what_passed_is_brought_to_where_the_voice_is():
    voice, rest = two_places(5)
    values = torch.tensor(Beamformer.begins).view(1, 12, 1, 1).repeat(1, 1, voice.shape[2], BINS)
    values[:, 6:8] = 1
    beamformer = Beamformer(WINDOW)
    alone, _ = beamformer(voice, values, beamformer.initial_state(1))
    assert level_db(alone - voice, voice) < -20
    mixed = voice + 0.3 * rest
    brought, _ = beamformer(mixed, values, beamformer.initial_state(1))
    assert level_db(brought - voice, voice) < level_db(mixed - voice, voice) - 2


@pytest.mark.parametrize("level", [1e-2, 1.0, 30.0])
def test_the_level_makes_no_difference(level):
    voice, rest = two_places(7)
    values = torch.rand(1, 12, voice.shape[2], BINS, generator=torch.Generator().manual_seed(2))
    beamformer = Beamformer(WINDOW)
    expected, _ = beamformer(voice + rest, values, beamformer.initial_state(1))
    found, _ = beamformer(level * (voice + rest), values, beamformer.initial_state(1))
    torch.testing.assert_close(found / level, expected, rtol=1e-3, atol=1e-3)


def test_silence_stays_silent_and_what_follows_it_is_finite():
    voice, _ = two_places(9)
    values = torch.rand(1, 12, voice.shape[2], BINS, generator=torch.Generator().manual_seed(4))
    beamformer = Beamformer(WINDOW)
    silence, state = beamformer(torch.zeros_like(voice), values, beamformer.initial_state(1))
    assert not silence.any()
    for extreme in (0.0, 1e6):
        values[:, :4] = extreme
        assert beamformer(voice, values, state)[0].isfinite().all()


def test_a_network_with_gains_alone_is_taken_over_and_all_of_it_learns():
    torch.manual_seed(0)
    gains, both = build("target-small", **SIZES).eval(), build("target-small", **SIZES, beamforming=True).eval()
    take_over(both, gains.state_dict(), "the one with gains alone")
    spectrum, voice = torch.randn(1, 2, 5, BINS, 2), torch.randn(1, SIZES["embedding"])

    def heard(model: torch.nn.Module) -> torch.Tensor:
        return model(spectrum, model.steering(voice), model.initial_state(1))[0]

    assert not torch.allclose(heard(both), heard(gains))  # half of what passed is projected
    both.mask.bias.data[6:8] = 0
    torch.testing.assert_close(heard(both), heard(gains))
    both.mask.bias.data[[0, 2]] = 0.6
    both.mask.bias.data[6:] = 0.5
    heard(both).square().sum().backward()
    assert (both.mask.weight.grad.abs().amax((0, 2, 3)) > 1e-3).all()
