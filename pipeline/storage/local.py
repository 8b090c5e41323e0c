"""Files in folders of this machine, mounted file servers included (POSIX.1-2017: link, rename, fsync)."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from pipeline.storage.faults import local_errors, persist
from pipeline.storage.names import Entry, Patience, local_path, temporary_name
from pipeline.storage.sorting import names_in_order
from pipeline.storage.transfer import Accept

# What file systems that know no hard links say when asked for one.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


class Folders:
    """Every method raises OSError as the system does."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience

    def read(self, uri: str, accept: Accept | None = None) -> bytes:
        path = local_path(uri)

        def attempt() -> bytes:
            with local_errors(), path.open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                if accept is not None:
                    accept(size, None)
                data = file.readall()
                # Devices and the like have no size; what grows or shrinks under our hands is not whole.
                if len(data) != os.fstat(file.fileno()).st_size and size:
                    raise OSError(errno.EIO, "the file was being written while it was read", str(path))
                return data

        return persist(self.patience, attempt)

    def open(self, uri: str) -> BinaryIO:
        return local_path(uri).open("rb")

    def exists(self, uri: str) -> bool:
        return local_path(uri).exists()

    def has(self, uri: str) -> bool:
        return local_path(uri).is_file()

    def put(self, uri: str, data: bytes) -> None:
        final = local_path(uri)

        def attempt() -> None:
            with local_errors(), _temporary(final, data) as temporary:
                os.replace(temporary, final)
                _sync_folder(final.parent)

        persist(self.patience, attempt)

    def create(self, uri: str, data: bytes) -> bool:
        """Tried once: after an error it is not known whether the name was given."""
        final = local_path(uri)
        with _temporary(final, data) as temporary:
            try:
                os.link(temporary, final)
            except FileExistsError:
                # A file server may give the name, lose its answer, and refuse when the request comes again: link(2).
                if temporary.stat().st_nlink != 2:
                    return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return _create_without_links(temporary, final)
            _sync_folder(final.parent)
        return True

    def conditional(self, root: str) -> bool:
        """Whether the file system knows hard links. Without them `create` only excludes processes of one machine."""
        folder = local_path(root)
        while not folder.is_dir():
            folder = folder.parent
        with _temporary(folder / "conditional", b"") as temporary:
            second = temporary.with_name(temporary_name("conditional"))
            try:
                os.link(temporary, second)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return False
            second.unlink()
        return True

    def delete(self, uri: str) -> None:
        local_path(uri).unlink(missing_ok=True)

    def delete_many(self, uris: Iterable[str]) -> None:
        refused: list[str] = []
        for uri in uris:
            try:
                self.delete(uri)
            except OSError as error:
                refused.append(f"{uri} ({error.strerror or error})")
        if refused:
            raise OSError(f"{len(refused):,} files could not be deleted: {', '.join(refused[:10])}")

    def list(self, root: str, after: str | None = None) -> Iterator[Entry]:
        yield from self._walk(os.fsencode(local_path(root)), b"", os.fsencode(after or ""))

    def _walk(self, folder: bytes, prefix: bytes, after: bytes) -> Iterator[Entry]:
        names = names_in_order(folder, self.patience)
        try:
            first = next(names, None)
        except OSError as error:
            if not prefix or prefix > after:
                fault = f"the folder cannot be read: {error.strerror}"
                yield Entry(os.fsdecode(prefix) or ".", os.fsdecode(folder), None, None, fault)
            return
        while first is not None:
            key = prefix + first
            if first.endswith(b"/"):
                # All keys below start with this one: they lie behind `after`, or around it, or all before it.
                if key > after or after.startswith(key):
                    yield from self._walk(os.path.join(folder, first[:-1]), key, after)
            elif key > after:
                yield _entry(os.path.join(folder, first), key)
            first = next(names, None)


def _entry(path: bytes, key: bytes) -> Entry:
    size, modified = None, None
    with suppress(OSError):
        found = os.stat(path)
        size, modified = found.st_size, datetime.fromtimestamp(found.st_mtime, UTC)
    return Entry(os.fsdecode(key), os.fsdecode(path), size, None, modified=modified)


@contextmanager
def _temporary(final: Path, data: bytes) -> Iterator[Path]:
    """A whole and durable file beside `final` under another name, which is gone at the end."""
    _make_folders(final.parent)
    temporary = final.with_name(temporary_name(final.name))
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _create_without_links(temporary: Path, final: Path) -> bool:
    """Weaker: excludes processes of this machine, and others only where the file server passes locks on."""
    handle = os.open(final.parent, os.O_RDONLY)
    try:
        # Given back by the system when this process dies.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.lexists(final):
            return False
        os.replace(temporary, final)
    finally:
        os.close(handle)
    _sync_folder(final.parent)
    return True


def _make_folders(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
        _sync_folder(folder.parent)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def _sync_folder(folder: Path) -> None:
    """Make names durable, where the file system lets a folder be synchronised."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(handle)
