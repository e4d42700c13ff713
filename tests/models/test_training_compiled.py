"""Compiled layers are the layers they replace: outputs, states, and every gradient."""

import copy
from functools import partial

import numba
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hearloop.models import build
from hearloop.models.frontend import enhance
from hearloop.models.separation import tiger
from hearloop.models.separation.scales import stretched
from hearloop.models.streaming.attention import HIDDEN, attend
from hearloop.models.streaming.mamba import convolve
from hearloop.models.streaming.scan import selective_scan
from hearloop.models.training import compiled
from hearloop.models.training.compiled import compile_layers, linear
from hearloop.models.training.compiled.batch_norm import PlainBatchNorm
from hearloop.models.training.compiled.depthwise import CompiledDepthwise, is_depthwise
from hearloop.models.training.compiled.depthwise_map import CompiledDepthwiseMap, is_depthwise_map
from hearloop.models.training.compiled.gru import CompiledGRU, Recurrence
from hearloop.models.training.compiled.lanes import add, load
from hearloop.models.training.compiled.prelu import CompiledPReLU
from hearloop.models.training.compiled.rounded import rounded_product
from hearloop.models.training.compiled.vectors import tanh


def assert_same(theirs, ours, inputs, tolerance=1e-4):
    """Outputs of two functions and the gradients of a weighted sum of them with respect to all inputs.

    `tolerance` is in parts of the largest value, if that is above one.
    """
    inputs = [value.requires_grad_() for value in inputs]
    found = []
    for function in (theirs, ours):
        outputs = function(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        generator = torch.Generator().manual_seed(1)
        total = sum((torch.randn(y.shape, generator=generator).to(y) * y).sum() for y in outputs)
        found.append([*outputs, *torch.autograd.grad(total, inputs)])
    for expected, value in zip(*found, strict=True):
        largest = float(expected.detach().abs().max().clamp(min=1))
        torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance * largest)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    ("frames", "rows", "features", "hidden"), [(1, 1, 3, 1), (7, 5, 4, 6), (40, 3, 24, 24), (5, 131, 9, 13)]
)
def test_a_compiled_gru_is_the_gru_of_torch(frames, rows, features, hidden, bidirectional):
    torch.manual_seed(frames)
    theirs = nn.GRU(features, hidden, bidirectional=bidirectional)
    ours = CompiledGRU(theirs, Recurrence.apply)
    x = 3 * torch.randn(frames, rows, features)
    start = torch.randn(1 + bidirectional, rows, hidden)
    weights = list(theirs.parameters())
    assert_same(lambda x, h, *_: theirs(x, h), lambda x, h, *_: ours(x, h), [x, start, *weights])


def test_a_compiled_gru_refuses_a_second_way_back():
    output, _ = CompiledGRU(nn.GRU(2, 3), Recurrence.apply)(torch.randn(4, 1, 2))
    output.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second"):
        output.sum().backward()


@pytest.mark.parametrize("count", [1, 5, 8])
def test_lanes_are_as_many_numbers_and_no_others(count):
    given, found = np.linspace(-3, 3, 11, dtype=np.float32), np.full(11, 7, np.float32)
    _some_arithmetic(given, found, 2, count)
    x = given[2 : 2 + count].astype(np.float64)
    expected = 7 + np.maximum(np.minimum(x, 1), -2) / (2 - x * x - np.tanh(x))
    np.testing.assert_allclose(found[2 : 2 + count], expected, rtol=1e-5)
    assert (found[:2] == 7).all()
    assert (found[2 + count :] == 7).all()


def test_a_compiled_gru_passes_on_what_is_no_number():
    gru = CompiledGRU(nn.GRU(2, 9), Recurrence.apply)
    output, _ = gru(torch.tensor([1.0, torch.nan]).expand(3, 1, 2))
    assert output.isnan().all()


@numba.njit(error_model="numpy")
def _some_arithmetic(given, found, first, count):
    x = load(given, first, count)
    add(found, first, count, max(min(x, np.float32(1)), np.float32(-2)) / (np.float32(2) - x * x - tanh(x)))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("product", "tolerance"), [(linear.product, 1e-4), (rounded_product, 1e-2)])
def test_a_compiled_linear_layer_is_the_layer(bias, product, tolerance):
    torch.manual_seed(1)
    theirs = nn.Linear(17, 30, bias=bias)
    ours = linear.CompiledLinear.of(theirs, product)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = torch.randn(70, 17, 5).transpose(1, 2)  # rows that lie apart, in more than one block
    assert_same(lambda x, *_: theirs(x), lambda x, *_: ours(x), [x, *theirs.parameters()], tolerance)
    assert torch.equal(ours.eval()(x), theirs(x))


