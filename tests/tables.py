"""What benchmarks of ours beside a reference share: turns taken, what came of them, and one table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Times:
    """Seconds of each run: by the clock, and of this process's processors, which neighbours on the machine lengthen less."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """Seconds are medians, for one of `count`; cpu_seconds: of the processor; spread: (slowest - fastest) / median of ours, by
    the clock. ratio, cpu_ratio: the reference's over ours. largest_difference: in steps of 255; agreement: PSNR in dB to the
    reference's output."""

    what: str
    count: int
    reference_seconds: float
    seconds: float
    spread: float
    ratio: float
    reference_cpu_seconds: float
    cpu_seconds: float
    cpu_ratio: float
    largest_difference: float
    agreement: float


def alternate(first: Callable[[], object], second: Callable[[], object], runs: int) -> tuple[Times, Times]:
    """Times of both, taken turn by turn after one warm-up each, so that both see the same machine."""
    taken: list[list[tuple[float, float]]] = [[], []]
    for run in range(runs + 1):
        for which, call in enumerate((first, second)):
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if run:
                taken[which].append((time.perf_counter() - wall, time.process_time() - cpu))
    one, other = (Times(*zip(*times, strict=True)) for times in taken)
    return one, other


def compared(what: str, count: int, times: tuple[Times, Times], difference: NDArray[np.floating[Any]]) -> Row:
    """count: of what the times are for all together. difference: of both outputs, of values in 0..1."""
    (theirs, their_cpu), (ours, our_cpu) = (
        (statistics.median(one.wall) / count, statistics.median(one.cpu) / count) for one in times
    )
    error = float(np.mean(difference.astype(np.float64) ** 2))
    return Row(
        what=what,
        count=count,
        reference_seconds=theirs,
        seconds=ours,
        spread=(max(times[1].wall) - min(times[1].wall)) / statistics.median(times[1].wall),
        ratio=theirs / ours,
        reference_cpu_seconds=their_cpu,
        cpu_seconds=our_cpu,
        cpu_ratio=their_cpu / our_cpu,
        largest_difference=255 * float(np.abs(difference).max()),
        agreement=float("inf") if error == 0 else -10 * float(np.log10(error)),
    )


def show(what: str, reference: str, rows: Sequence[Row]) -> None:
    """what: stands over the first column."""
    table = Table(box=None)
    columns = (f"{reference} s", "Albumen s", "spread", "ratio", f"{reference} CPU s", "Albumen CPU s", "ratio")
    for column in (what, *columns, "largest difference", "PSNR dB"):
        table.add_column(column, justify="left" if column == what else "right")
    for row in rows:
        table.add_row(
            row.what, f"{row.reference_seconds:.2f}", f"{row.seconds:.2f}", f"{row.spread:.0%}", f"{row.ratio:.2f}",
            f"{row.reference_cpu_seconds:.2f}", f"{row.cpu_seconds:.2f}", f"{row.cpu_ratio:.2f}",
            f"{row.largest_difference:.2g}/255", f"{row.agreement:.1f}",
        )  # fmt: skip
    Console().print(table)
