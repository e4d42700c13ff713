"""Compiled layers are the layers they replace: outputs, states, and every gradient."""

import copy
from functools import partial

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
from hearloop.models.training.compiled import compile_layers
from hearloop.models.training.compiled.batch_norm import PlainBatchNorm
from hearloop.models.training.compiled.depthwise import CompiledDepthwise, is_depthwise
from hearloop.models.training.compiled.gru import CompiledGRU, Recurrence


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
@pytest.mark.parametrize(("frames", "rows", "features", "hidden"), [(1, 1, 3, 1), (7, 5, 4, 6), (40, 3, 24, 24)])
def test_a_compiled_gru_is_the_gru_of_torch(frames, rows, features, hidden, bidirectional):
    torch.manual_seed(frames)
    theirs = nn.GRU(features, hidden, bidirectional=bidirectional)
    ours = CompiledGRU(theirs, Recurrence.apply)
    x = 3 * torch.randn(frames, rows, features)
    start = torch.randn(1 + bidirectional, rows, hidden)
    weights = list(theirs.parameters())
    assert_same(lambda x, h, *_: theirs(x, h), lambda x, h, *_: ours(x, h), [x, start, *weights])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator of NVIDIA")
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("frames", "rows", "hidden"), [(1, 1, 1), (7, 5, 6), (40, 70, 24), (200, 33, 64)])
def test_a_gru_on_an_accelerator_is_the_gru_of_torch(frames, rows, hidden, bidirectional):
    torch.manual_seed(frames)
    theirs = nn.GRU(9, hidden, bidirectional=bidirectional).cuda()
    ours = compile_layers(nn.Sequential(theirs), "cuda")[0]
    assert type(ours) is CompiledGRU
    x, start = torch.randn(frames, rows, 9).cuda(), torch.randn(1 + bidirectional, rows, hidden).cuda()
    # Products on tensor cores have mantissas of ten bits.
    assert_same(lambda x, h, *_: theirs(x, h), lambda x, h, *_: ours(x, h), [x, start, *theirs.parameters()], 5e-3)


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
