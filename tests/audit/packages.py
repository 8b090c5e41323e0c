"""Packages at size: what `albumen package` takes of memory for runs of many photographs, each of a few hundred bytes.

    python -m tests.audit.packages --rows 2000 --rows 20000 --as premis --as bagit

Makes a run of each size in a temporary folder, packages it in a process of its own, and prints one JSON object a line: the
kind, photographs, seconds, and the most memory that the process took, beside what it takes before it opens the run.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from jobs import lease, manifest
from jobs.rundir import prepare
from jobs.spec import parse_spec
from pipeline.provenance import Compactor, seals
from pipeline.storage import Store
from tests.audit.questions import rows

KINDS = ("bagit", "ocfl", "premis", "mets", "iiif")
_SIDE = 8


def make(folder: Path, count: int, part_rows: int = seals.PART_ROWS) -> Path:
    """A run over `count` scans, of which one in fifty was refused. All are one file under many names, as are their outputs."""
    picture = io.BytesIO()
    Image.new("RGB", (_SIDE, _SIDE), (90, 60, 30)).save(picture, "JPEG")
    (folder / "scans").mkdir(parents=True)
    (folder / "one.jpg").write_bytes(picture.getvalue())
    for number in range(count):
        os.link(folder / "one.jpg", folder / "scans" / f"scan-{number:09d}.jpg")
    facts = {
        "collection": {"name": "packages", "source": "scans"},
        "output": {"uri": "run", "format": "jpeg"},
        "recipe": {"stages": []},
    }
    plan = prepare(parse_spec(facts, folder))
    rng = np.random.default_rng(1)
    with lease.hold(Store(), plan.run, "run") as held:
        compactor = Compactor(Store(), plan.run, held.term)
        compactor.compact()
        planned = pa.concat_tables(manifest.parts(Store(), plan.run))
        parts = []
        for start in range(0, count, part_rows):
            table = _ended(planned.slice(start, part_rows), Path(plan.run), picture.getvalue(), rng)
            parts.append(compactor._put_part(table))
        compactor._put_seal(parts, held.term)
    return Path(plan.run)


def _ended(planned: pa.Table, run: Path, data: bytes, rng: np.random.Generator) -> pa.Table:
    """Rows of these photographs, with their outputs in place."""
    names = planned["item_id"].to_pylist()
    outputs = [run / "images" / name[:2] / f"{name}.jpg" for name in names]
    for output in outputs:
        output.parent.mkdir(parents=True, exist_ok=True)
        os.link(run.parent / "one.jpg", output)
    table = rows(range(planned["item_no"][0].as_py(), planned["item_no"][-1].as_py() + 1), rng)
    digest = hashlib.sha256(data).hexdigest()
    known = {
        "item_id": names,
        "source_uri": planned["source_uri"].to_pylist(),
        "source_bytes": [len(data)] * len(names),
        "output_bytes": [len(data)] * len(names),
        "source_sha256": [digest] * len(names),
        "output_sha256": [digest] * len(names),
        "source_format": ["JPEG"] * len(names),
        "output_uri": [str(output) for output in outputs],
    } | {f"{end}_{side}": [_SIDE] * len(names) for end in ("source", "output") for side in ("width", "height")}
    for name, values in known.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
    return table


def _package(run: Path, kind: str) -> None:
    """In a process of its own."""
    from jobs.package import PackageKind, package

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, target = time.perf_counter(), run.parent / "package"
    base = "http://127.0.0.1/albums" if kind == "iiif" else None
    report = package(str(run), PackageKind(kind), str(target), base=base)
    found = {
        "kind": kind,
        "photographs": sum(report.photographs.values()),
        "seconds": round(time.perf_counter() - started, 1),
        "megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "before": round(before / 1024, 1),
    }
    shutil.rmtree(target)
    print(json.dumps(found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, action="append")
    parser.add_argument("--as", dest="kinds", action="append", choices=KINDS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run is not None:
        _package(options.run, options.kinds[0])
        return
    for count in options.rows or (2000, 20000):
        work = Path(tempfile.mkdtemp(prefix="albumen-packages-"))
        try:
            run = make(work, count)
            for kind in options.kinds or KINDS:
                asked = [sys.executable, "-m", "tests.audit.packages", "--run", str(run), "--as", kind]
                subprocess.run(asked, check=True)
        finally:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
