"""Runs a plan to its end, and says how it stands."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from cluster.connect import ConnectError
from jobs import lease, manifest
from jobs.drive import Announce, Driver, Watch
from jobs.estimate import Interval
from jobs.rundir import Plan
from pipeline import provenance
from pipeline.errors import JobError, StoreError
from pipeline.storage import Store


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run stands. restored, refused, failed, missing: photographs. worked_on: by this call. seconds: it took.
    foreseen: seconds that were predicted when it began, where there was a calibration."""

    run: str
    run_id: str
    photographs: int
    restored: int
    refused: int
    failed: int
    worked_on: int
    seconds: float
    foreseen: Interval | None = None

    @property
    def missing(self) -> int:
        return self.photographs - self.restored - self.refused - self.failed

    @property
    def exit_code(self) -> int:
        return 0 if self.restored == self.photographs else 3


def execute(plan: Plan, watch: Watch, *, retry: bool = False, announce: Announce = lambda foreseen: None) -> Summary:
    """Work on what is missing, if anything is. watch: called about once a second with counts and how many they go to.

    retry: also work on what ended for a reason that may have passed (`errors.RETRYABLE`). announce: told the pools, and what
    the run should take, before the first photograph is worked on.

    Raises LeaseHeldError where another driver is at work, JobError where the run cannot go on, or where manifest and
    provenance do not agree at its end.
    """
    started = time.perf_counter()
    store = Store(plan.spec.output_options)
    try:
        with lease.hold(store, plan.run, "run") as held:
            # The manifest may have grown since it was planned; while the lease is ours it does not.
            plan = replace(plan, index=manifest.sound_index(store, plan.run))
            driver = Driver(plan, store, held, watch, retry=retry, announce=announce)
            worked_on = driver.drive()
            held.check()
        summary = summarise(plan, worked_on, time.perf_counter() - started)
        if driver.foreseen is not None and driver.foreseen.forecast is not None:
            summary = replace(summary, foreseen=driver.foreseen.forecast.wall_seconds)
    except ConnectError as error:
        raise JobError(str(error)) from error
    except OSError as error:
        raise StoreError(f"output.uri: {plan.run}: {error}") from error
    if summary.missing:
        raise JobError(
            f"{summary.missing} of {summary.photographs} photographs have no provenance row although the run came to its end",
            hint="Run the same command again to work on them.",
        )
    return summary


def summarise(plan: Plan, worked_on: int = 0, seconds: float = 0.0) -> Summary:
    counts = provenance.counts(Store(plan.spec.output_options), plan.run)
    return Summary(
        run=plan.run,
        run_id=plan.run_id,
        photographs=plan.photographs,
        restored=counts.get("restored", 0),
        refused=counts.get("refused", 0),
        failed=counts.get("failed", 0),
        worked_on=worked_on,
        seconds=seconds,
    )


def describe(summary: Summary) -> dict[str, Any]:
    """A summary as plain values, for --json."""
    return {
        "run": summary.run,
        "run_id": summary.run_id,
        "photographs": summary.photographs,
        "restored": summary.restored,
        "refused": summary.refused,
        "failed": summary.failed,
        "worked_on": summary.worked_on,
        "seconds": round(summary.seconds, 1),
        "foreseen_seconds": None if summary.foreseen is None else round(summary.foreseen.middle, 1),
        "exit_code": summary.exit_code,
    }