def test_a_rounded_gru_is_the_gru_but_for_rounding():
    torch.manual_seed(1)
    theirs = nn.GRU(16, 20, bidirectional=True)
    ours = compile_layers(nn.Sequential(copy.deepcopy(theirs)), rounded=True)[0]
    x, start = torch.randn(9, 3, 16), torch.randn(2, 3, 20)
    assert_same(theirs, ours, [x, start], 1e-2)
    torch.testing.assert_close(ours.eval()(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_what_is_narrow_stays_as_it_is():
    model = nn.Sequential(nn.Linear(15, 40), nn.GRU(40, 15))
    compile_layers(model, rounded=True)
    assert type(model[0]) is nn.Linear
    assert model[1].product is functional.linear


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator of NVIDIA")
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("frames", "rows", "hidden"), [(1, 1, 1), (7, 5, 6), (40, 70, 24), (200, 33, 64)])
# Products on tensor cores have mantissas of ten bits, and of seven if what is multiplied is rounded.
@pytest.mark.parametrize(("rounded", "tolerance"), [(False, 5e-3), (True, 5e-2)])
def test_a_gru_on_an_accelerator_is_the_gru_of_torch(frames, rows, hidden, bidirectional, rounded, tolerance):
    torch.manual_seed(frames)
    theirs = nn.GRU(9, hidden, bidirectional=bidirectional).cuda()
    ours = compile_layers(nn.Sequential(theirs), "cuda")[0]
    assert type(ours) is CompiledGRU
    x, start = torch.randn(frames, rows, 9).cuda(), torch.randn(1 + bidirectional, rows, hidden).cuda()

    def found(x, h, *_):
        with torch.autocast("cuda", torch.bfloat16, enabled=rounded):
            return tuple(part.float() for part in ours(x, h))

    assert_same(lambda x, h, *_: theirs(x, h), found, [x, start, *theirs.parameters()], tolerance)


@pytest.mark.parametrize("size", [(2, 1, 1, 1), (3, 5, 7, 4)])
def test_a_plain_batch_norm_is_the_one_of_torch(size):
    torch.manual_seed(1)
    theirs = nn.BatchNorm2d(size[1])
    ours = PlainBatchNorm.of(copy.deepcopy(theirs))
    for training in (True, True, False):
        theirs.train(training)
        ours.train(training)
        x, gain, offset = 3 * torch.randn(size) + 1, torch.rand(size[1]), torch.randn(size[1])
        assert_same(*(partial(_with, norm) for norm in (theirs, ours)), [x, gain, offset])
        for name, buffer in theirs.named_buffers():
            torch.testing.assert_close(ours.get_buffer(name), buffer)


def test_a_plain_batch_norm_takes_rounded_maps_and_keeps_exact_statistics():
    torch.manual_seed(2)
    theirs = nn.BatchNorm2d(3)
    ours = PlainBatchNorm.of(copy.deepcopy(theirs))
    x = 3 * torch.randn(4, 3, 50, 8) + 1
    rounded = x.bfloat16().requires_grad_()
    found = ours(rounded)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), theirs(rounded.detach().float()), rtol=1e-2, atol=1e-2)
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer)
    found.sum().backward()
    assert torch.isfinite(rounded.grad).all()


def _with(norm, x, gain, offset):
    return torch.func.functional_call(norm, {"weight": gain, "bias": offset}, (x,))


@pytest.mark.parametrize(("sequences", "length", "heads", "states", "width"), [(1, 1, 1, 1, 1), (3, 70, 3, 8, 16)])
def test_a_compiled_scan_is_the_scan_in_blocks(sequences, length, heads, states, width):
    torch.manual_seed(length)
    inputs = [
        torch.randn(sequences, length, heads, width),
        torch.rand(sequences, length, heads),
        -torch.rand(heads) - 0.1,
        torch.randn(sequences, length, states),
        torch.randn(sequences, length, states),
        torch.randn(heads),
        torch.randn(sequences, heads, states, width),
    ]
    assert_same(selective_scan, compiled.state_space.scan, inputs)


@pytest.mark.parametrize(("sequences", "length", "inner", "taps"), [(1, 1, 1, 1), (3, 11, 7, 4)])
def test_a_compiled_convolution_is_the_convolution(sequences, length, inner, taps):
    torch.manual_seed(length)
    inputs = [
        3 * torch.randn(sequences, length + taps - 1, inner),
        torch.randn(inner, 1, taps),
        torch.randn(inner),
    ]
    assert_same(convolve, compiled.state_space.convolve, inputs)


@pytest.mark.parametrize(("length", "window"), [(1, 4), (9, 4), (6, 0)])
@pytest.mark.parametrize("sharpness", [1, 30])
def test_compiled_attention_is_the_attention(length, window, sharpness):
    torch.manual_seed(length)
    keys = length + window
    inputs = [sharpness * torch.randn(2, 3, length, 8), torch.randn(2, 3, keys, 8), torch.randn(2, 3, keys, 8)]
    # The first entries of a ring that is not yet full.
    hidden = HIDDEN * (torch.arange(keys) < torch.tensor([[0], [min(window, 3)]])).float()
    assert_same(
        lambda *parts: attend(*parts, 2, hidden, window),
        lambda *parts: compiled.attention.attend(*parts, 2, hidden, window),
        inputs,
    )


