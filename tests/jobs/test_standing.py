"""How a run stands, from its folder alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs import lease
from jobs.lease import Holder
from jobs.rundir import Plan, planned_spec, prepare
from jobs.spec import JobSpec
from jobs.standing import standing
from pipeline import provenance
from pipeline.errors import ItemError, JobError, Reason
from pipeline.provenance.schema import lease_uri
from pipeline.record import from_manifest
from pipeline.storage import Store

Call = Callable[..., tuple[int, str, str]]


def test_a_finished_run_has_nothing_left(finished: Plan) -> None:
    found = standing(finished.run)
    assert (found.photographs, found.done, found.failed, found.left) == (4, 4, 2, 0)
    assert found.outcomes[-1] == {"status": "restored", "reason": "", "photographs": 2}
    stages = {row["stage"]: row for row in found.stages}
    assert list(stages) == ["ingest", "repair", "colour", "deliver"]
    assert (stages["ingest"]["done"], stages["ingest"]["ended"], stages["ingest"]["mean_seconds"]) == (4, 2, 0.5)
    assert found.driver is not None
    assert found.driver.state == "released"
    assert found.seconds_left is None


def test_a_run_at_work_has_a_rate_and_a_time_left(
    make_spec: Callable[..., JobSpec], scans: Path, pending: Callable[..., object], scan: Callable[..., bytes]
) -> None:
    for number in range(4, 10):
        (scans / f"{number}.png").write_bytes(scan(number))
    plan = prepare(make_spec())
    store = Store()
    records = from_manifest(pending(plan))
    with lease.hold(store, plan.run, "run") as held:
        for record in records[:5]:
            ended = record.ended(ItemError(Reason.TRUNCATED, "cut"))
            provenance.commit(store, plan.run, plan.stamp(held.term), [ended])
        found = standing(plan.run)
        assert (found.done, found.failed, found.left) == (5, 5, 5)
        assert found.driver is not None
        assert (found.driver.state, found.driver.purpose) == ("working", "run")
        assert found.per_second is not None
        assert found.seconds_left == pytest.approx(5 / found.per_second)
        assert found.last is not None
    # The driver is gone, and so is the time left; what was done is told all the same.
    after = standing(plan.run)
    assert (after.done, after.seconds_left, after.driver and after.driver.state) == (5, None, "released")


def test_a_driver_that_was_lost_is_said_to_be(finished: Plan) -> None:
    store = Store()
    held = lease.current(store, finished.run)
    assert held is not None
    past = datetime.now(UTC) - timedelta(hours=1)
    elsewhere = Holder("archivist", "head-7", "another boot", 77, 1)
    gone = replace(held, holder=elsewhere, released=False, renewed_at=past, taken_at=past)
    store.put(lease_uri(finished.run, held.term), gone.to_json())
    found = standing(finished.run)
    assert found.driver is not None
    assert (found.driver.state, found.driver.who) == ("lost", "archivist@head-7")


def test_a_run_that_is_being_planned_is_said_to_be(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    with pytest.raises(JobError, match=r"no run\.json"):
        standing(run)
    with lease.hold(Store(), run, "planning"), pytest.raises(JobError, match="is being planned by "):
        standing(run)


def test_status_of_a_run_needs_no_cluster(albumen: Call, finished: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    code, out, err = albumen("status", finished.run)
    assert (code, err) == (0, "")
    assert "Done      4 of 4, 2 of them refused or failed; 0 left" in out
    assert "restored  2" in out
    assert "repair    2 done, 0 ended there, 0.5 s each" in out
    assert "Driver    nobody; `run` of " in out
    answer = json.loads(albumen("status", finished.run, "--json")[1])
    assert (answer["total"], answer["done"], answer["failed"], answer["left"]) == (4, 4, 2, 0)
    assert answer["driver"]["state"] == "released"


def test_an_id_without_an_address_is_wrong_usage(albumen: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    code, _, err = albumen("status", "albumen-20260101-000000-abcdef")
    assert code == 2
    assert "name its cluster with --address" in err
    assert albumen("status", "/no/such/run")[0] == 1


def test_the_job_of_a_run_is_in_its_folder(finished: Plan) -> None:
    assert planned_spec(finished.run) == finished.spec
    named = planned_spec(finished.run, "http://127.0.0.1:9")
    assert named.output.endpoint == "http://127.0.0.1:9"
