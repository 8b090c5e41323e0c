"""What is told to Prometheus, and to whoever reads logs. Without Ray; whether it arrives is seen on a real cluster."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import Status
from pipeline.metrics import (
    COMMIT_SECONDS,
    METRICS,
    MODEL_SECONDS,
    PHOTOGRAPHS,
    STAGE_MEGAPIXELS,
    STAGE_PHOTOGRAPHS,
    STAGE_SECONDS,
    lines_of,
    megapixels,
    of_commit,
    of_stage,
)
from pipeline.photograph import Container, Photograph
from pipeline.record import Event, Record
from pipeline.tally import Hand, StageCount, Tally


def record(number: int, side: int | None = 1000) -> Record:
    pixels = None if side is None else np.zeros((side, 2 * side, 3), np.uint8)
    photograph = None if pixels is None else Photograph(f"{number:032d}", pixels, Container("PNG"))
    return Record(number, f"{number:032d}", f"/scans/été {number}.png", photograph=photograph)


def event(stage: str, seconds: float, *models: str) -> Event:
    used = tuple({"id": name, "sha256": "a" * 64, "licence": "MIT"} for name in models)
    return Event(stage, "1", "applied", None, "{}", used, None, None, None, seconds, "cpu", None, "{}")


def test_names_are_prometheus_own_and_are_there_once() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith("albumen_")
        assert not metric.name.endswith("_total")
        assert metric.tags[0] == "run"
        assert bool(metric.boundaries) == (metric.kind == "histogram")
    assert PHOTOGRAPHS.exported == "ray_albumen_photographs_total"


def test_a_stage_is_measured_in_photographs_seconds_and_megapixels() -> None:
    before = [record(1), record(2), record(3, None)]
    after = [
        replace(before[0], events=(event("faces", 1.5, "retinaface", "gfpgan"),)),
        replace(before[1], events=(event("faces", 0.5),)),
        before[2],
    ]
    found = [(sample.metric, sample.value, dict(sample.tags)) for sample in of_stage("faces", before, after, 2.25)]
    assert found == [
        (STAGE_PHOTOGRAPHS, 3, {"stage": "faces"}),
        (STAGE_SECONDS, 2.25, {"stage": "faces"}),
        (STAGE_MEGAPIXELS, 4.0, {"stage": "faces"}),
        (MODEL_SECONDS, 1.5, {"stage": "faces", "model": "retinaface"}),
        (MODEL_SECONDS, 1.5, {"stage": "faces", "model": "gfpgan"}),
    ]


def test_ingest_is_measured_by_what_it_decoded() -> None:
    before, after = [record(1, None)], [record(1, 500)]
    [size] = [sample.value for sample in of_stage("ingest", before, after, 1.0) if sample.metric is STAGE_MEGAPIXELS]
    assert size == megapixels(after) == 0.5


def test_what_is_committed_is_counted_by_status_and_reason() -> None:
    ended = [
        replace(record(1), status=Status.RESTORED),
        replace(record(2), status=Status.REFUSED, reason="truncated", detail="cut"),
    ]
    first, *others = of_commit(ended, 0.25)
    assert (first.metric, first.value) == (COMMIT_SECONDS, 0.25)
    assert [dict(sample.tags) for sample in others] == [
        {"status": "restored", "reason": ""},
        {"status": "refused", "reason": "truncated"},
    ]


def test_a_line_of_the_log_is_json_with_the_ids() -> None:
    ended = replace(record(7), status=Status.RESTORED, events=(event("ingest", 0.12345),), output_uri="s3://out/7.png")
    [line] = lines_of([ended], "f" * 16)
    assert "\n" not in line
    found = json.loads(line)
    assert (found["run_id"], found["item_id"], found["item_no"]) == ("f" * 16, f"{7:032d}", 7)
    assert (found["event"], found["status"], found["seconds"]) == ("photograph", "restored", {"ingest": 0.1235})
    assert found["source_uri"] == "/scans/été 7.png"


def test_who_waits_between_two_pools_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    tally = Tally()
    assert tally.longest_wait() == 0
    tally.take(Hand("one", "node", (1, 2)))
    tally.leave("one", {"ingest": StageCount(2)}, whole=True)
    now = 103.0
    tally.take(Hand("one", "node", (3,)))
    tally.leave("one", {"ingest": StageCount(1)}, whole=True)
    now = 105.0
    assert tally.longest_wait() == 5.0
    tally.take(Hand("two", "node", (1, 2)))
    assert tally.longest_wait() == 2.0
    tally.take(Hand("two", "node", (3,)))
    # Nothing waits behind the last pool.
    tally.leave("two", {"deliver": StageCount(1)}, whole=True)
    assert tally.longest_wait() == 0
