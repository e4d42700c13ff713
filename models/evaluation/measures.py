"""What is measured of an output, by what the recording is there for."""

from collections.abc import Callable

import numpy as np

from ..simulation.corpus import SAMPLE_RATE
from ..simulation.levels import SILENT_POWER
from .quality import measure
from .ratio import in_best_order, si_sdr
from .recordings import Recording
from .selection import is_wrong_talker, leakage_db, reopening_s
from .spatial import ild_error_db, itd_error_us
from .talkers import phantom_db, silence_db, swaps_per_minute

CONVERSATION_S = 10.0  # from here on it is worth while to count swaps
Row = dict[str, float]
# Measure -> its gain over the unprocessed recording, for those that are given as gains.
GAINS = {
    "si_sdr_db": "si_sdr_improvement_db",
    "conversation_si_sdr_db": "conversation_si_sdr_improvement_db",
    "pesq_wb": "pesq_wb_improvement",
    "estoi": "estoi_improvement",
}


def measures(output: np.ndarray, recording: Recording, with_dnsmos: bool = False) -> Row:
    """All that is to be known of an output, float32 [outputs, samples]; what is undefined is not a number."""
    return MEASURES[recording.part](output, recording, with_dnsmos)


def _noisy(output: np.ndarray, recording: Recording, with_dnsmos: bool) -> Row:
    """One voice in noise, at one microphone or at two ears."""
    found = measure(output, recording.target, with_dnsmos) | _pauses(output, recording)
    return found | _directions(output, recording) if len(output) == 2 else found


def _clean(output: np.ndarray, recording: Recording, with_dnsmos: bool) -> Row:
    return {
        "clean_si_sdr_db": si_sdr(output, recording.target),
        "clean_level_db": _level_db(output) - _level_db(recording.target),
    }


def _level_db(audio: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(audio, dtype=np.float64)) + SILENT_POWER))


def _overlap(output: np.ndarray, recording: Recording, with_dnsmos: bool) -> Row:
    return measure(in_best_order(output, recording.target), recording.target, with_dnsmos)


def _conversation(output: np.ndarray, recording: Recording, with_dnsmos: bool) -> Row:
    return {
        "swaps_per_minute": swaps_per_minute(output, recording.target),
        "conversation_si_sdr_db": si_sdr(in_best_order(output, recording.target), recording.target),
    }


def _one_talker(output: np.ndarray, recording: Recording, with_dnsmos: bool) -> Row:
    return {"phantom_db": phantom_db(output)}


def _silence(output: np.ndarray, recording: Recording, with_dnsmos: bool) -> Row:
    return {"silence_db": silence_db(output, recording.mixture)}


def _chosen(output: np.ndarray, recording: Recording, with_dnsmos: bool) -> Row:
    """One talker of several, who speaks all the time, at both ears."""
    wrong = is_wrong_talker(output, recording.target, recording.others)
    return {
        **measure(output, recording.target, with_dnsmos),
        "wrong_talker_percent": 100.0 * wrong,
        **_directions(output, recording),
    }


def _pauses(output: np.ndarray, recording: Recording, with_dnsmos: bool = False) -> Row:
    return {
        "leakage_db": leakage_db(output, recording.target, recording.mixture),
        "reopening_s": reopening_s(output, recording.target),
    }


def _folder_pair(output: np.ndarray, recording: Recording, with_dnsmos: bool) -> Row:
    """Two talkers of whom nothing is known but their sound: what can be measured of as many as speak."""
    speak = np.square(recording.target).mean(axis=1) > SILENT_POWER
    if not speak.any():
        return _silence(output, recording, with_dnsmos)
    if not speak.all():
        return _one_talker(output, recording, with_dnsmos)
    found = _overlap(output, recording, with_dnsmos)
    if recording.mixture.shape[1] < CONVERSATION_S * SAMPLE_RATE:
        return found
    return found | {"swaps_per_minute": swaps_per_minute(output, recording.target)}


def _folder_target(output: np.ndarray, recording: Recording, with_dnsmos: bool) -> Row:
    return {
        **measure(output, recording.target, with_dnsmos),
        **_directions(output, recording),
        **_pauses(output, recording),
    }


def _directions(output: np.ndarray, recording: Recording) -> Row:
    return {
        "ild_error_db": ild_error_db(output, recording.target),
        "itd_error_us": itd_error_us(output, recording.target),
    }


MEASURES: dict[str, Callable[[np.ndarray, Recording, bool], Row]] = {
    "noisy": _noisy,
    "clean": _clean,
    "overlap": _overlap,
    "conversation": _conversation,
    "one talker": _one_talker,
    "silence": _silence,
    "chosen": _chosen,
    "pausing": _pauses,
    "folder, enhance": _noisy,
    "folder, separate": _folder_pair,
    "folder, target": _folder_target,
}
"""Part of a set -> its measures."""
