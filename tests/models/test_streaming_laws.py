"""The laws that every streaming layer and model obeys: any split of time, no future, no hidden state."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hearloop.models import build
from hearloop.models.separation.gate import PhantomGate
from hearloop.models.separation.mossformer import SquaredReluAttention
from hearloop.models.streaming.attention import WindowAttention
from hearloop.models.streaming.average import ExponentialAverage
from hearloop.models.streaming.compose import Chain, Residual
from hearloop.models.streaming.conv1d import CausalConv1d
from hearloop.models.streaming.conv2d import CausalConv2d
from hearloop.models.streaming.dilated import MultiDilatedBlock
from hearloop.models.streaming.frame_attention import FrameAttention
from hearloop.models.streaming.linear_attention import DecayedLinearAttention
from hearloop.models.streaming.lookahead import LookaheadAttention
from hearloop.models.streaming.mamba import FrequencyMamba, TimeMamba
from hearloop.models.streaming.norm import FrameNorm, RunningNorm
from hearloop.models.streaming.recurrent import FrequencyGRU, FrequencyLSTM, TimeGRU, TimeLSTM
from hearloop.models.streaming.rotary import RotaryPhase
from hearloop.models.streaming.state import State, flatten_state, unflatten_state
from hearloop.models.streaming.transposed import CausalConvTranspose2d

BATCH = 3


@dataclass(frozen=True)
class Case:
    """A layer, the shape of its input without batch and time, the axis of time, and its row in the tolerance table.

    Another frame changes its output by at least so much: what is a mean over time shows little of one frame.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    time_axis: int
    tolerance: str
    least: float = 1e-3

    def input(self, frames: int, seed: int = 0) -> torch.Tensor:
        shape = list(self.shape)
        shape.insert(self.time_axis - 1, frames)
        return torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(seed))


