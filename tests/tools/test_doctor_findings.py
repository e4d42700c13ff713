"""What the doctor finds on machines and in runs that are not healthy."""

import pytest

from hearloop.tools import doctor


def finding(check, models=()):
    return next(each for each in doctor.examine([str(model) for model in models]) if each.check == check)


@pytest.mark.parametrize(("governor", "outcome"), [("powersave", "warning"), ("performance", "ok")])
def test_a_processor_that_saves_power_is_told(governor, outcome, monkeypatch):
    monkeypatch.setattr(doctor, "environment", lambda: {"governor": governor})
    found = finding("CPU governor")
    assert (found.outcome, found.found) == (outcome, governor)
    assert bool(found.remedy) == (outcome == "warning")


@pytest.mark.parametrize("counted", ["misses", "concealed", "failures", "callback_errors", None])
def test_a_run_with_misses_or_failures_fails(counted, make_bundle, monkeypatch):
    """Whatever happens on this machine: the counts are set before they are judged."""
    counts = doctor.LiveLoop.stats
    told = dict.fromkeys(("misses", "concealed", "failures", "callback_errors"), 0)
    if counted:
        told[counted] = 3
    monkeypatch.setattr(doctor.LiveLoop, "stats", lambda loop: counts(loop) | told)
    monkeypatch.setattr(doctor, "PACED_SECONDS", 1)
    found = finding("paced run", [make_bundle()])
    assert found.outcome == ("failed" if counted else "ok"), found.found
    assert bool(found.remedy) == bool(counted)
