"""An S3 service in a process of its own: moto's, with a log of which objects were read.

`python -m tests.audit.bucket --port N --log FILE`
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


class Logged:
    """Wraps a WSGI application: objects that were read are logged with time.monotonic(), a line each."""

    def __init__(self, inner: Any, log: Path) -> None:
        self._inner = inner
        self._log = log.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        statuses: list[str] = []

        def remember(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            statuses.append(status)
            return start(status, headers, *rest)

        body: Iterable[bytes] = self._inner(environ, remember)
        # Listings and questions about an object's parts have a query.
        if (
            environ["REQUEST_METHOD"] == "GET"
            and not environ["QUERY_STRING"]
            and statuses[:1]
            and statuses[0][:2] == "20"
        ):
            with self._lock:
                self._log.write(f"{time.monotonic()} {environ['PATH_INFO']}\n")
                self._log.flush()
        return body


def main() -> int:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    parser = argparse.ArgumentParser(prog="python -m tests.audit.bucket", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    application = Logged(DomainDispatcherApplication(create_backend_app), options.log)
    run_simple("127.0.0.1", options.port, application, threaded=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
