from hypothesis import given
from hypothesis import strategies as st

from hearloop.runtime import Ledger


@given(
    delays=st.dictionaries(st.text(min_size=1), st.floats(0, 1e5), min_size=1),
    rate=st.sampled_from([8000, 16000, 44100, 48000]),
)
def test_the_total_is_the_sum_and_keeps_its_length_in_time_at_any_rate(delays, rate):
    ledger = Ledger(16000, delays)
    assert ledger.total == sum(delays.values())
    assert abs(ledger.at_rate(rate).total_ms - ledger.total_ms) <= 1e-9 * max(1, ledger.total_ms)
    assert str(ledger).splitlines()[-1].startswith("total")


def test_a_ledger_tells_every_delay_in_samples_and_in_milliseconds():
    lines = str(Ledger(16000, {"lookahead": 64, "device input": 128})).splitlines()
    assert [line.split()[-4:] for line in lines] == [
        ["64.00", "samples", "4.00", "ms"],
        ["128.00", "samples", "8.00", "ms"],
        ["192.00", "samples", "12.00", "ms"],
    ]
