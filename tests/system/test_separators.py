"""The separators that are built here, small and untrained, from PyTorch to sound: exported, compiled, remixed live."""

import json
import time

import numpy as np
import pytest

from hearloop.runtime import Processor, load_bundle
from hearloop.runtime.auto_engine import AutoEngine
from hearloop.runtime.compiler import cache
from hearloop.runtime.compiler.compiled import Options
from hearloop.runtime.controls import MUTED_DB, Controls
from hearloop.runtime.live import LiveLoop
from hearloop.runtime.software_device import SoftwareDevice
from hearloop.runtime.spectral_frames import SpectralFrames
from hearloop.tools.main import main

torch = pytest.importorskip("torch")

LONGEST_S = 120
SIZES = {
    "separate": {"channels": 8, "hidden": 12, "bands": 16, "blocks": 1, "attentive": 1, "pitches": 8},
    "separate-mossformer-small": {"size": 16, "layers": 1, "keys": 6, "window": 8, "inner": 8},
    "separate-tiger-small": {"size": 8, "channels": 8, "rounds": 1, "scales": 2, "heads": 2, "query": 2, "memory": 6},
}


# One is enough where the model itself plays no part.
one_of_them = pytest.mark.parametrize("separator", ["separate-tiger-small"], indirect=True)


@pytest.fixture(scope="module", params=SIZES)
def separator(request, tmp_path_factory):
    """A model with random weights, far from equal masks, and its bundle."""
    from hearloop.export import export_bundle
    from hearloop.models import build

    torch.manual_seed(5)
    model = build(request.param, **SIZES[request.param]).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_((0.3 if "merge" in name or "masks" in name else 0.05) * torch.randn_like(parameter))
    path = tmp_path_factory.mktemp("separators") / f"{request.param}.onnx"
    export_bundle(model, path, name=request.param, license="CC0-1.0")
    return model, path


def sound(rate: int, channels: int = 1, seconds: float = 0.5) -> np.ndarray:
    generator, time_s = np.random.default_rng(3), np.arange(int(rate * seconds)) / rate
    noise = generator.standard_normal((channels, len(time_s))) * (1 + np.sin(2 * np.pi * 4 * time_s)) / 20
    return noise.astype(np.float32)


def aligned(made: Processor, samples: np.ndarray, block: int) -> np.ndarray:
    parts = [made.separate(samples[:, at : at + block]) for at in range(0, samples.shape[1], block)]
    return np.concatenate([*parts, made.flush()], axis=-1)[..., round(made.latency.total) :]


@pytest.mark.parametrize(("rate", "channels", "block"), [(16000, 1, 100), (44100, 2, 441), (48000, 2, 1001)])
def test_masks_that_sum_to_one_make_sources_that_sum_to_the_input(separator, rate, channels, block):
    samples = sound(rate, channels)
    apart = aligned(Processor(separator[1], channels, rate, "ort"), samples, block)
    assert np.std(apart[0] - apart[1]) > 0.05 * np.std(samples), "the masks must differ to prove anything"
    np.testing.assert_allclose(apart.sum(0), samples, atol=1e-4)


@pytest.mark.parametrize("engine", ["ort", "compiled"])
def test_the_processor_gives_what_pytorch_gives(separator, engine):
    from hearloop.models.frontend import enhance

    model, path = separator
    samples = sound(16000)
    with torch.no_grad():
        expected = enhance(model, torch.from_numpy(samples)[None])[0].numpy()
    found = aligned(Processor(path, engine=engine, ceiling_dbfs=0), samples, 100)[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@one_of_them
def test_auto_moves_over_to_machine_code_without_a_trace(separator):
    bundle, samples = load_bundle(separator[1]), sound(16000, 2)
    cache.fetch(bundle, Options())
    moving, steady = (Processor(bundle, 2, engine="ort", source_gains_db=(0, -20)) for _ in range(2))
    engine = AutoEngine(bundle, patience_steps=20)
    moving._wet.frames = spectral = SpectralFrames(engine, 2)
    assert spectral.streams.engines == [engine]
    deadline, rest = time.monotonic() + LONGEST_S, 3
    while rest:
        for block in np.split(samples, range(300, samples.shape[1], 300), axis=1):
            np.testing.assert_allclose(moving.process(block), steady.process(block), atol=1e-5)
            time.sleep(0.004)
        rest -= engine.name == "compiled"
        assert time.monotonic() < deadline, f"still on {engine.name}: {engine.note}"


@pytest.mark.realtime
@pytest.mark.parametrize(("engine", "path"), [("compiled", "native"), ("ort", "worker")])
def test_live_it_is_heard_as_in_the_processor(separator, engine, path):
    samples, gains = sound(16000, 2, seconds=1), (-6, MUTED_DB)

    class Lockstep:
        """Goes on as soon as the worker has done what there is to do, so that nothing depends on timing."""

        def wait(self, seconds):
            deadline = time.monotonic() + LONGEST_S
            while not loop.settled:
                assert time.monotonic() < deadline, "the worker does not come back"
                time.sleep(3e-4)
            return 0.0

        def postpone(self, seconds): ...

    device = SoftwareDevice(samples, 16000, 128, clock=Lockstep())
    loop = LiveLoop(separator[1], device, engine, Controls(source_gains_db=gains), path=path)
    with loop:
        loop.wait()
    stats = loop.stats()
    assert (loop.path, stats["failures"], stats["events"]["failed_frames"]) == (path, 0, 0)
    made = Processor(separator[1], 2, 16000, engine, source_gains_db=gains)
    expected = np.concatenate([made.process(samples), made.flush()], axis=1)[:, round(made.latency.total) :]
    heard = device.output[:, round(loop.latency.total) :][:, : samples.shape[1]]
    np.testing.assert_allclose(heard[:, 1000:], expected[:, 1000:], atol=1e-5)


@one_of_them
def test_it_is_profiled_with_both_engines_and_all_stages(separator, tmp_path, capsys):
    report = tmp_path / "report.json"
    options = ["--seconds", "0.3", "--samplerate", "48000", "--channels", "2", "--block", "480", "--json", str(report)]
    assert main(["profile", str(separator[1]), *options]) == 0
    rows = {row["engine"]: row for row in json.loads(report.read_text())["rows"] if row["model"].startswith("separate")}
    assert {engine: row["runs"] for engine, row in rows.items()} == {
        "compiled": "native callback",
        "ort": "worker's chain",
    }
    for row in rows.values():
        timed = {stage for stage, told in row["stages_us"].items() if told}
        assert {"model", "resample", "analysis", "synthesis"} <= timed
        assert not any("failed" in note or "step alone" in note for note in row["notes"])
