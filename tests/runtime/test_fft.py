import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearloop.runtime.errors import HearloopError
from hearloop.runtime.fft import RealFft

LENGTHS = st.tuples(st.integers(0, 8), st.integers(0, 3)).map(lambda powers: 2 * 2 ** powers[0] * 3 ** powers[1])


@given(length=LENGTHS, seed=st.integers(0, 1000))
def test_transforms_equal_numpys_for_every_length_of_factors_two_and_three(length, seed):
    samples = np.random.default_rng(seed).standard_normal(length).astype(np.float32)
    plan = RealFft(length)
    spectrum, back = np.zeros(length // 2 + 1, np.complex64), np.zeros(length, np.float32)
    plan.forward(samples, spectrum)
    expected = np.fft.rfft(samples.astype(np.float64))
    np.testing.assert_allclose(spectrum, expected, atol=2e-6 * np.sqrt(length) * np.log2(length + 2))
    plan.inverse(spectrum, back)
    np.testing.assert_allclose(back, samples, atol=3e-6)


@pytest.mark.parametrize("length", [0, 7, 10, 14, 100])
def test_a_length_with_other_factors_is_refused_by_name(length):
    with pytest.raises(HearloopError, match=f"FFT length is {length}"):
        RealFft(length)
