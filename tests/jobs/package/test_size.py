"""What packaging holds does not grow with the run: the short version of `python -m tests.audit.packages`."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest

from jobs.package import PackageKind, bag, iiif, package
from tests.audit.packages import KINDS, make

_FEW, _MANY = 40, 160


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Runs in parts of 30 rows, as large ones are in parts of thousands."""
    return {count: make(tmp_path_factory.mktemp(f"run{count}"), count, part_rows=30) for count in (_FEW, _MANY)}


# All of them take a minute. OCFL's library is the one that kept something of each photograph.
@pytest.mark.parametrize(
    "kind", [kind if kind == "ocfl" else pytest.param(kind, marks=pytest.mark.audit) for kind in KINDS]
)
def test_what_packaging_holds_does_not_grow_with_the_run(
    runs: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(bag, "PHOTOGRAPHS", 20)
    monkeypatch.setattr(iiif, "_PAGE", 20)
    base = "http://127.0.0.1/albums" if kind == "iiif" else None

    def held(count: int, name: str) -> int:
        gc.collect()
        tracemalloc.start()
        try:
            package(str(runs[count]), PackageKind(kind), str(tmp_path / name), base=base)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # Whatever is imported or cached at the first time.
    held(_FEW, "first")
    few, many = held(_FEW, "few"), held(_MANY, "many")
    # A row with its events takes some kilobytes as Python's values, the line of a list a hundred bytes; what is let go of in
    # cycles stays until the collector looks.
    assert many - few < 1024 * (_MANY - _FEW), (few, many)
