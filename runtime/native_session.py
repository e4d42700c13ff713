"""The live loop on the native path: model and signal processing inside the device's callback, as machine code.

For the callback itself see native_callback.py; here is what Python does around it: lay everything out in memory before
the first block, and read the counts.
"""

import time
from collections import Counter
from collections.abc import Callable
from time import perf_counter_ns

import numpy as np

from .devices import C_CALLBACK
from .engine import NativeEngine
from .framelog import FrameLog
from .model_frames import ModelStreams
from .native_callback import (
    CONSTANTS,
    FAILURES,
    FRAMES,
    LATE_BY_COMPUTE,
    LATE_BY_HOST,
    LATE_BY_SCHEDULING,
    MEMORY,
    SIGNAL_IN,
    SIGNAL_OUT,
    SILENCE,
    VOICE_IN,
    StreamRecord,
    callback,
    inside,
    switch,
)
from .native_pace import GIVEN_UP, MODE, new_pace
from .outputstage import OutputStage
from .records import Image
from .resample import LONGEST_CHUNK
from .rings import Ring
from .sample_frames import SampleFrames
from .session import REHEARSED_FRAMES, Setting, Telemetry, fade_out
from .spectral_frames import SpectralFrames
from .stages import ON
from .telemetry import Times
from .traffic import STREAM, Traffic
from .wetpath import WetPath
from .worker import FAILURES_TO_GIVE_UP

LEAVING_PATIENCE_S = 1.0
LEAVING_POLL_S = 0.0005

_IMPLAUSIBLE = "the model's output is not finite, or far beyond all sound"

# Sessions whose model did not come back from its last step; their memory may still be in use.
_stuck: list["NativeSession"] = []


class NativeTelemetry:
    """What the native callback counts; it outlives the session. The same as `WorkerTelemetry`, as far as it exists.

    Attributes
    ----------
    compute : Times
        Duration of each frame at which the model ran: analysis, model, synthesis.
    wake : Times
        How much later than one block after the last one the callback began.
    log : FrameLog
        Row by row what the blocks took, if there is room in it.
    """

    def __init__(self) -> None:
        self.compute, self.wake = Times(), Times()
        self.log = FrameLog()
        self.counts = np.zeros(5, np.int64)
        self.dropped = 0  # every chunk is processed where it arrives
        self.message = ""

    @property
    def frames(self) -> int:
        return int(self.counts[FRAMES])

    @property
    def failures(self) -> int:
        """Frames at which the model has failed."""
        return int(self.counts[FAILURES])

    @property
    def late(self) -> dict[str, int]:
        """Late blocks by cause; `host` counts those of a size for which nothing was prepared."""
        causes = {"compute": LATE_BY_COMPUTE, "scheduling": LATE_BY_SCHEDULING, "host": LATE_BY_HOST}
        return {cause: int(self.counts[place]) for cause, place in causes.items()}


