"""Part m: memory of the whole chain in a process of its own: what a megapixel takes at the peak, and whether five hundred
photographs take more than a hundred.

The decoder's process counts, as it does where memory is admitted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.stage import Device
from tests.bench.chain import LIGHT, Chain, job_for, write_scan
from tests.bench.engine import has_compact
from tests.bench.ground import Figure, Options, grainy
from tests.watched import forget, held

_SMALL, _LARGE = 0.25, 0.5
_PHOTOGRAPHS, _EVERY = 500, 100
_TINY = 0.001
_LIMIT = 1800


def child(place: str, photographs: int) -> None:
    """In a process of its own. Prints one JSON object: megabytes at the peaks, and resident after each hundred."""
    folder = Path(place)
    stages = ("analyse", "repair", "faces", "upscale", "compose", "colour") if has_compact() else LIGHT
    with Chain(job_for(folder, compact=has_compact(), stages=stages), folder, Device("cpu", 1)) as chain:
        tiny = write_scan(folder / "scans", "tiny", grainy(_TINY))
        chain.restore(0, tiny)
        decoder = str(chain.ingest.decoder.pid)
        peaks = {}
        for number, size in enumerate((_SMALL, _LARGE), start=1):
            scan = write_scan(folder / "scans", f"{size}", grainy(size))
            for pid in ("self", decoder):
                forget(pid)
            chain.restore(number, scan)
            peaks[str(size)] = sum(held("VmHWM", pid) for pid in ("self", decoder)) / 1e6
        resident = []
        for number in range(photographs):
            chain.restore(number + 10, tiny)
            if (number + 1) % _EVERY == 0:
                resident.append(sum(held("VmRSS", pid) for pid in ("self", decoder)) / 1e6)
    print(json.dumps({"peaks": peaks, "held": resident, "stages": stages}))


def rows(options: Options) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="albumen-bench-") as place:
        call = f"from tests.bench.memory import child; child({place!r}, {_PHOTOGRAPHS})"
        ran = subprocess.run(
            [sys.executable, "-c", call], stdout=subprocess.PIPE, text=True, check=True, timeout=_LIMIT
        )
    found: dict[str, Any] = json.loads(ran.stdout)
    small, large = (found["peaks"][str(size)] for size in (_SMALL, _LARGE))
    through = ", ".join(found["stages"])
    yield Figure(
        "a further megapixel at the peak", (large - small) / (_LARGE - _SMALL), "MB", note=f"ingest, {through}, deliver"
    )
    yield Figure(f"{_LARGE:g} megapixels at the peak, all in all", large, "MB")
    first, *_, last = found["held"]
    yield Figure(
        f"resident after {_PHOTOGRAPHS} photographs", last, "MB", None, first, f"MB after {_EVERY}",
        ", ".join(f"{value:.0f}" for value in found["held"]),
    )  # fmt: skip