@pytest.mark.parametrize(
    ("conv", "shape"),
    [
        (nn.Conv1d(3, 3, 4, groups=3), (2, 3, 9)),
        (nn.Conv1d(3, 3, 5, groups=3, stride=2, padding=2, bias=False), (2, 3, 8)),
        (nn.Conv1d(2, 2, 3, groups=2, dilation=4), (1, 2, 9)),
        (nn.Conv2d(3, 3, (3, 1), groups=3, dilation=(2, 1)), (2, 3, 7, 5)),
    ],
    ids=str,
)
def test_a_compiled_depthwise_convolution_is_the_convolution(conv, shape):
    assert is_depthwise(conv)
    ours = CompiledDepthwise(conv)
    assert_same(lambda x, *_: conv(x), lambda x, *_: ours(x), [torch.randn(shape), *conv.parameters()])
    # Not all that comes is contiguous.
    turned = torch.randn(shape).transpose(0, -1).contiguous().transpose(0, -1)
    torch.testing.assert_close(ours(turned), conv(turned), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv1d(4, 4, 3),
        nn.Conv1d(4, 2, 3, groups=2),
        nn.Conv1d(4, 4, 1, groups=4),
        nn.Conv2d(4, 4, (3, 3), groups=4),
        nn.Conv2d(4, 4, (3, 1), groups=4, padding=(1, 0)),
    ],
    ids=str,
)
def test_other_convolutions_stay_as_they_are(conv):
    assert not is_depthwise(conv)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 3, (3, 3), groups=3, padding=(0, 1), bias=False),
        nn.Conv2d(2, 2, (2, 5), groups=2, padding=(0, 1), dilation=(2, 1)),
        nn.Conv2d(2, 2, (1, 4), groups=2, padding=(0, 3)),
        nn.Conv2d(2, 2, (2, 2), groups=2),
    ],
    ids=str,
)
def test_a_compiled_depthwise_convolution_over_maps_is_the_convolution(conv):
    assert is_depthwise_map(conv)
    ours = CompiledDepthwiseMap(conv)
    x = torch.randn(2, conv.in_channels, 6, 11)
    assert_same(lambda x, *_: conv(x), lambda x, *_: ours(x), [x, *conv.parameters()])


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 2, (3, 3), groups=2),
        nn.Conv2d(4, 4, (3, 1), groups=4),
        nn.Conv2d(4, 4, (3, 3), groups=4, stride=(1, 2)),
        nn.Conv2d(4, 4, (3, 3), groups=4, padding=(1, 1)),
        nn.Conv2d(4, 4, (3, 3), groups=4, padding=(0, 3)),
        nn.Conv2d(4, 4, (3, 3), groups=4, padding="same"),
        nn.Conv2d(4, 4, (3, 3), groups=4, dilation=(1, 2)),
    ],
    ids=str,
)
def test_other_convolutions_over_maps_stay_as_they_are(conv):
    assert not is_depthwise_map(conv)


@pytest.mark.parametrize("shape", [(3, 2), (2, 5, 7), (2, 4, 3, 9)])
def test_a_compiled_prelu_is_the_prelu(shape):
    torch.manual_seed(1)
    theirs = nn.PReLU(shape[1])
    nn.init.normal_(theirs.weight)
    ours = CompiledPReLU.of(theirs)
    x = torch.randn(shape)
    x[0] = 0  # where the slope is a matter of definition
    assert_same(lambda x, _: theirs(x), lambda x, _: ours(x), [x, theirs.weight])


@pytest.mark.parametrize(("batch", "frames", "heads", "bands", "size"), [(1, 1, 1, 2, 1), (2, 9, 3, 11, 4)])
@pytest.mark.parametrize("sharpness", [1.0, 6.0, 60.0])
def test_compiled_attention_among_bands_is_the_attention(batch, frames, heads, bands, size, sharpness):
    torch.manual_seed(frames)
    query, key = (functional.normalize(torch.randn(batch, frames, heads, bands, size), dim=-1) for _ in range(2))
    inputs = [query, key, torch.randn(batch, frames, heads, bands, 3), torch.rand(batch, heads, bands, bands)]
    assert_same(
        lambda *parts: tiger.attend(*parts, 0.9, sharpness),
        lambda *parts: compiled.band_attention.attend(*parts, 0.9, sharpness),
        inputs,
    )


@pytest.mark.parametrize(("size", "length"), [(1, 1), (8, 57), (29, 57), (5, 3)])
def test_compiled_stretching_is_the_stretching(size, length):
    inputs = [torch.randn(2, 3, size)]
    assert_same(lambda x: stretched(x, length), lambda x: compiled.scales.stretched(x, length), inputs)


@pytest.mark.parametrize(
    "name",
    ["enhance-small", "enhance-mamba-small", "separate-small", "separate-tiger-small", "separate-mossformer-small"],
)
def test_a_compiled_model_keeps_its_weights_names_output_and_gradients(name):
    torch.manual_seed(0)
    model = build(name)
    other = compile_layers(copy.deepcopy(model))
    assert list(model.state_dict()) == list(other.state_dict())
    audio = torch.randn(2, 1, 6000)
    found = []
    for each in (model, other):
        output = enhance(each, audio)
        output.square().mean().backward()
        found.append((output, [parameter.grad for parameter in each.parameters() if parameter.requires_grad]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)
