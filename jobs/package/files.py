"""Files on their way into a package: copied piece by piece, and held against the record's digest while they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from jobs.package.contents import File, Role
from pipeline.errors import AlbumenError
from pipeline.storage import Store, is_local, local_path

_PIECE = 1 << 20
_NAMES = {Role.ORIGINAL: "original", Role.RESTORED: "restored file", Role.MASK: "mask"}


class DamagedError(AlbumenError):
    """A file is not what the record says."""


@dataclass(slots=True)
class Files:
    """outputs: the store of the run. originals: of the collection. faults: sentences, as `check` gathers them."""

    outputs: Store
    originals: Store
    faults: list[str] = field(default_factory=list)

    def copy(self, file: File, target: Path) -> int:
        """Bytes copied. Raises DamagedError, and what lies at `target` then is worth nothing."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as sink:
            return self._read(file, sink)

    def verify(self, file: File) -> int:
        """Bytes read. Raises DamagedError."""
        return self._read(file, None)

    def read(self, file: File) -> bytes:
        """All bytes at once, for what decodes them. Raises DamagedError."""
        target = _Memory()
        self._read(file, target)
        return bytes(target.data)

    def check(self, file: File) -> None:
        """As `verify`, but a fault is noted and the work goes on."""
        try:
            self.verify(file)
        except DamagedError as error:
            self.faults.append(str(error))

    def _read(self, file: File, sink: IO[bytes] | _Memory | None) -> int:
        digest, size = hashlib.sha256(), 0
        for piece in self._pieces(file):
            digest.update(piece)
            size += len(piece)
            if sink is not None:
                sink.write(piece)
        if digest.hexdigest() != file.sha256:
            found = digest.hexdigest()
            raise DamagedError(f"{file.uri}: the {_NAMES[file.role]} has changed: sha256 is {found}, not {file.sha256}")
        return size

    def _pieces(self, file: File) -> Iterator[bytes]:
        """Raises DamagedError where they cannot be read; what happens to whoever writes them is not its business."""
        store = self.originals if file.role is Role.ORIGINAL else self.outputs
        what = f"{file.uri}: the {_NAMES[file.role]}"
        # A pipe or a device in the place of a file would never end.
        if is_local(file.uri) and not local_path(file.uri).is_file():
            raise DamagedError(f"{what} is not there")
        try:
            with store.open(file.uri) as source:
                while piece := source.read(_PIECE):
                    yield piece
        except FileNotFoundError as error:
            raise DamagedError(f"{what} is not there") from error
        except OSError as error:
            raise DamagedError(f"{what} cannot be read: {error.strerror or error}") from error


@dataclass(slots=True)
class _Memory:
    data: bytearray = field(default_factory=bytearray)

    def write(self, piece: bytes) -> None:
        self.data += piece
