"""Parts c and e: what the engine adds to its networks, without Ray and, where it is asked for, with it; and the time to the
first photograph."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from jobs.demo import collect
from jobs.query import ask, open_run
from pipeline.stage import Device
from pipeline.tiles import Array, run_tiled
from tests.bench.chain import Chain, job_for, write_job, write_scan
from tests.bench.ground import Figure, Options, compact_file, devices, middle, picture, spread, timed
from tests.tables import alternate

# Photographs of a run whose steady state is measured, and how many of its first do not count: pools fill, libraries load.
_PHOTOGRAPHS, _FIRST = 32, 8
_SIDE = 256
_LIMIT = 1200.0


@dataclass(frozen=True)
class Case:
    """A recipe with an upscaler. side, photographs: what it is measured on, some seconds for two cores."""

    name: str
    compact: bool
    side: int
    photographs: int


def cases() -> tuple[Case, ...]:
    rrdb = Case("RRDBNet x4plus", compact=False, side=112, photographs=2)
    return (rrdb, Case("compact general-x4v3", compact=True, side=_SIDE, photographs=2)) if has_compact() else (rrdb,)


def has_compact() -> bool:
    return compact_file().is_file()


def tight_loop(chain: Chain, side: int, photographs: int) -> Callable[[], None]:
    """The network in its tiles over pixels that are there, and nothing else."""
    image = picture(side, side).astype(np.float32) / 255
    stage = chain.upscaler
    network: Callable[[Array], Array] | None = stage.network
    assert network is not None

    def run() -> None:
        for _ in range(photographs):
            run_tiled(network, image, stage.scale, stage.tiling)

    return run


def efficiency(options: Options) -> Iterator[Figure]:
    """One after the other on the same cores: 1 would be an engine that takes no time. In a run the light stages of one
    photograph and the network of another work side by side."""
    for device in devices():
        for case in cases():
            with tempfile.TemporaryDirectory(prefix="albumen-bench-") as place:
                yield _efficiency(case, device, Path(place), options.runs)


def _efficiency(case: Case, device: Device, folder: Path, runs: int) -> Figure:
    scan, numbers = write_scan(folder / "scans", "one", picture(case.side, case.side)), count()
    with Chain(job_for(folder, compact=case.compact), folder, device) as chain:

        def whole() -> None:
            for _ in range(case.photographs):
                chain.restore(next(numbers), scan)

        alone, through = alternate(tight_loop(chain, case.side, case.photographs), whole, runs)
    return Figure(
        f"stages one by one, {case.name}, {device.kind}",
        case.photographs / middle(through.wall),
        "photographs/s",
        spread(through.wall),
        case.photographs / middle(alone.wall),
        "photographs/s: the network alone",
        f"{case.side} x {case.side} pixels",
    )


def run_albumen(job: Path) -> float:
    """`albumen run`, to its end. The time when it was started (as `time.time` has it)."""
    started = time.time()
    ran = subprocess.run(
        [sys.executable, "-m", "jobs", "run", str(job), "--json"],
        capture_output=True, text=True, timeout=_LIMIT, check=False,
    )  # fmt: skip
    if ran.returncode not in (0, 3):
        raise RuntimeError(f"albumen run ended with {ran.returncode}: {ran.stderr[-2000:]}")
    summary: dict[str, Any] = json.loads(ran.stdout)
    if not summary["restored"]:
        raise RuntimeError(f"nothing was restored: {summary}")
    return started


def committed(run: str) -> list[float]:
    """When each restored photograph was committed, in order, as `time.time` has it. Its file was there before."""
    question = "SELECT epoch(committed_at) AS moment FROM photographs WHERE status = 'restored' ORDER BY moment"
    with open_run(run) as records:
        return [float(value) for value in ask(records, question)["moment"].to_pylist()]


def steady_state(options: Options) -> Iterator[Figure]:
    """The real graph with Ray on this machine: photographs a second between one commit and the last, beside the network
    alone before and after the run."""
    for case in cases():
        yield _steady_state(case, options.runs)


def _steady_state(case: Case, runs: int) -> Figure:
    with tempfile.TemporaryDirectory(prefix="albumen-bench-") as place:
        folder = Path(place)
        for number in range(_PHOTOGRAPHS):
            # No two alike: names are enough, but files that differ are what a collection has.
            write_scan(folder / "scans", f"{number:03d}", np.roll(picture(case.side, case.side), number, axis=1))
        job = job_for(folder, compact=case.compact)
        with Chain(job, folder / "alone", devices()[-1]) as chain:
            loop = tight_loop(chain, case.side, 1)
            alone = timed(loop, runs)
            run_albumen(write_job(folder, job))
            alone += timed(loop, runs)
        times = committed(str(folder / "run"))[_FIRST:]
    gaps = np.diff(times)
    return Figure(
        f"with Ray at steady state, {case.name}",
        (len(times) - 1) / (times[-1] - times[0]),
        "photographs/s",
        float((np.quantile(gaps, 0.75) - np.quantile(gaps, 0.25)) / max(np.median(gaps), 1e-9)),
        1 / middle(alone),
        "photographs/s: the network alone",
        f"{len(times)} of {_PHOTOGRAPHS} photographs of {case.side} x {case.side}; spread: quartiles of the gaps",
    )


def first_photograph(options: Options) -> Iterator[Figure]:
    """`albumen run` on the demo's photographs, everything on this disk, from the command to the first commit.

    The first of the runs warms the system's cache and is not counted."""
    taken = []
    for _ in range(min(options.runs, 3) + 1):
        with tempfile.TemporaryDirectory(prefix="albumen-bench-") as place:
            folder = Path(place)
            collect(folder / "scans")
            started = run_albumen(write_job(folder, job_for(folder, compact=False)))
            taken.append(committed(str(folder / "run"))[0] - started)
    yield Figure("albumen run, to the first photograph", middle(taken[1:]), "s", spread(taken[1:]), 60.0, "s at most")
