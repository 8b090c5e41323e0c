"""One line a stage: done, failed, rate, time left. A live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table


class StageCount(Protocol):
    @property
    def done(self) -> int: ...
    @property
    def failed(self) -> int: ...


class Progress:
    """A context manager whose `watch` is handed to a run. Writes to standard error."""

    def __init__(self, stages: tuple[str, ...], *, quiet: bool = False, every: float = 15.0) -> None:
        self.stages = stages
        self.every = every
        self.console = Console(stderr=True, quiet=quiet)
        self.started = time.monotonic()
        self._last = self.started
        self._live = Live(console=self.console, auto_refresh=False) if sys.stderr.isatty() and not quiet else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def watch(self, counts: Mapping[str, StageCount], total: int) -> None:
        """counts: per stage, since this run was started."""
        if self._live is not None:
            self._live.update(self._table(counts, total), refresh=True)
        elif time.monotonic() - self._last >= self.every:
            self._last = time.monotonic()
            if not counts:
                self.console.print("starting workers", highlight=False)
                return
            for row in self._rows(counts, total):
                self.console.print("  ".join(row), highlight=False)

    def _rows(self, counts: Mapping[str, StageCount], total: int) -> list[tuple[str, str, str, str, str]]:
        elapsed = max(time.monotonic() - self.started, 1e-9)
        rows = []
        for stage in self.stages:
            count = counts.get(stage)
            done, failed = (count.done, count.failed) if count is not None else (0, 0)
            rate = done / elapsed
            left = "-" if not done else clock((total - done) / rate)
            rows.append(
                (f"{stage:<8}", f"{done}/{total} done", f"{failed} failed", f"{rate * 60:.1f}/min", f"{left} left")
            )
        return rows

    def _table(self, counts: Mapping[str, StageCount], total: int) -> Table:
        table = Table(box=None, show_header=False, padding=(0, 2))
        for row in self._rows(counts, total):
            table.add_row(*row)
        return table


def clock(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min 20 s, 5 h 12 min, 9 d 4 h."""
    whole = max(0, round(seconds))
    for unit, size, smaller, small in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // small} {smaller}"
    return f"{whole} s"
