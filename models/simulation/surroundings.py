"""What is around a head for the time of a recording: a room or the open, and how the head turns."""

from dataclasses import dataclass

import numpy as np

from .binaural import diffuse_noise, knot_count, render, render_moving
from .binaural_rooms import EARLY_TAPS, Arrivals, Room, arrivals, diffuse_tail, early_reflections, late_images
from .directions import unit_vectors
from .heads import TAPS, Head
from .motion import COARSE_HOP, FINE_HOP
from .rooms import EARLY_SAMPLES


@dataclass(frozen=True)
class Place:
    """Where a source is when the recording begins, for the head as it looks then.

    walk_deg : how its azimuth changes, a `motion.course`; None if it stays
    """

    azimuth_deg: float
    elevation_deg: float
    distance_m: float
    walk_deg: np.ndarray | None = None


class Surroundings:
    """A head in a room, or in the open if that is None.

    yaw_deg : how the head turns (to the left), a `motion.course`; None if it does not

    The direct sound follows every movement; early reflections follow the head (a talker who walks is taken to stay in
    the same distance of the walls); the diffuse tail is the same wherever the head looks.
    """

    def __init__(self, head: Head, room: Room | None = None, yaw_deg: np.ndarray | None = None):
        self.head, self.room, self.yaw_deg = head, room, yaw_deg

    def hear(self, rng: np.random.Generator, sound: np.ndarray, place: Place) -> np.ndarray:
        """A sound [n] at the ears, float32 [2, n]."""
        if self.room is None or self._moves(place):
            early, late = self.hear_apart(rng, sound, place)
            return early if late is None else early + late
        early, late = self._still_responses(rng, self.room, place)
        late[:, :EARLY_TAPS] += early
        return render(sound[np.newaxis], late[np.newaxis])[0]

    def hear_apart(
        self, rng: np.random.Generator, sound: np.ndarray, place: Place
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """What the ears hear within 50 ms of the direct sound, and what is later if there is a room, float32 [2, n]."""
        if self._moves(place):
            return self._hear_moving(rng, sound, place)
        if self.room is None:
            direct = self.head.response(place.azimuth_deg, place.elevation_deg)
            return render(sound[np.newaxis], direct[np.newaxis])[0], None
        early, late = self._still_responses(rng, self.room, place)
        return render(sound[np.newaxis], early[np.newaxis])[0], render(sound[np.newaxis], late[np.newaxis])[0]

    def everywhere(self, rng: np.random.Generator, sounds: np.ndarray) -> np.ndarray:
        """Sounds [d, n] from d directions all around, float32 [2, n]."""
        return diffuse_noise(rng, self.head, sounds)

    def _moves(self, place: Place) -> bool:
        return self.yaw_deg is not None or place.walk_deg is not None

    def _still_responses(self, rng: np.random.Generator, room: Room, place: Place) -> tuple[np.ndarray, np.ndarray]:
        """Responses within 50 ms, float32 [2, EARLY_TAPS], and later, [2, taps]."""
        found = arrivals(room, unit_vectors(place.azimuth_deg, place.elevation_deg), place.distance_m)
        tail, late = _split(diffuse_tail(rng, self.head, room, found.distance_m), self.head, found)
        early = early_reflections(self.head, found) + tail
        early[:, :TAPS] += self.head.response(place.azimuth_deg, place.elevation_deg)
        return early, late

    def _hear_moving(
        self, rng: np.random.Generator, sound: np.ndarray, place: Place
    ) -> tuple[np.ndarray, np.ndarray | None]:
        knots = knot_count(len(sound), FINE_HOP)
        yaw_deg = np.zeros(knots) if self.yaw_deg is None else self.yaw_deg[:knots]
        walk_deg = np.zeros(knots) if place.walk_deg is None else place.walk_deg[:knots]
        directions = unit_vectors(place.azimuth_deg + walk_deg - yaw_deg, place.elevation_deg)
        early = render_moving(sound, self.head.interpolated(directions), FINE_HOP)
        if self.room is None:
            return early, None
        found = arrivals(self.room, unit_vectors(place.azimuth_deg, place.elevation_deg), place.distance_m)
        tail, late = _split(diffuse_tail(rng, self.head, self.room, found.distance_m), self.head, found)
        coarse = np.minimum(np.arange(knot_count(len(sound), COARSE_HOP)) * (COARSE_HOP // FINE_HOP), knots - 1)
        reflections = np.stack([early_reflections(self.head, found, yaw) for yaw in yaw_deg[coarse]])
        early += render_moving(sound, reflections + tail, COARSE_HOP)
        return early, render(sound[np.newaxis], late[np.newaxis])[0]


def _split(tail: np.ndarray, head: Head, found: Arrivals) -> tuple[np.ndarray, np.ndarray]:
    """The diffuse tail within 50 ms, as long as early reflections are; and what is later, with the images."""
    early = np.zeros((2, EARLY_TAPS), np.float32)
    early[:, :EARLY_SAMPLES] = tail[:, :EARLY_SAMPLES]
    late = late_images(head, found, tail.shape[1]) + tail
    late[:, :EARLY_SAMPLES] = 0
    return early, late
