"""What each layer computes, against its definition."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hearloop.models.separation.mossformer import SquaredReluAttention
from hearloop.models.streaming.attention import WindowAttention
from hearloop.models.streaming.average import ExponentialAverage
from hearloop.models.streaming.conv1d import CausalConv1d
from hearloop.models.streaming.conv2d import CausalConv2d
from hearloop.models.streaming.linear_attention import DecayedLinearAttention
from hearloop.models.streaming.norm import FrameNorm, RunningNorm
from hearloop.models.streaming.recurrent import FrequencyGRU, TimeGRU
from hearloop.models.streaming.state import flatten_state, unflatten_state
from hearloop.models.streaming.transposed import CausalConvTranspose2d
from hearloop.runtime.errors import HearloopError


@pytest.fixture(autouse=True)
def _reproducible_without_gradients():
    torch.manual_seed(3)
    with torch.no_grad():
        yield


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    return float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


def test_convolutions_are_those_of_pytorch_with_zeros_before_the_start(tolerances):
    layer = CausalConv1d(3, 4, 3, dilation=2)
    x = torch.randn(2, 3, 11)
    assert close(layer(x, layer.initial_state(2))[0], layer.conv(functional.pad(x, (4, 0))), tolerances["convolution"])
    layer = CausalConv2d(3, 4, (3, 5), 12, stride=2, dilation=2, padding=1)
    x = torch.randn(2, 3, 11, 12)
    expected = layer.conv(functional.pad(x, (0, 0, 4, 0)))
    assert close(layer(x, layer.initial_state(2))[0], expected, tolerances["convolution"])


def test_a_transposed_convolution_answers_an_impulse_with_its_kernel_from_that_frame_on(tolerances):
    layer = CausalConvTranspose2d(1, 1, (3, 4), 6, stride=4, dilation=2, bias=False)
    x = torch.zeros(1, 1, 10, 6)
    x[0, 0, 3, 2] = 1
    y, _ = layer(x, layer.initial_state(1))
    expected = torch.zeros(1, 1, 10, 24)
    for tap in range(3):
        expected[0, 0, 3 + 2 * tap, 8:12] = layer.conv.weight[0, 0, tap]
    assert close(y, expected, tolerances["convolution"])


def test_the_gru_over_time_runs_along_each_band_alone(tolerances):
    layer = TimeGRU(4, 5, 3)
    x = torch.randn(2, 7, 3, 4)
    y, state = layer(x, layer.initial_state(2))
    for band in range(3):
        expected, last = layer.gru(x[:, :, band].transpose(0, 1))
        assert close(y[:, :, band], expected.transpose(0, 1), tolerances["recurrent"])
        assert close(state[:, band], last[0], tolerances["recurrent"])


def test_the_gru_over_frequency_runs_along_each_frame_alone_both_ways(tolerances):
    layer = FrequencyGRU(4, 5)
    x = torch.randn(2, 7, 6, 4)
    y = layer(x)
    for frame in range(7):
        expected, _ = layer.gru(x[:, frame].transpose(0, 1))
        assert close(y[:, frame], expected.transpose(0, 1), tolerances["recurrent"])
    changed = x.clone()
    changed[:, :, 3] += 1
    moved = (layer(changed) - y).abs().amax(dim=(0, 1, 3))
    assert (moved > 0).all()


@pytest.mark.parametrize("time_constant", [1.0, 12.5, 125.0])
def test_the_exponential_average_follows_its_recursion(time_constant, tolerances):
    layer = ExponentialAverage(time_constant)
    x = torch.rand(2, 300) + 0.1
    y, state = layer(x, layer.initial_state(2))
    decay, total, weight = np.exp(-1 / time_constant), np.zeros(2), 0.0
    for frame in range(300):
        total = decay * total + (1 - decay) * x[:, frame].double().numpy()
        weight = decay * weight + 1 - decay
        assert np.allclose(y[:, frame], total / weight, rtol=10 * tolerances["average"])
    assert close(y[:, :1], x[:, :1], tolerances["average"])
    assert np.allclose(state["sum"][:, 0], total, rtol=10 * tolerances["average"])


def test_no_frames_leave_the_average_as_it_is():
    layer = ExponentialAverage(10.0, (4,))
    _, state = layer(torch.rand(2, 4, 5), layer.initial_state(2))
    nothing, after = layer(torch.rand(2, 4, 0), state)
    assert nothing.shape == (2, 4, 0)
    assert all(torch.equal(after[name], value) for name, value in state.items())


@pytest.mark.parametrize("time_constant", [0.0, -1.0, float("nan")])
def test_an_average_over_no_time_is_refused(time_constant):
    with pytest.raises(HearloopError, match=f"time constant is {time_constant} frames"):
        ExponentialAverage(time_constant)


def test_what_is_remembered_of_a_long_piece_is_all_that_is_kept_of_it():
    layer = CausalConv2d(3, 4, (3, 5), 12, padding=2)
    _, state = layer(torch.randn(2, 3, 100, 12), layer.initial_state(2))
    assert state.untyped_storage().nbytes() == 4 * state.numel()


def test_frame_norm_gives_zero_mean_and_unit_variance_where_it_says():
    x = 5 * torch.randn(2, 8, 3, 10) + 2
    per_band = FrameNorm(8)(x)
    assert torch.allclose(per_band.mean(1), torch.zeros(2, 3, 10), atol=1e-5)
    assert torch.allclose(per_band.var(1, unbiased=False), torch.ones(2, 3, 10), atol=1e-3)
    per_frame = FrameNorm(8, bands=10)(x)
    assert torch.allclose(per_frame.mean((1, 3)), torch.zeros(2, 3), atol=1e-5)
    assert torch.allclose(per_frame.var((1, 3), unbiased=False), torch.ones(2, 3), atol=1e-3)


def test_running_norm_forgets_level_and_offset_and_nears_instance_norm():
    norm = RunningNorm(4, time_constant=200)
    x = torch.randn(1, 4, 400, 30)
    y, _ = norm(x, norm.initial_state(1))
    louder, _ = norm(100 * x + 50, norm.initial_state(1))
    # Before the mean has settled the offset is still in it; afterwards only the signal is left.
    assert torch.allclose(louder, y, atol=2e-3)
    assert torch.allclose(y[:, :, 200:], nn.functional.instance_norm(x)[:, :, 200:], atol=0.15)


@pytest.mark.parametrize("norm", [FrameNorm(4), FrameNorm(4, bands=6), RunningNorm(4, 20.0)], ids=["1", "2", "3"])
def test_norms_do_not_turn_up_silence(norm):
    x = 1e-6 * torch.randn(1, 4, 10, 6)
    y = norm(x, norm.initial_state(1))[0] if hasattr(norm, "initial_state") else norm(x)
    assert y.abs().max() < 1e-2


def test_attention_is_softmax_over_the_last_frames_and_the_present_one(tolerances):
    window, heads, size = 4, 2, 3
    layer = WindowAttention(heads * size, heads, window, bands=2)
    x = torch.randn(1, 11, 2, heads * size)
    y, _ = layer(x, layer.initial_state(1))
    for frame in range(11):
        seen = layer.project_in(x[0, max(0, frame - window) : frame + 1])
        for band in range(2):
            query, key, value = seen[:, band].reshape(-1, 3, heads, size).permute(1, 2, 0, 3)
            scores = torch.einsum("hd,hkd->hk", query[:, -1], key) / size**0.5
            mixed = torch.einsum("hk,hkd->hd", scores.softmax(-1), value).reshape(-1)
            assert close(y[0, frame, band], layer.project_out(mixed), 10 * tolerances["attention"])


@pytest.mark.parametrize("frames", [2, 5, 9])
def test_attention_does_not_care_for_the_order_of_its_ring(frames, tolerances):
    layer = WindowAttention(8, 2, window=5, bands=3)
    _, state = layer(torch.randn(2, frames, 3, 8), layer.initial_state(2))
    order = torch.randperm(5)
    mixed = {
        "key": state["key"][:, :, order],
        "value": state["value"][:, :, order],
        "filled": state["filled"][:, order],
    }
    x = torch.randn(2, 1, 3, 8)
    assert close(layer(x, mixed)[0], layer(x, state)[0], tolerances["attention"])


def test_slots_that_hold_no_frame_yet_are_not_seen(tolerances):
    layer = WindowAttention(8, 2, window=5, bands=3)
    x = torch.randn(1, 2, 3, 8)
    state = layer.initial_state(1)
    rubbish = {"key": torch.randn(1, 3, 5, 8), "value": torch.randn(1, 3, 5, 8), "filled": state["filled"]}
    assert torch.equal(layer(x, rubbish)[0], layer(x, state)[0])


def test_linear_attention_follows_its_recursion(tolerances):
    layer = DecayedLinearAttention(3, 4, time_constant=20)
    q, k, v = torch.randn(2, 150, 3), torch.randn(2, 150, 3), torch.randn(2, 150, 4)
    y, last = layer(q, k, v, layer.initial_state(2))
    memory, decay = torch.zeros(2, 3, 4), float(np.exp(-1 / 20))
    expected = []
    for frame in range(150):
        memory = decay * memory + (1 - decay) * k[:, frame, :, None] * v[:, frame, None]
        expected.append(q[:, frame, None] @ memory)
    assert close(y, torch.cat(expected, dim=1), tolerances["attention"])
    assert close(last, memory, tolerances["attention"])


def test_squared_attention_weighs_the_last_frames_and_the_present_one_without_a_softmax(tolerances):
    layer = SquaredReluAttention(3, 4, window=7)
    q, k, v = torch.randn(1, 30, 3), torch.randn(1, 30, 3), torch.randn(1, 30, 4)
    y, _ = layer(q, k, v, layer.initial_state(1))
    seen = [slice(max(0, frame - 7), frame + 1) for frame in range(30)]
    expected = [((k[0, past] @ q[0, past.stop - 1] / 8).relu() ** 2) @ v[0, past] for past in seen]
    assert close(y[0], torch.stack(expected), tolerances["attention"])


def test_a_state_is_named_by_its_path():
    state = {"a": (torch.zeros(1), {"b": torch.ones(1)}), "c": torch.zeros(2)}
    flat = flatten_state(state)
    assert list(flat) == ["a.0", "a.1.b", "c"]
    back = unflatten_state(state, flat)
    assert isinstance(back["a"], tuple)
    assert back["a"][1]["b"] is state["a"][1]["b"]
