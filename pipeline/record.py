"""The one row that flows through Ray Data, and the one schema that provenance keeps of it.

A Record is identity, outcome and events, kept for ever, and a photograph, which ingest fills and deliver empties.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import ItemError, Reason, Status
from pipeline.faces.row import FACE, face_from, face_row
from pipeline.honesty.proof import Proof, proof_from
from pipeline.honesty.row import HONESTY, Honesty, honesty_from, honesty_row
from pipeline.photograph import Analysis, Container, Face, Photograph, Searched

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
_PAYLOAD = [
    ("pixels", pa.large_binary()),
    ("alpha", pa.large_binary()),
    ("damage", pa.large_binary()),
    ("mask", pa.large_binary()),
    ("patches", pa.list_(pa.large_binary())),
    ("shape", pa.list_(pa.int32())),
    ("dtype", pa.string()),
    ("scale", pa.int32()),
    ("container", pa.string()),
    ("icc", pa.binary()),
    ("exif", pa.binary()),
    ("xmp", pa.binary()),
    ("iptc", pa.binary()),
    ("proof", pa.large_binary()),
    ("deviation", pa.large_binary()),
    ("proof_facts", pa.string()),
    ("proof_sha256", pa.string()),
    ("searched", pa.string()),
]
# What a container says in a word; its blocks of bytes have columns of their own.
_FACTS = ("format", "dpi", "pages", "conversion", "orientation")
ROW = pa.schema([*KEPT, *(pa.field(name, kind) for name, kind in _PAYLOAD)])


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


def pack(records: Iterable[Record]) -> pa.Table:
    """Records as a table of ROW, one chunk a record, pixels not copied."""
    batches = [_pack_one(record) for record in records]
    return pa.Table.from_batches(batches, schema=ROW)


def _pack_one(record: Record) -> pa.RecordBatch:
    row, photograph = kept_row(record), record.photograph
    row |= dict.fromkeys((name for name, _ in _PAYLOAD), None)
    buffers: dict[str, Any] = {}
    if photograph is not None:
        container = photograph.container
        row |= {
            "shape": list(photograph.pixels.shape),
            "dtype": photograph.pixels.dtype.name,
            "scale": photograph.scale,
            "container": json.dumps({name: getattr(container, name) for name in _FACTS}),
            "icc": container.icc,
            "exif": container.exif,
            "xmp": container.xmp,
            "iptc": container.iptc,
            "mask": photograph.mask,
            "searched": None if photograph.searched is None else json.dumps(asdict(photograph.searched)),
            "patches": [None if face.patch is None else face.patch.tobytes() for face in photograph.faces],
        }
        buffers["pixels"] = photograph.pixels
        if photograph.alpha is not None:
            buffers["alpha"] = np.ascontiguousarray(photograph.alpha)
        if photograph.damage is not None:
            # Codes are the same over long runs: 200 megapixels of them pack to some 2 MB in a fifth of a second.
            packed = _codec().compress(np.ascontiguousarray(photograph.damage).reshape(-1))
            buffers["damage"] = np.frombuffer(packed, np.uint8)
        if photograph.proof is not None:
            row |= {"proof_facts": photograph.proof.facts(), "proof_sha256": photograph.proof.sha256}
            buffers["proof"] = photograph.proof.samples
            if photograph.proof.deviation is not None:
                buffers["deviation"] = photograph.proof.deviation
    columns = [
        _binary(buffers[name]) if name in buffers else pa.array([row[name]], ROW.field(name).type) for name in ROW.names
    ]
    return pa.RecordBatch.from_arrays(columns, schema=ROW)


def _codec() -> Any:
    return pa.Codec("zstd", compression_level=1)


def _binary(array: np.ndarray[Any, Any]) -> pa.Array:
    """One large_binary value over the array's own memory."""
    offsets = pa.py_buffer(np.array([0, array.nbytes], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(array)])


def unpack(table: pa.Table) -> list[Record]:
    """The records of a table of ROW. Pixels are read-only views of the table's memory."""
    payload = {name for name, _ in _PAYLOAD}
    light = table.drop_columns([name for name in payload if name in table.column_names]).to_pylist()
    return [_unpack_one(row, table.slice(i, 1)) for i, row in enumerate(light)]


def _unpack_one(row: dict[str, Any], table: pa.Table) -> Record:
    faces = tuple(face_from(face) for face in row.pop("faces") or ())
    events = tuple(Event(**(event | {"models": tuple(event["models"])})) for event in row.pop("events") or ())
    analysis, honesty = row.pop("analysis"), honesty_from(row.pop("honesty"))
    record = Record(
        **(row | {"status": Status(row["status"])}),
        analysis=None if analysis is None else Analysis(**analysis),
        faces=faces,
        events=events,
        honesty=honesty,
    )
    if not table["pixels"][0].is_valid:
        return record
    return replace(record, photograph=_photograph(record, table))


def _photograph(record: Record, table: pa.Table) -> Photograph:
    shape = tuple(table["shape"][0].as_py())
    dtype = np.dtype(table["dtype"][0].as_py())
    pixels, alpha = _plane(table, "pixels", dtype), _plane(table, "alpha", dtype)
    packed = _plane(table, "damage", np.uint8)
    assert pixels is not None
    facts = json.loads(table["container"][0].as_py())
    patches = table["patches"][0].as_py() or []
    return Photograph(
        item_id=record.item_id,
        pixels=pixels.reshape(shape),
        container=Container(
            **facts | {"dpi": None if facts["dpi"] is None else tuple(facts["dpi"])},
            icc=table["icc"][0].as_py(),
            exif=table["exif"][0].as_py(),
            xmp=table["xmp"][0].as_py(),
            iptc=table["iptc"][0].as_py(),
        ),
        alpha=None if alpha is None else alpha.reshape(shape[:2]),
        damage=None if packed is None else _unpacked(packed, shape[:2]),
        mask=table["mask"][0].as_py(),
        analysis=record.analysis,
        faces=tuple(
            face if patch is None else replace(face, patch=np.frombuffer(patch, np.uint16).reshape(512, 512, 3))
            for face, patch in zip(record.faces, patches, strict=True)
        ),
        scale=table["scale"][0].as_py(),
        proof=_proof(table),
        searched=_searched(table["searched"][0].as_py()),
    )


def _plane(table: pa.Table, name: str, kind: Any) -> np.ndarray[Any, Any] | None:
    """The one value of a column, flat."""
    chunk = next(chunk for chunk in table[name].chunks if len(chunk))
    if chunk.null_count:
        return None
    # An Arrow scalar would copy the value; the chunk's own buffers do not.
    _, offsets, data = chunk.buffers()
    start, end = (int(place) for place in np.frombuffer(offsets, np.int64, 2, 8 * chunk.offset))
    return np.frombuffer(data, kind, (end - start) // np.dtype(kind).itemsize, start)


def _proof(table: pa.Table) -> Proof | None:
    if (text := table["proof_facts"][0].as_py()) is None:
        return None
    facts = json.loads(text)
    samples = _plane(table, "proof", np.dtype(facts["dtype"]))
    assert samples is not None
    return proof_from(facts, samples, _plane(table, "deviation", np.uint16), table["proof_sha256"][0].as_py())


def _searched(text: str | None) -> Searched | None:
    if text is None:
        return None
    kept = json.loads(text)
    return Searched(kept["detector"], kept["whole"], tuple(kept["around"]))


def _unpacked(packed: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    codes = _codec().decompress(pa.py_buffer(packed), shape[0] * shape[1])
    return np.frombuffer(codes, np.uint8).reshape(shape)
