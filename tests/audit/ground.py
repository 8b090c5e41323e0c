"""Where a round takes place: a folder or a bucket, with originals, a run, and an account of which originals were read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from tests.audit.collection import put_files
from tests.audit.opens import Open, Opens
from tests.audit.places import place, read_uri


class Ground(Protocol):
    source: str
    run: str
    endpoint: str | None

    def put(self, files: dict[str, bytes], time: int) -> None:
        """Add originals, or put others in their place, at that time (seconds since 1970)."""
        ...

    def opens(self) -> list[Open]:
        """Originals that were read so far, in order."""
        ...

    def muted(self) -> AbstractContextManager[None]:
        """For readers that are no workers."""
        ...

    def close(self) -> None: ...


class Folders:
    def __init__(self, base: Path) -> None:
        self.source, self.run = str(base / "scans"), str(base / "run")
        self.endpoint: str | None = None
        (base / "scans").mkdir(parents=True)
        self._opens = Opens(base / "scans")

    def put(self, files: dict[str, bytes], time: int) -> None:
        put_files(Path(self.source), files, time)

    def opens(self) -> list[Open]:
        return self._opens.seen

    def muted(self) -> AbstractContextManager[None]:
        return self._opens.muted()

    def close(self) -> None:
        self._opens.close()


class Buckets:
    """log: of tests.audit.bucket, which lists every object that was read. endpoint: of that service itself, not of one in
    front of it that fails. again_within: seconds in which a second read of an object is the first one, asked for again."""

    def __init__(self, prefix: str, log: Path, endpoint: str, again_within: float = 0.0) -> None:
        self.source, self.run = f"{prefix}/scans", f"{prefix}/run"
        self.endpoint: str | None = endpoint
        self._log, self._read = log, log.stat().st_size
        self._again_within = again_within
        self._seen: list[Open] = []
        self._last: dict[str, float] = {}

    def put(self, files: dict[str, bytes], time: int) -> None:
        import boto3

        client = boto3.client("s3", endpoint_url=self.endpoint)
        bucket, _, prefix = self.source.removeprefix("s3://").partition("/")
        for name, data in files.items():
            client.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=data)

    def opens(self) -> list[Open]:
        with self._log.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        start = "/" + self.source.removeprefix("s3://") + "/"
        for line in whole.decode().splitlines():
            at, _, path = line.partition(" ")
            name = path.removeprefix(start)
            if name == path:
                continue
            last, self._last[name] = self._last.get(name), float(at)
            if last is None or float(at) - last >= self._again_within:
                self._seen.append(Open(name, float(at)))
        return self._seen

    @contextmanager
    def muted(self) -> Iterator[None]:
        before = len(self.opens())
        yield
        del self.opens()[before:]

    def close(self) -> None:
        self._seen.clear()


def digests(ground: Ground) -> dict[str, str]:
    """SHA-256 of every original as it is now, by name."""
    with ground.muted():
        names = [name for name in place(ground.source, ground.endpoint).list() if not name.startswith(".")]
        return {
            name: hashlib.sha256(read_uri(f"{ground.source}/{name}", ground.endpoint)).hexdigest() for name in names
        }
