"""From sounds to two ears: still and moving sources, and noise from everywhere."""

import numpy as np
from scipy import fft
from scipy.signal import oaconvolve

from .directions import evenly_spread
from .heads import TAPS, Head

FEW_TAPS = 2000  # below, many short transforms are faster than one long one
BLOCK = 1024


def render(sounds: np.ndarray, responses: np.ndarray) -> np.ndarray:
    """Convolve each sound [s, n] with its responses [s, 2, taps], keeping n samples, float32 [s, 2, n]."""
    if responses.shape[-1] <= FEW_TAPS:
        return oaconvolve(sounds[:, np.newaxis], responses, axes=-1)[..., : sounds.shape[-1]]
    size = fft.next_fast_len(sounds.shape[-1] + responses.shape[-1] - 1, real=True)
    spectra = fft.rfft(responses, size)
    spectra *= fft.rfft(sounds, size)[:, np.newaxis]
    return fft.irfft(spectra, size, overwrite_x=True)[..., : sounds.shape[-1]]


def render_moving(sound: np.ndarray, responses: np.ndarray, hop: int) -> np.ndarray:
    """A sound [n] through responses [knots, 2, taps] that change: knot k holds at sample k * hop; float32 [2, n].

    Between knots the sound fades from one response into the next, linearly. So a knot's part of the sound has soft ends
    whatever its response, and nothing clicks. `knots` is at least 1 + ceil(n / hop).
    """
    knots, _, taps = responses.shape
    length = len(sound)
    padded = np.zeros((knots + 1) * hop, np.float32)  # begins one hop before the first knot
    padded[hop : hop + length] = sound
    fade = (np.arange(2 * hop, dtype=np.float32) + 0.5) / hop
    fade = np.minimum(fade, 2 - fade)
    pieces = np.lib.stride_tricks.sliding_window_view(padded, 2 * hop)[::hop] * fade
    blocks = -(-(2 * hop + taps - 1) // hop)
    spectra = fft.rfft(responses, blocks * hop)
    spectra *= fft.rfft(pieces, blocks * hop)[:, np.newaxis]
    heard = fft.irfft(spectra, blocks * hop, overwrite_x=True).reshape(knots, 2, blocks, hop)
    total = np.zeros((2, knots + blocks - 1, hop), np.float32)
    for block in range(blocks):
        total[:, block : block + knots] += heard[:, :, block].swapaxes(0, 1)
    return total.reshape(2, -1)[:, hop : hop + length]


def knot_count(length: int, hop: int) -> int:
    """How many knots `render_moving` needs for `length` samples."""
    return 1 + -(-length // hop)


def diffuse_noise(rng: np.random.Generator, head: Head, sounds: np.ndarray) -> np.ndarray:
    """Independent sounds [d, n] of equal loudness from d directions all around, float32 [2, n].

    The directions cover the sphere evenly, turned at random. Coherence between the ears is, in the mean, that of a
    diffuse field; the more directions, the closer in each item.
    """
    directions = evenly_spread(len(sounds)) @ random_rotation(rng)
    responses = head.interpolated(directions)
    length = sounds.shape[-1]
    blocks = -(-length // BLOCK)
    pieces = np.zeros((len(sounds), blocks * BLOCK), np.float32)
    pieces[:, :length] = sounds
    spectra = fft.rfft(pieces.reshape(len(sounds), blocks, BLOCK), BLOCK + TAPS)
    heard = np.matmul(fft.rfft(responses, BLOCK + TAPS).transpose(2, 1, 0), spectra.transpose(2, 0, 1))
    heard = fft.irfft(heard.transpose(1, 2, 0), BLOCK + TAPS)
    total = np.zeros((2, blocks + 1, BLOCK), np.float32)
    total[:, :-1] = heard[..., :BLOCK]
    total[:, 1:, :TAPS] += heard[..., BLOCK:]
    return total.reshape(2, -1)[:, :length]


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A random rotation of space, uniform over all, [3, 3]."""
    orthogonal, upper = np.linalg.qr(rng.standard_normal((3, 3)))
    orthogonal = orthogonal * np.sign(np.diag(upper))
    return orthogonal if np.linalg.det(orthogonal) > 0 else orthogonal[:, ::-1]
