"""Fixtures that all parts of the tests share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import graph_model
from hypothesis import settings
from onnx import helper

from hearloop.runtime.bundle_info import BundleInfo, Port, State
from hearloop.runtime.windows import window_pair

# How long an example takes says nothing on a machine that does other things as well.
settings.register_profile("hearloop", deadline=None)
settings.load_profile("hearloop")

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240229)


@pytest.fixture
def shared() -> Path:
    """The folder of development data beside the repository; tests that need it are skipped without it."""
    if not SHARED.is_dir():
        pytest.skip(f"development data is not at {SHARED.name}/ beside the repository")
    return SHARED


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory) -> Callable[..., Path]:
    """Writes bundles whose answer is known: the spectrum times a gain, and not-a-number in chosen frames.

    The model counts its frames in a state, so that resets can be seen: it fails in frames `fails_from` to `fails_to`
    after a reset. With `masks`, (sources, bins), it separates: each source is the spectrum times the gain and its mask.
    """
    folder = tmp_path_factory.mktemp("bundles")

    def make(
        name: str = "passthrough",
        gain: float = 1.0,
        channels: int = 1,
        window: str = "asymmetric-512-192",
        fails_from: float = 1e9,
        fails_to: float = 2e9,
        masks: np.ndarray | None = None,
        **changes,
    ) -> Path:
        shape = shape_out = (1, channels, 1, window_pair(window).bins, 2)
        constants = {"gain": gain, "one": 1.0, "from": fails_from, "to": fails_to, "nan": np.nan}
        if masks is not None:
            shape_out = (1, len(masks), *shape[2:])
            constants["gain"] = gain * masks[np.newaxis, :, np.newaxis, :, np.newaxis]
            changes = {"task": "separate", "channels_out": len(masks)} | changes
        nodes = [
            helper.make_node("Add", ["state.count", "one"], ["state.count.next"]),
            helper.make_node("GreaterOrEqual", ["state.count", "from"], ["after"]),
            helper.make_node("Less", ["state.count", "to"], ["before"]),
            helper.make_node("And", ["after", "before"], ["failing"]),
            helper.make_node("Where", ["failing", "nan", "gain"], ["factor"]),
            helper.make_node("Mul", ["spectrum", "factor"], ["enhanced"]),
        ]
        inputs, outputs = {"spectrum": shape, "state.count": (1,)}, {"enhanced": shape_out, "state.count.next": (1,)}
        model = graph_model(nodes, inputs, outputs, constants)
        facts = {
            "name": name,
            "task": "enhance",
            "sample_rate": 16000,
            "frame": 128,
            "lookahead": 64,
            "channels_in": channels,
            "channels_out": channels,
            "front_end": "stft",
            "window": window,
            "inputs": (Port("spectrum", "spectrum", shape),),
            "outputs": (Port("enhanced", "spectrum", shape_out),),
            "states": (State("state.count", "state.count.next", (1,)),),
            "parameters": 0,
            "macs_per_frame": 0,
            "license": "CC0-1.0",
        }
        helper.set_model_props(model, BundleInfo(**(facts | changes)).to_metadata())
        said = (gain, channels, window, fails_from, fails_to, None if masks is None else masks.tobytes(), str(changes))
        path = folder / f"{name}-{abs(hash(said))}.onnx"
        onnx.save(model, path)
        return path

    return make


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Every test compiles for itself: what "auto" finds does not depend on the tests before."""
    monkeypatch.setenv("HEARLOOP_CACHE", str(tmp_path_factory.mktemp("cache")))
