import numpy as np
import pytest

from hearloop.runtime.controls import Controls
from hearloop.runtime.outputstage import OutputStage

RATE, BLOCK = 16000, 128
TONE_STEP = 0.5 * 2 * np.pi * 100 / RATE  # largest step between samples of the tone below
RAMP_STEP = 1.05 * 0.5 * 1.5 / (0.05 * RATE)  # the same of the ramp, at a level of 0.5: it is steepest in its middle


def tone(count: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 100 * np.arange(count) / RATE)).astype(np.float32)[np.newaxis]


def play(stage: OutputStage, samples: np.ndarray, wet: np.ndarray, valid) -> np.ndarray:
    out = np.zeros_like(samples)
    for index, start in enumerate(range(0, samples.shape[1], BLOCK)):
        part = slice(start, start + BLOCK)
        block = np.zeros_like(out[:, part])
        stage.process(samples[:, part], wet[:, part], valid(index), block)
        out[:, part] = block
    return out


def opened(latency: int = 0, **controls) -> OutputStage:
    stage = OutputStage(1, RATE, latency, Controls(**controls))
    stage.start(ramp=False)
    return stage


@pytest.mark.parametrize("level", [0.2, 1.0, -0.7])
@pytest.mark.parametrize("lost", [{20}, {20, 21, 22}, {20, 22, 24}, set(range(20, 60))])
def test_lost_wet_blocks_are_replaced_without_a_click(level, lost):
    """Wet is the dry tone at another level or even with the other sign: the worst case for a jump."""
    samples = tone(BLOCK * 80)
    out = play(opened(), samples, level * samples, lambda index: index not in lost)
    # The bridge of the worst case, a flipped sign, decays from twice the amplitude over 2 ms.
    allowed = TONE_STEP + (1 - min(level, 1)) * 0.5 / (0.002 * RATE)
    assert np.abs(np.diff(out)).max() < 1.05 * allowed


def test_a_lost_block_keeps_the_level_of_the_wet_signal_and_a_long_stall_becomes_dry(rng):
    """A model that removed 20 dB: one lost block is no burst of noise, a stall of a second is the plain input."""
    samples = (0.1 * rng.standard_normal((1, BLOCK * 200))).astype(np.float32)
    wet = 0.1 * samples
    out = play(opened(), samples, wet, lambda index: index < 100)
    first = slice(100 * BLOCK, 101 * BLOCK)
    assert np.std(out[:, first]) < 0.3 * np.std(samples[:, first])
    np.testing.assert_allclose(out[:, 180 * BLOCK :], samples[:, 180 * BLOCK :], atol=1e-3)


def test_where_the_model_changes_nothing_a_lost_block_is_not_heard_at_all(rng):
    samples = rng.uniform(-0.5, 0.5, (1, BLOCK * 40)).astype(np.float32)
    out = play(opened(), samples, samples, lambda index: index not in {20, 21, 30})
    np.testing.assert_allclose(out, samples, atol=1e-5)


def test_wet_returns_in_full_after_its_fade():
    samples = tone(BLOCK * 60)
    out = play(opened(), samples, 0.3 * samples, lambda index: not 20 <= index < 40)
    np.testing.assert_array_equal(out[:, 42 * BLOCK :], 0.3 * samples[:, 42 * BLOCK :])


def test_missing_wet_samples_are_not_even_looked_at(rng):
    samples = tone(BLOCK * 4)
    wet = np.full_like(samples, np.nan)
    out = play(opened(), samples, wet, lambda index: False)
    assert np.isfinite(out).all()


def test_the_dry_signal_is_delayed_by_the_stated_latency(rng):
    samples = rng.uniform(-0.5, 0.5, (1, BLOCK * 20)).astype(np.float32)
    for latency in (0, 1, 63, 500):
        out = play(opened(latency, bypass=True), samples, samples, lambda index: True)
        np.testing.assert_array_equal(out[:, latency:], samples[:, : samples.shape[1] - latency])
        np.testing.assert_array_equal(out[:, :latency], 0)


def test_output_opens_and_closes_in_a_ramp_and_tells_when_it_is_silent():
    stage = OutputStage(1, RATE, 0, Controls())
    samples = tone(BLOCK * 20)
    np.testing.assert_array_equal(play(stage, samples, samples, lambda index: True), 0)
    stage.start()
    first = play(stage, samples, samples, lambda index: True)
    assert not stage.silent
    stage.stop()
    last = play(stage, samples, samples, lambda index: True)
    assert stage.silent
    np.testing.assert_array_equal(last[:, -BLOCK:], 0)
    heard = np.concatenate([first, last], axis=1)
    assert np.abs(np.diff(heard)).max() < 1.05 * TONE_STEP + RAMP_STEP


