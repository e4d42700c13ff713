"""Every streaming model on sound: nothing is heard before its lookahead, and the state never grows or drifts."""

import pytest
import torch
from torch import nn

from hearloop.models import MODEL_NAMES, build, task_of
from hearloop.models.frontend import enhance
from hearloop.models.streaming.state import flatten_state
from hearloop.runtime.windows import window_pair

# Sizes that are quick; a model that is not here is quick as it is, or the same as one here.
SIZES: dict[str, dict] = {
    "enhance-small": {"channels": 8, "hidden": 12, "bands": 16, "blocks": 1},
    "gtcrn": {},
    "gtcrn-8ms": {},
    "echo-small": {"channels": 3, "blocks": 2, "layers": 3},
    "enhance-mamba-small": {"channels": 8, "blocks": 2, "depth": 2, "memory": 6, "heads": 2},
    "separate-mossformer-small": {"size": 24, "layers": 2, "keys": 8, "window": 12, "inner": 12},
    "separate": {"channels": 8, "hidden": 12, "bands": 16, "blocks": 1, "attentive": 1, "pitches": 8},
    "separate-tiger-small": {"size": 8, "channels": 12, "rounds": 2, "scales": 3, "heads": 2, "query": 3, "memory": 9},
    "target-small": {"channels": 8, "hidden": 12, "bands": 16, "blocks": 1},
    "target-around": {
        **{"channels": 8, "hidden": 12, "bands": 16, "blocks": 1, "pitches": 8, "delays": 6, "turns": 3},
        "listener": {"channels": 4, "width": 8, "bands": 8, "blocks": 1, "hidden": 12, "layers": 1},
    },
    "target": {"channels": 8, "hidden": 6, "blocks": 2, "heads": 2, "memory": 20, "query": 2},
}


class OnSound(nn.Module):
    """Any model with one input: a reference is the sound itself, a voice stays the same."""

    def __init__(self, name: str):
        super().__init__()
        self.model = build(name, **SIZES[name])
        self.window, self.channels_in = self.model.window, self.model.channels_in
        self.voices = [torch.randn(port.shape) for port in getattr(self.model, "extra_inputs", ())]

    def initial_state(self, batch):
        return self.model.initial_state(batch)

    def forward(self, spectrum, state):
        extra = [spectrum.flip(-1) if voice.shape[-1] == 2 else voice for voice in self.voices]
        return self.model(spectrum, *extra, state)


@pytest.fixture(scope="module", params=SIZES)
def model(request) -> OnSound:
    torch.manual_seed(3)
    model = OnSound(request.param).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def test_every_model_of_sound_is_here():
    here = {type(build(name, **sizes)) for name, sizes in SIZES.items()}
    assert {type(build(name)) for name in MODEL_NAMES if task_of(name) != "enroll"} == here


@pytest.mark.parametrize("at", [1280, 1300, 1407])
def test_a_change_at_a_sample_changes_nothing_earlier_than_the_frame_and_the_lookahead_before_it(model, at):
    """Sample n of the output may depend on the rest of its frame and on the lookahead after that; on nothing later."""
    generator = torch.Generator().manual_seed(1)
    sound = 0.1 * torch.randn(1, model.channels_in, 2560, generator=generator)
    changed = sound.clone()
    changed[..., at:] = 0.1 * torch.randn(1, model.channels_in, 2560 - at, generator=generator)
    pair = window_pair(model.window)
    difference = (enhance(model, changed) - enhance(model, sound)).abs().amax((0, 1))
    # In the stream the frame that holds sample `at` gives the outputs from its first sample less the lookahead on.
    first = at // pair.hop_length * pair.hop_length - pair.lookahead
    assert difference[:first].max() <= 1e-6
    assert difference[first : at + pair.hop_length].max() > 1e-4


def test_after_thousands_of_frames_the_state_is_as_large_and_the_same_sound_is_heard_alike(model):
    """What is left of the first seconds fades: averages and memories decay, windows and histories end."""
    pair = window_pair(model.window)
    generator = torch.Generator().manual_seed(2)
    shape = (1, model.channels_in, 2000, pair.bins, 2)
    sound = torch.randn(shape, generator=generator)
    state = start = model.initial_state(1)
    heard = []
    for _ in range(4):
        y, state = model(sound, state)
        heard.append(y[:, :, -200:])
    shapes = {name: value.shape for name, value in flatten_state(start).items()}
    assert {name: value.shape for name, value in flatten_state(state).items()} == shapes
    assert all(value.isfinite().all() for value in flatten_state(state).values())
    assert (heard[3] - heard[1]).abs().max() <= 1e-3 * heard[1].abs().max()
