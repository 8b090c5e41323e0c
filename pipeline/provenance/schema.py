"""The schema of provenance and the names of its folders."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from pipeline.record import KEPT
from pipeline.storage import join

_STAMP = [
    pa.field("run_id", pa.string(), nullable=False),
    pa.field("recipe_id", pa.string(), nullable=False),
    pa.field("software", pa.string(), nullable=False),
    pa.field("schema_version", pa.int32(), nullable=False),
    pa.field("term", pa.int64(), nullable=False),
    pa.field("committed_at", pa.timestamp("us", tz="UTC"), nullable=False),
]
PROVENANCE = pa.schema([*KEPT, *_STAMP])


@dataclass(frozen=True, slots=True)
class Stamp:
    """What all rows of one term of a run have in common. term: of the lease, from 1."""

    run_id: str
    recipe_id: str
    software: str
    term: int


def numbered(number: int) -> str:
    """Terms and seals in names, so that names sort as numbers do."""
    return f"{number:08d}"


def lease_uri(run: str, term: int) -> str:
    return join(run, "lease", numbered(term) + ".json")


def terms_folder(run: str) -> str:
    return join(run, "provenance", "terms")


def parts_folder(run: str) -> str:
    return join(run, "provenance", "parts")


def seals_folder(run: str) -> str:
    return join(run, "provenance", "seals")
