from math import gcd

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hearloop.runtime.reblock import Queue, reblock_delay
from hearloop.runtime.resample import produced, ratio


@given(frame=st.integers(1, 300), block=st.integers(1, 300))
def test_at_one_rate_the_delay_is_frame_minus_greatest_common_divisor(frame, block):
    assert reblock_delay(frame, block, 16000, 16000) == frame - gcd(frame, block)


@given(
    rate=st.sampled_from([8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000]),
    block=st.one_of(st.none(), st.integers(1, 1100)),
    seed=st.integers(0, 1000),
)
def test_the_delay_is_enough_and_one_sample_less_is_not(rate, block, seed):
    """Plays blocks through counters: with the delay no block finds the queue empty; with one less some block does."""
    p, q = ratio(rate, 16000)
    delay = reblock_delay(128, block, rate, 16000)
    generator = np.random.default_rng(seed)
    sizes = np.full(60000, block) if block else generator.integers(1, 300, 4000)
    ends = np.cumsum(sizes)
    ready = produced(128 * (produced(ends, p, q) // 128), q, p)
    assert (ends - ready <= delay).all()
    if block:
        assert (ends - ready).max() == delay


@given(sizes=st.lists(st.integers(0, 50), max_size=40), prefill=st.integers(0, 20))
def test_a_queue_gives_back_what_it_got_in_order_after_its_zeros(sizes, prefill):
    queue = Queue(2, 128, prefill)
    expected, received, value = [0.0] * prefill, [], 1
    for size in sizes:
        samples = np.arange(value, value + size, dtype=np.float32)
        queue.push(np.stack([samples, -samples]), size)
        expected += samples.tolist()
        value += size
        count = min(len(queue), size)
        out = np.zeros((2, count), np.float32)
        queue.pop(out, count)
        np.testing.assert_array_equal(out[0], -out[1])
        received += out[0].tolist()
    assert received == expected[: len(received)]
    assert len(queue) == prefill