@pytest.mark.parametrize("bypass", [True, False])
@pytest.mark.parametrize("latency", [0, 1, 320, 2112])
def test_the_ramp_opens_when_the_first_sound_has_come_through_the_delay(latency, bypass):
    """It once opened over the silence that is in the delay line at first, and the sound behind it began with a jump."""
    samples = np.full((1, BLOCK * 40), 0.5, np.float32)
    wet = np.where(np.arange(samples.shape[1]) < latency, 0, samples).astype(np.float32)
    stage = OutputStage(1, RATE, latency, Controls(bypass=bypass))
    stage.start()
    heard = play(stage, samples, wet, lambda index: True)[0]
    assert np.abs(np.diff(heard, prepend=0)).max() < RAMP_STEP
    np.testing.assert_array_equal(heard[:latency], 0)
    np.testing.assert_array_equal(heard[latency + RATE // 20 + 1 :], 0.5)


def test_an_output_that_is_stopped_before_it_has_opened_stays_silent_and_opens_later_in_a_ramp():
    samples = np.full((1, BLOCK * 10), 0.5, np.float32)
    stage = OutputStage(1, RATE, 4 * BLOCK, Controls())
    stage.start()
    heard = [play(stage, samples[:, : 2 * BLOCK], samples, lambda index: True)]
    assert not stage.silent
    stage.stop()
    assert stage.silent
    heard.append(play(stage, samples, samples, lambda index: True))
    assert stage.silent
    np.testing.assert_array_equal(np.concatenate(heard, axis=1), 0)
    stage.start()
    opened = play(stage, samples, samples, lambda index: True)[0]
    assert np.abs(np.diff(opened, prepend=0)).max() < RAMP_STEP
    assert opened[-1] == 0.5


def test_the_limiter_turns_both_ears_down_alike():
    stage = OutputStage(2, RATE, 0, Controls())
    stage.start(ramp=False)
    samples = np.concatenate([4 * tone(4000), 0.5 * tone(4000)])
    out = np.zeros_like(samples)
    stage.process(samples, samples, True, out)
    np.testing.assert_allclose(out[0], 8 * out[1], rtol=1e-5, atol=1e-7)
    assert np.abs(out).max() <= np.float32(10 ** (-1 / 20))


@pytest.mark.parametrize("enormous", [2e19, -3e38, np.inf, np.nan])
def test_a_wet_sample_that_no_sound_can_be_leaves_no_trace(enormous, rng):
    samples = (0.1 * rng.standard_normal((1, BLOCK * 80))).astype(np.float32)
    wet = 0.3 * samples
    expected = play(opened(), samples, wet, lambda index: index < 60)
    wet[0, 30 * BLOCK + 5] = enormous
    out = play(opened(), samples, wet, lambda index: index < 60)
    np.testing.assert_allclose(out[:, 31 * BLOCK :], expected[:, 31 * BLOCK :], atol=1e-6)
    assert np.std(out[:, 75 * BLOCK :]) > 0.09


class TestGlide:
    """What the controls do to a constant sound of full scale / 1000, so that the limiter has nothing to do."""

    LINE = RATE // 50  # 20 ms

    def heard(self, controls: Controls, *changes: tuple[int, float]) -> np.ndarray:
        """The output gain, sample by sample; each change is a number of samples, and the gain from then on in dB."""
        stage = OutputStage(1, RATE, 0, controls)
        stage.start(ramp=False)
        parts = []
        for count, gain_db in (*changes, (0, 0)):
            samples = np.full((1, count), 1e-3, np.float32)
            out = np.zeros_like(samples)
            stage.process(samples, samples, True, out)
            parts.append(out[0] / 1e-3)
            controls.output_gain_db = gain_db
        return np.concatenate(parts)

    @pytest.mark.parametrize(("before", "after"), [(0, 30), (30, 0), (30, -60), (0, -6), (-60, -40), (0, 0.001)])
    def test_every_way_is_a_straight_line_of_20_ms(self, before, after):
        heard = self.heard(Controls(output_gain_db=before), (10, after), (2 * self.LINE, after))[9:]
        start, end = 10 ** (before / 20), 10 ** (after / 20)
        line = np.linspace(start, end, self.LINE + 1)
        np.testing.assert_allclose(heard[: self.LINE + 1], line, rtol=1e-4, atol=2e-4)
        np.testing.assert_allclose(heard[self.LINE + 1 :], end, rtol=1e-6)

    def test_a_new_target_on_the_way_begins_a_new_line_from_there(self):
        half = self.LINE // 2
        heard = self.heard(Controls(), (10, 20), (half, 0), (2 * self.LINE, 0))[9:]
        assert heard[half] == pytest.approx(5.5, rel=1e-3)
        np.testing.assert_allclose(heard[half:][: self.LINE + 1], np.linspace(5.5, 1, self.LINE + 1), rtol=1e-3)
        assert heard[half + self.LINE + 1] == pytest.approx(1, rel=1e-6)
