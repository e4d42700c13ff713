"""Talkers: what one person says, as long as needed, without telling the same twice."""

import numpy as np

from ...runtime.errors import AudioError
from .corpus import Corpus
from .sources import random_speed
from .variation import change_speed, source_length

FRAME_SAMPLES = 160  # 10 ms


class Voices:
    """The speakers of a corpus; everything that a speaker says is one ring of recordings.

    Parameters
    ----------
    corpus : its `groups` are the speakers
    fewest : how many different speakers the caller needs; AudioError if there are not that many
    """

    def __init__(self, corpus: Corpus, fewest: int = 1):
        self.corpus = corpus
        self.names = sorted(set(corpus.groups))
        number = {name: index for index, name in enumerate(self.names)}
        self._recordings: list[list[int]] = [[] for _ in self.names]
        for recording, group in enumerate(corpus.groups):
            self._recordings[number[group]].append(recording)
        lengths = np.diff(corpus.starts)
        self.samples = np.array([lengths[recordings].sum() for recordings in self._recordings])
        if len(self.names) < fewest:
            raise AudioError(
                f"{corpus.names[0]} and {len(corpus) - 1} more files: {len(self.names)} speakers; expected at least "
                f"{fewest}, told apart by folder or file name"
            )

    def choose(self, rng: np.random.Generator, count: int, longest: int = 0) -> np.ndarray:
        """The numbers of `count` different speakers; the first said at least `longest` samples, or as much as any."""
        enough = np.flatnonzero(self.samples >= min(longest, self.samples.max()))
        first = rng.choice(enough)
        others = rng.permutation(np.delete(np.arange(len(self.names)), first))[: count - 1]
        return np.array([first, *others])

    def say(
        self,
        rng: np.random.Generator,
        speaker: int,
        lengths: tuple[int, ...],
        speeds: tuple[float, float],
        more: tuple[int, ...] = (),
    ) -> list[np.ndarray]:
        """Different pieces of what a speaker says, one of each length, all at the same speed, float32.

        Where the speaker did not say enough, every piece is as much shorter, at a random place in silence. Of what is
        left then, `more` pieces follow, which change nothing in those before; where little is left, silence is at their
        ends.
        """
        speed = random_speed(rng, speeds)
        asked = (*lengths, *more)
        taken = [length if speed == 1 else source_length(length, speed) for length in asked]
        available = int(self.samples[speaker])
        shrink = min(1.0, available / sum(taken[: len(lengths)]))
        at = int(rng.integers(available))
        counts = [int(needed * shrink) for needed in taken[: len(lengths)]]
        starts = [int(rng.integers(needed - count + 1)) for needed, count in zip(taken, counts, strict=False)]
        for behind in range(len(more), 0, -1):
            counts.append(min(taken[len(counts)], (available - sum(counts)) // behind))
            starts.append(0)
        pieces = []
        for length, needed, count, start in zip(asked, taken, counts, starts, strict=True):
            piece = np.zeros(needed, np.float32)
            piece[start : start + count] = self._ring(speaker, at, count)
            at += count
            pieces.append(piece if speed == 1 else change_speed(piece, length))
        return pieces

    def excerpt(self, speaker: int, longest: int) -> np.ndarray:
        """The first samples of what a speaker says, at most so many, float32."""
        return self._ring(speaker, 0, min(longest, int(self.samples[speaker])))

    def _ring(self, speaker: int, start: int, count: int) -> np.ndarray:
        """`count` samples from `start` on, of all recordings of a speaker in a ring."""
        parts: list[np.ndarray] = []
        recordings = self._recordings[speaker]
        start %= int(self.samples[speaker])
        while count:
            for recording in recordings:
                first, end = self.corpus.starts[recording : recording + 2]
                if start >= end - first:
                    start -= int(end - first)
                    continue
                parts.append(self.corpus.samples[first + start : min(end, first + start + count)])
                count -= len(parts[-1])
                start = 0
                if not count:
                    break
        return np.concatenate(parts or [np.zeros(0, np.int16)]).astype(np.float32) * np.float32(1 / 32768)


def quietest_near(audio: np.ndarray, at: int, within: int) -> int:
    """The middle of the quietest 10 ms within a number of samples around a place: where nobody is cut short."""
    first = max(at - within, 0) // FRAME_SAMPLES
    frames = audio[first * FRAME_SAMPLES : at + within]
    frames = frames[: len(frames) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    if not len(frames):
        return at
    return (first + int(np.argmin(np.einsum("fs,fs->f", frames, frames)))) * FRAME_SAMPLES + FRAME_SAMPLES // 2
