"""Progress: plain lines where nobody looks at a terminal, and the right rates and times in them."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from jobs.progress import Progress, clock

Lines = Callable[[], list[str]]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in a list that a test may change."""
    time = [1000.0]
    monkeypatch.setattr("jobs.progress.time", SimpleNamespace(monotonic=lambda: time[0]))
    return time


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Lines:
    """The lines that went to standard error since the last call. Standard output stays empty."""
    monkeypatch.setenv("COLUMNS", "120")

    def read() -> list[str]:
        out, err = capsys.readouterr()
        assert out == ""
        return err.splitlines()

    return read


def count(done: int, failed: int = 0) -> SimpleNamespace:
    return SimpleNamespace(done=done, failed=failed)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (-5, "0 s"),
        (0.4, "0 s"),
        (42, "42 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (60, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (5 * 3600 + 12 * 60 + 59, "5 h 12 min"),
        (86399, "23 h 59 min"),
        (86400, "1 d 0 h"),
        (9 * 86400 + 4 * 3600, "9 d 4 h"),
        (400 * 86400, "400 d 0 h"),
    ],
)
def test_a_time_as_a_person_says_it(seconds: float, said: str) -> None:
    assert clock(seconds) == said


def test_one_line_a_stage_with_rate_and_time_left(now: list[float], lines: Lines) -> None:
    with Progress(("ingest", "upscale")) as progress:
        now[0] += 20
        progress.watch({"ingest": count(10), "upscale": count(4, failed=1)}, 10)
    assert lines() == [
        "ingest    10/10 done  0 failed  30.0/min  0 s left",
        "upscale   4/10 done  1 failed  12.0/min  30 s left",
    ]


def test_time_left_follows_the_rate_so_far(now: list[float], lines: Lines) -> None:
    with Progress(("upscale",)) as progress:
        now[0] += 3600
        progress.watch({"upscale": count(100)}, 1_000)
    assert lines() == ["upscale   100/1000 done  0 failed  1.7/min  9 h 0 min left"]


def test_a_stage_that_has_not_begun_has_no_time_left(now: list[float], lines: Lines) -> None:
    with Progress(("ingest", "upscale")) as progress:
        now[0] += 15
        progress.watch({"ingest": count(1)}, 2)
    assert lines()[1] == "upscale   0/2 done  0 failed  0.0/min  - left"


def test_a_clock_that_stands_still_is_no_fault(now: list[float], lines: Lines) -> None:
    with Progress(("ingest",), every=0) as progress:
        progress.watch({"ingest": count(1)}, 2)
    (line,) = lines()
    assert line.startswith("ingest    1/2 done")


def test_plain_lines_come_only_now_and_then(now: list[float], lines: Lines) -> None:
    printed = []
    with Progress(("ingest",), every=15) as progress:
        for _ in range(40):
            now[0] += 1
            progress.watch({"ingest": count(1)}, 2)
            printed.append(len(lines()))
    assert [second + 1 for second, number in enumerate(printed) if number] == [15, 30]


def test_quiet_says_nothing(now: list[float], lines: Lines) -> None:
    with Progress(("ingest",), quiet=True) as progress:
        now[0] += 100
        progress.watch({"ingest": count(1)}, 2)
    assert lines() == []


def test_a_fault_inside_is_let_through(now: list[float]) -> None:
    with pytest.raises(KeyError), Progress(("ingest",)):
        raise KeyError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Puts a terminal in the place of standard error: in the test itself, since pytest puts its own back before it."""

    def make() -> Terminal:
        screen = Terminal()
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setattr(sys, "stderr", screen)
        return screen

    return make


def test_a_terminal_shows_every_change_at_once(now: list[float], terminal: Callable[[], Terminal]) -> None:
    screen = terminal()
    with Progress(("ingest",)) as progress:
        now[0] += 1
        progress.watch({"ingest": count(1)}, 4)
        first = screen.getvalue()
        now[0] += 1
        progress.watch({"ingest": count(2)}, 4)
    assert "1/4 done" in first
    assert "2/4 done" in screen.getvalue()[len(first) :]


def test_a_terminal_gets_its_cursor_back_after_a_fault(now: list[float], terminal: Callable[[], Terminal]) -> None:
    screen = terminal()

    def work() -> None:
        with Progress(("ingest",)) as progress:
            progress.watch({"ingest": count(1)}, 4)
            raise KeyError

    with pytest.raises(KeyError):
        work()
    hidden, shown = (screen.getvalue().rfind(code) for code in ("\x1b[?25l", "\x1b[?25h"))
    assert 0 <= hidden < shown


def test_quiet_on_a_terminal_says_nothing(now: list[float], terminal: Callable[[], Terminal]) -> None:
    screen = terminal()
    with Progress(("ingest",), quiet=True) as progress:
        now[0] += 100
        progress.watch({"ingest": count(1)}, 4)
    assert screen.getvalue() == ""
