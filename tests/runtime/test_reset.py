"""After a reset nothing is heard of what was there before."""

import numpy as np
import pytest
from signals import noise

from hearloop.runtime import Processor


@pytest.mark.parametrize(
    ("model", "controls"),
    [({}, {"attenuation_limit_db": 6.0}), ({"lookahead": 64 + 128}, {})],
    ids=["the dry signal and the limiter", "spectra that wait for a model that looks ahead"],
)
def test_a_stream_after_a_reset_is_as_the_first_one(make_bundle, model, controls):
    made, samples = Processor(make_bundle(gain=0.5, **model), 2, **controls), 10 * noise(3000, 2)
    first = made.process(samples)
    made.reset()
    np.testing.assert_array_equal(made.process(samples), first)
