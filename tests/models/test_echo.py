"""The echo canceller: its complex convolutions, what it is before training, and that it hears the reference."""

import pytest
import torch

from hearloop.models import build
from hearloop.models.streaming.dilated import ComplexConv2d, MultiDilatedBlock
from hearloop.models.streaming.state import flatten_state


def test_a_pseudo_complex_convolution_is_a_complex_one():
    torch.manual_seed(0)
    layer = ComplexConv2d(2, 3, taps=3, dilation=2)
    x = torch.randn(1, 2, 9, 8, dtype=torch.complex64)
    weight = torch.complex(layer.weight[0], layer.weight[1])
    with torch.no_grad():
        found = layer(torch.cat([x.real, x.imag], dim=1))
        expected = torch.nn.functional.conv2d(x, weight, padding=(0, 2), dilation=2)
    torch.testing.assert_close(torch.complex(*found.chunk(2, dim=1)), expected)


@pytest.mark.parametrize("layers", [1, 3, 4])
def test_a_multi_dilated_block_sees_every_frame_within_its_reach_and_none_before(layers):
    torch.manual_seed(0)
    block = MultiDilatedBlock(2, layers, bands=5).double()
    reach = 2 * (2**layers - 1)
    x = torch.randn(1, 4, reach + 4, 5, dtype=torch.float64, requires_grad=True)
    y, _ = block(x, tuple(state.double() for state in block.initial_state(1)))
    y[:, :, -1].square().sum().backward()
    touched = x.grad.abs().amax((0, 1, 3)) > 0
    assert touched[-1 - reach :].all(), "a frame within reach is not seen"
    assert not touched[: -1 - reach].any(), "a frame beyond it is seen"


def test_an_untrained_canceller_passes_the_microphone_at_any_level():
    torch.manual_seed(0)
    model = build("echo-small").eval()
    near, far = torch.randn(2, 1, 1, 40, 97, 2)
    with torch.no_grad():
        once, state = model(near, far, model.initial_state(1))
        quiet, _ = model(near / 50, far * 3, model.initial_state(1))
    assert (once - near).std() < 0.5 * near.std()
    torch.testing.assert_close(50 * quiet, once, rtol=1e-3, atol=1e-3)
    assert {value.dtype for value in flatten_state(state).values()} == {torch.float32}


def test_the_reference_is_heard():
    torch.manual_seed(0)
    model = build("echo-small").eval()
    near, far, other = torch.randn(3, 1, 1, 20, 97, 2)
    with torch.no_grad():
        first, _ = model(near, far, model.initial_state(1))
        second, _ = model(near, other, model.initial_state(1))
    assert (first - second).std() > 0.01 * first.std()


def test_the_published_size():
    model = build("echo-large")
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(354_000, rel=0.05)
