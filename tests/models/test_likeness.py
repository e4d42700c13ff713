"""What a listener says of the voices around is compared with the chosen one, in three ways."""

import torch

from hearloop.models.likeness import FromLikeness
from hearloop.models.target.enroll import unit_norm

EMBEDDING, TURNS, FRAMES = 12, 5, 4
BEYOND = 8  # of the features: alike, less what anybody is alike


def voices(seed: int) -> torch.Tensor:
    drawn = torch.randn(2, TURNS, FRAMES, EMBEDDING, generator=torch.Generator().manual_seed(seed))
    return unit_norm(drawn.abs()).transpose(2, 3)


def test_a_voice_is_as_alike_as_the_cosine_says():
    likely, heard = FromLikeness(16, EMBEDDING), voices(0)
    chosen = heard[:, 3, :, 1]
    alike, usual, learned = likely.compared(heard, chosen).unbind(1)
    assert alike.shape == (2, TURNS, FRAMES)
    torch.testing.assert_close(alike[:, 3, 1], torch.ones(2))
    assert int((alike > 1 - 1e-5).sum()) == 2
    assert not torch.stack([usual, learned]).any(), "before anything is known of voices"


def test_what_is_usual_does_not_depend_on_who_is_chosen():
    likely, heard = FromLikeness(16, EMBEDDING), voices(1)
    with torch.no_grad():
        likely.usual.copy_(voices(2).mean((0, 1, 3)))
    one, other = (likely.compared(heard, unit_norm(torch.rand(2, EMBEDDING))) for _ in range(2))
    torch.testing.assert_close(one[:, 1], other[:, 1])
    assert not torch.allclose(one[:, 0], other[:, 0])


def test_somebody_who_is_like_everybody_loses_to_one_who_is_like_the_chosen_voice():
    likely = FromLikeness(16, EMBEDDING)
    with torch.no_grad():
        likely.worth.weight[0, BEYOND] = 5.0
    heard, known = torch.zeros(1, FRAMES, 16, 5), torch.zeros(1, FRAMES, 16, 3)
    heard[:, :, 4, 0], heard[:, :, 4, 1] = 0.8, 0.7  # like the chosen voice, and like anybody
    heard[:, :, 11, 0], heard[:, :, 11, 1] = 0.7, 0.3
    score, _ = likely(heard, known, likely.initial_state(1))
    assert score.argmax(-1).unique().tolist() == [11]


def test_all_of_it_learns():
    torch.manual_seed(0)
    likely, heard = FromLikeness(TURNS, EMBEDDING), voices(3)
    with torch.no_grad():
        likely.worth.weight.fill_(0.1)
        likely.heard_as.weight.normal_()
    compared = likely.compared(heard, heard[:, 0, :, 0]).permute(0, 3, 2, 1)
    further = torch.randn(2, FRAMES, TURNS, 2)
    score, _ = likely(torch.cat([compared, further], -1), torch.randn(2, FRAMES, TURNS, 3), likely.initial_state(2))
    (score * torch.randn_like(score)).sum().backward()
    for name, parameter in likely.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
