"""An hour of sound, faster than real time."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hearloop.runtime import Processor

RECORDING = Path(__file__).parents[2] / "tools" / "recordings" / "two-voices-helicopter.flac"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_an_hour_of_sound_keeps_its_delay_its_memory_and_its_numbers(make_bundle):
    """A click every minute has to come out at the same place sixty times."""
    script = Path(__file__).with_name("hour_of_sound.py")
    command = [sys.executable, script, make_bundle(gain=0.5), "16000", "480"]
    hour = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    assert hour["clicks"] == [round(hour["latency"])] * 60
    assert hour["loudest_silence"] < 1e-6
    assert hour["events"] == {"failed_frames": 0, "bad_samples": 0}
    memory = hour["resident_bytes"]
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
