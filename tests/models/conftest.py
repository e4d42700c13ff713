"""How closely two ways to compute the same must agree: the one table for layers, models and the torch front end."""

import warnings

import numpy as np
import pytest
import torch

from hearloop.models.simulation.material import Material
from hearloop.models.simulation.scenes import SceneSimulator
from hearloop.models.simulation.starter import starter_material

# Largest error as a fraction of the largest magnitude. float32 carries 6e-8; a sum of n terms in another order loses
# about sqrt(n) of it, a recurrence feeds its error back.
TOLERANCES = {
    "convolution": 2e-6,
    "recurrent": 2e-6,
    "norm": 1e-5,
    "average": 2e-6,
    "attention": 5e-6,
    "composition": 1e-5,
    "model": 2e-5,
    "front end": 1e-6,
}


@pytest.fixture(scope="session")
def tolerances() -> dict[str, float]:
    return TOLERANCES


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """The tensors here are small: threads would cost more than they give."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def starter() -> tuple[Material, Material]:
    """Synthetic voices, noises and heads of training and of validation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return starter_material()


@pytest.fixture
def look_azimuths_deg(monkeypatch) -> list[list[float]]:
    """Where the talkers of each look are that is simulated from now on, the target before the others."""
    looks, draw = [], SceneSimulator._look_azimuths_deg

    def drawn(*arguments):
        looks.append(draw(*arguments).tolist())
        return np.array(looks[-1])

    monkeypatch.setattr(SceneSimulator, "_look_azimuths_deg", drawn)
    return looks
