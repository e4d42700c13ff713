"""The delay of the hand-over: with it the worker always has its time, with one sample less it has not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.runtime.handover import hand_over_delay, plan_hand_over
from hearloop.runtime.reblock import reblock_delay


def keeps_up(chunk: int, blocks: list[int], budget: int, delay: int) -> bool:
    """Play the blocks: does a worker that needs `budget` for each chunk have every sample that is asked for?"""
    ends, now = [], 0
    for block in blocks:
        ends.append((now + block, now + block - delay))
        now += block
    ready, available = [], 0  # (time, samples of wet signal)
    for time, _ in ends:
        while (available + 1) * chunk <= time:
            available += 1
            ready.append((time + budget, available * chunk))
    return all(wanted <= max((count for at, count in ready if at <= time), default=0) for time, wanted in ends)


@settings(max_examples=60)
@given(chunk=st.integers(1, 200), block=st.integers(1, 300), budget=st.integers(1, 200))
def test_the_delay_for_blocks_of_one_size_is_the_smallest_with_which_the_worker_keeps_up(chunk, block, budget):
    delay = hand_over_delay(chunk, block, block, budget)
    blocks = [block] * (4 * chunk + 2 * delay // block + 4)
    assert keeps_up(chunk, blocks, budget, delay)
    assert not keeps_up(chunk, blocks, budget, delay - 1)


@settings(max_examples=60)
@given(data=st.data(), chunk=st.integers(1, 100), largest=st.integers(2, 200), budget=st.integers(1, 100))
def test_the_delay_for_changing_blocks_is_enough_for_any_order_of_them(data, chunk, largest, budget):
    blocks = data.draw(st.lists(st.integers(1, largest), min_size=20, max_size=60))
    assert keeps_up(chunk, blocks * 4, budget, hand_over_delay(chunk, 1, largest, budget))


@pytest.mark.parametrize(("rate", "block", "delay"), [(16000, 128, 128), (48000, 384, 384), (16000, 32, 224)])
def test_blocks_that_divide_a_frame_cost_its_re_blocking_and_one_frame_more(rate, block, delay):
    plan = plan_hand_over(128, 16000, rate, block, block)
    assert plan.chunk == 128 * rate // 16000
    assert plan.delay == delay


@pytest.mark.parametrize("block", [64, 128, 441, 480, 512, 1024])
def test_no_other_chunk_would_cost_less_at_44100_hz(block):
    plan = plan_hand_over(128, 16000, 44100, block, block)
    best = min(
        hand_over_delay(chunk, block, block, plan.budget) + reblock_delay(128, chunk, 44100, 16000)
        for chunk in range(64, 1025)
    )
    assert plan.delay + reblock_delay(128, plan.chunk, 44100, 16000) == best
