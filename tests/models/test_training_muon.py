"""Muon: balanced steps for matrices, AdamW for the rest, and a state that can be saved."""

import copy

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from torch import nn

from hearloop.models.training.muon import Muon, is_matrix, orthogonalised


@settings(deadline=None, max_examples=40)
@given(st.integers(4, 40), st.integers(4, 40), st.floats(1e-6, 1e6), st.integers(0, 99))
def test_a_step_has_singular_values_near_one_whatever_the_size_of_the_gradient(rows, columns, size, seed):
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    singular = torch.linalg.svdvals(matrix)
    found = torch.linalg.svdvals(orthogonalised(size * matrix))
    # Newton and Schulz lift in five rounds what is not below a hundredth of the largest.
    lifted = found[singular > 0.05 * singular[0]]
    assert lifted.min() > 0.3
    assert found.max() < 1.3


def test_the_direction_of_a_singular_vector_stays():
    matrix = torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.5])) @ torch.linalg.qr(torch.randn(4, 4))[0]
    expected = nn.functional.normalize(matrix, dim=1)
    torch.testing.assert_close(nn.functional.normalize(orthogonalised(matrix), dim=1), expected, rtol=1e-3, atol=1e-3)


@settings(deadline=None, max_examples=20)
@given(st.integers(4, 20), st.integers(4, 20), st.integers(1, 5), st.integers(0, 99))
def test_matrices_of_one_shape_have_the_steps_that_each_would_have_alone(rows, columns, count, seed):
    matrices = torch.randn(count, rows, columns, generator=torch.Generator().manual_seed(seed))
    alone = torch.stack([orthogonalised(matrix) for matrix in matrices])
    torch.testing.assert_close(orthogonalised(matrices), alone, rtol=1e-3, atol=1e-3)


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(2, 8, (3, 3)), nn.PReLU(8), nn.Flatten(), nn.Linear(8 * 4, 3), nn.LayerNorm(3))


def learn(model, optimiser, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimiser.zero_grad()
        model(torch.randn(5, 2, 4, 4, generator=generator)).square()[:, 0].sum().backward()
        optimiser.step()


def test_each_scale_of_a_norm_has_a_step_of_its_own():
    model = nn.LayerNorm((6, 5))
    optimiser = Muon(model, 0.01)
    model.weight.grad, model.bias.grad = torch.full((6, 5), 1e-3), torch.zeros(6, 5)
    model.bias.grad[0, 0] = -1e-3
    optimiser.step()
    torch.testing.assert_close(model.weight, torch.full((6, 5), 0.99), rtol=0, atol=1e-5)
    torch.testing.assert_close(model.bias[0, 0], torch.tensor(0.01), rtol=0, atol=1e-5)
    assert model.bias.count_nonzero() == 1


def test_vectors_and_thin_matrices_have_the_steps_of_adamw():
    ours, theirs = nn.Linear(9, 3), nn.Linear(9, 3)
    theirs.load_state_dict(ours.state_dict())
    assert not any(is_matrix(parameter) for parameter in ours.parameters())
    optimisers = (
        Muon(ours, 0.01, weight_decay=0.1),
        torch.optim.AdamW(theirs.parameters(), 0.01, betas=(0.9, 0.98), weight_decay=0.1),
    )
    for step in range(20):
        x = torch.randn(4, 9, generator=torch.Generator().manual_seed(step))
        for model, optimiser in zip((ours, theirs), optimisers, strict=True):
            optimiser.zero_grad()
            model(x).square().sum().backward()
            optimiser.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-5, atol=1e-6)


def test_steps_of_matrices_have_the_size_of_adamws():
    model = nn.Linear(32, 32, bias=False)
    before = model.weight.detach().clone()
    model(torch.randn(64, 32)).square().sum().backward()
    Muon(model, 0.01).step()
    size = (model.weight.detach() - before).square().mean().sqrt()
    assert 0.7 * 0.2 * 0.01 < size < 1.3 * 0.2 * 0.01


def test_it_goes_on_from_a_saved_state_as_if_nothing_had_been():
    straight = network()
    optimiser = Muon(straight, 0.01, 1e-3)
    learn(straight, optimiser, 3)
    saved = copy.deepcopy((straight.state_dict(), optimiser.state_dict()))
    learn(straight, optimiser, 3, seed=1)
    resumed = network()
    following = Muon(resumed, 0.5)
    resumed.load_state_dict(saved[0])
    following.load_state_dict(saved[1])
    learn(resumed, following, 3, seed=1)
    for expected, value in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(expected, value)


def test_a_parameter_without_a_gradient_stays():
    model = network()
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    before = model[0].weight.clone()
    optimiser = Muon(model, 0.1, weight_decay=0.5)
    learn(model, optimiser, 2)
    assert torch.equal(model[0].weight, before)


def test_it_finds_the_bottom_of_a_bowl():
    target = torch.randn(16, 16, generator=torch.Generator().manual_seed(5))
    model, steps, losses = nn.Linear(16, 16, bias=False), 30, []
    optimiser = Muon(model, 0.5)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.5 * (1 - step / steps)
        optimiser.zero_grad()
        loss = (model.weight - target).square().mean()
        losses.append(loss.item())
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.05 * losses[0]


def test_the_momentum_is_that_of_nesterov():
    """The present gradient counts once more than in the running mean."""
    model, mean = nn.Linear(6, 6, bias=False), torch.zeros(6, 6)
    optimiser = Muon(model, 0.01)
    for seed in range(3):
        gradient = torch.randn(6, 6, generator=torch.Generator().manual_seed(seed))
        mean = 0.95 * mean + 0.05 * gradient
        before, model.weight.grad = model.weight.detach().clone(), gradient
        optimiser.step()
        direction = nn.functional.normalize((before - model.weight.detach()).flatten(), dim=0)
        expected = orthogonalised(0.05 * gradient + 0.95 * mean).flatten()
        torch.testing.assert_close(direction, nn.functional.normalize(expected, dim=0), rtol=1e-3, atol=1e-4)
