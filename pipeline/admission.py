"""Admission: how much memory photographs may take on one machine at once, counted across all processes of all runs there.

The machine's budget is divided into 256 shares, each a byte of a lock file. A process holds a share by an open file description
lock (fcntl(2), F_OFD_SETLK), which the kernel takes back however the process ends: no holder can die with memory in hand.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import tempfile
import time
from pathlib import Path
from typing import Self

from pipeline.errors import ItemError, JobError, Reason

SHARES = 256
# The byte behind the shares: who holds it may gather shares. A large photograph at the gate is not overtaken by small ones,
# and two that gather half of what they need each can not wait for one another.
_GATE = SHARES
_PAUSE = 0.02
_FLOCK = "hhqqi4x"


class Admission:
    """Memory for the photographs that this process works on. `hold` waits until there is room; `release` gives all back.

    total_bytes: the machine's budget. folder: where the lock file lies, the same for all processes of a user on a machine.
    Not for use by several threads at once: each takes an Admission of its own.
    """

    def __init__(self, total_bytes: int, folder: Path | None = None) -> None:
        if total_bytes <= 0:
            raise ValueError(f"a budget of {total_bytes} bytes")
        self.total_bytes = total_bytes
        self._fd = _open_locks(folder or Path(tempfile.gettempdir()) / f"albumen-{os.getuid()}")
        self._held: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def held_bytes(self) -> int:
        return len(self._held) * self.total_bytes // SHARES

    def check(self, size: int) -> None:
        """Raises ItemError(out-of-memory) where the whole budget is less than `size` bytes."""
        if size > self.total_bytes:
            raise ItemError(
                Reason.OUT_OF_MEMORY,
                f"the photograph needs about {size / 1e9:.1f} GB, and photographs may take {self.total_bytes / 1e9:.1f} GB"
                " of this machine at once",
            )

    def hold(self, size: int) -> None:
        """Wait until `size` bytes are free among all holders, and hold them in place of what was held before.

        Raises ItemError(out-of-memory) where the whole budget is less.
        """
        self.check(size)
        wanted = -(-size * SHARES // self.total_bytes)
        if wanted <= len(self._held):
            return
        # Who asked for more while holding some could wait for another that does the same.
        self.release()
        _lock(self._fd, fcntl.F_OFD_SETLKW, fcntl.F_WRLCK, _GATE)
        try:
            while True:
                self._gather(wanted)
                if len(self._held) == wanted:
                    return
                time.sleep(_PAUSE)
        finally:
            _lock(self._fd, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, _GATE)

    def release(self) -> None:
        """Give back all that is held."""
        _lock(self._fd, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, 0, SHARES)
        self._held.clear()

    def close(self) -> None:
        """Give all back and forget the lock file, which stays for others."""
        self._held.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _gather(self, wanted: int) -> None:
        mine = set(self._held)
        for share in range(SHARES):
            if len(self._held) == wanted:
                return
            if share not in mine and _lock(self._fd, fcntl.F_OFD_SETLK, fcntl.F_WRLCK, share):
                self._held.append(share)


def _open_locks(folder: Path) -> int:
    """The lock file, made where it is missing. Raises JobError where the folder is not this user's own."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise JobError(f"{folder} is not a folder of this user; remove it, or set TMPDIR to another place")
        return os.open(folder / "admission.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise JobError(f"the locks that share this machine's memory cannot be made in {folder}: {error}") from error


def _lock(fd: int, command: int, kind: int, start: int, length: int = 1) -> bool:
    """One lock call on a range of bytes. False where another holds a part of it."""
    try:
        fcntl.fcntl(fd, command, struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0))
    except BlockingIOError:
        return False
    return True
