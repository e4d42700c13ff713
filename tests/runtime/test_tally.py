"""What the audio callback counts: misses in blocks or in frames, levels, and the time that it leaves."""

import threading

import numpy as np
import pytest
from fake_time import MS, FakeClock

from hearloop.runtime import callback as module
from hearloop.runtime.callback import BLOCKS_TO_RETURN, MISSES_TO_BYPASS, Callback, Tally, judge, meter
from hearloop.runtime.controls import Controls
from hearloop.runtime.exchange import Exchange
from hearloop.runtime.handover import plan_hand_over
from hearloop.runtime.outputstage import OutputStage
from hearloop.runtime.telemetry import Times


@pytest.mark.parametrize(("block", "blocks_per_unit"), [(32, 4), (128, 1), (256, 1)])
def test_a_run_is_counted_in_blocks_or_in_frames_where_blocks_are_shorter(block, blocks_per_unit):
    tally = Tally()
    for arrived, units in ((False, MISSES_TO_BYPASS), (True, BLOCKS_TO_RETURN)):
        for index in range(units * blocks_per_unit):
            assert tally.bypassed == arrived, index
            judge(tally.counts, arrived, block, 128)
        assert tally.bypassed != arrived


def test_levels_are_those_of_the_loudest_block_since_they_were_taken():
    tally, loud = Tally(), np.ones((2, 128), np.float32)
    for gain in (0.1, 1.0, 0.01):
        meter(gain * loud, gain * loud / 2, tally.levels)
    assert tally.take_levels_dbfs() == pytest.approx((0, -6.02), abs=0.01)
    meter(0.01 * loud, 0.01 * loud, tally.levels)
    assert tally.take_levels_dbfs() == pytest.approx((-40, -40), abs=0.01)


def test_slack_is_what_a_call_has_left_of_the_time_of_its_block(monkeypatch):
    clock, exchange = FakeClock(), Exchange(1, plan_hand_over(128, 16000, 16000, 128, 128))
    stage = OutputStage(1, 16000, exchange.hand_over.delay, Controls())
    callback = Callback(exchange, stage, 1, 16000, Tally(), times=Times(), slack=Times())

    def play(indata, outdata, frames):
        clock.ns += 3 * MS

    monkeypatch.setattr(module, "perf_counter_ns", clock.now_ns)
    monkeypatch.setattr(callback, "play", play)
    sound = np.zeros((128, 1), np.float32)
    # In a thread of its own, as the first call changes the priority of that, and how it computes.
    audio = threading.Thread(target=lambda: [callback(sound, sound, 128) for _ in range(2)])
    audio.start()
    audio.join()
    assert callback.times.to_json()["max"] == 3000  # the first call is told apart
    assert callback.slack.to_json()["max"] == 5000
