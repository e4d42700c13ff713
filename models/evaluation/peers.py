"""Other people's streaming models, run exactly as they were published, for comparison on the same mixtures."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime

from ...runtime.errors import HearloopError
from ...runtime.ort_session import open_session

WINDOW = 512
GTCRN_HOP, DTLN_HOP = 256, 128


class Peer:
    """A system for one channel; of several, each is heard as if it was alone."""

    name: str
    task, latency_ms = "enhance", 32.0

    def process(self, mixture: np.ndarray, looks: Sequence[np.ndarray] = ()) -> np.ndarray:
        """float32 [channels, samples] at 16 kHz -> the same shape, without delay."""
        return np.stack([self.enhance(channel) for channel in mixture])

    def enhance(self, audio: np.ndarray) -> np.ndarray:
        """One channel, [samples]."""
        raise NotImplementedError


class Gtcrn(Peer):
    """GTCRN (Rong et al., ICASSP 2024), `gtcrn_simple.onnx`: 512-sample square-root Hann windows, 32 ms latency."""

    name = "GTCRN"

    def __init__(self, folder: Path):
        self._session = _session(folder / "gtcrn_simple.onnx")
        self._window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)

    def enhance(self, audio: np.ndarray) -> np.ndarray:
        states = {
            port.name: np.zeros(port.shape, np.float32) for port in self._session.get_inputs() if port.name != "mix"
        }
        past = WINDOW - GTCRN_HOP
        padded = np.pad(audio, (past, past + -len(audio) % GTCRN_HOP))
        output = np.zeros_like(padded)
        for start in range(0, len(padded) - WINDOW + 1, GTCRN_HOP):
            spectrum = np.fft.rfft(padded[start : start + WINDOW] * self._window)
            mix = np.stack([spectrum.real, spectrum.imag], -1).astype(np.float32)[None, :, None]
            enhanced, *following = self._session.run(None, {"mix": mix, **states})
            states = dict(zip(states, following, strict=True))
            frame = np.fft.irfft(enhanced[0, :, 0, 0] + 1j * enhanced[0, :, 0, 1], WINDOW)
            output[start : start + WINDOW] += frame.astype(np.float32) * self._window
        return output[past : past + len(audio)]


class Dtln(Peer):
    """DTLN (Westhausen and Meyer, Interspeech 2020), `model_1.onnx` and `model_2.onnx`, 32 ms latency."""

    name = "DTLN"

    def __init__(self, folder: Path):
        self._first, self._second = (_session(folder / f"model_{number}.onnx") for number in (1, 2))

    def enhance(self, audio: np.ndarray) -> np.ndarray:
        first_state = np.zeros((1, 2, 128, 2), np.float32)
        second_state = np.zeros_like(first_state)
        past = WINDOW - DTLN_HOP
        padded = np.pad(audio, (past, past + -len(audio) % DTLN_HOP))
        output = np.zeros_like(padded)
        for start in range(0, len(padded) - WINDOW + 1, DTLN_HOP):
            spectrum = np.fft.rfft(padded[start : start + WINDOW])
            magnitude = np.abs(spectrum).astype(np.float32)[None, None]
            mask, first_state = self._first.run(None, {"input_2": magnitude, "input_3": first_state})
            masked = np.fft.irfft(mask[0, 0] * spectrum).astype(np.float32)[None, None]
            frame, second_state = self._second.run(None, {"input_4": masked, "input_5": second_state})
            output[start : start + WINDOW] += frame[0, 0]
        return output[past : past + len(audio)]


def read_peers(folder: Path) -> list[Callable[[], Peer]]:
    """What opens the peers in `folder` (subfolders gtcrn and dtln); raises HearloopError if there are none."""
    known: tuple[tuple[str, type[Gtcrn | Dtln]], ...] = (("gtcrn", Gtcrn), ("dtln", Dtln))
    peers: list[Callable[[], Peer]] = [partial(peer, folder / name) for name, peer in known if (folder / name).is_dir()]
    if not peers:
        raise HearloopError(f"{folder}: no peers; expected subfolders gtcrn (gtcrn_simple.onnx) or dtln (model_*.onnx)")
    return peers


def _session(path: Path) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise HearloopError(f"{path}: no such file")
    return open_session(path)
