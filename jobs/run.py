"""Runs a plan to its end: as many passes over what is missing as it takes, then one row for every photograph."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa

from cluster.connect import ConnectError, Resources, connect
from cluster.pools import Allocation, Demand, allocate
from jobs import rundir
from jobs.rundir import Plan
from pipeline import provenance
from pipeline.errors import ItemError, JobError, Reason
from pipeline.record import from_manifest
from pipeline.runtime import Counts, Pool, Work, chunks, restore
from pipeline.storage import Store

# A photograph is tried once with the others and twice alone; then it is taken to be what kills its worker.
_TRIES = 3
# Ray handles this many blocks without strain; a larger run puts several photographs into one.
_BLOCKS = 4096
# Rough shares of work among networks, until rates are measured.
_WEIGHTS = {"analyse": 0.25, "faces": 1.0, "upscale": 2.0}


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run stands. restored, refused, failed, missing: photographs. worked_on: by this call. seconds: it took."""

    run: str
    run_id: str
    photographs: int
    restored: int
    refused: int
    failed: int
    worked_on: int
    seconds: float

    @property
    def missing(self) -> int:
        return self.photographs - self.restored - self.refused - self.failed

    @property
    def exit_code(self) -> int:
        return 0 if self.restored == self.photographs else 3


def execute(plan: Plan, watch: Callable[[Counts, int], None], *, retry: bool = False) -> Summary:
    """Work on what is missing, if anything is. watch: called about once a second with counts and how many they go to.

    retry: also work on what ended for a reason that may have passed (`errors.RETRYABLE`).

    Raises JobError where the run cannot go on, or where manifest and provenance do not agree at its end.
    """
    started = time.perf_counter()
    retry_before = datetime.now(UTC) if retry else None
    pending = rundir.pending(plan, retry_before)
    todo = pending.num_rows
    if todo:
        try:
            with connect(plan.spec.cluster.address, plan.spec.cluster.cpus) as resources:
                _work_off(plan, pending, plan_pools(plan, resources), watch, retry_before)
        except ConnectError as error:
            raise JobError(str(error)) from error
    summary = summarise(plan, todo, time.perf_counter() - started)
    if summary.missing:
        raise JobError(
            f"{summary.missing} of {summary.photographs} photographs have no provenance row although the run came to its end",
            hint="Run the same command again to work on them.",
        )
    return summary


def _work_off(
    plan: Plan,
    pending: pa.Table,
    pools: tuple[Pool, ...],
    watch: Callable[[Counts, int], None],
    retry_before: datetime | None,
) -> None:
    spec = plan.spec
    planned = frozenset(use.id for use in plan.models if use.sha256 is not None)
    models = replace(spec.model_source(), planned=planned)
    work = Work(plan.recipe, plan.stamp(), plan.run, spec.source_options, spec.output_options, models)
    lost: tuple[str, ...] = ()
    for attempt in range(_TRIES):
        if pending.num_rows == 0:
            return
        total = pending.num_rows
        alone = attempt > 0
        rows = 1 if alone else -(-total // _BLOCKS)
        lost = restore(work, pools, list(chunks(pending, rows)), alone=alone, watch=partial(_with_total, watch, total))
        pending = rundir.pending(plan, retry_before)
    _quarantine(plan, pending, lost)


def _with_total(watch: Callable[[Counts, int], None], total: int, counts: Counts) -> None:
    watch(counts, total)


def _quarantine(plan: Plan, pending: pa.Table, lost: tuple[str, ...]) -> None:
    if pending.num_rows == 0:
        return
    said = f"; in the last one Ray said: {' | '.join(lost)}" if lost else ""
    error = ItemError(Reason.WORKER_DIED, f"no worker survived this photograph in {_TRIES} tries{said}")
    for record in from_manifest(pending):
        # One object each, under the name that a later retry will write.
        provenance.commit(Store(plan.spec.output_options), plan.run, plan.stamp(), [record.ended(error)])


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


def stage_groups(plan: Plan) -> tuple[tuple[tuple[str, ...], bool], ...]:
    """Neighbouring stages that share a pool, and whether they hold a model: those with one never share."""
    installed = {use.id for use in plan.models if use.sha256 is not None}
    groups: list[tuple[list[str], bool]] = [(["ingest"], False)]
    for spec in plan.recipe.stages:
        needs = spec.needs()
        holds = bool(needs) and all(need.model_id in installed for need in needs)
        if holds or groups[-1][1]:
            groups.append(([spec.name], holds))
        else:
            groups[-1][0].append(spec.name)
    if groups[-1][1]:
        groups.append((["deliver"], False))
    else:
        groups[-1][0].append("deliver")
    return tuple((tuple(names), heavy) for names, heavy in groups)


def plan_pools(plan: Plan, resources: Resources) -> tuple[Pool, ...]:
    groups = stage_groups(plan)
    sizes = plan.spec.cluster.pools
    demands = [
        Demand("+".join(names), heavy, max(_WEIGHTS.get(name, 1.0) for name in names)) for names, heavy in groups
    ]
    chosen = {
        demand.name: next(sizes[name] for name in names if name in sizes)
        for demand, (names, _) in zip(demands, groups, strict=True)
        if any(name in sizes for name in names)
    }
    allocations = allocate(demands, resources.cpus, resources.gpus, chosen, resources.node_cpus)
    return tuple(_pool(names, allocation) for (names, _), allocation in zip(groups, allocations, strict=True))


def _pool(names: tuple[str, ...], allocation: Allocation) -> Pool:
    return Pool(names, allocation.size, allocation.cpus, allocation.gpus, allocation.threads)


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
        "exit_code": summary.exit_code,
    }
