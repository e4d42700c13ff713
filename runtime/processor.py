"""The processor: audio in, processed audio out, in blocks of any size."""

from pathlib import Path
from typing import Any

import numpy as np

from .bundle import Bundle
from .controls import Controls
from .denormals import flush_denormals, restore_denormals
from .engine import open_engine
from .errors import AudioError
from .ledger import Ledger
from .outputstage import OutputStage
from .resample import LONGEST_CHUNK
from .wetpath import WetPath


class Processor:
    """A model, ready to be fed with audio.

    Parameters
    ----------
    model : str, Path or Bundle
        Name of a shipped bundle (`hearloop models` lists them), path of a bundle file, or a loaded bundle.
    channels : int
        A model with one channel processes several with one common mask, so that directions are kept.
    sample_rate : int
        Rate of the audio in Hz.
    engine : {"auto", "ort", "compiled"}
    block_size : int, optional
        Samples per call, if they are always the same: gives the smallest delay. By default any number may come.
    ceiling_dbfs : float
        Output limit in dB full scale.
    **controls
        Initial values of `Controls`: attenuation_limit_db, mix, output_gain_db, bypass.

    Attributes
    ----------
    latency : Ledger
        Delay from input to output by cause, in samples at `sample_rate`; `latency.total` is what an impulse measures.
    controls : Controls
        May be changed at any time, from any thread.
    events : dict of str to int
        What went wrong so far; see WetPath.

    Examples
    --------
    >>> processor = Processor("enhance-small", sample_rate=48000)
    >>> y = processor.process(x)  # float32 (channels, samples), any number of samples, as many out as in
    """

    def __init__(
        self,
        model: str | Path | Bundle,
        channels: int = 1,
        sample_rate: int = 16000,
        engine: str = "auto",
        block_size: int | None = None,
        ceiling_dbfs: float = -1.0,
        **controls: Any,
    ):
        for name, value in (("channels", channels), ("sample_rate", sample_rate), ("block_size", block_size)):
            if not (isinstance(value, (int, np.integer)) and value > 0) and not (
                name == "block_size" and value is None
            ):
                raise AudioError(f"{name} is {value!r}; expected a positive whole number")
        self.channels, self.sample_rate, self.block_size = channels, sample_rate, block_size
        self.controls = Controls(**controls)
        opened = open_engine(model, engine)
        self._engine = opened
        self.info = opened.info
        self._wet = WetPath(opened, channels, sample_rate, block_size)
        self._stage = OutputStage(channels, sample_rate, self._wet.latency_samples, self.controls, ceiling_dbfs)
        self._stage.start(ramp=False)
        self._block = np.zeros((channels, LONGEST_CHUNK), np.float32)

    @property
    def latency(self) -> Ledger:
        return self._wet.latency

    @property
    def engine(self) -> str:
        """Name of the engine that runs now: "auto" may begin with one and go on with another."""
        return self._engine.name

    @property
    def events(self) -> dict[str, int]:
        return self._wet.events

    def process(self, samples: np.ndarray) -> np.ndarray:
        """Process the next samples of the stream.

        Parameters
        ----------
        samples : ndarray, float32, shape (channels, n)
            n may be anything, 0 included. With one channel, shape (n,) is taken too. Numbers that are not finite are
            taken as 0 and counted in `events`.

        Returns
        -------
        ndarray, float32, of the same shape

        Raises
        ------
        AudioError
            If the shape or type does not fit, or the length is not the `block_size` that was promised.
        """
        block = self._checked(samples)
        out = np.zeros_like(block)
        previous = flush_denormals()
        try:
            for start in range(0, block.shape[1], self._wet.chunk):
                part = slice(start, start + self._wet.chunk)
                wet = self._block[:, : block[:, part].shape[1]]
                self._wet.process(block[:, part], wet)
                self._stage.process(block[:, part], wet, True, out[:, part])
        finally:
            restore_denormals(previous)
        return out.reshape(np.shape(samples))

    def flush(self) -> np.ndarray:
        """What is still inside: the last `latency.total` samples of the stream, float32 (channels, total).

        Together with what `process` returned, less the first `latency.total` samples, it is as long as the input and
        lines up with it.
        """
        block = np.zeros((self.channels, self.block_size or LONGEST_CHUNK), np.float32)
        total = round(self.latency.total)
        parts = [self.process(block) for _ in range(-(-total // block.shape[1]))]
        return np.concatenate([block[:, :0], *parts], axis=1)[:, :total]

    def reset(self) -> None:
        """Forget the signal: the next sample is the first of a new stream."""
        self._wet.reset()
        self._stage.reset()

    def _checked(self, samples: np.ndarray) -> np.ndarray:
        block = np.asarray(samples)
        if block.dtype not in (np.float32, np.float64):
            raise AudioError(f"samples have type {block.dtype}; expected float32 between -1 and 1")
        if block.ndim == 1 and self.channels == 1:
            block = block[np.newaxis]
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise AudioError(f"samples have shape {np.shape(samples)}; expected ({self.channels}, any number)")
        if self.block_size is not None and block.shape[1] % self.block_size:
            raise AudioError(f"block of {block.shape[1]} samples; expected multiples of block_size {self.block_size}")
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(block, np.float32)
