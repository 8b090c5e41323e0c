"""Peak memory of a large 16-bit scan, step by step, through the null recipe and through colour only.

    python -m tests.audit.large --megapixels 200

Prints one JSON object: gigabytes at the peak of each step, of the worker and of the decoder beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import skimage.data
import tifffile

from pipeline.memory import Size, need
from pipeline.stages import FOOTPRINTS
from tests.watched import forget, held


def peak(pid: str = "self") -> float:
    """Gigabytes at the highest since `forget`."""
    return held("VmHWM", pid) / 1e9


def one(source: str, folder: str, *names: str) -> None:
    """In a process of its own: ingest, stages, deliver. Prints the peaks."""
    from pipeline.models.store import ModelSource, ModelStore
    from pipeline.policy import POLICIES
    from pipeline.record import Record
    from pipeline.stage import Device
    from pipeline.stages import STAGES
    from pipeline.stages.deliver import Deliver, DeliverParameters
    from pipeline.stages.ingest import Ingest, IngestParameters
    from pipeline.storage import Store
    from pipeline.supervision import run_end, run_stage

    found: dict[str, Any] = {}

    def step(name: str, work: Callable[..., Record], *given: Any) -> Record:
        forget()
        started = time.perf_counter()
        record = work(*given)
        found[name] = {"gigabytes": round(peak(), 2), "seconds": round(time.perf_counter() - started, 1)}
        return record

    models = ModelStore(ModelSource(cache=folder))
    ingest, deliver = Ingest(IngestParameters(), Store()), Deliver(DeliverParameters(), Store(), folder, "cd" * 32)
    ingest.open()
    record = step("ingest", run_end, ingest, ingest.parameters, ingest.read, Record(0, "ab" * 16, source))
    assert record.photograph is not None, record.detail
    found["decoder"] = {"gigabytes": round(peak(str(ingest.decoder.pid)), 2)}
    for name in names:
        parameters = STAGES[name].Parameters()
        stage = STAGES[name](parameters, POLICIES["presentation"])
        record = step(name, lambda *given: run_stage(*given)[0], stage, parameters, [record], models, Device())
    record = step("deliver", run_end, deliver, deliver.parameters, deliver.write, record)
    assert record.output_sha256, record.detail
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=int, default=200)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="albumen-large-"))
    height = math.isqrt(options.megapixels * 1_000_000 * 4 // 5)
    width = options.megapixels * 1_000_000 // height
    pixels = cv2.resize(skimage.data.astronaut(), (width, height)).astype("uint16") * 257
    # Without noise the file would be small, and the decoder would have less to hold.
    pixels ^= cv2.randu(pixels[:512].copy(), 0, 4096).repeat(-(-height // 512), axis=0)[:height]
    tifffile.imwrite(work / "scan.tif", pixels, photometric="rgb", compression="zlib", rowsperstrip=64)
    del pixels
    working = [FOOTPRINTS[name].working for name in ("ingest", "colour", "deliver")]
    answer: dict[str, Any] = {
        "pixels": [width, height],
        "file_megabytes": round((work / "scan.tif").stat().st_size / 1e6),
        "declared_gigabytes": round(need(Size(width, height, 3, 16), working) / 1e9, 2),
    }
    for stages in ([], ["colour"]):
        (work / "run").mkdir()
        call = f"from tests.audit.large import one; one({str(work / 'scan.tif')!r}, {str(work / 'run')!r}, *{stages!r})"
        ran = subprocess.run([sys.executable, "-c", call], stdout=subprocess.PIPE, text=True, check=True)
        answer[" ".join(stages) or "null"] = json.loads(ran.stdout)
        shutil.rmtree(work / "run")
    print(json.dumps(answer, indent=1))
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
