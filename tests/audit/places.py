"""Folders and buckets as the auditor sees them: names and bytes. Shares no code with what it audits."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit


class Place(Protocol):
    """A run's folder or prefix. Keys are paths below it, with slashes."""

    root: str

    def list(self, under: str = "") -> dict[str, int]:
        """Every object whose key begins with `under`, with its size in bytes. Empty where there is none."""
        ...

    def read(self, key: str) -> bytes:
        """Raises FileNotFoundError where no object has that name."""
        ...


class Folder:
    def __init__(self, root: str) -> None:
        self.root = root.removeprefix("file://").rstrip("/")

    def list(self, under: str = "") -> dict[str, int]:
        base, prefix = Path(self.root), under.rpartition("/")[0]
        found: dict[str, int] = {}
        for folder, _, names in os.walk(base / prefix):
            for name in names:
                path = Path(folder) / name
                key = path.relative_to(base).as_posix()
                if key.startswith(under):
                    try:
                        found[key] = path.lstat().st_size
                    except FileNotFoundError:
                        # Written under a temporary name a moment ago, and renamed since.
                        continue
        return dict(sorted(found.items()))

    def read(self, key: str) -> bytes:
        return (Path(self.root) / key).read_bytes()


class Bucket:
    def __init__(self, root: str, endpoint: str | None = None) -> None:
        self.root = root.rstrip("/")
        parts = urlsplit(self.root)
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/") + "/"
        self._client = _client(endpoint)

    def list(self, under: str = "") -> dict[str, int]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + under)
        return {
            entry["Key"].removeprefix(self._prefix): entry["Size"]
            for page in pages
            for entry in page.get("Contents", ())
        }

    def read(self, key: str) -> bytes:
        return read_object(self._client, self._bucket, self._prefix + key)


def place(uri: str, endpoint: str | None = None) -> Place:
    """endpoint: an S3 service other than the one that the usual AWS variables name."""
    return Bucket(uri, endpoint) if uri.startswith("s3://") else Folder(uri)


def read_uri(uri: str, endpoint: str | None = None) -> bytes:
    """The bytes of one file or object, wherever it lies. Raises FileNotFoundError."""
    if not uri.startswith("s3://"):
        return Path(uri.removeprefix("file://")).read_bytes()
    # Not by a URL's rules: a key may hold any character, `?` and `#` too.
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return read_object(_client(endpoint), bucket, key)


def read_object(client: Any, bucket: str, key: str) -> bytes:
    try:
        body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    except client.exceptions.NoSuchKey as error:
        raise FileNotFoundError(f"s3://{bucket}/{key}") from error
    return body


@cache
def _client(endpoint: str | None) -> Any:
    import boto3
    from botocore.config import Config

    # The service that is audited may be one that fails on purpose.
    return boto3.client("s3", endpoint_url=endpoint, config=Config(retries={"mode": "standard", "max_attempts": 10}))
