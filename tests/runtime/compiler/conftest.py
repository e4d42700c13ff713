"""Every test of lowering runs a model in two ways: as it is lowered, with NumPy, and as machine code."""

import pytest

from .running import WAYS


@pytest.fixture(scope="session", params=sorted(WAYS))
def way(request):
    """A class: `way(model, states).step(inputs)` gives outputs by name."""
    return WAYS[request.param]
