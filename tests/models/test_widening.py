"""A wider network computes what the narrower one did: exactly without layer norms, nearly with them."""

import pytest
import torch
from torch import nn

from hearloop.models import build
from hearloop.models.frontend import enhance
from hearloop.models.streaming.compose import Chain
from hearloop.models.streaming.conv2d import CausalConv2d
from hearloop.models.streaming.recurrent import FrequencyGRU, TimeGRU
from hearloop.models.training.checkpoint import take_over
from hearloop.models.widening import widened

BATCH, FRAMES, BANDS = 2, 5, 6


def _recurrent(hidden: int) -> Chain:
    return Chain(
        TimeGRU(3, hidden, BANDS), nn.Linear(hidden, hidden), FrequencyGRU(hidden, hidden // 2), nn.Linear(hidden, 4)
    )


def _convolutions(channels: int) -> Chain:
    return Chain(
        nn.Conv2d(3, channels, (1, 4), (1, 2)),
        CausalConv2d(channels, channels, (3, 3), BANDS, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.PReLU(channels),
        nn.Conv2d(channels, channels, 1),
        nn.ConvTranspose2d(channels, 4, (1, 4), (1, 2)),
    )


@pytest.mark.parametrize(
    ("form", "shape"),
    [(_recurrent, (BATCH, FRAMES, BANDS, 3)), (_convolutions, (BATCH, 3, FRAMES, 2 * BANDS + 2))],
    ids=["recurrent", "convolutions"],
)
@pytest.mark.parametrize("size", [8, 10, 24])
def test_layers_without_layer_norms_compute_the_same(form, shape, size):
    torch.manual_seed(size)
    narrow, wide, x = form(8).eval(), form(size).eval(), torch.randn(shape)
    with torch.no_grad():
        for parameter in narrow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    wide.load_state_dict(widened(wide, narrow.state_dict()))
    with torch.no_grad():
        expected, found = (model(x, model.initial_state(BATCH))[0] for model in (narrow, wide))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [{"hidden": 64}, {"channels": 32}, {"channels": 64, "hidden": 128, "attentive": 1}])
def test_a_separator_nearly_computes_the_same(size):
    torch.manual_seed(1)
    narrow, wide = build("separate-small").eval(), build("separate-small", **size).eval()
    with torch.no_grad():
        for parameter in narrow.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        audio = 0.1 * torch.randn(2, 1, 16000)
        expected, before = enhance(narrow, audio), enhance(wide, audio)
        take_over(wide, narrow.state_dict(), "the narrow one")
        found = enhance(wide, audio)
    error_db, error_before_db = (
        10 * torch.log10((one - expected).square().sum() / (expected - audio / 2).square().sum())
        for one in (found, before)
    )
    assert error_db < min(-10, error_before_db - 8)


def test_what_is_not_narrower_stays_as_it_is():
    model = nn.Sequential(nn.Linear(3, 4))
    held = {"0.weight": torch.ones(5, 3), "0.bias": torch.ones(4), "more": torch.ones(2)}
    assert widened(model, held) == held
