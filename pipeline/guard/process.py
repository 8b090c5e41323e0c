"""The worker's side of the decoder: starts it, hands it bytes, watches its time, and puts another in place of one that died."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ItemError, Reason
from pipeline.guard.handle import LOG_BYTES, Child, start
from pipeline.guard.limits import Limits
from pipeline.guard.wire import MESSAGE, Shared, WireError, message, parse, receive_photograph
from pipeline.memory import Size
from pipeline.photograph import Photograph

_PROGRAM = ("-m", "pipeline.guard.child")
# Asked once the size is known and before memory is spent on it; returns when there is room.
Admit = Callable[[Size], None]


class _DiedError(Exception):
    """The child is gone; what it was working on may or may not be to blame."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class _Request:
    source: Shared
    item_id: str
    max_pixels: int
    admit: Admit | None
    options: Mapping[str, str]


class Decoder:
    """Decodes in a child process, which is started when it is first needed and replaced when it dies.

    One photograph at a time. `close` ends the child; so do the end of the interpreter and the death of this process.
    program: what Python runs as the child.
    """

    def __init__(self, limits: Limits | None = None, program: Sequence[str] = _PROGRAM) -> None:
        self.limits = limits or Limits()
        self.program = tuple(program)
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._finalizer: weakref.finalize[Any, Any] | None = None

    def open(self) -> None:
        """Start the child now. Raises JobError where none can be started."""
        with self._lock:
            self._ready()

    def close(self) -> None:
        with self._lock:
            self._end()

    @property
    def pid(self) -> int | None:
        """Of the child, where there is one."""
        return None if self._child is None else self._child.process.pid

    def decode(
        self, source: Shared, item_id: str, max_pixels: int, admit: Admit | None = None, **options: str
    ) -> Photograph:
        """The photograph in `source`, read-only arrays over memory that the child let go.

        admit: see `Admit`. options: keywords of `codecs.decode` beyond the three that it always takes.

        Raises ItemError: what `codecs.decode` raises, and decoder-crashed, decoder-timed-out, out-of-memory, and too-large
        where decoding took more memory than `Limits` allows. Raises JobError where no child can be started.
        """
        request = _Request(source, item_id, max_pixels, admit, options)
        with self._lock:
            child = self._ready()
            try:
                return self._ask(child, request)
            except _DiedError as died:
                if child.decodes == 1 or died.reason is Reason.DECODER_TIMED_OUT:
                    raise ItemError(died.reason, died.detail) from died
            # An earlier file may have broken that child; a fresh one says whether this file is to blame.
            try:
                return self._ask(self._ready(), request)
            except _DiedError as died:
                raise ItemError(died.reason, died.detail) from died

    def _ask(self, child: Child, request: _Request) -> Photograph:
        child.decodes += 1
        done = False
        try:
            photograph = self._exchange(child, request)
            done = True
            return photograph
        except ItemError:
            done = True
            raise
        except (WireError, OSError) as error:
            raise self._died(child, error) from error
        finally:
            # Whatever else went wrong, a child that was left in the middle of an answer is of no use.
            if not done or child.decodes >= self.limits.decodes:
                self._end()

    def _exchange(self, child: Child, request: _Request) -> Photograph:
        limits, started = self.limits, time.monotonic()
        file_bytes, most = request.source.size, request.max_pixels
        bounds = {"memory": limits.allowed_memory(file_bytes, 0), "seconds": limits.seconds}
        first = message(max_pixels=most, options=request.options, **bounds)
        socket.send_fds(child.connection, [first], [request.source.fd])
        answer, fds = self._receive(child, started + limits.seconds)
        if "size" in answer:
            size = _size(answer["size"])
            # A header that cannot be read may stand before the largest photograph that is allowed.
            pixels = most if size is None else min(size.pixels, most)
            # Nearly every file without a size is no image; the few that are one are admitted once they are decoded.
            if request.admit is not None and size is not None and size.pixels <= most:
                asked = time.monotonic()
                _admitted(child, request.admit, size)
                # Waiting for room is no time that the file took.
                started += time.monotonic() - asked
            seconds = limits.allowed_seconds(file_bytes, pixels)
            child.connection.send(message(memory=limits.allowed_memory(file_bytes, pixels), seconds=seconds))
            answer, fds = self._receive(child, started + seconds)
        return _answered(child, answer, fds, request)

    def _receive(self, child: Child, deadline: float) -> tuple[dict[str, Any], list[int]]:
        left = deadline - time.monotonic()
        child.connection.settimeout(max(left, 0.001))
        data, fds, _, _ = socket.recv_fds(child.connection, MESSAGE, 1)
        if not data:
            raise WireError("the child closed its end")
        try:
            return parse(data), list(fds)
        except WireError:
            for fd in fds:
                os.close(fd)
            raise

    def _died(self, child: Child, error: Exception) -> _DiedError:
        """Why there is no answer, as far as the child's end tells."""
        if isinstance(error, TimeoutError):
            return _DiedError(Reason.DECODER_TIMED_OUT, "decoding took longer than a photograph of this size may take")
        nonsense = isinstance(error, WireError) and not child.ends_soon()
        words = child.last_words()
        code = child.end()
        if nonsense:
            return _DiedError(Reason.DECODER_CRASHED, f"the decoder answered with {error}")
        if code == -signal.SIGXCPU:
            return _DiedError(
                Reason.DECODER_TIMED_OUT, "decoding took more CPU time than a photograph of this size may take"
            )
        if code == -signal.SIGKILL:
            return _DiedError(
                Reason.OUT_OF_MEMORY,
                "the decoder was killed from outside, most likely because the machine's memory ran out",
            )
        if code < 0:
            return _DiedError(Reason.DECODER_CRASHED, f"these bytes ended the decoder by {signal.Signals(-code).name}")
        return _DiedError(Reason.DECODER_CRASHED, f"these bytes ended the decoder: {words or f'exit code {code}'}")

    def _ready(self) -> Child:
        if self._child is not None and self._child.process.poll() is not None:
            self._end()
        if self._child is None:
            self._child = start(self.program)
            self._finalizer = weakref.finalize(self, Child.end, self._child)
        elif os.fstat(self._child.log).st_size > LOG_BYTES:
            os.ftruncate(self._child.log, 0)
        return self._child

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None
        if self._finalizer is not None:
            self._finalizer.detach()
            self._finalizer = None


def _admitted(child: Child, admit: Admit, size: Size) -> None:
    try:
        admit(size)
    except ItemError:
        child.connection.send(message(stop=True))
        raise


def _answered(child: Child, answer: dict[str, Any], fds: list[int], request: _Request) -> Photograph:
    try:
        if "reason" in answer:
            raise _refusal(answer)
        if len(fds) != 1 or not isinstance(answer.get("photograph"), dict):
            raise WireError(f"an answer of {sorted(answer)}")
        return receive_photograph(request.item_id, answer["photograph"], fds[0], request.max_pixels)
    finally:
        for fd in fds:
            os.close(fd)
        if answer.get("spent"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(1.0)


def _refusal(answer: dict[str, Any]) -> ItemError:
    try:
        return ItemError(Reason(answer["reason"]), str(answer.get("detail")))
    except ValueError as error:
        raise WireError(f"the reason {answer['reason']!r}") from error


def _size(value: Any) -> Size | None:
    if value is None:
        return None
    try:
        size = Size(**value)
    except TypeError as error:
        raise WireError("a size that is none") from error
    sides = (size.width, size.height, size.channels, size.depth)
    return size if all(isinstance(side, int) and side > 0 for side in sides) else None
