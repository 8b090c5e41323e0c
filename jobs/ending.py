"""How a run is asked to end: what it has begun is finished where that does not take too long, and the rest is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.errors import JobError

# A line that begins with it says that the cluster was checked and the work begins.
CHECKED = "Checked the cluster"
STOPPED = "it was asked to stop"
_VARIABLE = "ALBUMEN_STOP_SECONDS"
_MOST = 86_400


def stop_seconds() -> float:
    """How long photographs in flight may take to end once a run was asked to stop: $ALBUMEN_STOP_SECONDS, else a minute."""
    text = os.environ.get(_VARIABLE, "60")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MOST:
        raise JobError(f"{_VARIABLE} is {text!r}; it has to be a number of seconds from 0 to {_MOST}")
    return seconds


class Ending:
    """Whether a run was asked to end. `fault` is what its driver tells the workers then, so that they take up nothing new."""

    def __init__(self) -> None:
        self.asked = False
        # Only while photographs are worked on is there anything to finish.
        self.working = False

    @property
    def faults(self) -> tuple[str, ...]:
        self.working = True
        return (STOPPED,) if self.asked else ()


@contextmanager
def ending() -> Iterator[Ending]:
    """For the body: SIGTERM lets photographs in flight end for `stop_seconds`, then raises KeyboardInterrupt. So does a
    second SIGTERM, and the first where nothing is in flight."""
    state, seconds = Ending(), stop_seconds()

    def asked(number: int, frame: FrameType | None) -> None:
        if state.asked or not state.working or seconds == 0:
            signal.default_int_handler(number, frame)
        state.asked = True
        signal.setitimer(signal.ITIMER_REAL, seconds)

    before = signal.signal(signal.SIGTERM, asked)
    alarm = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        yield state
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        signal.signal(signal.SIGTERM, before)
