"""The compiled GRU is PyTorch's GRU: outputs, last state, and every gradient."""

import pytest
import torch
from torch import nn

from hearloop.models import build
from hearloop.models.frontend import enhance
from hearloop.models.training.recurrence import CompiledGRU, compile_recurrence


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("frames", "rows", "features", "hidden"), [(1, 1, 3, 1), (7, 5, 4, 6), (40, 3, 24, 24)])
def test_outputs_and_gradients_equal_those_of_torch(frames, rows, features, hidden, bidirectional):
    torch.manual_seed(frames)
    theirs = nn.GRU(features, hidden, bidirectional=bidirectional)
    ours = CompiledGRU(theirs)
    x = (3 * torch.randn(frames, rows, features)).requires_grad_()
    start = torch.randn(1 + bidirectional, rows, hidden, requires_grad=True)
    weight = torch.randn(frames, rows, hidden * (1 + bidirectional))
    leaves = [x, start, *theirs.parameters()]
    found = []
    for layer in (theirs, ours):
        y, end = layer(x, start)
        gradients = torch.autograd.grad((weight * y).sum() + end.square().sum(), leaves)
        found.append([y, end, *gradients])
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)


def test_a_model_keeps_its_weights_names_and_output():
    torch.manual_seed(0)
    model = build("enhance-small").eval()
    audio = torch.randn(2, 1, 2000)
    with torch.no_grad():
        expected = enhance(model, audio)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        compile_recurrence(model)
        assert any(isinstance(layer, CompiledGRU) for layer in model.modules())
        torch.testing.assert_close(enhance(model, audio), expected, rtol=1e-4, atol=1e-5)
    assert list(before) == list(model.state_dict())
    assert [name for name, _ in model.named_parameters()] == [
        name for name, _ in build("enhance-small").named_parameters()
    ]
