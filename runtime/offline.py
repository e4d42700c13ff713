"""Offline models, which hear seconds of sound at once: pieces of a recording that overlap, put together again.

    |----------- piece -----------|
                          |----------- piece -----------|
                          ^^^^^^^^ cross-fade             |---- the last piece reaches back, so that it is as long

A recording shorter than a piece is continued by its mirror image, so that levels and norms stay what they are.

A talker of a separation may come out first in one piece and second in the next. What two pieces say about the sound
that they share tells which is which.
"""

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.signal import resample_poly

from .bundle import Bundle
from .controls import Controls
from .errors import AudioError, EngineError
from .ledger import Ledger
from .ort_session import open_session
from .outputstage import OutputStage
from .resample import ratio
from .safety import sanitise

OVERLAP = 0.25  # of a piece


class OfflineProcessor:
    """A model of mode "file", fed block by block; sound comes out when a piece of it is complete.

    What lies above the model's band is not in the output: nothing says which talker it belongs to.

    Parameters
    ----------
    bundle : Bundle
        Of mode "file".
    channels : int
        Of the audio; as many as the model has.
    sample_rate : int
        Of the audio, in Hz; converted to the model's and back.
    **controls
        Initial values of `Controls`. With several talkers the unprocessed sound is the mixture, for each of them.

    Attributes
    ----------
    sources : int
        How many sounds the model takes its input apart into; 1 unless it separates.
    channels_out : int
        Of what `process` returns.
    latency : Ledger
        Nothing: the output lines up with the input.
    events : dict of str to int
        `failed_frames`: pieces whose result was not finite, unprocessed. `bad_samples`: input samples that were not
        finite, or beyond +18 dBFS, and were replaced.

    Raises
    ------
    AudioError
        If the model has another number of channels.
    """

    def __init__(self, bundle: Bundle, channels: int, sample_rate: int, **controls: Any):
        info = bundle.info
        if channels != info.channels_in:
            raise AudioError(
                f"model {info.name!r} hears {info.channels_in} channel(s), the sound has {channels}; "
                "choose or mix channels before"
            )
        self.info, self.sample_rate, self.sources = info, sample_rate, info.sources
        self.channels_out = info.channels_out // info.sources
        self.latency = Ledger(sample_rate, {})
        self.events = {"failed_frames": 0, "bad_samples": 0}
        self._ratio = ratio(sample_rate, info.sample_rate)
        p, q = self._ratio
        self._piece = info.frame * q // p
        self._overlap = round(OVERLAP * self._piece)
        self.controls = Controls(**controls)
        self.controls.expect_sources(info.sources, info.name)
        self._stages = {
            rows: OutputStage(rows, sample_rate, 0, self.controls) for rows in {self.channels_out, info.channels_out}
        }
        for stage in self._stages.values():
            stage.start(ramp=False)
        self._apart = False
        self._past = self._sound = np.zeros((channels, 0), np.float32)
        self._waiting = np.zeros((info.channels_out, 0), np.float32)
        self._session = open_session(bundle.model, threads=0)

    def process(self, samples: np.ndarray) -> np.ndarray:
        """Take float32 (channels, n); returns (channels_out, m), the samples that have become ready.

        Separated sources are added up again, each with its gain.
        """
        return self._run(samples, apart=False)

    def separate(self, samples: np.ndarray) -> np.ndarray:
        """The same with the sources apart, (sources, channels_out, m); for all of a stream, instead of `process`."""
        return self._run(samples, apart=True).reshape(self.sources, self.channels_out, -1)

    def _run(self, samples: np.ndarray, apart: bool) -> np.ndarray:
        self._apart = apart
        clean = np.zeros_like(samples)
        self.events["bad_samples"] += sanitise(samples, clean)
        self._sound = np.concatenate([self._sound, clean], axis=1)
        ready = [np.zeros((self.info.channels_out if apart else self.channels_out, 0), np.float32)]
        new = self._piece - self._overlap
        while self._sound.shape[1] > self._piece:
            piece = self._sound[:, : self._piece]
            ready.append(self._finished(piece[:, :new], self._joined(self._hear(piece))))
            self._past, self._sound = piece[:, :new], self._sound[:, new:]
        return np.concatenate(ready, axis=1)

    def flush(self) -> np.ndarray:
        """The rest, in the form of what came before: together with that it is as long as the input."""
        count = self._sound.shape[1]
        piece = np.concatenate([self._past, self._sound], axis=1)[:, -self._piece :]
        heard = self._joined(self._hear(piece)[:, -count:]) if count else self._waiting
        rest = self._finished(self._sound, heard)
        return rest.reshape(self.sources, self.channels_out, count) if self._apart else rest

    def _hear(self, piece: np.ndarray) -> np.ndarray:
        """One piece through the model, at the rate of the audio."""
        p, q = self._ratio
        sound = resample_poly(piece, p, q, axis=1) if p != q else piece
        sound = np.pad(sound, ((0, 0), (0, max(0, self.info.frame - sound.shape[1]))), mode="symmetric")
        sound = sound[np.newaxis, :, : self.info.frame].astype(np.float32)
        try:
            (found,) = self._session.run(None, {self.info.inputs[0].name: sound})
        except Exception as error:  # onnxruntime's own exception types are private
            raise EngineError(f"model {self.info.name!r}: ONNX Runtime failed in a piece ({error})") from error
        found = found[0]
        if not np.isfinite(found).all():
            self.events["failed_frames"] += 1
            found = np.broadcast_to(sound[0].mean(0) / self.sources, found.shape)
        found = resample_poly(found, q, p, axis=1) if p != q else found
        return np.array(found[:, : piece.shape[1]], np.float32)

    def _joined(self, found: np.ndarray) -> np.ndarray:
        """A piece that continues the one before: its talkers in the same order, faded in over the end of that one."""
        length = self._waiting.shape[1]
        if length:
            if self.info.task == "separate":
                _, order = linear_sum_assignment(self._waiting @ found[:, :length].T, maximize=True)
                found = found[order]
            rise = np.sin(np.pi / 2 * (np.arange(length, dtype=np.float32) + 0.5) / length) ** 2
            found[:, :length] = rise * found[:, :length] + (1 - rise) * self._waiting
        return found

    def _finished(self, dry: np.ndarray, wet: np.ndarray) -> np.ndarray:
        """Mixed with the unprocessed sound as the controls say, and limited; what is beyond `dry` has to wait."""
        count = dry.shape[1]
        self._waiting = wet[:, count:]
        if self.sources > 1 and not self._apart:
            wet = self.controls.source_targets[np.newaxis] @ wet
        out = np.zeros((len(wet), count), np.float32)
        dry = np.broadcast_to(dry.mean(0), out.shape) if len(dry) != len(out) else dry
        dry, wet = (np.require(each, np.float32, ["C_CONTIGUOUS", "WRITEABLE"]) for each in (dry, wet[:, :count]))
        self._stages[len(wet)].process(dry, wet, True, out)
        return out
