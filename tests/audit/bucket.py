"""An S3 service in a process of its own: moto's, with a log of what was read and, on request, with faults.

`python -m tests.audit.bucket --port N --log FILE [--faults SHARE --seed N]`
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

Start = Callable[..., Any]
_SLOW = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_BROKEN = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>We encountered an error.</Message></Error>"


class Unreliable:
    """Wraps a WSGI application: a share of requests is refused (503), is done and answered with 500, or breaks off in the
    middle of its body. Objects that were read whole are logged with time.monotonic()."""

    def __init__(self, inner: Any, share: float, seed: int, log: Path) -> None:
        self._inner = inner
        self._share = share
        self._rng = random.Random(seed)
        self._log = log.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        with self._lock:
            fault = (
                self._rng.choice(("refused", "refused", "answer lost", "cut"))
                if self._rng.random() < self._share
                else ""
            )
        if fault == "refused":
            return self._error(start, "503 Slow Down", _SLOW)
        status: list[str] = []

        def remember(line: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            status.append(line)
            return (lambda data: None) if fault == "answer lost" else start(line, headers, *rest)

        body = b"".join(self._inner(environ, remember))
        if fault == "answer lost":
            return self._error(start, "500 Internal Server Error", _BROKEN)
        if fault == "cut" and environ["REQUEST_METHOD"] == "GET" and len(body) > 1:
            return self._half(body)
        if environ["REQUEST_METHOD"] == "GET" and status and status[0].startswith("20") and not environ["QUERY_STRING"]:
            with self._lock:
                self._log.write(f"{time.monotonic()} {environ['PATH_INFO']}\n")
                self._log.flush()
        return [body]

    @staticmethod
    def _error(start: Start, status: str, text: bytes) -> Iterable[bytes]:
        start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))])
        return [text]

    @staticmethod
    def _half(body: bytes) -> Iterator[bytes]:
        yield body[: len(body) // 2]
        raise ConnectionAbortedError("cut on purpose")


def main() -> int:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    parser = argparse.ArgumentParser(prog="python -m tests.audit.bucket", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    application = Unreliable(DomainDispatcherApplication(create_backend_app), options.faults, options.seed, options.log)
    run_simple("127.0.0.1", options.port, application, threaded=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
