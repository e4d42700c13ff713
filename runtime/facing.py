"""Whether anybody is in front in a look, and the look as it would be with the face turned to the talker.

Nobody faces another person to the degree. From 30 degrees beside the front a voice reaches one ear a third of a
millisecond later, and softer; an enrolment network that listens to the front hears somebody else. But a look is a
recording: what the head did not turn, two delays can.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

FRAME, HOP = 512, 128  # at 16 kHz, at which looks are heard
LOW_HZ, HIGH_HZ = 250.0, 1500.0  # below the ears hardly differ, above a phase has several meanings
HALF_HZ = 700.0  # below it no two delays of a head look alike
SMOOTH = (5, 3)  # frames and bins: 40 ms and 94 Hz, the extent of a piece of a voice
COHERENCE = 0.9  # of the ears in a bin that one talker dominates
STEP_S, STEPS = 25e-6, 15  # delays that are told apart, and how many to either side: up to 30 degrees are found
FUZZY_S = 60e-6  # how far the delay of one bin is off
FRONTAL_ITD_S, FRONTAL_ILD_DB = 0.13e-3, 4.0  # about 10 degrees to either side
LEAST_FRONTAL = 0.08  # of the frames with sound
FACED_S = 100e-6  # nearly 10 degrees, as people face one another
LIKELY_S = 150e-6  # how far beside the front somebody usually is
CERTAIN = 2.0  # times as many votes for a place further off as for one within 10 degrees
LARGEST_DB = 6.0
ACTIVE = 0.05  # of the energy of a loud frame
LEAST = 1e-15


@dataclass(frozen=True)
class Interaural:
    """What both ears tell, of every frame and bin between 250 and 1,500 Hz: [frames, bins].

    turn : phase of the left ear against the right one; level_db : level of the left ear over the right one
    weight : how much the bin counts: its amplitude where one talker dominates it, else zero
    active : which frames have sound, bool [frames]
    frequency_hz : of the bins, [bins]
    """

    turn: np.ndarray
    level_db: np.ndarray
    weight: np.ndarray
    active: np.ndarray
    frequency_hz: np.ndarray

    def share(self, here: np.ndarray, inside: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Of each active frame, how much of what has a direction is "here", [frames, bins] of 0..1: [active frames].

        Of the bins inside a band, [bins].
        """
        weight = self.weight[self.active][:, inside]
        return (weight * here[self.active][:, inside]).sum(axis=1) / (weight.sum(axis=1) + LEAST)


def interaural(look: np.ndarray, rate: int) -> Interaural:
    """Compare the ears of a look, float32 (2, samples), at least 512 samples."""
    frames = np.lib.stride_tricks.sliding_window_view(look, FRAME, axis=1)[:, ::HOP]
    spectra = np.fft.rfft(frames * np.hanning(FRAME).astype(np.float32))
    frequencies = np.fft.rfftfreq(FRAME, 1 / rate)
    inside = (frequencies > LOW_HZ) & (frequencies < HIGH_HZ)
    left, right = (spectrum[:, inside] for spectrum in spectra)
    cross = left * right.conj()
    cross = uniform_filter(cross.real, SMOOTH) + 1j * uniform_filter(cross.imag, SMOOTH)
    # The filter sums up as it goes: in silence behind something loud, what is left can be a little below zero.
    powers = [np.maximum(uniform_filter(np.abs(ear) ** 2, SMOOTH), 0) + LEAST for ear in (left, right)]
    coherent = np.abs(cross) > COHERENCE * np.sqrt(powers[0] * powers[1])
    both = powers[0] + powers[1]
    energy = both.sum(axis=1)
    return Interaural(
        turn=np.angle(cross),
        level_db=10 * np.log10(powers[0] / powers[1]),
        weight=np.sqrt(both) * coherent,
        active=energy > ACTIVE * np.percentile(energy, 90),
        frequency_hz=frequencies[inside],
    )


def frontal_share(ears: Interaural) -> float:
    """Share of the frames with sound in which most of what is coherent at the ears comes from the median plane."""
    frontal = (np.abs(ears.turn) < 2 * np.pi * ears.frequency_hz * FRONTAL_ITD_S) & (
        np.abs(ears.level_db) < FRONTAL_ILD_DB
    )
    return float(np.mean(ears.share(frontal) > 0.5))


def beside_the_front(ears: Interaural) -> tuple[float, float]:
    """By how much the talker nearest to the front is beside it.

    Every frame votes, by the share of its bins, for the delays that both its low and its high bins have. Somebody
    further off than 10 degrees must be certain: in noise, to turn where nobody is does more harm than not to turn.

    Returns
    -------
    delay_s : how much later the right ear hears the talker
    level_db : by how much the left ear hears the talker louder

    Both are zero if the talker is within 10 degrees, or nobody is within 30.
    """
    delays = STEP_S * np.arange(-STEPS, STEPS + 1)
    round_s = 1 / ears.frequency_hz

    def near(delay_s: float) -> np.ndarray:
        off_s = ears.turn / (2 * np.pi) * round_s - delay_s
        off_s = (off_s / round_s + 0.5) % 1 * round_s - round_s / 2
        return np.exp(-((off_s / FUZZY_S) ** 2) / 2)

    # From the side, high bins have the phase of another place in front, but low ones do not.
    low = ears.frequency_hz < HALF_HZ
    votes = np.array([(ears.share(near(delay), low) * ears.share(near(delay), ~low)).sum() for delay in delays])
    found = int(np.argmax(votes * np.exp(-((delays / LIKELY_S) ** 2) / 2)))
    at_an_end = found in (0, 2 * STEPS)
    if at_an_end or votes[found] <= CERTAIN * votes[np.abs(delays) <= FACED_S].max():
        return 0.0, 0.0
    there = ears.weight * near(delays[found])
    level_db = float((there * ears.level_db).sum() / (there.sum() + LEAST))
    return float(delays[found]), float(np.clip(level_db, -LARGEST_DB, LARGEST_DB))


def turned(look: np.ndarray, rate: int, delay_s: float, level_db: float) -> np.ndarray:
    """The look with the earlier ear later and the louder one softer, by half of the difference each: (2, samples)."""
    size = look.shape[1] + FRAME  # what leaves at one end must not come in at the other
    spectra = np.fft.rfft(look, size)
    turn = np.exp(-1j * np.pi * np.fft.rfftfreq(size, 1 / rate) * delay_s) * 10 ** (-level_db / 40)
    return np.fft.irfft(np.stack([spectra[0] * turn, spectra[1] / turn]), size)[:, : look.shape[1]].astype(np.float32)


def faced(look: np.ndarray, rate: int) -> np.ndarray:
    """A look with the talker straight ahead, float32 (2, samples).

    One in which somebody is there already stays as it is, and so does one in which nobody is within 30 degrees.
    """
    if look.shape[1] < FRAME:
        return look
    ears = interaural(look, rate)
    if frontal_share(ears) >= LEAST_FRONTAL:
        return look
    delay_s, level_db = beside_the_front(ears)
    return turned(look, rate, delay_s, level_db) if delay_s else look
