"""Planning and resuming at size, with synthetic sources: how long, how much memory, and how many bytes of sources are read.

    python -m tests.audit.scale plan --rows 10000000
    python -m tests.audit.scale resume --rows 1000000

`plan` freezes a manifest of that many rows. `resume` makes a run of that many photographs that is 90 % done, and takes the time
from the moment Ray and the two service processes that Ray Data starts with its first dataset are up, whose time is given by
itself, to the first photograph handed out. What a run does that resumes is told apart from what every run waits for: workers
that start. Each prints one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_BATCH = 100_000


def listed(path: Path, rows: int) -> None:
    """A manifest file in Parquet: names as an archive has them, and two descriptive columns."""
    schema = pa.schema([("source_uri", pa.string()), ("box", pa.string()), ("year", pa.int32())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, _BATCH):
            numbers = range(start, min(start + _BATCH, rows))
            writer.write_table(
                pa.table(
                    {
                        "source_uri": [f"box-{n // 500:06d}/scan-{n:09d}.tif" for n in numbers],
                        "box": [f"{n // 500}" for n in numbers],
                        "year": pa.array([1880 + n % 80 for n in numbers], pa.int32()),
                    },
                    schema,
                )
            )


def spec(work: Path) -> Any:
    from jobs.spec import parse_spec

    return parse_spec(
        {
            "collection": {"name": "scale", "source": str(work / "list.parquet")},
            "output": {"uri": str(work.parent / (work.name + "-run"))},
            "recipe": {"stages": []},
            "cluster": {"cpus": 2},
        },
        work,
    )


def memory() -> float:
    """Gigabytes at the highest, of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def plan(work: Path, rows: int) -> dict[str, Any]:
    from jobs.rundir import prepare

    listed(work / "list.parquet", rows)
    before, started = memory(), time.perf_counter()
    planned = prepare(spec(work))
    seconds = time.perf_counter() - started
    assert planned.photographs == rows
    return {"rows": rows, "seconds": round(seconds, 1), "gigabytes": round(memory(), 2), "before": round(before, 2)}


def parts_of(run: str, planned: Any, share: float) -> Iterator[pa.Table]:
    """Rows of provenance for the first `share` of the manifest, as a run would have committed them."""
    from jobs import manifest
    from pipeline.provenance import PROVENANCE
    from pipeline.storage import Store

    left = round(planned.photographs * share)
    stamp = {
        "run_id": planned.run_id,
        "recipe_id": planned.recipe_id,
        "software": "albumen",
        "schema_version": 3,
        "term": 2,
        "status": "restored",
        "source_sha256": "0" * 64,
        "output_sha256": "1" * 64,
    }
    for part in manifest.parts(Store(), run):
        part = part.slice(0, min(left, part.num_rows))
        left -= part.num_rows
        columns = []
        for field in PROVENANCE:
            if field.name in part.column_names:
                columns.append(part[field.name])
            elif field.name in stamp:
                columns.append(pa.array([stamp[field.name]] * part.num_rows, field.type))
            elif field.name == "committed_at":
                columns.append(pa.array(np.full(part.num_rows, 1_700_000_000_000_000), field.type))
            else:
                columns.append(pa.nulls(part.num_rows, field.type))
        yield pa.Table.from_arrays(columns, schema=PROVENANCE)


def start_services() -> None:
    """What Ray Data starts once for all that is done with it: counters, and what asks an autoscaler for nodes."""
    import ray.data

    ray.data.range(1).materialize()


def resume(work: Path, rows: int) -> dict[str, Any]:
    import ray.data

    import jobs.drive
    from cluster.connect import connect
    from jobs.run import execute
    from jobs.rundir import prepare
    from pipeline.errors import JobError
    from pipeline.provenance import seals
    from pipeline.runtime import restore
    from pipeline.storage import Store

    listed(work / "list.parquet", rows)
    job = spec(work)
    planned = prepare(job)
    compactor = seals.Compactor(Store(), planned.run, 2)
    parts = []
    for table in parts_of(planned.run, planned, 0.9):
        starts = range(0, table.num_rows, seals.PART_ROWS)
        parts += [compactor._put_part(table.slice(start, seals.PART_ROWS)) for start in starts]
    compactor._put_seal(parts, 2)
    marks: dict[str, float] = {}

    def first(*arguments: Any, **options: Any) -> Any:
        watch = options["watch"]
        marks["asked"] = time.perf_counter()

        def look(counts: Any) -> Any:
            if "ingest" in counts and "first" not in marks:
                marks["first"] = time.perf_counter()
                return ("far enough",)
            return watch(counts)

        return restore(*arguments, **(options | {"watch": look}))

    give = ray.data.from_blocks

    def given(blocks: Any) -> Any:
        data = give(blocks)
        marks.setdefault("given", time.perf_counter())
        return data

    jobs.drive.restore = first
    ray.data.from_blocks = given
    with connect(None, 2):
        there = time.perf_counter()
        start_services()
        marks.clear()
        started = time.perf_counter()
        again = prepare(job)
        marks["planned"] = time.perf_counter()
        with contextlib.suppress(JobError):
            # Stopped on purpose, by `look`.
            execute(again, lambda counts, total: None)
    return {
        "rows": rows,
        "seconds_of_services": round(started - there, 1),
        "seconds_to_first": round(marks["first"] - started, 1),
        "of_which_planning": round(marks["planned"] - started, 1),
        "of_which_finding_what_is_missing": round(marks["asked"] - marks["planned"], 1),
        "of_which_giving_it_to_the_engine": round(marks["given"] - marks["asked"], 1),
        "of_which_workers_that_start": round(marks["first"] - marks["given"], 1),
        "gigabytes": round(memory(), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["plan", "resume"])
    parser.add_argument("--rows", type=int, required=True)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="albumen-scale-"))
    try:
        print(json.dumps((plan if options.what == "plan" else resume)(work, options.rows)))
    finally:
        shutil.rmtree(work)
        shutil.rmtree(work.parent / (work.name + "-run"), ignore_errors=True)


if __name__ == "__main__":
    main()
