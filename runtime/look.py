"""Whether a look at somebody can be used: is it long enough, loud enough, whole, and does somebody in front speak?

A look is what the ears' microphones hear while the wearer faces a person. That person is straight ahead, or nearly so
(`facing`), so their voice reaches both ears at the same time and equally loud, whatever else there is; see Veluri et
al., "Look Once to Hear", CHI 2024.
"""

from dataclasses import dataclass

import numpy as np
from scipy.signal import resample_poly

from .errors import AudioError
from .facing import HOP, LEAST_FRONTAL, faced, frontal_share, interaural
from .processor import Processor
from .resample import ratio

RATE = 16000
SHORTEST_S, LONGEST_S = 2.0, 30.0
QUIETEST_DBFS = -60.0
CLIPPED = 0.999
CLIPPED_SHARE = 1e-3
LEAST_SPEECH_S = 0.3
SPEECH_MODEL = "enhance-small"
SAME_DB = -30.0  # of an ear that the other one, at another level, does not explain; of clean looks -21.3 at least
SPEECH_DB = -6.0  # of a frame with a voice this much at least is left by the model that removes noise


@dataclass(frozen=True)
class Look:
    """What was found in a look.

    seconds, level_dbfs : of the recording; the level is the RMS of both ears
    clipped_share : samples at full scale, 0..1
    speech_s : seconds in which a voice stands out
    frontal_share : of the frames with sound, those that come mostly from where somebody in front is (or behind), 0..1
    problems : what is wrong, each with what to do about it; none: the look can be used
    """

    seconds: float
    level_dbfs: float
    clipped_share: float
    speech_s: float
    frontal_share: float
    problems: tuple[str, ...]

    @property
    def usable(self) -> bool:
        return not self.problems


def check_look(look: np.ndarray, sample_rate: int) -> Look:
    """Measure a look and judge it.

    Parameters
    ----------
    look : ndarray, float32, shape (2, samples)
        Left and right ear.
    sample_rate : int
        In Hz.

    Raises
    ------
    AudioError
        If it does not have two channels, or holds values that are not finite.
    """
    if look.ndim != 2 or look.shape[0] != 2:
        raise AudioError(
            f"the look has shape {look.shape}; expected (2, samples): a recording of both ears, left and right"
        )
    if not np.isfinite(look).all():
        raise AudioError(f"the look holds {np.count_nonzero(~np.isfinite(look))} values that are not finite")
    seconds = look.shape[1] / sample_rate
    level_dbfs = float(10 * np.log10(np.mean(np.square(look, dtype=np.float64)) + 1e-12)) if look.size else -120.0
    clipped = float(np.mean(np.abs(look) >= CLIPPED)) if look.size else 0.0
    problems = [*_duration(seconds), *_level(look, level_dbfs, clipped)]
    speech_s = frontal = 0.0
    if SHORTEST_S <= seconds <= LONGEST_S and level_dbfs > QUIETEST_DBFS:  # an hour by mistake is not even heard
        p, q = ratio(sample_rate, RATE)
        heard = (resample_poly(look, p, q, axis=1) if p != q else look).astype(np.float32)
        speech_s, frontal = _speech_s(heard), frontal_share(interaural(faced(heard, RATE), RATE))
        problems += _voice(speech_s, frontal)
    return Look(seconds, level_dbfs, clipped, speech_s, frontal, tuple(problems))


def _duration(seconds: float) -> list[str]:
    if seconds < SHORTEST_S:
        return [f"it lasts {seconds:.1f} s, expected {SHORTEST_S:g} s at least: look for four seconds"]
    if seconds > LONGEST_S:
        return [f"it lasts {seconds:.1f} s, expected {LONGEST_S:g} s at most: cut out where the person speaks"]
    return []


def _level(look: np.ndarray, level_dbfs: float, clipped: float) -> list[str]:
    problems = []
    if level_dbfs <= QUIETEST_DBFS:
        problems.append(f"its level is {level_dbfs:.0f} dBFS, expected more than {QUIETEST_DBFS:g}: turn up the input")
    elif min(np.square(ear).mean() for ear in look) < 1e-3 * max(np.square(ear).mean() for ear in look):
        problems.append("one ear is silent beside the other: check both microphones")
    elif _unlike_db(look) < SAME_DB:
        problems.append("both channels are the same but for their level: record one microphone at each ear")
    if clipped > CLIPPED_SHARE:
        problems.append(
            f"{100 * clipped:.1f} % of the samples are clipped, expected at most {100 * CLIPPED_SHARE:g} %: "
            "turn down the input"
        )
    return problems


def _unlike_db(look: np.ndarray) -> float:
    """What is left of one ear after the best-fitting gain of the other, of that ear: the same for either."""
    left, right = look.astype(np.float64)
    return float(10 * np.log10(max(1 - (left @ right) ** 2 / ((left @ left) * (right @ right)), 1e-12)))


def _voice(speech_s: float, frontal: float) -> list[str]:
    if speech_s < LEAST_SPEECH_S:
        return [
            f"speech stands out for {speech_s:.1f} s, expected {LEAST_SPEECH_S:g} s at least: "
            "look while the person speaks, or come closer"
        ]
    if frontal < LEAST_FRONTAL:
        return [
            f"{100 * frontal:.0f} % of the sound comes from straight ahead, expected {100 * LEAST_FRONTAL:g} %: "
            "turn the face to the person, or come closer"
        ]
    return []


def _speech_s(heard: np.ndarray) -> float:
    """For how long a voice stands out of the rest: where the model that removes noise leaves most of the sound."""
    processor = Processor(SPEECH_MODEL, channels=2, sample_rate=RATE, engine="ort")
    late = round(processor.latency.total)
    kept = np.concatenate([processor.process(heard), processor.flush()], axis=1)[:, late:]
    before, after = (_energies(sound) for sound in (heard, kept))
    loud = after > 0.01 * after.max(initial=0)
    return float(np.count_nonzero(loud & (after > before * 10 ** (SPEECH_DB / 10))) * HOP / RATE)


def _energies(sound: np.ndarray) -> np.ndarray:
    whole = sound.shape[1] // HOP * HOP
    return np.square(sound[:, :whole], dtype=np.float64).reshape(2, -1, HOP).sum(axis=(0, 2))
