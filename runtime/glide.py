"""How controls are followed: sample by sample, in a straight line of 20 ms however far it is. So nothing clicks."""

import numpy as np

from .kernels import kernel

GLIDE_MS = 20.0

# Columns of the matrix that has a row for each control. LEFT: of the way from START to TARGET, as a part of it.
VALUE, START, TARGET, LEFT = range(4)


def new_glides(targets: np.ndarray) -> np.ndarray:
    """Rows for `glide`, float32 (controls, 4), that are at their targets."""
    glides = np.zeros((len(targets), 4), np.float32)
    settle(glides, targets)
    return glides


def settle(glides: np.ndarray, targets: np.ndarray) -> None:
    """Be at the targets at once."""
    glides[:, VALUE] = glides[:, TARGET] = targets
    glides[:, LEFT] = 0


def glide_rate(sample_rate: int) -> np.float32:
    """The part of the way that one sample is."""
    return np.float32(1000 / GLIDE_MS / sample_rate)


@kernel("float32(float32[::1], float32, float32)")
def glide(control, target, rate):
    """Go on for one sample, and return the value there; another target than before begins a new line."""
    if target != control[TARGET]:
        control[START], control[TARGET], control[LEFT] = control[VALUE], target, 1
    control[LEFT] = max(control[LEFT] - rate, np.float32(0))
    # Not the sum of steps, which would be lost against the value where the way is short.
    control[VALUE] = target + control[LEFT] * (control[START] - target)
    return control[VALUE]