class NativeSession:
    """Wet path, model and output stage for one block size of the host, laid out for the native callback.

    Parameters
    ----------
    setting : Setting
        Its wet path must be a WetPath with a native engine.
    smallest, largest : int
        Bounds of the host's block size.
    telemetry : Telemetry
    model_telemetry : NativeTelemetry
    traffic : Traffic
        What the callback is handed over.
    tap : Ring, optional
        Receives what is heard.

    Attributes
    ----------
    latency : Ledger
        From the callback's input to its output.
    chunk : int
        Longer blocks are processed in pieces of so many samples.
    """

    callback_errors, semaphore, idle = 0, None, True

    def __init__(
        self,
        setting: Setting,
        smallest: int,
        largest: int,
        telemetry: Telemetry,
        model_telemetry: NativeTelemetry,
        traffic: Traffic,
        tap: Ring | None = None,
    ):
        path = setting.make_wet_path(smallest if smallest == largest else None)
        assert isinstance(path, WetPath)
        assert isinstance(path.frames, SpectralFrames | SampleFrames)
        path.reset()  # the engine may have run before
        path.laps[ON] = model_telemetry.log.wanted
        self.smallest, self.largest, self.chunk = smallest, largest, path.chunk
        self.latency, self.retired = path.latency, False
        rehearsed = REHEARSED_FRAMES * setting.frame * setting.sample_rate // setting.model_rate
        self._rehearsed_blocks = -(-rehearsed // largest)
        self._channels = setting.channels
        self._path, self._model_telemetry, self._traffic = path, model_telemetry, traffic
        self._stage = OutputStage(
            setting.channels, setting.sample_rate, path.latency_samples, setting.controls, setting.ceiling_dbfs
        )
        self._pace = new_pace(setting.sample_rate)
        frames, engine = path.frames, path.frames.streams.engines[0]
        assert isinstance(engine, NativeEngine)
        nowhere = Ring(setting.channels, 1)
        self._image = Image(
            StreamRecord(
                path=path.image.address,
                frames=frames.image.address,
                on_samples=isinstance(frames, SampleFrames),
                step=engine.step_address,
                reset=engine.reset_address,
                streams=frames.streams.record,
                places=_places(frames.streams),
                stage=self._stage.record,
                samples=np.zeros((setting.channels, LONGEST_CHUNK), np.float32),
                wet=np.zeros((setting.channels, LONGEST_CHUNK), np.float32),
                heard=np.zeros((setting.channels, LONGEST_CHUNK), np.float32),
                chunk=path.chunk,
                smallest=smallest,
                largest=largest,
                sample_rate=setting.sample_rate,
                pace=self._pace,
                counts=model_telemetry.counts,
                tally=telemetry.tally.counts,
                levels=telemetry.tally.levels,
                last_ns=np.zeros(1, np.int64),
                duration=telemetry.callback.record,
                wake=model_telemetry.wake.record,
                slack=telemetry.slack.record,
                compute=model_telemetry.compute.record,
                tapped=tap is not None,
                tap=(tap or nowhere).samples,
                tap_span=(tap or nowhere).span,
                laps=path.laps,
                log=model_telemetry.log.table,
                logged=model_telemetry.log.counts,
            )
        )

    @property
    def events(self) -> Counter[str]:
        return Counter(self._path.events)

    @property
    def message(self) -> str:
        if self._pace[MODE] == GIVEN_UP:
            return f"the model failed {FAILURES_TO_GIVE_UP} times in a row and was given up; {_IMPLAUSIBLE}"
        return _IMPLAUSIBLE if self._model_telemetry.failures else ""

    def start(self) -> None:
        """Let the callback play this session, and open the output with a ramp."""
        switch(self._traffic.numbers, self._image.address)
        self._stage.start()

    def rehearse(self, output_channels: int) -> None:
        """Do everything once in this thread, so that a stream does nothing for the first time; instead of `start`."""
        indata = np.zeros((self.largest, self._channels), np.float32)
        outdata = np.zeros((self.largest, output_channels), np.float32)
        play = C_CALLBACK(callback.address)
        self.start()
        for _ in range(self._rehearsed_blocks):
            play(indata.ctypes.data, outdata.ctypes.data, self.largest, None, 0, self._traffic.numbers.ctypes.data)
        self.retire()

    def fade_out(self, gone: Callable[[], bool]) -> None:
        """Close the output with a ramp, and wait for its end, unless the device is `gone`."""
        fade_out(self._stage, gone)

    def release_model(self) -> None:
        """Nothing to do: at blocks of a size that it is not made for, the session does not touch the model."""

    def retire(self) -> None:
        """Let the callback play silence, or the session that has followed; when this returns it has left this one."""
        self.retired = True
        if self._traffic.numbers[STREAM] == self._image.address:
            switch(self._traffic.numbers, SILENCE)
        deadline_ns = perf_counter_ns() + 1e9 * LEAVING_PATIENCE_S
        while inside(self._traffic.numbers):
            if perf_counter_ns() > deadline_ns:
                _stuck.append(self)
                return
            time.sleep(LEAVING_POLL_S)


def _places(streams: ModelStreams) -> np.ndarray:
    """Where each stream through the model finds its memory, where signals go in and come out, and the voice goes in."""
    places = np.zeros((len(streams.engines), 5), np.int64)
    for row, engine, given, made in zip(places, streams.engines, streams.inputs, streams.outputs, strict=True):
        assert isinstance(engine, NativeEngine)
        row[MEMORY], row[CONSTANTS] = engine.memory.ctypes.data, engine.constants.ctypes.data
        row[SIGNAL_IN], row[SIGNAL_OUT] = given.ctypes.data, made.ctypes.data
    for row, voice in zip(places, streams.voices, strict=False):
        row[VOICE_IN] = voice.ctypes.data
    return places
