"""How loud it may get at the ears, and how soon the limiter lets go."""

import numpy as np
import pytest

from hearloop.runtime import HearloopError
from hearloop.runtime.controls import Controls
from hearloop.runtime.outputstage import OutputStage

RATE = 16000


@pytest.mark.parametrize("gain_db", [-61, 31])
def test_a_gain_beyond_its_bounds_is_refused(gain_db):
    with pytest.raises(HearloopError, match=f"output_gain_db is {gain_db}; expected a number from -60 to 30"):
        Controls(output_gain_db=gain_db)


@pytest.mark.parametrize("ceiling_dbfs", [-61, 0.1])
def test_a_ceiling_beyond_its_bounds_is_refused(ceiling_dbfs):
    with pytest.raises(HearloopError, match=f"ceiling_dbfs is {ceiling_dbfs}; expected a number from -60 to 0"):
        OutputStage(1, RATE, 0, Controls(), ceiling_dbfs)


def test_the_limiter_lets_go_within_its_release_time():
    """After a single loud sample the gain recovers exponentially, to 63 % within 60 ms."""
    stage = OutputStage(1, RATE, 0, Controls())
    stage.start(ramp=False)
    samples = np.full((1, RATE), 0.1, np.float32)
    samples[0, 0] = 8.0
    out = np.zeros_like(samples)
    stage.process(samples, samples, True, out)
    deepest = 10 ** (-1 / 20) / 8
    time_ms = np.arange(RATE) / RATE * 1000
    np.testing.assert_allclose(out[0] / samples[0], 1 - (1 - deepest) * np.exp(-time_ms / 60), atol=2e-3)
