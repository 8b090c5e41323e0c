"""What a run tells Prometheus, in one table. `meter` hands it to Ray; the dashboard and the page on clusters follow it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from pipeline.record import Record


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. name: without the `ray_` that Ray puts before it, and the `_total` that it puts behind counters.
    boundaries: of a histogram's buckets."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    says: str
    tags: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()

    @property
    def exported(self) -> str:
        """Its name as Prometheus has it; a histogram's has `_bucket`, `_sum` and `_count` behind it."""
        return f"ray_{self.name}_total" if self.kind == "counter" else f"ray_{self.name}"


PHOTOGRAPHS = Metric(
    "albumen_photographs", "counter", "photographs committed, by status and reason", ("run", "status", "reason")
)
STAGE_PHOTOGRAPHS = Metric(
    "albumen_stage_photographs", "counter", "photographs that a stage has seen", ("run", "stage")
)
STAGE_SECONDS = Metric(
    "albumen_stage_seconds", "counter", "seconds spent in a stage, over all workers", ("run", "stage")
)
STAGE_MEGAPIXELS = Metric(
    "albumen_stage_megapixels", "counter", "megapixels that a stage has seen, as it was given them", ("run", "stage")
)
MODEL_SECONDS = Metric(
    "albumen_model_seconds", "counter", "seconds of stages in which a model worked", ("run", "stage", "model")
)
COMMIT_SECONDS = Metric(
    "albumen_commit_seconds",
    "histogram",
    "seconds from a delivered image to its committed row",
    ("run",),
    (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
)
QUEUE_SECONDS = Metric(
    "albumen_queue_seconds",
    "gauge",
    "how long the photograph that waits longest between two pools has waited",
    ("run",),
)
METRICS = (
    PHOTOGRAPHS,
    STAGE_PHOTOGRAPHS,
    STAGE_SECONDS,
    STAGE_MEGAPIXELS,
    MODEL_SECONDS,
    COMMIT_SECONDS,
    QUEUE_SECONDS,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One value for one metric. tags: those that the metric asks for, but for `run`."""

    metric: Metric
    value: float
    tags: MappingProxyType[str, str] = field(default_factory=lambda: MappingProxyType({}))


def megapixels(records: Sequence[Record]) -> float:
    """What the records' photographs hold now; nothing for those that have ended."""
    found = 0.0
    for record in records:
        if record.photograph is not None:
            height, width = record.photograph.pixels.shape[:2]
            found += height * width / 1e6
    return found


def of_stage(stage: str, before: Sequence[Record], after: Sequence[Record], seconds: float) -> Iterator[Sample]:
    """before, after: the records that a stage was given, and what it made of them."""
    tags = MappingProxyType({"stage": stage})
    yield Sample(STAGE_PHOTOGRAPHS, len(after), tags)
    yield Sample(STAGE_SECONDS, seconds, tags)
    # Nothing is decoded before ingest.
    yield Sample(STAGE_MEGAPIXELS, megapixels(after if stage == "ingest" else before), tags)
    for old, new in zip(before, after, strict=True):
        for event in new.events[len(old.events) :]:
            for model in event.models:
                yield Sample(MODEL_SECONDS, event.seconds, MappingProxyType({"stage": stage, "model": model["id"]}))


def of_commit(records: Sequence[Record], seconds: float) -> Iterator[Sample]:
    yield Sample(COMMIT_SECONDS, seconds)
    for record in records:
        ended = {"status": str(record.status), "reason": record.reason or ""}
        yield Sample(PHOTOGRAPHS, 1, MappingProxyType(ended))


def log_line(event: str, run_id: str, **facts: Any) -> str:
    """One event as one line of JSON: `event`, `run_id`, and what else there is to say."""
    return json.dumps({"event": event, "run_id": run_id} | facts, ensure_ascii=False, default=str)


def lines_of(records: Sequence[Record], run_id: str) -> Iterator[str]:
    """A line for each photograph that has come to its end, with the seconds of each of its stages."""
    for record in records:
        yield log_line(
            "photograph",
            run_id,
            item_id=record.item_id,
            item_no=record.item_no,
            source_uri=record.source_uri,
            status=str(record.status),
            reason=record.reason,
            detail=record.detail,
            output_uri=record.output_uri,
            seconds={event.stage: round(event.seconds, 4) for event in record.events},
        )
