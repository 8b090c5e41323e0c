"""What is known before work starts: the pools on a cluster, and, where the recipe was calibrated, what the run should take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster.connect import Resources
from cluster.pools import Layout
from jobs import manifest
from jobs.calibration import Calibration, default_place, load
from jobs.estimate import Forecast, Interval, forecast, totals
from jobs.graph import lay_out, stage_groups
from jobs.progress import clock
from jobs.rundir import Plan
from pipeline.storage import Store


@dataclass(frozen=True, slots=True)
class Foreseen:
    """forecast is None without a calibration of this recipe."""

    layout: Layout
    forecast: Forecast | None


def place(plan: Plan) -> str:
    """Where the recipe's calibration lies."""
    return plan.spec.cluster.calibration or default_place(plan.run)


def calibration_of(plan: Plan, store: Store) -> Calibration | None:
    """Raises JobError for one that cannot be used."""
    return load(store, place(plan), plan.recipe_id)


def foresee(plan: Plan, store: Store, resources: Resources, done: NDArray[np.bool_] | None = None) -> Foreseen:
    """done: by item_no, what is not worked on. Raises JobError."""
    calibration = calibration_of(plan, store)
    layout = lay_out(plan, resources, calibration)
    return Foreseen(layout, None if calibration is None else estimated(plan, store, calibration, layout, done))


def estimated(
    plan: Plan, store: Store, calibration: Calibration, layout: Layout | None, done: NDArray[np.bool_] | None = None
) -> Forecast:
    """layout: None where the cluster is not known, and so the wall time is not."""
    tables = manifest.parts(store, plan.run, plan.index) if done is None else manifest.pending(store, plan.run, done)
    heavy = frozenset(name for names, holds in stage_groups(plan) if holds for name in names)
    return forecast(calibration, totals(tables), heavy, layout, plan.spec.price)


def said(found: Forecast) -> Iterator[str]:
    """A forecast in lines for people."""
    yield f"Foreseen  {found.photographs:,} photographs, from {found.measured} that were measured; nine of ten times within:"
    if found.wall_seconds is not None:
        wall = found.wall_seconds
        yield f"  time      {clock(wall.middle)}  ({clock(wall.low)} to {clock(wall.high)})"
    yield f"  pixels    {_amount(found.megapixels)} megapixels"
    yield f"  CPU       {_amount(found.core_hours)} hours"
    if found.card_hours.high:
        yield f"  GPU       {_amount(found.card_hours)} hours"
    yield f"  writes    {_amount(found.output_bytes.times(1e-9))} GB in images"
    yield f"  requests  {found.requests:,} if the store is a bucket"
    if found.money is not None:
        yield f"  money     {_amount(found.money)} {found.currency}"


def compared(foreseen: Interval, seconds: float) -> str:
    """How far off a prediction was."""
    off = seconds / foreseen.middle - 1
    way = "more" if off >= 0 else "less"
    place = "within" if foreseen.low <= seconds <= foreseen.high else "outside"
    interval = f"{clock(foreseen.low)} to {clock(foreseen.high)}"
    return f"Foreseen were {clock(foreseen.middle)} ({interval}): it took {abs(off):.0%} {way}, {place} the interval."


def _amount(interval: Interval) -> str:
    middle, low, high = (f"{float(f'{value:.3g}'):,.12g}" for value in (interval.middle, interval.low, interval.high))
    return f"{middle}  ({low} to {high})"
