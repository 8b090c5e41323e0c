"""The one row that flows through Ray Data, and the one schema that provenance keeps of it.

A Record is identity, outcome and events, kept for ever, and a photograph, which ingest fills and deliver empties.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from pipeline.errors import ItemError, Reason, Status
from pipeline.faces.row import FACE, face_row
from pipeline.honesty.row import HONESTY, Honesty, honesty_row
from pipeline.photograph import Analysis, Face, Photograph

# 2: mask_uri and mask_sha256. 3: what became of each face, and why. 4: honesty, its maps, and de00 of events. Null in rows
# of the versions before.
SCHEMA_VERSION = 4


@dataclass(frozen=True, slots=True)
class Event:
    """What one stage did. Digests are of decoded pixels, except the source file's (ingest in) and the output file's
    (deliver out), so that the events of a photograph are a chain from file to file.

    changed_fraction: pixels that differ between input and output, 0..1; None where their shapes differ.
    parameters and findings: JSON. de00_mean, de00_max: CIEDE2000 between input and output, on copies of bounded size; None
    where nothing was let go, and of ingest and deliver.
    """

    stage: str
    version: str
    outcome: str
    reason: str | None
    parameters: str
    models: tuple[Mapping[str, str], ...]
    input_sha256: str | None
    output_sha256: str | None
    changed_fraction: float | None
    seconds: float
    device: str
    precision: str | None
    findings: str
    de00_mean: float | None = None
    de00_max: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One photograph's row. See docs/provenance.md for every column."""

    item_no: int
    item_id: str
    source_uri: str
    source_bytes: int | None = None
    source_etag: str | None = None
    source_modified: datetime | None = None
    supersedes: str | None = None
    description: str | None = None
    status: Status = Status.PENDING
    reason: str | None = None
    detail: str | None = None
    source_sha256: str | None = None
    source_format: str | None = None
    source_width: int | None = None
    source_height: int | None = None
    source_channels: int | None = None
    depth: int | None = None
    analysis: Analysis | None = None
    faces: tuple[Face, ...] = ()
    events: tuple[Event, ...] = ()
    output_uri: str | None = None
    output_sha256: str | None = None
    output_bytes: int | None = None
    output_width: int | None = None
    output_height: int | None = None
    mask_uri: str | None = None
    mask_sha256: str | None = None
    honesty: Honesty | None = None
    edits_uri: str | None = None
    edits_sha256: str | None = None
    invented_uri: str | None = None
    invented_sha256: str | None = None
    photograph: Photograph | None = field(default=None, compare=False)
    # Of the stage at work, for its event; neither sent nor kept.
    findings: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def ended(self, error: ItemError) -> Record:
        """The record of a photograph that goes no further."""
        return replace(self, status=error.reason.status, reason=str(error.reason), detail=error.detail, photograph=None)


_MODEL = pa.struct([("id", pa.string()), ("sha256", pa.string()), ("licence", pa.string())])
_EVENT = pa.struct(
    [
        ("stage", pa.string()),
        ("version", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("parameters", pa.string()),
        ("models", pa.list_(_MODEL)),
        ("input_sha256", pa.string()),
        ("output_sha256", pa.string()),
        ("changed_fraction", pa.float64()),
        ("seconds", pa.float64()),
        ("device", pa.string()),
        ("precision", pa.string()),
        ("findings", pa.string()),
        ("de00_mean", pa.float64()),
        ("de00_max", pa.float64()),
    ]
)
_NOT_NUMBERS: dict[str, Any] = {"tone": pa.string(), "face_count": pa.int32()}
_ANALYSIS = pa.struct([(f.name, _NOT_NUMBERS.get(f.name, pa.float64())) for f in fields(Analysis)])

KEPT = pa.schema(
    [
        pa.field("item_no", pa.int64(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("source_uri", pa.string(), nullable=False),
        ("source_bytes", pa.int64()),
        ("source_etag", pa.string()),
        ("source_modified", pa.timestamp("us", tz="UTC")),
        ("supersedes", pa.string()),
        ("description", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("source_sha256", pa.string()),
        ("source_format", pa.string()),
        ("source_width", pa.int32()),
        ("source_height", pa.int32()),
        ("source_channels", pa.int32()),
        ("depth", pa.int32()),
        ("analysis", _ANALYSIS),
        ("faces", pa.list_(FACE)),
        ("events", pa.list_(_EVENT)),
        ("output_uri", pa.string()),
        ("output_sha256", pa.string()),
        ("output_bytes", pa.int64()),
        ("output_width", pa.int32()),
        ("output_height", pa.int32()),
        ("mask_uri", pa.string()),
        ("mask_sha256", pa.string()),
        ("honesty", HONESTY),
        ("edits_uri", pa.string()),
        ("edits_sha256", pa.string()),
        ("invented_uri", pa.string()),
        ("invented_sha256", pa.string()),
    ]
)

# A reason in the manifest is a fault found while listing: the photograph is refused without being read.
_PLANNED = (
    "item_no",
    "item_id",
    "source_uri",
    "source_bytes",
    "source_etag",
    "source_modified",
    "supersedes",
    "description",
    "reason",
    "detail",
)
MANIFEST = pa.schema([KEPT.field(name) for name in _PLANNED])


def from_manifest(table: pa.Table) -> list[Record]:
    """Records of a table of MANIFEST, on their way or already refused."""
    return [
        Record(**row, status=Status.PENDING if row["reason"] is None else Reason(row["reason"]).status)
        for row in table.to_pylist()
    ]


def kept_row(record: Record) -> dict[str, Any]:
    """The columns of KEPT as Python values."""
    row = {name: getattr(record, name) for name in KEPT.names}
    row["status"] = str(record.status)
    row["analysis"] = None if record.analysis is None else asdict(record.analysis)
    row["faces"] = [face_row(face) for face in record.faces]
    row["events"] = [asdict(event) for event in record.events]
    row["honesty"] = honesty_row(record.honesty)
    return row
