"""The decoder's own process: `python -m pipeline.guard.child SOCKET LIFELINE`. Started by `pipeline.guard.process` only.

It answers one request after the other: the size that the header promises, then, once told to go on, the photograph or the
reason. What a codec does to it (a crash, a hang, memory without end) ends this process and no other.
"""

from __future__ import annotations

import fcntl
import gc
import math
import os
import resource
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pipeline.guard.wire import MESSAGE, WireError, message, parse, send_photograph

# How often an idle decoder looks whether its worker still lives, should another process hold the worker's ends open.
_LOOK = 10.0
_DETAIL = 2000


def main(arguments: list[str]) -> int:
    channel, lifeline, parent = (int(argument) for argument in arguments)
    _end_with_parent(lifeline)
    _prefer_this_process_to_the_worker()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from PIL import Image

    from pipeline import codecs
    from pipeline.guard import headers

    assert codecs
    assert headers
    # The limit is checked on the header; Pillow's own would only warn.
    Image.MAX_IMAGE_PIXELS = None
    with socket.socket(fileno=channel) as connection:
        connection.settimeout(_LOOK)
        connection.send(message(ready=True))
        # What is imported stays; parsers' cycles, which hold whole files, are looked for among the rest.
        gc.freeze()
        while (request := _next(connection, parent)) is not None:
            if not _serve(connection, parent, *request):
                return 0
            gc.collect()
    return 0


def _end_with_parent(lifeline: int) -> None:
    """The kernel ends this process by SIGIO, busy or not, when the last writer of the pipe is gone.

    PR_SET_PDEATHSIG would follow the thread that started this process, and not the worker.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    try:
        os.read(lifeline, 1)
    except BlockingIOError:
        return
    # The worker was gone before the kernel was asked to tell.
    os._exit(0)


def _prefer_this_process_to_the_worker() -> None:
    """Where the machine's memory runs out, the kernel ends the decoder first; the worker lives and says why."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        return


def _data_bytes() -> int:
    with open("/proc/self/status") as file:
        [line] = [line for line in file if line.startswith("VmData:")]
    return int(line.split()[1]) * 1024


def _next(connection: socket.socket, parent: int) -> tuple[bytes, list[int]] | None:
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(connection, MESSAGE, 1)
        except TimeoutError:
            if os.getppid() != parent:
                return None
            continue
        return (data, list(fds)) if data else None


def _serve(connection: socket.socket, parent: int, data: bytes, fds: list[int]) -> bool:
    """One photograph. False where this process should not be used again."""
    from pipeline.codecs import decode
    from pipeline.errors import ItemError, Reason
    from pipeline.guard.headers import measure

    request = parse(data)
    [fd] = fds
    try:
        _limit(request)
        with open(fd, "rb", buffering=0) as file:
            file.seek(0)
            source = file.readall()
        size = measure(source)
        connection.send(message(size=None if size is None else asdict(size)))
        # The worker may have to wait until the machine has room for a photograph of this size.
        if (told := _next(connection, parent)) is None:
            return False
        go = parse(told[0])
        if "stop" in go:
            return True
        _limit(go)
        photograph = decode(source, "", request["max_pixels"], **request["options"])
        del source
        description, pixels = send_photograph(photograph)
    except ItemError as error:
        connection.send(message(reason=str(error.reason), detail=error.detail[:_DETAIL]))
        return True
    except MemoryError:
        resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        detail = "decoding needs more memory than a photograph of this size and file may take"
        connection.send(message(reason=str(Reason.TOO_LARGE), detail=detail, spent=True))
        return False
    socket.send_fds(connection, [message(photograph=description)], [pixels])
    os.close(pixels)
    return True


def _limit(request: Mapping[str, Any]) -> None:
    """Memory from what is allocated now, CPU time from what was used until now. Threads of one codec may use two cores."""
    resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + request["memory"], resource.RLIM_INFINITY))
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = math.ceil(used.ru_utime + used.ru_stime + 2 * request["seconds"])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (WireError, ConnectionError) as fault:
        sys.exit(str(fault))
