"""The ring: whatever is read is what was written at that position, or nothing."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearloop.runtime.rings import Ring


def signal(start: int, count: int, channels: int = 2) -> np.ndarray:
    """Samples that tell their position and channel."""
    return (np.arange(start, start + count) + 0.25 * np.arange(channels)[:, None]).astype(np.float32)


@given(
    capacity=st.integers(16, 200),
    operations=st.lists(
        st.tuples(st.sampled_from(["write", "jump", "read"]), st.integers(0, 16), st.integers(-40, 250)), max_size=60
    ),
)
def test_a_ring_behaves_like_the_last_samples_of_an_endless_array(capacity, operations):
    ring, held = Ring(2, capacity), {}
    end = 0
    for kind, count, offset in operations:
        if kind == "read":
            position = end - 100 + offset
            out = np.full((2, count), np.nan, np.float32)
            there = all(at in held for at in range(position, position + count))
            if count:
                assert ring.read(position, out) == there
            if there:
                assert np.array_equal(out, signal(position, count))
            continue
        if kind == "jump" and offset > 0:
            end += offset
            held = {}
        ring.write(end, signal(end, count))
        held.update(dict.fromkeys(range(end, end + count)))
        end += count
        held = {at: None for at in held if at >= end - capacity}


def test_the_silence_before_a_stream_can_be_read_and_nothing_before_it():
    ring, out = Ring(1, 64, silence=10), np.ones((1, 10), np.float32)
    assert ring.read(-10, out)
    assert not out.any()
    assert not ring.read(-11, out)
    assert not ring.read(-9, out)


@pytest.mark.parametrize("capacity", [64, 640, 6400])
def test_two_threads_never_see_a_sample_at_a_wrong_position(capacity):
    # A ring that is too small for the reader's delay is overrun all the time: then reads must fail, not lie.
    ring, total = Ring(2, capacity), 200_000
    wrong, right, missed = [], [], []

    def read():
        rng, out = np.random.default_rng(1), np.zeros((2, 32), np.float32)
        while ring.end < total:
            position = ring.end - int(rng.integers(32, 96))
            if position < 0:
                continue
            if not ring.read(position, out):
                missed.append(position)
            elif np.array_equal(out, signal(position, 32)):
                right.append(position)
            else:
                wrong.append(position)

    reader = threading.Thread(target=read)
    reader.start()
    position = 0
    rng = np.random.default_rng(2)
    while position < total:
        count = int(rng.integers(1, 33))
        ring.write(position, signal(position, count))
        position += count
    reader.join()
    assert not wrong
    assert right
    if capacity == 64:
        assert missed
