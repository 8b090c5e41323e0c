"""Records, runs without a lease, and stores that stop or look at every operation. Nothing here starts Ray."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import Status
from pipeline.provenance import Stamp, commit
from pipeline.provenance.schema import lease_uri
from pipeline.record import Event, Record
from pipeline.storage import Store


def stamped(term: int) -> Stamp:
    return Stamp("run1", "c" * 64, "albumen 0", term)


def _record(number: int, note: str = "") -> Record:
    event = Event("repair", "1", "applied", None, "{}", (), "a", "b", 0.5, 1.0, "cpu", None, "{}")
    return Record(number, f"item{number}", f"/scans/{number}", status=Status.RESTORED, detail=note, events=(event,))


@pytest.fixture
def stamp() -> Callable[[int], Stamp]:
    """The stamp of a term."""
    return stamped


@pytest.fixture
def restored() -> Callable[..., Record]:
    """The record of a restored photograph, by its number; `note` becomes its detail."""
    return _record


@pytest.fixture
def take(tmp_path: Path) -> Callable[[int], None]:
    """Takes the lease of a term, as far as commits and seals look at it: its file is there."""

    def make(term: int) -> None:
        Store().create(lease_uri(str(tmp_path), term), b"{}")

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    """Commits photographs by number in a term, all in one object or each in its own."""

    def make(term: int, *numbers: int, together: bool = False, note: str | None = None) -> None:
        text = f"term {term}" if note is None else note
        records = [_record(number, text) for number in numbers]
        for group in [records] if together else [[record] for record in records]:
            commit(Store(), str(tmp_path), stamped(term), group)

    return make
