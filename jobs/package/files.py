"""Files on their way into a package: copied piece by piece, and held against the record's digest while they are."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from jobs.package.contents import File, Role
from pipeline.errors import AlbumenError
from pipeline.storage import Store, is_local, local_path

_PIECE = 1 << 20


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
        store = self.originals if file.role is Role.ORIGINAL else self.outputs
        what = (
            "original" if file.role is Role.ORIGINAL else f"{file.role} file" if file.role is Role.RESTORED else "mask"
        )
        digest, size = hashlib.sha256(), 0
        try:
            # A pipe or a device in the place of a file would never end.
            if is_local(file.uri) and not local_path(file.uri).is_file():
                raise DamagedError(f"{file.uri}: the {what} is not there")
            with store.open(file.uri) as source, nullcontext(sink) as target:
                while piece := source.read(_PIECE):
                    digest.update(piece)
                    size += len(piece)
                    if target is not None:
                        target.write(piece)
        except FileNotFoundError as error:
            raise DamagedError(f"{file.uri}: the {what} is not there") from error
        except OSError as error:
            if error.filename is not None and str(error.filename) == getattr(sink, "name", None):
                raise
            raise DamagedError(f"{file.uri}: the {what} cannot be read: {error.strerror or error}") from error
        if digest.hexdigest() != file.sha256:
            raise DamagedError(f"{file.uri}: the {what} has changed: sha256 is {digest.hexdigest()}, not {file.sha256}")
        return size


@dataclass(slots=True)
class _Memory:
    data: bytearray = field(default_factory=bytearray)

    def write(self, piece: bytes) -> None:
        self.data += piece
