"""More than 500 hostile files, the same ones every time: sound files cut, flipped and shuffled, and the hand-made ones.

`python -m tests.hostile.corpus FOLDER` writes them down.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.hostile.bombs import bombs
from tests.hostile.seeds import seeds
from tests.hostile.structures import structures

FOUND = Path(__file__).parent / "found"
_CUTS = (0.03, 0.2, 0.5, 0.8, 0.97)
_FLIPS = ((1, 11), (3, 12), (10, 13), (40, 14))


def hostile() -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file."""
    for name, data in seeds().items():
        yield from _spoiled(name, data)
    yield from structures()
    yield from bombs()
    for path in sorted(FOUND.glob("*.bin")):
        yield f"found/{path.name}", path.read_bytes()


def _spoiled(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    for share in _CUTS:
        yield f"cut-{share:g}/{name}", data[: max(1, int(len(data) * share))]
    for count, seed in _FLIPS:
        rng = np.random.default_rng([seed, len(data)])
        yield f"flipped-{count}/{name}", _flipped(data, rng, count)
    # Headers are where lies are: the same, within the first bytes.
    rng = np.random.default_rng([15, len(data)])
    yield f"head/{name}", _flipped(data[:96], rng, 4) + data[96:]
    middle = len(data) // 2
    yield f"zeroed/{name}", data[:middle] + bytes(len(data) // 4) + data[middle + len(data) // 4 :]
    yield f"swapped/{name}", data[:64] + data[middle:] + data[64:middle]


def _flipped(data: bytes, rng: np.random.Generator, count: int) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(0, len(data), count):
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    for file_name, content in hostile():
        path = target / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
