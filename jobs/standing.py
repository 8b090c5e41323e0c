"""How a run stands, told from its folder alone: also when its driver, its cluster, or both are gone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from jobs import lease, manifest, rundir
from jobs.query import STATUS, Records, open_run
from pipeline.errors import JobError, StoreError
from pipeline.storage import Store, StoreOptions

# The rate is that of the photographs which ended in the last minutes before the latest one.
_WINDOW = 900
_STAGES = """
    SELECT stage, count(*) AS done, count(*) FILTER (outcome IN ('refused', 'failed')) AS ended,
           round(sum(seconds), 2) AS seconds, round(avg(seconds), 3) AS mean_seconds,
           round(sum(seconds) / nullif(sum(megapixels), 0), 3) AS seconds_per_megapixel
    FROM (SELECT event.stage AS stage, event.outcome AS outcome, event.seconds AS seconds, event_no,
                 source_width * source_height / 1e6 AS megapixels
          FROM (SELECT unnest(events) AS event, generate_subscripts(events, 1) AS event_no, source_width, source_height
                FROM photographs))
    GROUP BY stage ORDER BY min(event_no), stage"""
_RATE = """
    WITH last AS (SELECT max(committed_at) AS at, max(term) AS term FROM photographs)
    SELECT any_value(last.at) AS last, count(*) AS photographs, epoch(max(committed_at) - min(committed_at)) AS seconds
    FROM photographs, last
    WHERE photographs.term = last.term AND committed_at > last.at - to_seconds({window})"""


@dataclass(frozen=True, slots=True)
class Driver:
    """Who works on the run. state: `working`, `released` (nobody does), `lost` (not heard of since its lease ran out)."""

    state: str
    purpose: str
    who: str
    since: datetime
    heard: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """photographs: of the manifest. outcomes, stages: rows as queries give them. done, failed, left: photographs.

    failed: those that were refused, too. last: when the latest photograph was committed. per_second: over the last quarter of
    an hour of work; None while there are too few to tell. seconds_left: None where nobody works, or nothing is known.
    """

    run: str
    run_id: str
    collection: str
    photographs: int
    outcomes: tuple[dict[str, Any], ...]
    stages: tuple[dict[str, Any], ...]
    driver: Driver | None
    last: datetime | None
    per_second: float | None

    @property
    def done(self) -> int:
        return sum(row["photographs"] for row in self.outcomes)

    @property
    def failed(self) -> int:
        return sum(row["photographs"] for row in self.outcomes if row["status"] != "restored")

    @property
    def left(self) -> int:
        return self.photographs - self.done

    @property
    def seconds_left(self) -> float | None:
        working = self.driver is not None and self.driver.state == "working"
        return self.left / self.per_second if working and self.per_second else None

    def describe(self) -> dict[str, Any]:
        """As plain values, for --json."""
        return {
            "run": self.run,
            "run_id": self.run_id,
            "collection": self.collection,
            "total": self.photographs,
            "done": self.done,
            "failed": self.failed,
            "left": self.left,
            "per_hour": None if self.per_second is None else round(self.per_second * 3600, 1),
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left),
            "last": self.last,
            "driver": None if self.driver is None else asdict(self.driver),
            "photographs": list(self.outcomes),
            "stages": list(self.stages),
        }


def standing(run: str, endpoint: str | None = None) -> Standing:
    """Raises JobError where there is no run yet, or none at all; StoreError where it cannot be read."""
    store = Store(StoreOptions(endpoint))
    try:
        driver = _driver(store, run)
        known = _planned(run, endpoint, driver)
        with open_run(run, endpoint) as records:
            outcomes = tuple(records.ask(STATUS).to_pylist())
            stages = tuple(records.ask(_STAGES).to_pylist())
            last, per_second = _rate(records)
    except OSError as error:
        raise StoreError(f"{run} cannot be read: {error}") from error
    photographs = manifest.sound_index(store, run).photographs
    return Standing(run, known["run_id"], known["collection"], photographs, outcomes, stages, driver, last, per_second)


def _planned(run: str, endpoint: str | None, driver: Driver | None) -> dict[str, Any]:
    try:
        return rundir.load(run, endpoint)
    except StoreError:
        raise
    except JobError as error:
        if driver is not None and driver.state == "working":
            raise JobError(f"{run} is being planned by {driver.who}; it has no photographs yet") from error
        raise


def _driver(store: Store, run: str) -> Driver | None:
    held = lease.current(store, run)
    if held is None:
        return None
    gone = datetime.now(UTC) > held.ends_at or held.holder.is_gone()
    state = "released" if held.released else "lost" if gone else "working"
    who = f"{held.holder.user}@{held.holder.host}"
    return Driver(state, held.purpose, who, held.taken_at, held.renewed_at)


def _rate(records: Records) -> tuple[datetime | None, float | None]:
    [row] = records.ask(_RATE.format(window=_WINDOW)).to_pylist()
    seconds = row["seconds"] or 0.0
    # The first of them began before the time that is measured.
    return row["last"], (row["photographs"] - 1) / seconds if row["photographs"] > 2 and seconds > 0 else None
