"""Questions at size: synthetic provenance in compacted parts, and how long it takes to ask it.

    python -m tests.audit.questions --rows 10000000

Makes a run of that many photographs in a temporary folder, each with seven events, and prints one JSON object: the seconds of
each question, the first time and the best of the times after it, and the most memory that this process took meanwhile.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

_STAGES = ("ingest", "analyse", "repair", "faces", "upscale", "compose", "colour")
_RUN = {
    "run_id": "a" * 16,
    "recipe_id": "b" * 64,
    "collection": "questions",
    "layout": 3,
    "manifest": 0,
    "models": [],
    "spec": {"collection": {"source": "/scans", "endpoint": None}},
    "software": {"albumen": "0"},
}


def item(number: int) -> str:
    return hashlib.sha256(b"item %d" % number).hexdigest()[:32]


def source(number: int) -> str:
    return f"s3://archive/box-{number // 500:06d}/scan-{number:09d}.tif"


def _digests(name: bytes, numbers: range) -> pa.Array:
    return pa.array([hashlib.sha256(name + b"%d" % number).hexdigest() for number in numbers])


def _events(numbers: range, rng: np.random.Generator) -> pa.Array:
    """Digests are one text for every photograph here: of them only the length matters."""
    from pipeline.provenance import PROVENANCE

    kind = PROVENANCE.field("events").type.value_type
    count = len(numbers) * len(_STAGES)
    each = pa.array(np.repeat(np.arange(len(numbers)), len(_STAGES)))
    known = {
        "stage": pa.array(_STAGES * len(numbers)),
        "version": pa.array(["1"] * count),
        "outcome": pa.array(
            ["applied", "applied", "skipped", "applied", "applied", "applied", "applied"] * len(numbers)
        ),
        "parameters": pa.array(['{"fill_missing_radius": 6.0, "radius": 14.0}'] * count),
        "input_sha256": _digests(b"in", numbers).take(each),
        "output_sha256": _digests(b"out", numbers).take(each),
        "changed_fraction": pa.array(rng.random(count)),
        "seconds": pa.array(rng.random(count) * 10),
        "device": pa.array(["cpu"] * count),
        "findings": pa.array(['{"tone": "neutral"}'] * count),
    }
    columns = [known[field.name] if field.name in known else pa.nulls(count, field.type) for field in kind]
    structs = pa.StructArray.from_arrays(columns, fields=list(kind))
    return pa.ListArray.from_arrays(pa.array(np.arange(0, count + 1, len(_STAGES)), pa.int32()), structs)


def rows(numbers: range, rng: np.random.Generator) -> pa.Table:
    """Live rows of PROVENANCE: one in fifty was refused."""
    from pipeline.provenance import PROVENANCE

    count = len(numbers)
    refused = np.array(numbers) % 50 == 0
    known = {
        "item_no": pa.array(numbers),
        "item_id": pa.array([item(number) for number in numbers]),
        "source_uri": pa.array([source(number) for number in numbers]),
        "source_bytes": pa.array(rng.integers(1_000_000, 90_000_000, count)),
        "status": pa.array(np.where(refused, "refused", "restored")),
        "reason": pa.array(["truncated" if one else None for one in refused]),
        "source_sha256": _digests(b"source", numbers),
        "output_sha256": _digests(b"output", numbers),
        "run_id": pa.array([_RUN["run_id"]] * count),
        "recipe_id": pa.array([_RUN["recipe_id"]] * count),
        "software": pa.array(["albumen 0"] * count),
        "schema_version": pa.array([2] * count, pa.int32()),
        "term": pa.array([1] * count),
        "committed_at": pa.array(np.full(count, 1_700_000_000_000_000)),
        "events": _events(numbers, rng),
    }
    columns = [
        known[field.name].cast(field.type) if field.name in known else pa.nulls(count, field.type)
        for field in PROVENANCE
    ]
    return pa.Table.from_arrays(columns, schema=PROVENANCE)


def make(run: Path, count: int) -> dict[str, Any]:
    """The parts are written by the compactor's own hand."""
    from pipeline.provenance import seals
    from pipeline.storage import Store

    (run / "manifest").mkdir(parents=True)
    index = {"version": 0, "photographs": count, "known_bytes": 0, "refused": 0, "ignored": {}, "parts": []}
    (run / "manifest" / "index-00000000.json").write_text(json.dumps(index))
    (run / "run.json").write_text(json.dumps(_RUN))
    rng = np.random.default_rng(1)
    started = time.perf_counter()
    compactor = seals.Compactor(Store(), str(run), 1)
    parts = [
        compactor._put_part(rows(range(start, min(start + seals.PART_ROWS, count)), rng))
        for start in range(0, count, seals.PART_ROWS)
    ]
    compactor._put_seal(parts, 1)
    size = sum(path.stat().st_size for path in (run / "provenance" / "parts").iterdir())
    return {"rows": count, "parts": len(parts), "gigabytes": round(size / 1e9, 3), "made_in": _since(started)}


def measure(run: Path, count: int, times: int) -> dict[str, Any]:
    from jobs.query import open_run

    started = time.perf_counter()
    with open_run(str(run)) as records:
        found: dict[str, Any] = {"open": _since(started)}
        one = count * 7 // 11
        questions = {
            "item_id": f"SELECT item_no, status, output_sha256 FROM photographs WHERE item_id = '{item(one)}'",
            "source_uri": f"SELECT item_no, status, output_sha256 FROM photographs WHERE source_uri = '{source(one)}'",
            "whole row": f"SELECT * FROM photographs WHERE item_id = '{item(one)}'",
            "events": f"SELECT * FROM events WHERE item_id = '{item(one)}'",
            "filtered count": "SELECT count(*) AS n FROM photographs WHERE status = 'refused' AND source_bytes > 20000000",
            "no such item": f"SELECT item_no FROM photographs WHERE item_id = '{item(count)}'",
        }
        for name, sql in questions.items():
            taken = []
            for _ in range(times):
                started = time.perf_counter()
                answer = records.ask(sql)
                taken.append(_since(started))
            assert answer.num_rows == {"events": len(_STAGES), "no such item": 0}.get(name, 1), name
            found[name] = {"first": taken[0], "warm": min(taken[1:])}
    return found | {"memory_gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)}


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="Where the run is made, and kept for another measurement.")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="albumen-questions-")) if options.keep is None else options.keep
    try:
        made = {} if (work / "run" / "run.json").exists() else make(work / "run", options.rows)
        print(json.dumps(made | measure(work / "run", options.rows, options.times), indent=1))
    finally:
        if options.keep is None:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
