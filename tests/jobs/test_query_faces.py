"""The rows of faces, asked by name and in SQL."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from jobs import lease
from jobs.rundir import Plan, prepare
from jobs.spec import JobSpec
from pipeline import provenance
from pipeline.errors import Status
from pipeline.photograph import Decision, Face, Likeness
from pipeline.record import from_manifest
from pipeline.storage import Store

Call = Callable[..., tuple[int, str, str]]


def a_face(decision: Decision, identity: float | None, reason: str | None = None, strength: float = 0.0) -> Face:
    return Face(
        box=(0.0, 0.0, 40.0, 50.0),
        landmarks=tuple(map(float, range(10))),
        score=0.99,
        strength=strength,
        model_id=None if decision is Decision.LEFT else "gfpgan-v1.4",
        detector="yunet-2023mar",
        likeness=None if identity is None else Likeness("mobilefacenet", identity),
        decision=decision,
        reason=reason,
    )


def test_low_identity_names_the_faces_that_were_laid_in_and_no_others(
    scans: Path, make_spec: Callable[..., JobSpec], pending: Callable[[Plan], pa.Table], albumen: Call
) -> None:
    plan = prepare(make_spec())
    faces = (
        (a_face(Decision.RESTORED, 0.9, strength=0.5), a_face(Decision.REFUSED, 0.1, "identity")),
        (a_face(Decision.RESTORED, 0.65, strength=0.5), a_face(Decision.LEFT, None, "too-small")),
        (a_face(Decision.ACCEPTED, 0.7, strength=0.5), a_face(Decision.RESTORED, None, "unchecked", 0.5)),
        (),
    )
    records = from_manifest(pending(plan))
    done = [replace(record, status=Status.RESTORED, faces=some) for record, some in zip(records, faces, strict=True)]
    store = Store()
    with lease.hold(store, plan.run, "run") as held:
        provenance.commit(store, plan.run, plan.stamp(held.term), done)
    code, out, err = albumen("query", plan.run, "--low-identity", "--as", "json")
    assert (code, err) == (0, "")
    found = [(Path(row["source_uri"]).name, row["face_no"], row["identity"]) for row in json.loads(out)]
    assert found == [("b.png", 1, 0.65), ("c.png", 1, 0.7), ("a.png", 1, 0.9)]
    sql = "SELECT decision, reason, count(*) AS n FROM faces GROUP BY ALL ORDER BY ALL"
    assert json.loads(albumen("query", plan.run, sql, "--json")[1]) == [
        {"decision": "accepted", "reason": None, "n": 1},
        {"decision": "left", "reason": "too-small", "n": 1},
        {"decision": "refused", "reason": "identity", "n": 1},
        {"decision": "restored", "reason": "unchecked", "n": 1},
        {"decision": "restored", "reason": None, "n": 2},
    ]
