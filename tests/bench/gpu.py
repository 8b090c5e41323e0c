"""Part h, where there is a card: how much of the time it is busy while photographs go through it one after another."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.chain import Chain, job_for, write_scan
from tests.bench.ground import Figure, devices, middle, picture
from tests.watched import Watch

_PHOTOGRAPHS, _SIDE = 12, 1024
_EVERY = 0.2
_QUERY = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0")


def _share() -> float:
    """How much of the last moments the driver says that the card was busy."""
    ran = subprocess.run(_QUERY, capture_output=True, text=True, check=True)
    return float(ran.stdout.split()[0]) / 100


def busy() -> Iterator[Figure]:
    """The share of the time in which the card computed, as the driver says, while the stages ran one after another."""
    device = devices()[-1]
    with tempfile.TemporaryDirectory(prefix="albumen-bench-") as place:
        folder = Path(place)
        scan = write_scan(folder / "scans", "one", picture(_SIDE, _SIDE))
        with Chain(job_for(folder, compact=False), folder, device) as chain:
            chain.restore(0, scan)
            with Watch(_share, _EVERY) as watch:
                for number in range(_PHOTOGRAPHS):
                    chain.restore(number + 1, scan)
    if watch.values:
        yield Figure("busy, the stages one after another", middle(watch.values), "of the time")
