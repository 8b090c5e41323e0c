"""A run that is asked to end finishes what it has begun, for a while."""

from __future__ import annotations

import signal

import pytest

from jobs.ending import STOPPED, ending, stop_seconds
from pipeline.errors import JobError


def test_before_any_work_it_ends_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), ending():
        signal.raise_signal(signal.SIGTERM)


def test_at_work_the_workers_are_told_to_take_up_nothing_new() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGALRM)
    with ending() as end:
        assert end.faults == ()
        signal.raise_signal(signal.SIGTERM)
        assert (end.asked, end.faults) == (True, (STOPPED,))
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= stop_seconds()
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGALRM)) == before


def asked_at_work(*signals: signal.Signals) -> None:
    with ending() as end:
        assert end.faults == ()
        for number, one in enumerate(signals):
            assert end.asked == (number > 0)
            signal.raise_signal(one)


def test_who_asks_twice_or_leaves_no_time_is_obeyed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        asked_at_work(signal.SIGTERM, signal.SIGTERM)
    monkeypatch.setenv("ALBUMEN_STOP_SECONDS", "0")
    with pytest.raises(KeyboardInterrupt):
        asked_at_work(signal.SIGTERM)


def test_what_takes_too_long_is_left() -> None:
    # The clock that was set runs out.
    with pytest.raises(KeyboardInterrupt):
        asked_at_work(signal.SIGTERM, signal.SIGALRM)


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_a_time_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("ALBUMEN_STOP_SECONDS", text)
    with pytest.raises(JobError, match="ALBUMEN_STOP_SECONDS"):
        stop_seconds()
