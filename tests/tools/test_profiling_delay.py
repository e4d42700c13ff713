"""The delay of a loop: found to a fraction of a sample, or not claimed at all."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.tools.profiling.delay import find_delay, sequence
from hearloop.tools.profiling.loopback import loopback_table, measure_loopback

PROBE = sequence(13)


def delayed(samples, gain=1.0, noise=0.0, periods=4, seed=1):
    """What comes back through a way that is exactly band-limited."""
    spectrum = np.fft.rfft(PROBE)
    turned = spectrum * np.exp(-2j * np.pi * np.arange(len(spectrum)) * samples / len(PROBE))
    period = gain * np.fft.irfft(turned, len(PROBE))
    return np.tile(period, periods) + noise * np.random.default_rng(seed).standard_normal(periods * len(PROBE))


@settings(max_examples=40)
@given(st.floats(0, len(PROBE) - 1.0), st.sampled_from([-1.0, 1.0]), st.floats(0.01, 1.0))
def test_a_delay_is_found_to_a_hundredth_of_a_sample_with_its_polarity_and_gain(samples, sign, gain):
    found = find_delay(PROBE, delayed(samples, sign * gain))
    assert found.samples == pytest.approx(samples, abs=0.01)
    assert found.inverted == (sign < 0)
    assert found.gain == pytest.approx(gain, rel=1e-3)
    assert found.confidence > 0.99
    assert found.certain
    assert found.spread_samples < 1e-6


def test_noise_lowers_the_confidence_before_it_moves_the_delay():
    confidence = 1.0
    for noise in (0.1, 0.5, 1.0):
        found = find_delay(PROBE, delayed(1000.25, noise=noise))
        assert found.samples == pytest.approx(1000.25, abs=0.05)
        assert found.confidence < confidence
        confidence = found.confidence
        # A signal and noise of this power: the correlation is known.
        assert confidence == pytest.approx(1 / np.sqrt(1 + noise**2), abs=0.03)


@pytest.mark.parametrize("heard", [np.zeros(4 * len(PROBE)), delayed(0, gain=0, noise=1.0)])
def test_where_nothing_comes_back_nothing_is_claimed(heard):
    assert not find_delay(PROBE, heard).certain


def test_a_delay_near_zero_does_not_jump_around_the_circle():
    parts = [delayed(shift % len(PROBE), periods=1) for shift in (-0.25, 0.25, -0.25, 0.25)]
    found = find_delay(PROBE, np.concatenate(parts))
    assert min(found.samples, len(PROBE) - found.samples) < 0.3
    assert found.spread_samples < 0.6


class Cable:
    """A device whose output is its input, so much later, faster than real time. See `devices.Device`."""

    name, sample_rate, input_channels, output_channels = "a cable", 48000, 1, 2
    input_latency_samples, output_latency_samples = 100.0, 28.0
    xruns, fault, finished = 0, None, False

    def __init__(self, delay=128, gain=1.0, block=96):
        self.block_sizes = (block, block)
        self._line, self._gain, self._block = np.zeros(delay, np.float32), gain, block
        self._stopping = False

    def start(self, callback):
        self._thread = threading.Thread(target=self._run, args=(callback,), daemon=True)
        self._thread.start()

    def stop(self):
        self._stopping = True
        self._thread.join(timeout=5)

    def _run(self, callback):
        outdata = np.zeros((self._block, 2), np.float32)
        while not self._stopping:
            indata, self._line = self._line[: self._block, None].copy(), self._line[self._block :]
            callback(indata, outdata, self._block)
            self._line = np.concatenate([self._line, self._gain * outdata[:, 1]])
            time.sleep(0.0002)


def test_a_device_alone_is_as_late_as_it_is():
    found = measure_loopback(Cable(delay=150, gain=-0.5), periods=2, settling_s=0.2)
    assert found["delay"]["samples"] == pytest.approx(150, abs=0.01)
    assert found["delay"]["inverted"]
    assert found["delay"]["gain_db"] == pytest.approx(-6.02, abs=0.01)
    assert found["unexplained_samples"] == pytest.approx(22, abs=0.01)  # it declares 128


@pytest.mark.parametrize("path", ["native", "worker"])
def test_the_live_loop_is_as_late_as_its_ledger_through_a_cable(path, make_bundle):
    found = measure_loopback(Cable(), make_bundle(), "compiled", path, periods=2, settling_s=0.3)
    assert found["delay"]["certain"]
    assert found["unexplained_samples"] == pytest.approx(0, abs=0.01)
    names = [delay["name"] for delay in found["ledger"]["delays"]]
    assert ("worker" in names) == (path == "worker")
    printed = loopback_table({"loopback": found, "settings": {"device": "a cable"}})
    assert "polarity kept" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_a_cable_that_is_not_there_is_told():
    found = measure_loopback(Cable(gain=0.0), periods=2, settling_s=0.2)
    assert "?? nothing came back" in loopback_table({"loopback": found, "settings": {"device": "a cable"}})
