"""The decoder's process as its worker holds it: how it is started, ended, and what it said last."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.errors import JobError
from pipeline.guard.wire import MESSAGE, WireError, parse

# Importing the codecs takes a second; a loaded machine is given many.
_START_SECONDS = 120.0
LOG_BYTES = 64 << 10
# One decoder is one core's work: what runs beside it is other photographs.
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TIFFFILE_NUM_THREADS", "MALLOC_ARENA_MAX"), "1"
)


@dataclass(slots=True)
class Child:
    """A running decoder. lifeline: its death follows the closing of this. log: what it and its libraries wrote."""

    process: subprocess.Popen[bytes]
    connection: socket.socket
    lifeline: int
    log: int
    decodes: int = 0
    closed: bool = field(default=False)

    def end(self) -> int:
        """Kill it if it lives, free what belongs to it, and say how it ended."""
        if not self.closed:
            self.closed = True
            if self.process.poll() is None:
                self.process.kill()
            self.connection.close()
            os.close(self.lifeline)
            os.close(self.log)
        return self.process.wait()

    def ends_soon(self) -> bool:
        """A child whose end is closed is about to be gone; its exit code is what tells."""
        try:
            self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_words(self) -> str:
        size = os.fstat(self.log).st_size
        text = os.pread(self.log, LOG_BYTES, max(0, size - LOG_BYTES)).decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1][:500] if lines else ""


def start(program: Sequence[str]) -> Child:
    """Raises JobError where the child does not come up: that is this machine's trouble and no photograph's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    watched, lifeline = os.pipe()
    log = os.memfd_create("albumen-decoder-log", os.MFD_CLOEXEC)
    # So that the log, once emptied here, starts anew there.
    fcntl.fcntl(log, fcntl.F_SETFL, os.O_APPEND)
    # The child imports what this process would import, and nothing from the folder it happens to stand in.
    environment = os.environ | _ONE_THREAD | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ends = [str(theirs.fileno()), str(watched), str(os.getpid())]
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", *program, *ends],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            pass_fds=(theirs.fileno(), watched),
            env=environment,
        )
    except OSError as error:
        ours.close()
        os.close(lifeline)
        os.close(log)
        raise JobError(f"the decoder's process cannot be started: {error}") from error
    finally:
        theirs.close()
        os.close(watched)
    child = Child(process, ours, lifeline, log)
    try:
        ours.settimeout(_START_SECONDS)
        parse(ours.recv(MESSAGE))
    except (WireError, OSError) as error:
        words = child.last_words()
        child.end()
        raise JobError(f"the decoder's process does not come up: {words or error}") from error
    return child
