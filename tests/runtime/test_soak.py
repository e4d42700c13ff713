"""An hour of sound, faster than real time."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hearloop.runtime import Processor

RATE, BLOCK = 16000, 480
RECORDING = Path(__file__).parents[2] / "tools" / "recordings" / "two-voices-helicopter.flac"


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_an_hour_of_sound_keeps_its_delay_its_memory_and_its_numbers(make_bundle):
    """Noise and silence in turns, and a click every minute that has to come out at the same place sixty times."""
    processor = Processor(make_bundle(gain=0.5), sample_rate=RATE, block_size=BLOCK)
    latency = round(processor.latency.total)
    second = (0.01 * np.random.default_rng(1).standard_normal(RATE)).astype(np.float32)
    sound = np.tile(second, 60)
    sound[30 * RATE :] = 0
    sound[45 * RATE] = 0.9
    clicks, memory = [], []
    for _ in range(60):
        parts = [processor.process(sound[start : start + 12 * RATE]) for start in range(0, len(sound), 12 * RATE)]
        out = np.concatenate(parts)
        assert np.isfinite(out).all()
        assert np.abs(out[31 * RATE : 44 * RATE]).max() < 1e-6
        clicks.append(int(np.argmax(np.abs(out))) - 45 * RATE)
        del parts, out
        gc.collect()
        memory.append(resident_bytes())
    assert clicks == [latency] * 60
    assert processor.events == {"failed_frames": 0, "bad_samples": 0}
    assert max(memory[10:]) - memory[9] < 4 << 20


@pytest.mark.slow
def test_the_shipped_model_says_the_same_after_five_minutes_as_after_one():
    """The same ten seconds over and over: recurrent states that drift would change what comes out."""
    recording, rate = soundfile.read(RECORDING, dtype="float32")
    recording = recording[: len(recording) // 128 * 128]  # so that frames fall on the same samples each time
    processor = Processor("enhance-small", sample_rate=rate)
    outputs = [processor.process(recording) for _ in range(30)]
    assert np.isfinite(outputs).all()
    assert np.std(outputs[5]) > 1e-3
    np.testing.assert_allclose(outputs[-1], outputs[5], atol=1e-3 * np.abs(outputs[5]).max())
    assert processor.events == {"failed_frames": 0, "bad_samples": 0}
