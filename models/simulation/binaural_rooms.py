"""Rooms around a head: every early reflection comes from its own direction, the tail from everywhere.

Image sources as in `rooms.py`, each through the response of the head to its direction; behind them decaying noise with
the coherence between the ears that this head has in a diffuse field.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from .corpus import SAMPLE_RATE
from .directions import turned
from .heads import TAPS, Head
from .rooms import (
    CLOSEST_M,
    EARLY_SAMPLES,
    SPEED_OF_SOUND,
    decaying_noise,
    eyring_absorption,
    image_sources,
)

WALL_MARGIN_M = 0.25
EARLY_TAPS = EARLY_SAMPLES + TAPS


@dataclass(frozen=True)
class Room:
    """A shoebox with a head in it.

    size_m, head_m : [3], extent, and place of the head
    heading_deg : where the head looks, against the first axis of the room, before it turns
    rt60_s : time in which sound decays by 60 dB
    """

    size_m: np.ndarray
    head_m: np.ndarray
    heading_deg: float
    rt60_s: float

    @property
    def volume(self) -> float:
        return float(np.prod(self.size_m))

    @property
    def surface(self) -> float:
        x, y, z = self.size_m
        return float(2 * (x * y + y * z + x * z))

    @property
    def absorption(self) -> float:
        return eyring_absorption(self.volume, self.surface, self.rt60_s)


def random_room(rng: np.random.Generator, shortest_s: float = 0.1, longest_s: float = 0.8) -> Room:
    """A room of a flat or an office, the head sitting or standing at least a metre from the walls where it can."""
    size = np.array([rng.uniform(3, 9), rng.uniform(2.5, 7), rng.uniform(2.3, 3.5)])
    head = np.array([*(size[:2] * rng.uniform(0.3, 0.7, 2)), rng.uniform(1.1, 1.8)])
    return Room(size, head, rng.uniform(0, 360), rng.uniform(shortest_s, longest_s))


@dataclass(frozen=True)
class Arrivals:
    """Reflections of a source as the head hears them, the direct sound left out.

    vectors : [n, 3] directions for a head that has not turned; delays : samples after the direct sound
    gains : against the direct sound; distance_m : of the source itself
    """

    vectors: np.ndarray
    delays: np.ndarray
    gains: np.ndarray
    distance_m: float


def arrivals(room: Room, direction: np.ndarray, distance_m: float) -> Arrivals:
    """Where the reflections of a source come from; the source is moved closer if a wall is in its way."""
    towards = turned(direction, -room.heading_deg)
    free = np.where(towards > 0, room.size_m - WALL_MARGIN_M - room.head_m, WALL_MARGIN_M - room.head_m)
    reach = np.min(free / np.where(np.abs(towards) > 1e-6, towards, np.sign(free) * 1e-6))
    distance_m = max(min(distance_m, reach), CLOSEST_M)
    paths, orders = image_sources(room.size_m, room.head_m + distance_m * towards, room.head_m)
    lengths = np.linalg.norm(paths, axis=1)
    delays = np.round((lengths - distance_m) / SPEED_OF_SOUND * SAMPLE_RATE).astype(np.int64)
    gains = np.sqrt(1 - room.absorption) ** orders * distance_m / lengths
    reflected = orders > 0
    vectors = turned(paths[reflected] / lengths[reflected, np.newaxis], room.heading_deg)
    return Arrivals(vectors, delays[reflected], gains[reflected].astype(np.float32), distance_m)


def early_reflections(head: Head, found: Arrivals, yaw_deg: float = 0.0) -> np.ndarray:
    """Reflections of the first 50 ms at the ears of a head that has turned by `yaw_deg`, float32 [2, EARLY_TAPS]."""
    early = found.delays < EARLY_SAMPLES
    positions = head.nearest(turned(found.vectors[early], yaw_deg))
    return _added(head.responses, positions, found.delays[early], found.gains[early], EARLY_TAPS)


def diffuse_tail(rng: np.random.Generator, head: Head, room: Room, distance_m: float) -> np.ndarray:
    """What comes from everywhere, from a source at a distance, until it is 60 dB down, float32 [2, taps]."""
    taps = max(int(room.rt60_s * SAMPLE_RATE), EARLY_TAPS)
    field = head.diffuse_field
    start = int(rng.integers(field.shape[1] - taps + 1))
    noise = field[:, start : start + taps] * np.float32(np.sqrt(head.diffuse_energy))
    return decaying_noise(noise, room.volume, room.surface, room.rt60_s, distance_m).astype(np.float32)


def late_images(head: Head, found: Arrivals, taps: int) -> np.ndarray:
    """The images that come later than 50 ms, float32 [2, taps]."""
    late = (found.delays >= EARLY_SAMPLES) & (found.delays < taps - head.responses.shape[2])
    return _added(head.responses, head.nearest(found.vectors[late]), found.delays[late], found.gains[late], taps)


@njit(cache=True)
def _added(responses, positions, delays, gains, taps):
    total = np.zeros((2, taps), np.float32)
    length = responses.shape[2]
    for arrival in range(len(positions)):
        start, gain, response = delays[arrival], gains[arrival], responses[positions[arrival]]
        for ear in range(2):
            for tap in range(length):
                total[ear, start + tap] += gain * response[ear, tap]
    return total
