"""The S3 service of the audit: what it logs of what was read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.audit.bucket import Logged
from tests.audit.ground import Buckets


def store(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    start("404 Not Found" if "missing" in environ["PATH_INFO"] else "200 OK", [])
    return [b"bytes"]


def ask(service: Logged, path: str, method: str = "GET", query: str = "") -> bytes:
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query}
    return b"".join(service(environ, lambda status, headers: None))


def test_objects_that_were_read_are_logged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    service = Logged(store, log)
    ground = Buckets("s3://audit/round", log, "http://127.0.0.1:9")
    assert ask(service, "/audit/round/scans/a b.png") == b"bytes"
    ask(service, "/audit/round/scans/a.png", method="HEAD")
    ask(service, "/audit/round/scans/missing.png")
    ask(service, "/audit", query="list-type=2")
    ask(service, "/audit/other/scans/c.png")
    assert [one.name for one in ground.opens()] == ["a b.png"]
    with ground.muted():
        ask(service, "/audit/round/scans/d.png")
    ask(service, "/audit/round/scans/e.png")
    ask(service, "/audit/round/scans/e.png")
    assert [one.name for one in ground.opens()] == ["a b.png", "e.png", "e.png"]


def test_a_request_that_is_made_again_at_once_is_one_read_where_requests_fail(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    ground = Buckets("s3://audit/round", log, "http://127.0.0.1:9", again_within=10)
    log.write_text(
        "".join(f"{at} /audit/round/scans/{name}\n" for at, name in ((1, "a"), (2, "b"), (8, "a"), (30, "a")))
    )
    assert [(one.name, one.at) for one in ground.opens()] == [("a", 1), ("b", 2), ("a", 30)]
