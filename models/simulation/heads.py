"""A head: what its two ears make of sound from every direction.

Between measured directions, responses are interpolated in the triangle of the three around, after their arrivals have
been aligned, and the arrival is interpolated apart (Brinkmann and Weinzierl, "Comparison of head-related transfer
functions pre-processing techniques for spherical harmonics decomposition", AES 2018): the mean of two responses that
arrive at different times would be a comb.
"""

from functools import cached_property

import numpy as np
from numba import njit
from scipy import fft
from scipy.signal import oaconvolve
from scipy.spatial import ConvexHull

from ...runtime.errors import AudioError
from .corpus import SAMPLE_RATE
from .directions import evenly_spread, unit_vectors

TAPS = 256
LARGEST_GAP_DEG = 60.0
DIFFUSE_DIRECTIONS = 400
DIFFUSE_SAMPLES, DIFFUSE_SEED = 20 * SAMPLE_RATE, 5  # tails are cut from it, each from another place


class Head:
    """Head-related responses of one person or dummy.

    Parameters
    ----------
    name : tells heads apart; one that is in training must not be in validation
    azimuth_deg, elevation_deg : [positions] where sound came from
    responses : float32 [positions, 2 (left, right), taps] at 16 kHz

    Raises AudioError if the shapes do not fit, a value is not finite, or directions are missing on one side.
    """

    def __init__(self, name: str, azimuth_deg: np.ndarray, elevation_deg: np.ndarray, responses: np.ndarray):
        if responses.ndim != 3 or responses.shape[1] != 2 or not 1 <= responses.shape[2] <= TAPS:
            raise AudioError(f"{name}: responses have the shape {responses.shape}; expected [positions, 2, 1..{TAPS}]")
        if not len(responses) == len(azimuth_deg) == len(elevation_deg) >= 4:
            counts = f"{len(responses)}, {len(azimuth_deg)} and {len(elevation_deg)}"
            raise AudioError(
                f"{name}: {counts} responses, azimuths and elevations; expected the same number, at least 4"
            )
        if not (np.all(np.isfinite(responses)) and np.all(np.isfinite(azimuth_deg + elevation_deg))):
            raise AudioError(f"{name}: a response or a direction is not finite")
        self.name = name
        self.azimuth_deg, self.elevation_deg = np.asarray(azimuth_deg), np.asarray(elevation_deg)
        self.responses = np.ascontiguousarray(responses, np.float32)
        self.vectors = unit_vectors(self.azimuth_deg, self.elevation_deg)
        self._check_surrounded()

    def prepare(self) -> None:
        """Compute now what every rendering needs (9 MB), so that processes which are forked later share it."""
        _ = self._aligned, self._triangles, self._vectors32, self.diffuse_field, self.diffuse_energy

    def response(self, azimuth_deg: float, elevation_deg: float = 0.0) -> np.ndarray:
        """The responses of both ears to one direction, float32 [2, TAPS]."""
        return self.interpolated(unit_vectors(azimuth_deg, elevation_deg)[np.newaxis])[0]

    def interpolated(self, vectors: np.ndarray) -> np.ndarray:
        """The responses to directions [n, 3], float32 [n, 2, TAPS]; a measured direction gives what was measured."""
        corners, weights = self._around(vectors)
        spectra, arrivals = self._aligned
        spectrum = sum(weights[:, at, None, None] * spectra[corners[:, at]] for at in range(3))
        arrival = np.einsum("nc,nce->ne", weights, arrivals[corners])
        return fft.irfft(spectrum * _delay(arrival, spectrum.shape[-1]), 2 * (spectrum.shape[-1] - 1))[..., :TAPS]

    def nearest(self, vectors: np.ndarray) -> np.ndarray:
        """The number of the measured position nearest to each direction [n, 3]."""
        return np.argmax(vectors.astype(np.float32) @ self._vectors32.T, axis=1)

    @cached_property
    def diffuse_roots(self) -> np.ndarray:
        """Filters that turn two independent noises into a diffuse field, float32 [2 (noise), 2 (ear), TAPS].

        Square roots of the covariance of the ears over all directions, per frequency, centred in the taps. White noises
        of power one give a power of one in the mean of both ears.
        """
        responses = self.interpolated(evenly_spread(DIFFUSE_DIRECTIONS))
        spectra = fft.rfft(responses, TAPS)
        covariance = np.einsum("neb,nfb->bef", spectra, spectra.conj()) / len(responses)
        values, vectors = np.linalg.eigh(covariance)
        roots = (vectors * np.sqrt(np.maximum(values, 0))[:, None, :]) @ vectors.conj().swapaxes(1, 2)
        filters = np.roll(fft.irfft(roots, TAPS, axis=0), TAPS // 2, axis=0) * np.hanning(TAPS)[:, None, None]
        filters = np.moveaxis(filters, 0, 2).swapaxes(0, 1)
        return (filters / np.sqrt(np.sum(filters**2) / 2)).astype(np.float32)

    @cached_property
    def diffuse_energy(self) -> float:
        """How much louder white sound from everywhere is at the ears than without the head; the mean of both."""
        responses = self.interpolated(evenly_spread(DIFFUSE_DIRECTIONS))
        return float(np.square(responses).sum(-1).mean())

    @cached_property
    def diffuse_field(self) -> np.ndarray:
        """White noise from everywhere at the ears, the same whenever it is made, float32 [2, samples]."""
        noise = np.random.default_rng(DIFFUSE_SEED).standard_normal((2, DIFFUSE_SAMPLES), np.float32)
        return oaconvolve(noise[:, np.newaxis], self.diffuse_roots, axes=-1).sum(axis=0)[:, TAPS:-TAPS]

    @cached_property
    def _vectors32(self) -> np.ndarray:
        return self.vectors.astype(np.float32)

    @cached_property
    def _aligned(self) -> tuple[np.ndarray, np.ndarray]:
        """Spectra without their arrival, complex64 [positions + poles, 2, bins], and arrivals in samples."""
        arrivals = _arrivals(self.responses)
        spectra = fft.rfft(self.responses, 2 * TAPS)
        spectra *= _delay(-arrivals, spectra.shape[-1])
        poles = [self._pole_neighbours(up) for up in (-1, 1)]
        spectra = np.concatenate([spectra, *(spectra[near].mean(0)[None] for near in poles if len(near))])
        arrivals = np.concatenate([arrivals, *(arrivals[near].mean(0)[None] for near in poles if len(near))])
        return spectra, arrivals.astype(np.float32)

    @cached_property
    def _triangles(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners [triangles, 3], and what makes a vector a weighted sum of them, float64 [triangles, 3, 3]."""
        vectors = np.concatenate(
            [self.vectors, *([[0, 0, up]] for up in (-1.0, 1.0) if len(self._pole_neighbours(int(up))))]
        )
        corners = ConvexHull(vectors, qhull_options="QJ Qx" if len(vectors) < 8 else "Qt").simplices
        matrices = vectors[corners]
        kept = np.abs(np.linalg.det(matrices)) > 1e-9
        return corners[kept], np.linalg.inv(matrices[kept])

    def _around(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The three corners around each direction and their weights, which sum to one."""
        corners, inverses = self._triangles
        inside, weights = _inside(np.ascontiguousarray(vectors, np.float64), inverses)
        return corners[inside], weights

    def _pole_neighbours(self, up: int) -> np.ndarray:
        """Nobody measures below the feet: a missing pole is the mean of the positions around it, given here."""
        from_pole = np.degrees(np.arccos(np.clip(up * self.vectors[:, 2], -1, 1)))
        return np.flatnonzero(from_pole < from_pole.min() + 10) if from_pole.min() > 5 else np.array([], int)

    def _check_surrounded(self) -> None:
        near_horizon = np.sort(self.azimuth_deg[np.abs(self.elevation_deg) < 30] % 360)
        gaps = np.diff(near_horizon, append=near_horizon[:1] + 360) if len(near_horizon) else np.array([360.0])
        if gaps.max() > LARGEST_GAP_DEG:
            raise AudioError(
                f"{self.name}: {gaps.max():.0f} degrees of the horizon without a measured direction; expected at most "
                f"{LARGEST_GAP_DEG:.0f}"
            )


def _arrivals(responses: np.ndarray) -> np.ndarray:
    """Where each response begins, in samples and fractions of them, [...].

    The shift that makes it most alike its own minimum-phase version, which begins at zero (Nam, Abel and Smith, "On
    the minimum-phase nature of head-related transfer functions", AES 2008); a threshold would trip over small wiggles.
    """
    size = 4 * TAPS
    spectra = fft.rfft(responses, size)
    magnitudes = np.maximum(np.abs(spectra), 1e-5 * np.abs(spectra).max(axis=-1, keepdims=True) + 1e-30)
    cepstra = fft.irfft(np.log(magnitudes), size)
    cepstra[..., 1 : size // 2] *= 2
    cepstra[..., size // 2 + 1 :] = 0
    minimum_phase = np.exp(fft.rfft(cepstra, size))
    alike = fft.irfft(spectra * minimum_phase.conj(), size)
    peak = np.argmax(alike[..., :TAPS], axis=-1)
    before, at, after = (np.take_along_axis(alike, (peak + step)[..., None], -1)[..., 0] for step in (-1, 0, 1))
    return peak + 0.5 * (before - after) / np.minimum(before - 2 * at + after, -1e-30)


def _delay(samples: np.ndarray, bins: int) -> np.ndarray:
    """Spectra of delays [...], complex64 [..., bins]."""
    angle = (-np.pi / (bins - 1) * np.asarray(samples)[..., None] * np.arange(bins)).astype(np.float32)
    return np.cos(angle) + np.complex64(1j) * np.sin(angle)


@njit(cache=True)
def _inside(vectors, inverses):
    """The triangle that each vector goes through, and the weights of its corners."""
    inside = np.zeros(len(vectors), np.int64)
    weights = np.zeros((len(vectors), 3), np.float32)
    for index, (x, y, z) in enumerate(vectors):
        best = -np.inf
        for triangle, inverse in enumerate(inverses):
            first = x * inverse[0, 0] + y * inverse[1, 0] + z * inverse[2, 0]
            second = x * inverse[0, 1] + y * inverse[1, 1] + z * inverse[2, 1]
            third = x * inverse[0, 2] + y * inverse[1, 2] + z * inverse[2, 2]
            least = min(first, second, third)
            if least > best:
                best, inside[index] = least, triangle
                first, second, third = max(first, 0.0), max(second, 0.0), max(third, 0.0)
                weights[index] = np.array([first, second, third]) / (first + second + third)
            if least >= 0:
                break
    return inside, weights
