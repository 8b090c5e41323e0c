"""Part h, where there is a card: how much of the time it is busy while photographs go through it one after another."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.bench.chain import Chain, job_for, write_scan
from tests.bench.ground import Figure, devices, middle, picture

_PHOTOGRAPHS, _SIDE = 12, 1024
_EVERY = 0.2
_QUERY = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0")


class Watch:
    """Asks the driver how busy the card is, five times a second, in a thread of its own."""

    def __init__(self) -> None:
        self.shares: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_EVERY):
            ran = subprocess.run(_QUERY, capture_output=True, text=True, check=True)
            self.shares.append(float(ran.stdout.split()[0]) / 100)


def busy() -> Iterator[Figure]:
    """The share of the time in which the card computed, as the driver says, while the stages ran one after another."""
    device = devices()[-1]
    with tempfile.TemporaryDirectory(prefix="albumen-bench-") as place:
        folder = Path(place)
        scan = write_scan(folder / "scans", "one", picture(_SIDE, _SIDE))
        with Chain(job_for(folder, compact=False), folder, device) as chain:
            chain.restore(0, scan)
            with Watch() as watch:
                for number in range(_PHOTOGRAPHS):
                    chain.restore(number + 1, scan)
    if watch.shares:
        yield Figure("busy, the stages one after another", middle(watch.shares), "of the time")
