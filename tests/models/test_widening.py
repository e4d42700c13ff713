"""A wider network computes what the narrower one did: exactly without layer norms, nearly with them."""

import pytest
import torch
from torch import nn

from hearloop.models import build
from hearloop.models.frontend import enhance
from hearloop.models.streaming.compose import Chain
from hearloop.models.streaming.conv2d import CausalConv2d
from hearloop.models.streaming.frame_attention import FrameAttention
from hearloop.models.streaming.recurrent import FrequencyGRU, FrequencyLSTM, TimeGRU, TimeLSTM
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


def _with_cells(hidden: int) -> Chain:
    return Chain(
        TimeLSTM(3, hidden, BANDS), nn.Linear(hidden, hidden), FrequencyLSTM(hidden, hidden // 2), nn.Linear(hidden, 4)
    )


@pytest.mark.parametrize(
    ("form", "shape"),
    [
        (_recurrent, (BATCH, FRAMES, BANDS, 3)),
        (_with_cells, (BATCH, FRAMES, BANDS, 3)),
        (_convolutions, (BATCH, 3, FRAMES, 2 * BANDS + 2)),
    ],
    ids=["recurrent", "with cells", "convolutions"],
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


def test_attention_between_frames_computes_the_same_when_features_are_doubled():
    """Layer norms then take the mean of every feature twice."""
    torch.manual_seed(0)
    narrow, wide = (
        Chain(nn.Linear(3, size), FrameAttention(size, 4, 10, BANDS, 2), nn.Linear(size, 4)).eval() for size in (8, 16)
    )
    wide.load_state_dict(widened(wide, narrow.state_dict()))
    x = torch.randn(BATCH, FRAMES, BANDS, 3)
    with torch.no_grad():
        expected, found = (model(x, model.initial_state(BATCH))[0] for model in (narrow, wide))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


TARGET = {"channels": 6, "hidden": 8, "bands": 8, "blocks": 1, "embedding": 8, "rank": 4}


@pytest.mark.parametrize("size", [{"channels": 12}, {"hidden": 16}])
def test_a_wider_target_keeps_what_a_narrower_one_keeps_of_a_voice(size):
    torch.manual_seed(2)
    narrow, wide = build("target-small", **TARGET).eval(), build("target-small", **TARGET | size).eval()
    take_over(wide, narrow.state_dict(), "the narrow one")
    audio, voice = torch.randn(1, 2, 4000), nn.functional.normalize(torch.randn(1, 8), dim=-1)
    with torch.no_grad():
        expected, found = (enhance(model, audio, model.steering(voice)) for model in (narrow, wide))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_steering_of_other_places_is_left_out():
    held = build("target-small", **TARGET).state_dict()
    grown = build("target-small", **TARGET, attentive=1)
    assert {name for name in held if name not in grown.translated(held)} == {
        name for name in held if name.startswith("steering.")
    }


def test_what_is_taken_over_is_counted_and_less_than_half_is_a_warning():
    held = {"weight": torch.ones(2, 3), "bias": torch.ones(2)}
    assert take_over(nn.Linear(3, 2), held, "x.pt") == 8
    with pytest.warns(UserWarning, match=r"x.pt: no more than 2 of its 8 numbers fit the model"):
        assert take_over(nn.Linear(5, 2), held, "x.pt") == 2


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
