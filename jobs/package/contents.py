"""What of a run goes into packages: the rows that count, batch by batch, and the files that they name."""

from __future__ import annotations

import base64
import json
import mimetypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from jobs import rundir
from jobs.verify.record import Planned, Rows, mark_of, read_manifest
from jobs.verify.report import Faults
from pipeline.errors import JobError, StoreError
from pipeline.parquet import parquet_bytes
from pipeline.provenance import committed_numbers
from pipeline.storage import Store, StoreOptions, canonical, join

_ROWS = 256
_LONGEST_NAME = 120
# By the record's name of a format; what is not here is told from the file's name.
_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "TIFF": "image/tiff",
        "JPEG": "image/jpeg",
        "JPEG2000": "image/jp2",
        "PNG": "image/png",
        "WEBP": "image/webp",
        "AVIF": "image/avif",
        "HEIF": "image/heif",
        "GIF": "image/gif",
        "BMP": "image/bmp",
    }
)
_SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        ".jp2": "image/jp2",
        ".tif": "image/tiff",
        ".webp": "image/webp",
        ".avif": "image/avif",
        ".c2pa": "application/c2pa",
    }
)
ANY_TYPE = "application/octet-stream"


class Role(StrEnum):
    """What a file is to its photograph."""

    ORIGINAL = "original"
    RESTORED = "restored"
    MASK = "mask"
    PROVENANCE = "provenance"
    SIGNED = "signed"


@dataclass(frozen=True, slots=True)
class File:
    """A file of the run or of the source. sha256: what the record says. name: of a file, without a folder."""

    role: Role
    uri: str
    sha256: str
    size: int | None
    name: str
    media_type: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A photograph. row: of PROVENANCE. table: the same, one row. files: none but a restored photograph has any.

    superseded: a later version of the original stands in its place, so that this one cannot be handed over.
    """

    row: Mapping[str, Any]
    table: pa.Table
    files: tuple[File, ...]
    superseded: bool

    @property
    def item_id(self) -> str:
        return str(self.row["item_id"])

    @property
    def restored(self) -> bool:
        return bool(self.row["status"] == "restored")

    def file(self, role: Role) -> File | None:
        return next((file for file in self.files if file.role is role), None)


class Contents:
    """A run, opened for packaging: some 17 bytes a photograph, and the rows of one part at a time.

    Raises JobError where `run` is none or its record is not as it was written, StoreError where it cannot be read.
    """

    def __init__(self, run: str, endpoint: str | None = None) -> None:
        self.place = canonical(run)
        self.outputs = Store(StoreOptions(endpoint))
        self.known = rundir.load(self.place, endpoint)
        self.originals = Store(StoreOptions(self.known["spec"]["collection"].get("endpoint")))
        faults = Faults()
        try:
            self._planned = read_manifest(self.outputs, self.place, faults)
            _raise(faults)
            self.committed = len(committed_numbers(self.outputs, self.place))
        except OSError as error:
            raise StoreError(f"{self.place} cannot be read: {error}") from error

    @property
    def planned(self) -> int:
        return self._planned.photographs

    def entries(self) -> Iterator[Entry]:
        """The photographs that have a row, each once. Raises JobError with all that is wrong with the record."""
        faults = Faults()
        try:
            for table in Rows(self.outputs, self.place, faults, full=True).tables():
                _raise(faults)
                for start in range(0, table.num_rows, _ROWS):
                    some = table.slice(start, _ROWS)
                    for number, row in enumerate(some.to_pylist()):
                        _answer(row, self._planned, faults)
                        yield self._entry(row, some.slice(number, 1))
            _raise(faults)
        except OSError as error:
            raise StoreError(f"{self.place} cannot be read: {error}") from error

    def _entry(self, row: dict[str, Any], table: pa.Table) -> Entry:
        superseded = row["item_id"] in self._planned.superseded
        return Entry(row, table, tuple(self._files(row, superseded=superseded)), superseded)

    def _files(self, row: dict[str, Any], *, superseded: bool) -> Iterator[File]:
        if row["status"] != "restored":
            return
        if not superseded:
            name = original_name(row["source_uri"])
            kind = media_type(row["source_format"], name)
            yield File(Role.ORIGINAL, row["source_uri"], row["source_sha256"], row["source_bytes"], name, kind)
        uri = self._here("images", row, "output_uri")
        name = uri.rsplit("/", 1)[1]
        yield File(Role.RESTORED, uri, row["output_sha256"], row["output_bytes"], name, media_type(None, name))
        if row["mask_uri"] is not None:
            yield File(
                Role.MASK, self._here("masks", row, "mask_uri"), row["mask_sha256"], None, "mask.png", "image/png"
            )

    def _here(self, folder: str, row: dict[str, Any], column: str) -> str:
        """Below this run, wherever it was moved to since."""
        if row[column] is None:
            raise JobError(f"{self.place}: {row['item_id']} is restored, and its row names no file")
        return join(self.place, folder, row["item_id"][:2], row[column].rsplit("/", 1)[1])


def _raise(faults: Faults) -> None:
    if faults.found:
        raise JobError([f"{fault.place}: {fault.message}" for fault in faults.found])


def _answer(row: dict[str, Any], planned: Planned, faults: Faults) -> None:
    """A row that no photograph of the manifest has asked for is not packaged in its name."""
    at = int(np.searchsorted(planned.numbers, row["item_no"]))
    there = at < len(planned.numbers) and planned.numbers[at] == row["item_no"]
    if not there or planned.marks[at] != mark_of(row["item_id"], row["source_uri"]):
        faults.add("unknown", row["item_id"], "its provenance row answers no photograph of the manifest")
        _raise(faults)


def original_name(uri: str) -> str:
    """A file name for an original: its own, without what other systems cannot hold in a name."""
    name = uri.rstrip("/").rsplit("/", 1)[-1].encode("utf-8", "replace").decode()
    name = "".join("_" if sign in '\\:*?"<>|%' or not sign.isprintable() else sign for sign in name).strip(". ")
    if len(name) > _LONGEST_NAME:
        stem, dot, suffix = name.rpartition(".")
        name = stem[: _LONGEST_NAME - 10] + dot + suffix[:9] if dot else name[:_LONGEST_NAME]
    return name or "original"


def media_type(file_format: str | None, name: str) -> str:
    """file_format: as the record names it, None where only the name tells."""
    if file_format is not None and file_format in _TYPES:
        return _TYPES[file_format]
    suffix = "." + name.rsplit(".", 1)[-1].lower()
    return _SUFFIXES.get(suffix) or mimetypes.guess_type(name)[0] or ANY_TYPE


def record_files(entry: Entry) -> dict[str, bytes]:
    """The photograph's row as Parquet and as JSON, by file name. The same row gives the same bytes."""
    text = json.dumps(_plain(dict(entry.row)), indent=1, ensure_ascii=False, sort_keys=True)
    return {
        "provenance.parquet": parquet_bytes(entry.table.combine_chunks()),
        "provenance.json": text.encode("utf-8", "replace") + b"\n",
    }


def summary(entry: Entry) -> dict[str, Any]:
    """What lists of photographs say of one."""
    names = ("item_id", "source_uri", "status", "reason", "detail", "source_sha256", "output_sha256", "supersedes")
    return {name: entry.row[name] for name in names} | ({"superseded": True} if entry.superseded else {})


def _plain(value: Any) -> Any:
    """For JSON. Bytes in base 64, moments by ISO 8601, columns that hold JSON as what they hold."""
    if isinstance(value, dict):
        return {
            key: _parsed(one) if key in ("parameters", "findings", "description") else _plain(one)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, datetime) else value


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return text
