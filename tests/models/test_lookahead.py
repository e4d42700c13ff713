"""Lookahead that is learned, and positions that are state: what they compute, cost, and say of their delay."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from hearloop.export import export_bundle
from hearloop.models.frontend import enhance
from hearloop.models.streaming.lookahead import LookaheadAttention, lookahead_price
from hearloop.models.streaming.rotary import RotaryPhase
from hearloop.models.streaming.state import ring_paths
from hearloop.runtime import Processor, load_bundle
from hearloop.runtime.errors import HearloopError
from hearloop.runtime.windows import window_pair


def layer(gates: list[float], decided: bool = True) -> LookaheadAttention:
    torch.manual_seed(0)
    layer = LookaheadAttention(8, 2, window=6, bands=3, most=len(gates)).requires_grad_(False)
    layer.gates.copy_(torch.tensor(gates))
    if decided:
        layer.decide()
    return layer


class Looks(nn.Module):
    """A mask from attention that looks ahead, on the spectrum of the frame that it is about."""

    task, channels_in, channels_out, window = "enhance", 1, 1, "symmetric-192"

    def __init__(self, gates: list[float]):
        super().__init__()
        self.attention = layer(gates)
        self.attention.attention.bands = 97
        self.enter, self.leave = nn.Linear(2, 6), nn.Linear(8, 1)

    @property
    def lookahead_frames(self) -> int:
        return self.attention.lookahead_frames

    def initial_state(self, batch):
        return self.attention.initial_state(batch)

    def forward(self, spectrum, state):
        x = torch.cat([spectrum, self.enter(spectrum).tanh()], dim=-1)[:, 0]
        y, state = self.attention(x, state)
        # The bypass of the attention brings the spectrum along, late as the rest.
        kept = y[..., :2] * (1 + 0.1 * self.leave(y).tanh())
        return kept.unsqueeze(1), state


@pytest.mark.parametrize(
    ("gates", "frames"), [([3.0, 2.0, -1.0], 2), ([-1.0, 9.0], 0), ([4.0, 4.0], 2), ([0.1, 0.1], 1)]
)
def test_what_is_decided_is_as_far_as_gates_are_open_one_after_the_other(gates, frames):
    assert layer(gates).lookahead_frames == frames


def test_a_frame_sees_as_far_ahead_as_its_layer_says_and_no_farther():
    attention = layer([5.0, 5.0, -5.0])
    x = torch.randn(1, 20, 3, 8, dtype=torch.float64, requires_grad=True)
    y, _ = attention.double()(x, attention.initial_state(1))
    ahead = attention.lookahead_frames
    about = 12  # its answer comes out `ahead` frames later
    y[0, about + ahead].sum().backward()
    seen = x.grad.abs().amax((0, 2, 3)) > 0
    assert seen.nonzero().flatten().tolist() == list(range(about + ahead - 6, about + ahead + 1))


def test_closed_gates_change_nothing_but_the_delay():
    learning = layer([20.0, 20.0, -40.0], decided=False)
    decided = copy.deepcopy(learning)
    decided.decide()
    x = torch.randn(1, 30, 3, 8)
    soft, _ = learning(x, learning.initial_state(1))
    hard, _ = decided(x, decided.initial_state(1))
    # Until the window is full: it counts from the newest frame, which learning has one farther ahead.
    assert (soft[:, 3:7] - hard[:, 2:6]).abs().max() < 1e-5


def test_the_price_is_the_frames_that_are_looked_ahead_and_training_on_it_alone_closes_the_gates():
    assert layer([20.0, 20.0, -20.0], decided=False).lookahead_price() == pytest.approx(2, abs=1e-6)
    attention = layer([2.0, 2.0, 2.0], decided=False)
    attention.gates.requires_grad_(True)
    optimiser = torch.optim.Adam([attention.gates], lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        attention.lookahead_price().backward()
        optimiser.step()
    attention.decide()
    assert attention.lookahead_frames == 0


def test_a_model_costs_the_frames_of_all_its_layers_that_still_learn():
    layers = [
        layer([20.0, 20.0, -20.0], decided=False),
        layer([20.0, -20.0], decided=False),
        layer([20.0], decided=True),
    ]
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), *layers)
    assert lookahead_price(model) == pytest.approx(3, abs=1e-6)
    assert lookahead_price(model[0]) == 0


def test_training_opens_gates_where_the_future_helps_and_closes_them_where_it_costs_more():
    """What is asked for is the mean of noise: the more frames are heard, the nearer."""
    attention = layer([0.0, 0.0], decided=False)
    inner = attention.attention
    for linear in (inner.project_in, inner.project_out):
        linear.weight.zero_()
        linear.bias.zero_()
    inner.project_in.weight[16:].copy_(torch.eye(8))
    inner.project_out.weight.copy_(torch.eye(8))
    attention.gates.requires_grad_(True)
    x = torch.randn(64, 40, 3, 8, generator=torch.Generator().manual_seed(2))
    y, _ = attention(x, attention.initial_state(64))
    loss = (y[:, 2:] - x[:, :-2]).square().mean()
    for price, opens in ((0.0, True), (1.0, False)):
        (slope,) = torch.autograd.grad(loss + price * attention.lookahead_price(), attention.gates, retain_graph=True)
        assert ((slope < 0) == opens).all(), price


def test_the_decision_is_kept_in_a_checkpoint():
    decided, fresh = layer([3.0, -2.0]), layer([2.0, 2.0], decided=False)
    fresh.load_state_dict(decided.state_dict())
    assert (fresh.lookahead_frames, fresh.decided) == (1, True)


def test_only_a_decided_lookahead_has_a_ring():
    assert ring_paths(layer([3.0, -2.0]).initial_state(1))
    assert not ring_paths(layer([3.0, -2.0], decided=False).initial_state(1))


@pytest.mark.parametrize(("gates", "frames"), [([3.0, 2.0], 2), ([-3.0], 0), ([3.0], 1)])
@pytest.mark.parametrize("rate", [16000, 48000])
def test_the_ledger_shows_the_lookahead_and_the_sound_is_so_late(gates, frames, rate, tmp_path):
    model = Looks(gates).eval().requires_grad_(False)
    with torch.no_grad():
        model.attention.attention.project_out.weight.zero_()
        model.attention.attention.project_out.bias.zero_()
        model.leave.weight.zero_()
        model.leave.bias.zero_()
    export_bundle(model, tmp_path / "looks.onnx", name="looks", license="CC0-1.0")
    info = load_bundle(tmp_path / "looks.onnx").info
    assert info.lookahead == window_pair(model.window).lookahead + 128 * frames
    processor = Processor(tmp_path / "looks.onnx", channels=2, sample_rate=rate, engine="ort")
    assert processor.latency["lookahead"] == pytest.approx(info.lookahead * rate / 16000)
    sound = 0.1 * np.random.default_rng(0).standard_normal((2, rate // 2)).astype(np.float32)
    late = round(processor.latency.total)
    found = np.concatenate([processor.process(sound), processor.flush()], axis=1)[:, late:]
    np.testing.assert_allclose(found, sound, atol=2e-4)


def test_the_torch_front_end_lines_up_what_a_lookahead_delays():
    model = Looks([3.0, 3.0]).eval().requires_grad_(False)
    for linear in (model.attention.attention.project_out, model.leave):
        linear.weight.zero_()
        linear.bias.zero_()
    sound = torch.randn(1, 1, 3000)
    torch.testing.assert_close(enhance(model, sound), sound, rtol=1e-4, atol=1e-4)


def test_rotary_phases_give_products_that_depend_on_the_distance_alone():
    rotary = RotaryPhase(8)
    query, key = torch.randn(2, 8)
    both = torch.stack([query, key]).expand(1, 40, 2, 8)
    turned, _ = rotary(both, rotary.initial_state(1))
    products = turned[0, :, 0] @ turned[0, :, 1].T
    for distance in (-7, 0, 5):
        along = products.diagonal(distance)
        torch.testing.assert_close(along, along[0].expand_as(along), rtol=0, atol=1e-5)
    frames = torch.arange(40, dtype=torch.float64)[:, None] * rotary.frequencies
    a, b = query[::2], query[1::2]
    torch.testing.assert_close(turned[0, :, 0, ::2], (a * frames.cos() - b * frames.sin()).float())


def test_the_frequencies_of_rotary_phases_are_those_of_roformer():
    assert RotaryPhase(8).frequencies.tolist() == pytest.approx([1, 0.1, 0.01, 0.001])


def test_after_45_minutes_rotary_phases_turn_as_in_the_first_second():
    rotary = RotaryPhase(8)
    x = torch.randn(1, 1, 2, 8).expand(1, 500, 2, 8)
    first, state = rotary(x, rotary.initial_state(1))
    for _ in range(337_500 // 500):
        last, state = rotary(x, state)
    assert (state.square().sum(-1) - 1).abs().max() < 1e-6

    def products(turned):
        return turned[0, :60, 0] @ turned[0, :60, 1].T

    torch.testing.assert_close(products(last), products(first), rtol=0, atol=2e-5)


def test_a_lookahead_longer_than_the_window_is_refused():
    with pytest.raises(HearloopError, match="lookahead of 7 frames at most, expected no more than the window of 6"):
        layer([0.0] * 7)
