"""The names in one folder in the order in which a bucket would list them, however many they are."""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO

from pipeline.storage.faults import local_errors, persist
from pipeline.storage.names import Patience

# About 50 MB of names; more are sorted by parts, on disk.
RUN = 500_000
_BLOCK = 1 << 16


def names_in_order(folder: bytes, patience: Patience) -> Iterator[bytes]:
    """Names in byte order; one of a folder has a slash behind it, which decides its place among longer names.

    Links to folders are names like others. Raises OSError, before the first name, where the folder cannot be read.
    """
    with ExitStack() as files:
        runs, last = persist(patience, lambda: _collect(folder, files))
        yield from heapq.merge(*(_read(run) for run in runs), last)


def _collect(folder: bytes, files: ExitStack) -> tuple[list[IO[bytes]], list[bytes]]:
    runs: list[IO[bytes]] = []
    names: list[bytes] = []
    with local_errors(), os.scandir(folder) as found:
        for entry in found:
            names.append(entry.name + b"/" if entry.is_dir(follow_symlinks=False) else entry.name)
            if len(names) == RUN:
                run = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
                # No name holds a zero byte.
                run.write(b"\0".join(sorted(names)))
                runs.append(run)
                names = []
    return runs, sorted(names)


def _read(run: IO[bytes]) -> Iterator[bytes]:
    run.seek(0)
    rest = b""
    while block := run.read(_BLOCK):
        *whole, rest = (rest + block).split(b"\0")
        yield from whole
    yield rest
