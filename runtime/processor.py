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
from .load import load_step
from .outputstage import OutputStage
from .resample import LONGEST_CHUNK
from .voice import Voice, check_voice, steering_map
from .wetpath import WetPath, expect_bundle


class Processor:
    """A model, ready to be fed with audio.

    Parameters
    ----------
    model : str, Path or Bundle
        Name of a shipped bundle (`hearloop models` lists them), path of a bundle file, or a loaded bundle.
    channels : int
        A model with one channel processes several with one common mask, so that directions are kept. So does one that
        separates, with one mask for each source.
    sample_rate : int
        Rate of the audio in Hz.
    engine : {"auto", "ort", "compiled"}
    block_size : int, optional
        Samples per call, if they are always the same: gives the smallest delay. By default any number may come.
    ceiling_dbfs : float
        Output limit in dB full scale.
    voice : Voice, optional
        Whom a model of task "target" shall let through; `listen_to` chooses another.
    **controls
        Initial values of `Controls`: attenuation_limit_db, mix, output_gain_db, bypass, source_gains_db.

    Attributes
    ----------
    latency : Ledger
        Delay from input to output by cause, in samples at `sample_rate`; `latency.total` is what an impulse measures.
    controls : Controls
        May be changed at any time, from any thread.
    events : dict of str to int
        What went wrong so far; see WetPath.
    sources : int
        How many sounds the model takes its input apart into; 1 unless it separates.

    Raises
    ------
    AudioError
        If channels, sample_rate or block_size is no positive whole number, or the rate cannot be converted to the
        model's; see `resample.ratio`.
    BundleError
        If the model cannot process so many channels, or is no bundle that can be loaded.
    EngineError
        If the engine is unknown or cannot run the model.
    HearloopError
        If a control has a wrong value, there are not as many source gains as sources, or the model needs a voice and
        none is given, or the other way round.

    Examples
    --------
    >>> processor = Processor("enhance-small", sample_rate=48000)
    >>> y = processor.process(x)  # float32 (channels, samples), any number of samples, as many out as in
    >>> both = Processor("separator.onnx", source_gains_db=(0, -12)).process(x)  # a remix, of the shape of x
    >>> talkers = Processor("separator.onnx").separate(x)  # (sources, channels, samples)
    """

    def __init__(
        self,
        model: str | Path | Bundle,
        channels: int = 1,
        sample_rate: int = 16000,
        engine: str = "auto",
        block_size: int | None = None,
        ceiling_dbfs: float = -1.0,
        voice: Voice | None = None,
        **controls: Any,
    ):
        for name, value in (("channels", channels), ("sample_rate", sample_rate), ("block_size", block_size)):
            if not (isinstance(value, (int, np.integer)) and value > 0) and not (
                name == "block_size" and value is None
            ):
                raise AudioError(f"{name} is {value!r}; expected a positive whole number")
        # NumPy's integers have a width, and overflow in sums of these.
        channels, sample_rate = int(channels), int(sample_rate)
        block_size = None if block_size is None else int(block_size)
        self.channels, self.sample_rate, self.block_size = channels, sample_rate, block_size
        self.controls = Controls(**controls)
        self._bundle = load_step(model)
        self._engine = opened = open_engine(self._bundle, engine)
        info = expect_bundle(opened)
        check_voice(info, voice)
        if voice is not None:
            self.listen_to(voice)
        self.info, self.sources = info, info.sources
        self.controls.expect_sources(self.sources, info.name)
        self._wet = WetPath(opened, channels, sample_rate, block_size, controls=self.controls)
        # One stage for the remix, and one for all sources apart, with one limiter, so that they keep their proportions.
        self._stages = {
            copies: OutputStage(copies * channels, sample_rate, self._wet.latency_samples, self.controls, ceiling_dbfs)
            for copies in {1, self.sources}
        }
        for stage in self._stages.values():
            stage.start(ramp=False)
        self._block = np.zeros((self.sources * channels, LONGEST_CHUNK), np.float32)
        self._apart: bool | None = None  # how the stream has begun

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

    def listen_to(self, voice: Voice) -> None:
        """Let another voice through from now on, by a cross-fade of about 60 ms; at any time, from any thread.

        Raises
        ------
        BundleError
            If the model hears no chosen voice, or one that another enrolment model has made.
        """
        self.controls.steer(steering_map(self._bundle, voice))

    def process(self, samples: np.ndarray) -> np.ndarray:
        """Process the next samples of the stream; separated sources are added up again, each with its gain.

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
            If the shape or type does not fit, the length is not the `block_size` that was promised, or the stream was
            begun with `separate`.
        """
        return self._run(samples, apart=False).reshape(np.shape(samples))

    def separate(self, samples: np.ndarray) -> np.ndarray:
        """Process the next samples of the stream, and leave the sources apart.

        `source_gains_db` has no effect. The other controls act on each source; the dry signal that `mix` or
        `attenuation_limit_db` adds is the whole input, for each of them.

        Parameters
        ----------
        samples : ndarray, float32, shape (channels, n)
            As for `process`.

        Returns
        -------
        ndarray, float32, shape (sources, channels, n)

        Raises
        ------
        AudioError
            As `process` does, or if the stream was begun with `process`.
        """
        return self._run(samples, apart=True).reshape(self.sources, self.channels, -1)

    def _run(self, samples: np.ndarray, apart: bool) -> np.ndarray:
        """Float32 (rows, n): all channels, or all channels of each source."""
        block = self._checked(samples)
        if self._apart not in (None, apart):
            begun, now = ("process", "separate") if apart else ("separate", "process")
            raise AudioError(f"the stream was begun with {begun}(); reset() the processor before {now}()")
        self._apart = apart
        copies = self.sources if apart else 1
        stage, run = self._stages[copies], self._wet.separate if apart else self._wet.process
        dry = np.tile(block, (copies, 1))
        out = np.zeros_like(dry)
        previous = flush_denormals()
        try:
            for start in range(0, block.shape[1], self._wet.chunk):
                part = slice(start, start + self._wet.chunk)
                wet = self._block[: len(dry), : block[:, part].shape[1]]
                run(block[:, part], wet)
                stage.process(dry[:, part], wet, True, out[:, part])
        finally:
            restore_denormals(previous)
        return out

    def flush(self) -> np.ndarray:
        """What is still inside: the last `latency.total` samples of the stream.

        They have the form of what came before: float32 (channels, total), or (sources, channels, total) after
        `separate`. Together with what was returned then, less the first `latency.total` samples, they are as long as
        the input and line up with it.
        """
        total = round(self.latency.total)
        step = self.block_size or 1
        silence = np.zeros((self.channels, -(-total // step) * step), np.float32)
        rest = self.separate(silence) if self._apart else self.process(silence)
        return rest[..., :total]

    def reset(self) -> None:
        """Forget the signal: the next sample is the first of a new stream."""
        self._wet.reset()
        for stage in self._stages.values():
            stage.reset()
        self._apart = None

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
            # Machine code takes writable memory only, and sound from files or other processes may be neither.
            return np.require(block, np.float32, ["C_CONTIGUOUS", "WRITEABLE"])
