"""A model that diverges: its numbers are finite for long, and beyond all sound. It is restarted and leaves no trace."""

import numpy as np
import onnx
import pytest
from graphs import graph_model
from live_parts import Lockstep
from onnx import helper
from signals import noise

from hearloop.runtime import Processor
from hearloop.runtime.bundle_info import BundleInfo, Port, State
from hearloop.runtime.controls import Controls
from hearloop.runtime.engine import open_engine
from hearloop.runtime.live import LiveLoop
from hearloop.runtime.outputstage import OutputStage
from hearloop.runtime.software_device import SoftwareDevice
from hearloop.runtime.wetpath import WetPath

RATES = [16000, 44100, 48000]
GAIN, LOUD = 0.5, 3.0


@pytest.fixture(scope="module", params=["stft", "waveform"])
def diverging(request, tmp_path_factory):
    """state = 10 state + what of x is above LOUD;  y = GAIN x + state.  So something loud sets it off."""
    on_spectra = request.param == "stft"
    role, shape = ("spectrum", (1, 1, 1, 257, 2)) if on_spectra else ("audio", (1, 1, 1, 128))
    nodes = [
        helper.make_node("Sub", [role, "loud"], ["above"]),
        helper.make_node("Relu", ["above"], ["trigger"]),
        helper.make_node("Mul", ["state.sum", "ten"], ["grown"]),
        helper.make_node("Add", ["grown", "trigger"], ["state.sum.next"]),
        helper.make_node("Mul", [role, "gain"], ["quiet"]),
        helper.make_node("Add", ["quiet", "state.sum.next"], ["enhanced"]),
    ]
    inputs, outputs = {role: shape, "state.sum": shape}, {"enhanced": shape, "state.sum.next": shape}
    model = graph_model(nodes, inputs, outputs, {"loud": LOUD, "ten": 10.0, "gain": GAIN})
    info = BundleInfo(
        name="diverging",
        task="enhance",
        sample_rate=16000,
        frame=128,
        lookahead=64 if on_spectra else 0,
        channels_in=1,
        channels_out=1,
        front_end=request.param,
        window="asymmetric-512-192" if on_spectra else None,
        inputs=(Port(role, role, shape),),
        outputs=(Port("enhanced", role, shape),),
        states=(State("state.sum", "state.sum.next", shape),),
        parameters=0,
        macs_per_frame=0,
        license="CC0-1.0",
    )
    helper.set_model_props(model, info.to_metadata())
    path = tmp_path_factory.mktemp("diverging") / f"{request.param}.onnx"
    onnx.save(model, path)
    return path


def startled(rate: int) -> np.ndarray:
    """Two seconds of soft noise, with a millisecond in it that is loud enough to set the model off."""
    samples = 0.2 * noise(2 * rate)
    samples[:, rate // 4 : rate // 4 + rate // 1000] = 8
    return samples


@pytest.mark.parametrize("rate", RATES)
def test_its_wet_signal_comes_back_and_concealment_is_dry(diverging, rate):
    """From 1.5 s on all wet samples are lost."""
    path, samples = WetPath(open_engine(diverging, "ort"), 1, rate), startled(rate)
    stage = OutputStage(1, rate, path.latency_samples, Controls())
    stage.start(ramp=False)
    heard = np.zeros_like(samples)
    for start in range(0, samples.shape[1], 500):
        part, wet = slice(start, start + 500), np.zeros_like(samples[:, start : start + 500])
        path.process(samples[:, part], wet)
        stage.process(samples[:, part], wet, start < 1.5 * rate, heard[:, part])
    assert path.events["failed_frames"] > 0
    dry = np.roll(samples, path.latency_samples, axis=1)
    wet_again, lost = slice(rate, 3 * rate // 2), slice(7 * rate // 4, None)
    np.testing.assert_allclose(heard[:, wet_again], GAIN * dry[:, wet_again], atol=1e-4)
    np.testing.assert_allclose(heard[:, lost], dry[:, lost], atol=1e-3)


@pytest.mark.parametrize("rate", RATES)
def test_the_processor_hears_it_again(diverging, rate):
    processor, samples = Processor(diverging, 1, rate, "ort"), startled(rate)
    heard, latency = processor.process(samples), round(processor.latency.total)
    assert processor.events["failed_frames"] > 0
    np.testing.assert_allclose(heard[:, rate:], GAIN * samples[:, rate - latency : -latency], atol=1e-4)


@pytest.mark.realtime
@pytest.mark.parametrize("path", ["native", "worker"])
@pytest.mark.parametrize("rate", RATES)
def test_live_it_counts_as_failed_and_is_heard_again(diverging, path, rate):
    samples, clock = startled(rate), Lockstep()
    device = SoftwareDevice(samples, rate, 128, clock=clock)
    clock.loop = LiveLoop(diverging, device, "compiled", path=path)
    with clock.loop as loop:
        loop.wait()
    stats, latency = loop.stats(), round(loop.latency.total)
    assert stats["path"] == path
    assert stats["failures"] > 0
    assert "far beyond all sound" in stats["message"]
    heard = device.output[:, latency:][:, rate : 2 * rate]
    np.testing.assert_allclose(heard, GAIN * samples[:, rate:], atol=1e-4)


class Outburst:
    """Frames that are halved, and enormous in the tenth."""

    def __init__(self, enormous: float):
        self.enormous, self.index = enormous, 0

    def step(self, frame, wet):
        wet[:] = self.enormous if self.index == 10 else GAIN * frame
        self.index += 1
        return True

    def reset(self): ...


@pytest.mark.parametrize("enormous", [1e25, 1e36, np.inf, np.nan])
def test_the_band_above_the_model_outlives_whatever_the_frames_are(enormous, make_bundle):
    samples, heard = noise(48000), []
    for outburst in (0.0, enormous):
        path = WetPath(open_engine(make_bundle(), "ort"), 1, 48000, frames=Outburst(outburst))
        out = np.zeros_like(samples)
        path.process(samples, out)
        heard.append(out)
    np.testing.assert_allclose(heard[1][:, 24000:], heard[0][:, 24000:], atol=1e-5)
