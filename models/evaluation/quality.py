"""Measures of one enhanced recording: against the clean one, or by a network that has heard many."""

import importlib.util
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
from pystoi import stoi

from ...runtime.errors import HearloopError
from ...runtime.ort_session import open_session
from ..simulation.corpus import SAMPLE_RATE
from ..simulation.levels import SILENT_POWER, power
from .pesq_wb import pesq_wb
from .ratio import si_sdr

ESTOI_SAMPLES = int(0.4 * SAMPLE_RATE)  # shorter than the 30 frames of which one value is made
DNSMOS_SAMPLES = 144160  # 9.01 s, the length that the network listens to
# From the network's raw scores to opinion scores, as published with it.
DNSMOS_SCALES = {
    "dnsmos_sig": (-0.08397278, 1.22083953, 0.0052439),
    "dnsmos_bak": (-0.13166888, 1.60915514, -0.39604546),
    "dnsmos_ovrl": (-0.06766283, 1.11546468, 0.04602535),
}


def measure(estimate: np.ndarray, target: np.ndarray, with_dnsmos: bool = False) -> dict[str, float]:
    """All measures of an estimate, float32 [channels, samples] at 16 kHz.

    Each is the mean over the channels for which it is defined; not a number if there is none. Against a silent target
    nothing is.
    """
    found = [_measure_one(*pair, with_dnsmos) for pair in zip(estimate, target, strict=True)]
    known = {name: [each[name] for each in found if np.isfinite(each[name])] for name in found[0]}
    return {name: float(np.mean(values)) if values else float("nan") for name, values in known.items()}


def _measure_one(estimate: np.ndarray, target: np.ndarray, with_dnsmos: bool) -> dict[str, float]:
    measures = {"si_sdr_db": si_sdr, "pesq_wb": pesq_wb, "estoi": estoi}
    sounds = power(target) >= SILENT_POWER
    found = {name: each(estimate, target) if sounds else float("nan") for name, each in measures.items()}
    return found | dnsmos(estimate) if with_dnsmos else found


def estoi(estimate: np.ndarray, target: np.ndarray) -> float:
    """ESTOI (Jensen and Taal 2016), always the same; not a number where the target speaks for less than 0.4 s."""
    if len(target) < ESTOI_SAMPLES:
        return float("nan")
    # The package adds a little noise, from the one generator that all of NumPy shares, before it divides.
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
            return float(stoi(target, estimate, SAMPLE_RATE, extended=True))
    except RuntimeWarning:
        return float("nan")
    finally:
        np.random.set_state(state)  # noqa: NPY002


def dnsmos(audio: np.ndarray) -> dict[str, float]:
    """Opinion scores that a network predicts without the clean recording: of speech, background, and overall (P.835).

    Reddy, Gopal, Cutler, "DNSMOS P.835", ICASSP 2022. The network is the one in the package `speechmos`; shorter
    recordings are repeated, longer ones heard in steps of a second.

    Raises
    ------
    HearloopError
        If the package is not installed.
    """
    while len(audio) < DNSMOS_SAMPLES:
        audio = np.concatenate([audio, audio])
    starts = range(0, len(audio) - DNSMOS_SAMPLES + 1, SAMPLE_RATE)
    session = _dnsmos_session()
    pieces = [np.clip(audio[start : start + DNSMOS_SAMPLES], -1, 1)[np.newaxis] for start in starts]
    raw = np.transpose([session.run(None, {"input_1": piece.astype(np.float32)})[0][0] for piece in pieces])
    return {
        name: float(np.mean(np.polyval(scale, scores)))
        for (name, scale), scores in zip(DNSMOS_SCALES.items(), raw, strict=True)
    }


@cache
def _dnsmos_session() -> onnxruntime.InferenceSession:
    # The package itself wants librosa, for another network; the file is all that is needed here.
    package = importlib.util.find_spec("speechmos")
    if package is None or not package.submodule_search_locations:
        raise HearloopError("speechmos, which holds the network of DNSMOS, is not installed; pip install speechmos")
    path = Path(package.submodule_search_locations[0]) / "dnsmos_models" / "sig_bak_ovr.onnx"
    return open_session(path)
