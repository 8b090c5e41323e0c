"""A photograph's folder, the same in every package that carries files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from jobs.package.contents import Entry, Role, media_type, record_files
from jobs.package.files import Files
from jobs.package.signing import Signer


@dataclass(frozen=True, slots=True)
class Room:
    """What a package is written with. work: a folder that goes when it is done; package: in it, what becomes the output.

    known: run.json. count: photographs that will come. base: the address below which an IIIF package will be served.
    moment: of packaging, UTC.
    """

    work: Path
    output: Path
    place: str
    known: Mapping[str, Any]
    count: int
    files: Files
    signer: Signer | None
    base: str | None
    moment: datetime

    @property
    def package(self) -> Path:
        return self.work / "package"

    @property
    def run_id(self) -> str:
        return str(self.known["run_id"])

    @property
    def collection(self) -> str:
        return str(self.known.get("collection") or self.run_id)


class Writer(Protocol):
    """One kind of package at work. counts: what its report says beside the photographs.

    `add` raises DamagedError for a file that is not as it is recorded, JobError where the kind cannot hold something.
    """

    counts: dict[str, int]

    def add(self, entry: Entry) -> None: ...

    def close(self) -> None:
        """Everything is in `room.package` afterwards, ready to be moved into its place."""

    def publish(self) -> None:
        """Into its place, after `close`."""


def into_place(room: Room) -> None:
    """The whole package under its name at once."""
    room.package.rename(room.output)


@dataclass(frozen=True, slots=True)
class Laid:
    """A file in a photograph's folder. path: below it, with slashes."""

    role: Role
    path: str
    sha256: str
    size: int
    media_type: str


def lay_out(room: Room, entry: Entry, folder: Path) -> list[Laid]:
    """original/NAME, restored/ITEM.EXT, mask.png, provenance.parquet and .json; signed/ with a signer. Raises DamagedError."""
    folder.mkdir(parents=True, exist_ok=True)
    laid: list[Laid] = []
    for file in entry.files:
        path = file.name if file.role is Role.MASK else f"{file.role}/{file.name}"
        size = room.files.copy(file, folder / path)
        laid.append(Laid(file.role, path, file.sha256, size, file.media_type))
    for name, data in record_files(entry).items():
        (folder / name).write_bytes(data)
        kind = "application/json" if name.endswith(".json") else "application/vnd.apache.parquet"
        laid.append(Laid(Role.PROVENANCE, name, hashlib.sha256(data).hexdigest(), len(data), kind))
    if room.signer is not None and entry.restored:
        signed = room.signer.sign(entry, {one.role: folder / one.path for one in laid}, folder / "signed")
        with signed.open("rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
        name = f"signed/{signed.name}"
        laid.append(Laid(Role.SIGNED, name, digest, signed.stat().st_size, media_type(None, name)))
    return laid
