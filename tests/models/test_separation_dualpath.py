"""What a separator grows by changes nothing to begin with: it goes on where a smaller one has come to."""

import pytest
import torch

from hearloop.models import build
from hearloop.models.frontend import enhance


@pytest.mark.parametrize("more", [{"attentive": 3}, {"pitches": 16}], ids=["blocks", "pitches"])
def test_the_larger_one_begins_as_what_it_grew_from_and_all_of_it_learns(more):
    torch.manual_seed(0)
    small, large = build("separate-small"), build("separate-small", **more)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    unknown = large.load_state_dict(small.state_dict(), strict=False)
    assert not unknown.unexpected_keys
    audio = 0.1 * torch.randn(2, 1, 8000)
    found = enhance(large.train(), audio)
    torch.testing.assert_close(found, enhance(small.train(), audio), rtol=0, atol=1e-6)
    optimiser = torch.optim.SGD(large.parameters(), lr=1.0)
    target = torch.randn_like(found)
    for _ in range(2):  # what has no effect has no gradient either, but its last norm has one
        optimiser.zero_grad()
        (enhance(large, audio) - target).square().mean().backward()
        optimiser.step()
    for name in unknown.missing_keys:
        gradient = large.get_parameter(name).grad
        assert gradient is not None, name
        assert gradient.abs().max() > 0, name
