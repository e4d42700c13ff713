"""Simulated rooms: image sources for the early reflections, shaped decaying noise for the tail.

Allen and Berkley 1979 for the images; the diffuse tail follows Polack's model: Gaussian noise with an exponential
decay that is faster at high frequencies, as air and soft walls make it. Each has the energy that the other leaves out.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.signal import lfilter

from .corpus import SAMPLE_RATE

SPEED_OF_SOUND = 343.0
EARLY_SAMPLES = SAMPLE_RATE // 20  # reflections within 50 ms support speech instead of blurring it
PRE_RINGING_SAMPLES = 8  # half of the fractional-delay filter that places an arrival between two samples
REFLECTION_ORDER = 4
ONSET = 1.35  # of a logistic function over mean free paths: the share of reflections that are of a higher order
CLOSEST_M = 0.3


@dataclass(frozen=True)
class RoomBank:
    """Responses from several places of several rooms to one microphone in each.

    responses : float32 [rooms, places, taps]; the direct sound of each has a gain of one and arrives at sample 0.
    """

    responses: np.ndarray

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """The responses of one room in random order of places, [places, taps]."""
        return rng.permutation(self.responses[rng.integers(len(self.responses))])


def simulate_rooms(
    rng: np.random.Generator, rooms: int, places: int = 4, longest_s: float = 0.8, shortest_s: float = 0.1
) -> RoomBank:
    """A bank of shoebox rooms with reverberation times (RT60) between `shortest_s` and `longest_s` seconds."""
    taps = int(longest_s * SAMPLE_RATE)
    responses = np.zeros((rooms, places, taps), np.float32)
    for room in responses:
        rt60_s = rng.uniform(shortest_s, longest_s)
        size = np.array([rng.uniform(3, 9), rng.uniform(2.5, 7), rng.uniform(2.3, 3.5)])
        microphone = size * rng.uniform(0.25, 0.75, 3)
        for place in range(places):
            source = size * rng.uniform(0.1, 0.9, 3)
            room[place] = shoebox_response(rng, size, source, microphone, rt60_s, taps)
    return RoomBank(responses)


def shoebox_response(
    rng: np.random.Generator, size: np.ndarray, source: np.ndarray, microphone: np.ndarray, rt60_s: float, taps: int
) -> np.ndarray:
    """Response of a shoebox room (metres) with its direct sound at sample 0 and gain one, float32 [taps]."""
    volume = float(np.prod(size))
    surface = 2 * float(size[0] * size[1] + size[1] * size[2] + size[0] * size[2])
    absorption = eyring_absorption(volume, surface, rt60_s)
    paths, orders = image_sources(size, source, microphone)
    distances = np.linalg.norm(paths, axis=1)
    direct = max(distances[0], CLOSEST_M)
    gains = np.sqrt(1 - absorption) ** orders * direct / np.maximum(distances, CLOSEST_M)
    delays = (distances - distances[0]) / SPEED_OF_SOUND * SAMPLE_RATE
    tail = decaying_noise(rng.standard_normal(taps), volume, surface, rt60_s, direct)
    return (_place(delays, gains, taps) + tail).astype(np.float32)


def image_sources(
    size: np.ndarray, source: np.ndarray, microphone: np.ndarray, highest_order: int = REFLECTION_ORDER
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors from the microphone to the mirrored sources [images, 3], nearest first, and how many walls each met."""
    cells = np.stack(np.meshgrid(*[np.arange(-highest_order, highest_order + 1)] * 3, indexing="ij"), -1)
    cells = cells.reshape(-1, 3)
    orders = np.abs(cells).sum(axis=1)
    cells, orders = cells[orders <= highest_order], orders[orders <= highest_order]
    mirrored = np.where(cells % 2 == 0, cells * size + source, (cells + 1) * size - source)
    paths = mirrored - microphone
    nearest_first = np.argsort(np.linalg.norm(paths, axis=1))
    return paths[nearest_first], orders[nearest_first]


def _place(delays: np.ndarray, gains: np.ndarray, taps: int) -> np.ndarray:
    """Arrivals between samples, by a Hann-windowed sinc; what rings before sample 0 is dropped."""
    offsets = np.arange(-PRE_RINGING_SAMPLES, PRE_RINGING_SAMPLES + 1)
    position = np.floor(delays)[:, None] + offsets
    distance = position - delays[:, None]
    kernel = np.sinc(distance) * np.cos(np.pi * distance / (2 * PRE_RINGING_SAMPLES + 2)) ** 2 * gains[:, None]
    kept = (position >= 0) & (position < taps)
    return np.bincount(position[kept].astype(int), kernel[kept], taps)


def eyring_absorption(volume: float, surface: float, rt60_s: float) -> float:
    """The share of energy that a wall of a room with this reverberation time swallows, as images lose it.

    Eyring, "Reverberation time in 'dead' rooms", JASA 1930: sound loses this share every mean free path.
    """
    return 1 - float(np.exp(-0.161 * volume / (surface * rt60_s)))


def decaying_noise(noise: np.ndarray, volume: float, surface: float, rt60_s: float, distance_m: float) -> np.ndarray:
    """White noise of power one [..., taps] -> the tail of a room, beside a direct sound of gain one.

    There is one mirrored source in each volume as large as the room, and each is softer by its distance and by what the
    walls took. Where those that are placed one by one become fewer, the tail sets in: together they have the energy of
    all, but for high frequencies, of which air and walls take more.
    """
    time_s = np.arange(noise.shape[-1]) / SAMPLE_RATE
    since_s = time_s + distance_m / SPEED_OF_SOUND
    dull = lfilter([0.5], [1, -0.5], noise)
    bright = noise - dull
    decay = 6.91 / rt60_s  # natural logarithm of 1000: 60 dB in amplitude
    shape = dull * np.exp(-decay * since_s) + bright * np.exp(-1.7 * decay * since_s)
    mean_free_path_s = 4 * volume / surface / SPEED_OF_SOUND
    left_out = 1 / (1 + np.exp(ONSET * (REFLECTION_ORDER - time_s / mean_free_path_s)))
    arrivals = 4 * np.pi * distance_m**2 * SPEED_OF_SOUND / (volume * SAMPLE_RATE)
    return shape * np.sqrt(arrivals * left_out)


def reverberate(audio: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolve [n] with a response [taps], keeping n samples: the direct sound stays where it was, float32."""
    size = fft.next_fast_len(len(audio) + len(response) - 1, real=True)
    return fft.irfft(fft.rfft(audio, size) * fft.rfft(response, size), size)[: len(audio)]


def early_part(response: np.ndarray) -> np.ndarray:
    """The direct sound and the first 50 ms of reflections."""
    return response[:EARLY_SAMPLES]
