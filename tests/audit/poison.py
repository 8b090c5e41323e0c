"""Poison among photographs: files that raise, segfault, exhaust memory, exit or hang, in a whole run beside a clean one.

    python -m tests.audit.poison --photographs 500 --side 1400

Prints one JSON object: what became of the poison, of its neighbours, and how much later the last neighbour was done.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import shutil
import signal
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from PIL import Image

# What poison does to the worker that repairs it.
KINDS = ("raise", "segfault", "memory", "killed", "hang")
EXPECTED = {
    "raise": "stage-failed",
    "segfault": "worker-died",
    "memory": "out-of-memory",
    "killed": "worker-died",
    "hang": "deadline-exceeded",
}
DEADLINE = 20.0


def strike(kind: str) -> None:
    """What the poison does, in the worker."""
    if kind == "raise":
        raise ValueError("poison")
    if kind == "memory":
        np.empty(1 << 50, np.uint8)
    if kind == "segfault":
        ctypes.string_at(8)
    if kind == "killed":
        # As the kernel's out-of-memory killer does it.
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hang":
        # Holds the interpreter's lock, as a codec in an endless loop does.
        ctypes.PyDLL(None).sleep(100_000)


def poisonous() -> type:
    """The real actor; a stage of its own turns on the worker where a photograph's description asks for it."""
    from pipeline.stages.repair import Repair
    from pipeline.worker import StageActor

    class Poisoned(Repair):
        def restore(self, photographs: Any) -> Any:
            for photograph in photographs:
                if found := re.search(rb"poison (\w+)", photograph.container.exif or b""):
                    strike(found[1].decode())
            return super().restore(photographs)

    class Actor(StageActor):
        def _open(self, device: Any) -> None:
            super()._open(device)
            if "repair" in self.stages:
                spec = next(spec for spec in self.work.recipe.stages if spec.name == "repair")
                self.stages["repair"] = Poisoned(spec.parameters, self.work.recipe.policy)

    return Actor


def collection(folder: Path, photographs: int, side: int, poison: dict[int, str]) -> None:
    """Crops of a real photograph, no two alike, as JPEG; poison says of which kind it is in its EXIF."""
    folder.mkdir(parents=True)
    image = Image.fromarray(skimage.data.astronaut()).resize((side + photographs, side + 64), Image.Resampling.BICUBIC)
    for number in range(photographs):
        exif = Image.Exif()
        exif[0x010E] = f"poison {poison[number]}" if number in poison else "sound"
        image.crop((number, number % 64, number + side, number % 64 + side)).save(
            folder / f"{number:05d}.jpg", quality=90, exif=exif
        )


def run(folder: Path, scans: Path) -> tuple[list[dict[str, Any]], float]:
    """Rows of a run, and seconds from its start to the commit of the last photograph that is no poison."""
    from jobs.query import ask, open_run
    from jobs.run import execute
    from jobs.rundir import prepare
    from jobs.spec import parse_spec

    spec = parse_spec(
        {
            "collection": {"name": "poison", "source": str(scans)},
            "output": {"uri": str(folder), "format": "jpeg"},
            "recipe": {"stages": ["analyse", "repair", "colour"], "analyse": {"damage": "classical"}},
            "cluster": {"deadline_seconds": DEADLINE, "deadline_seconds_per_megapixel": 0, "pools": {"ingest": 2}},
        },
        scans.parent,
    )
    started = time.time()
    execute(prepare(spec), lambda counts, total: None)
    rows = ask(open_run(str(folder)), "SELECT * FROM photographs").to_pylist()
    last = max(row["committed_at"] for row in rows if row["status"] == "restored")
    assert isinstance(last, datetime)
    return rows, last.timestamp() - started


def deaths(run: Path) -> dict[str, int]:
    """Workers that died of each photograph that any died of."""
    found: dict[str, int] = {}
    for path in sorted((run / "attempts").glob("*.json")):
        found |= json.loads(path.read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=int, default=500)
    parser.add_argument("--side", type=int, default=1400)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="albumen-poison-"))
    count = max(len(KINDS), options.photographs // 100)
    rng = np.random.default_rng(1)
    places = rng.choice(options.photographs, count, replace=False).tolist()
    poison = {place: KINDS[i % len(KINDS)] for i, place in enumerate(places)}
    collection(work / "clean", options.photographs, options.side, {})
    collection(work / "poisoned", options.photographs, options.side, poison)

    import pipeline.runtime
    from cluster.connect import connect

    pipeline.runtime.StageActor = poisonous()  # type: ignore[misc]
    with connect(None, 2):
        _, clean = run(work / "clean-run", work / "clean")
        rows, poisoned = run(work / "poisoned-run", work / "poisoned")
    named = {int(Path(row["source_uri"]).stem): row for row in rows}
    met = [(kind, named[place]["reason"], named[place]["detail"]) for place, kind in poison.items()]
    print(
        json.dumps(
            {
                "photographs": options.photographs,
                "poison": len(poison),
                "right_cause": sum(EXPECTED[kind] == reason for kind, reason, _ in met),
                "innocent_casualties": sum(
                    row["status"] != "restored" for place, row in named.items() if place not in poison
                ),
                "rows": len(rows),
                "seconds_clean": round(clean, 1),
                "seconds_poisoned": round(poisoned, 1),
                "slower": round(poisoned / clean - 1, 3),
                "most_deaths_of_one": max(deaths(work / "poisoned-run").values()),
                "met": met,
            },
            indent=1,
        )
    )
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