def shaken(model: nn.Module, by: float = 0.05) -> nn.Module:
    """Weights of which none is zero: every layer has an effect."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return model


class WithReference(nn.Module):
    """An echo model that takes the microphone and the reference as two channels of one input."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def initial_state(self, batch: int) -> State:
        return self.model.initial_state(batch)

    def forward(self, spectrum: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        return self.model(*spectrum.split(1, dim=1), state)


class Steered(nn.Module):
    """A target model with a voice that stays the same."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.voice = nn.Parameter(torch.randn(model.extra_inputs[0].shape))

    def initial_state(self, batch: int) -> State:
        return self.model.initial_state(batch)

    def forward(self, spectrum: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        return self.model(spectrum, self.voice.expand(len(spectrum), -1, -1, -1), state)


class Attends(nn.Module):
    """An attention that takes queries, keys and values, given the same for all three."""

    def __init__(self, attention):
        super().__init__()
        self.attention = attention
        self.initial_state = attention.initial_state

    def forward(self, x, state):
        return self.attention(x, x, x, state)


def looks_ahead(decided: bool) -> LookaheadAttention:
    """Up to three frames; once that is decided, two."""
    layer = LookaheadAttention(8, 2, window=6, bands=3, most=3)
    if decided:
        with torch.no_grad():
            layer.gates.copy_(torch.tensor([3.0, 2.0, -1.0]))
        layer.decide()
    return layer


CASES = {
    "conv 1-D": Case(lambda: CausalConv1d(4, 5, 3), (4,), 2, "convolution"),
    "conv 1-D dilated": Case(lambda: CausalConv1d(4, 6, 3, dilation=4, groups=2), (4,), 2, "convolution"),
    "conv 1-D depthwise": Case(lambda: CausalConv1d(4, 4, 5, groups=4), (4,), 2, "convolution"),
    "conv 1-D pointwise": Case(lambda: CausalConv1d(4, 3, 1), (4,), 2, "convolution"),
    "conv 2-D strided": Case(lambda: CausalConv2d(3, 4, (2, 8), 33, stride=4, padding=2), (3, 33), 2, "convolution"),
    "conv 2-D dilated depthwise": Case(
        lambda: CausalConv2d(4, 4, (3, 3), 9, dilation=2, padding=1, groups=4), (4, 9), 2, "convolution"
    ),
    "transposed": Case(
        lambda: CausalConvTranspose2d(4, 2, (3, 8), 8, stride=4, padding=2, extra=1), (4, 8), 2, "convolution"
    ),
    "transposed dilated": Case(
        lambda: CausalConvTranspose2d(4, 4, (2, 3), 8, dilation=3, padding=1, groups=4), (4, 8), 2, "convolution"
    ),
    "GRU over time": Case(lambda: TimeGRU(4, 6, 5), (5, 4), 1, "recurrent"),
    "LSTM over time": Case(lambda: TimeLSTM(4, 6, 5), (5, 4), 1, "recurrent"),
    "GRU over frequency": Case(lambda: Chain(FrequencyGRU(4, 3)), (5, 4), 1, "recurrent"),
    "LSTM over frequency": Case(lambda: Chain(FrequencyLSTM(4, 3)), (5, 4), 1, "recurrent"),
    "norm over channels": Case(lambda: Chain(FrameNorm(4)), (4, 6), 2, "norm"),
    "norm over channels and bands": Case(lambda: Chain(FrameNorm(4, bands=6)), (4, 6), 2, "norm"),
    "running norm": Case(lambda: RunningNorm(4, time_constant=10), (4, 6), 2, "norm"),
    "exponential average": Case(lambda: ExponentialAverage(10.0, (4,)), (4,), 2, "average"),
    "phantom gate": Case(lambda: PhantomGate(2, 128), (2, 4, 2), 2, "average"),
    "linear attention": Case(lambda: Attends(DecayedLinearAttention(4, 4, time_constant=20)), (4,), 1, "attention"),
    "squared attention": Case(lambda: Attends(SquaredReluAttention(4, 4, window=7)), (4,), 1, "attention"),
    "rotary phases": Case(lambda: RotaryPhase(4), (3, 4), 1, "attention"),
    "lookahead, learning": Case(lambda: looks_ahead(decided=False), (3, 8), 1, "attention"),
    "lookahead, decided": Case(lambda: looks_ahead(decided=True), (3, 8), 1, "attention"),
    "attention": Case(lambda: WindowAttention(8, 2, window=6, bands=3), (3, 8), 1, "attention"),
    "composition": Case(
        lambda: Chain(
            CausalConv2d(3, 3, (3, 3), 8, padding=1),
            nn.BatchNorm2d(3),
            Residual(Chain(nn.PReLU(3), CausalConv2d(3, 3, (2, 1), 8), RunningNorm(3, 8.0))),
            FrameNorm(3, 8),
        ),
        (3, 8),
        2,
        "composition",
    ),
    "enhance-small": Case(lambda: build("enhance-small"), (1, 257, 2), 2, "model"),
    "attention between frames": Case(lambda: FrameAttention(8, 2, window=6, bands=5, query=3), (5, 8), 1, "attention"),
    "enroll": Case(lambda: build("enroll", channels=8, hidden=6, blocks=1, embedding=12), (2, 97, 2), 2, "model"),
    "gtcrn": Case(lambda: build("gtcrn"), (1, 257, 2), 2, "model"),
    "multi-dilated block": Case(lambda: MultiDilatedBlock(3, 3, bands=7), (6, 7), 2, "composition"),
    "echo-small": Case(
        lambda: WithReference(build("echo-small", channels=3, blocks=2, layers=2)), (2, 97, 2), 2, "model"
    ),
    "state space over time": Case(lambda: TimeMamba(4, 2, 3, 4, bands=5), (5, 4), 1, "attention"),
    "state space over frequency": Case(lambda: Chain(FrequencyMamba(4, 2, 3, 4)), (5, 4), 1, "attention"),
    "enhance-mamba-small": Case(
        lambda: build("enhance-mamba-small", channels=8, blocks=2, depth=2, memory=6, heads=2), (1, 257, 2), 2, "model"
    ),
    "separate-mossformer": Case(
        lambda: build("separate-mossformer-small", size=16, layers=2, keys=6, window=8, inner=10),
        (1, 257, 2),
        2,
        "model",
    ),
    "separate": Case(lambda: shaken(build("separate", blocks=1, attentive=1, pitches=8)), (1, 257, 2), 2, "model"),
    "separate-tiger": Case(
        lambda: build("separate-tiger-small", size=8, channels=8, rounds=2, scales=3, heads=2, query=3, memory=6),
        (1, 257, 2),
        2,
        "model",
    ),
    "target, two bins to a band": Case(
        lambda: Steered(build("target", channels=8, hidden=6, blocks=2, heads=2, memory=6, query=2, stride=2)),
        (2, 97, 2),
        2,
        "model",
    ),
    "target-small": Case(
        lambda: Steered(build("target-small", channels=8, hidden=12, bands=16, blocks=1)), (2, 257, 2), 2, "model"
    ),
    "target-small, with directions": Case(
        lambda: shaken(
            Steered(build("target-small", channels=8, hidden=12, bands=16, blocks=2, pitches=8, delays=6)), by=0.1
        ),
        (2, 257, 2),
        2,
        "model",
    ),
    "target-small, with a beamformer": Case(
        lambda: shaken(
            Steered(build("target-small", channels=8, hidden=12, bands=16, blocks=1, beamforming=True)), by=0.1
        ),
        (2, 257, 2),
        2,
        "model",
    ),
    "target-around": Case(
        lambda: shaken(
            Steered(
                build(
                    "target-around",
                    **{"channels": 8, "hidden": 12, "bands": 16, "blocks": 2, "embedding": 12, "pitches": 8},
                    **{"delays": 6, "turns": 3, "listener": {"channels": 4, "width": 8, "bands": 8, "hidden": 12}},
                )
            ),
            by=0.1,
        ),
        (2, 257, 2),
        2,
        "model",
    ),
    "enroll-frontal": Case(
        lambda: shaken(
            build("enroll-frontal", channels=8, width=8, bands=8, blocks=1, hidden=12, layers=1, embedding=12), by=0.1
        ),
        (2, 257, 2),
        2,
        "model",
        least=1e-5,
    ),
    "enroll, four bins to a band": Case(
        lambda: build("enroll", channels=8, hidden=6, blocks=1, embedding=12, stride=4), (2, 97, 2), 2, "model"
    ),
    "target": Case(
        lambda: Steered(build("target", channels=8, hidden=6, blocks=2, heads=2, memory=6, query=2)),
        (2, 97, 2),
        2,
        "model",
    ),
}


@pytest.fixture(scope="module", params=CASES, ids=lambda name: name.replace(" ", "-"))
def case(request) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def layer(case) -> nn.Module:
    torch.manual_seed(1)
    layer = case.make()
    # One pass in training mode gives batch norms statistics that are not trivial.
    with torch.no_grad():
        layer.train()(3 * case.input(20, seed=9) + 1, layer.initial_state(BATCH))
    return layer.eval().requires_grad_(False)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-9))


def test_every_split_of_time_gives_the_same_output_and_state(case, layer, tolerances):
    @settings(max_examples=12)
    @given(chunks=st.lists(st.integers(1, 40), min_size=1, max_size=6), seed=st.integers(0, 99))
    def check(chunks, seed):
        x = case.input(sum(chunks), seed)
        whole, last = layer(x, layer.initial_state(BATCH))
        state, parts = layer.initial_state(BATCH), []
        for chunk in x.split(chunks, dim=case.time_axis):
            part, state = layer(chunk, state)
            parts.append(part)
        assert error(torch.cat(parts, dim=case.time_axis), whole) <= tolerances[case.tolerance]
        for name, value in flatten_state(last).items():
            assert error(flatten_state(state)[name], value) <= tolerances[case.tolerance]

    check()


def test_frame_by_frame_gives_the_same_output(case, layer, tolerances):
    x = case.input(30)
    whole, _ = layer(x, layer.initial_state(BATCH))
    state, parts = layer.initial_state(BATCH), []
    for frame in x.split(1, dim=case.time_axis):
        part, state = layer(frame, state)
        parts.append(part)
    assert error(torch.cat(parts, dim=case.time_axis), whole) <= tolerances[case.tolerance]


def test_no_sequence_of_a_batch_knows_of_the_others(case, layer, tolerances):
    x = case.input(12)
    together, _ = layer(x, layer.initial_state(BATCH))
    for index in range(BATCH):
        alone, _ = layer(x[index : index + 1], layer.initial_state(1))
        assert error(alone, together[index : index + 1]) <= tolerances[case.tolerance]


def test_the_future_never_changes_the_past(case, layer, tolerances):
    @settings(max_examples=8)
    @given(frames=st.integers(2, 30), data=st.data())
    def check(frames, data):
        now = data.draw(st.integers(1, frames - 1))
        x, other = case.input(frames), case.input(frames, seed=5)
        changed = torch.cat(
            [x.narrow(case.time_axis, 0, now), other.narrow(case.time_axis, now, frames - now)], case.time_axis
        )
        before, _ = layer(x, layer.initial_state(BATCH))
        after, _ = layer(changed, layer.initial_state(BATCH))
        past = error(after.narrow(case.time_axis, 0, now), before.narrow(case.time_axis, 0, now))
        assert past <= tolerances[case.tolerance]
        assert error(after.narrow(case.time_axis, now, 1), before.narrow(case.time_axis, now, 1)) > case.least

    check()


def test_all_memory_is_in_the_state(case, layer):
    x = case.input(9)
    _, state = layer(x, layer.initial_state(BATCH))
    kept = {name: value.clone() for name, value in flatten_state(state).items()}
    first, _ = layer(x, state)
    layer(10 * x, layer.initial_state(BATCH))
    again, _ = layer(x, state)
    assert torch.equal(first, again)
    for name, value in flatten_state(state).items():
        assert torch.equal(value, kept[name]), f"state {name} was changed in place"


def test_the_state_survives_its_names(case, layer):
    start = layer.initial_state(BATCH)
    _, state = layer(case.input(9), start)
    flat = flatten_state(state)
    assert {name: value.shape for name, value in flat.items()} == {
        name: value.shape for name, value in flatten_state(start).items()
    }
    assert all(value.shape[0] == BATCH and value.dtype == torch.float32 for value in flat.values())
    carried = unflatten_state(start, {name: torch.from_numpy(value.numpy().copy()) for name, value in flat.items()})
    assert torch.equal(layer(case.input(4, seed=2), carried)[0], layer(case.input(4, seed=2), state)[0])
