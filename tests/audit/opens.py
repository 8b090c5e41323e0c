"""Counts how often each original is opened, by the kernel's own account (inotify(7)): work done again is seen from outside."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_IN_OPEN = 0x20
_IN_ISDIR = 0x40000000
_HEADER = struct.Struct("iIII")


@dataclass(frozen=True, slots=True)
class Open:
    name: str
    at: float


class Opens:
    """Watches one folder, its subfolders left out. at: time.monotonic()."""

    def __init__(self, folder: Path) -> None:
        self.seen: list[Open] = []
        self._muted = threading.Event()
        self._over = threading.Event()
        self._flushed = threading.Event()
        # Hidden, so that no listing takes it for a photograph.
        self._flush = folder / ".flush"
        libc = ctypes.CDLL(None, use_errno=True)
        self._handle = libc.inotify_init1(os.O_CLOEXEC)
        if self._handle < 0 or libc.inotify_add_watch(self._handle, os.fsencode(folder), _IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), f"{folder} cannot be watched")
        self._thread = threading.Thread(target=self._listen, name="opens", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._over.is_set():
            if not select.select([self._handle], [], [], 0.2)[0]:
                continue
            data, now = os.read(self._handle, 1 << 16), time.monotonic()
            for name in _names(data):
                if name == self._flush.name:
                    self._flushed.set()
                elif not self._muted.is_set():
                    self.seen.append(Open(name, now))

    @contextmanager
    def muted(self) -> Iterator[None]:
        """For readers that are no workers."""
        self._read_queue()
        self._muted.set()
        try:
            yield
        finally:
            self._read_queue()
            self._muted.clear()

    def _read_queue(self) -> None:
        """Until all that was opened before has been seen: a name of ours that goes through the queue comes last."""
        self._flushed.clear()
        self._flush.touch()
        self._flush.open("rb").close()
        if not self._flushed.wait(30):
            raise TimeoutError("the kernel's account of opened files stopped")

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        os.close(self._handle)


def _names(data: bytes) -> Iterator[str]:
    place = 0
    while place < len(data):
        _, mask, _, length = _HEADER.unpack_from(data, place)
        place += _HEADER.size
        name = data[place : place + length].rstrip(b"\0")
        place += length
        if name and not mask & _IN_ISDIR:
            yield os.fsdecode(name)
