"""What a process holds, and figures that change, looked at while something runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self


def held(field: str, pid: str = "self") -> int:
    """Bytes: `VmRSS` of what is resident now, `VmHWM` of the most since `forget` (proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(field)]
    return int(line.split()[1]) * 1024


def forget(pid: str = "self") -> None:
    """Sets the peak back to what is resident now (proc_pid_clear_refs(5))."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


class Watch:
    """A figure, looked at every so many seconds in a thread of its own. A context manager."""

    def __init__(self, look: Callable[[], float], every: float) -> None:
        self.values: list[float] = []
        self._ask = look
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(self._every):
            self.values.append(self._ask())
