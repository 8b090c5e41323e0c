"""Connections to S3, and every setting they are made with.

Our own requests go through a plain botocore client, with retries switched off: `faults.persist` is the only one that tries
again, because it alone knows whether a try that got no answer may have been carried out. It needs no event loop and no
thread, so that it also works in a process that was forked.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import Any

from pipeline.errors import StoreError
from pipeline.storage.names import StoreOptions

_connections: dict[tuple[Any, ...], Connection] = {}
_lock = Lock()


class Connection:
    """A client, the credentials that it was made with, and what this process found out about the service."""

    def __init__(self, options: StoreOptions, session: Any, credentials: Any) -> None:
        from botocore.config import Config

        self.credentials = credentials
        try:
            self.client = session.create_client(
                "s3", endpoint_url=options.endpoint, config=Config(**_settings(options), **_SILENT)
            )
        except ValueError as error:
            raise StoreError(f"{options.endpoint}: {error}") from error
        # Of each bucket: whether it refuses a name that is taken, and whether it gives an object's metadata back.
        self.conditional: dict[str, bool] = {}
        self.keeps_marks: dict[str, bool] = {}


# Checksums are computed and compared by `objects`: botocore's default would send them behind the body in a form that
# many services other than Amazon's refuse.
_SILENT: dict[str, Any] = {
    "retries": {"mode": "standard", "total_max_attempts": 1},
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}


def _settings(options: StoreOptions) -> dict[str, Any]:
    patience = options.patience
    return {
        "connect_timeout": patience.connect,
        "read_timeout": patience.answer,
        "max_pool_connections": patience.connections,
        "tcp_keepalive": True,
    }


def for_fsspec(options: StoreOptions) -> dict[str, Any]:
    """Settings of s3fs, for libraries that want an fsspec filesystem: here botocore tries again by itself."""
    retries = {"mode": "standard", "total_max_attempts": 8}
    settings: dict[str, Any] = {"use_listings_cache": False, "config_kwargs": _settings(options) | {"retries": retries}}
    if options.endpoint is not None:
        settings["endpoint_url"] = options.endpoint
    return settings


def connect(options: StoreOptions) -> Connection:
    """This process's connection; a new one where the process was forked or its AWS variables have changed."""
    key = _key(options)
    with _lock:
        found = _connections.get(key)
        if found is None:
            found = _connections[key] = Connection(options, *_session())
        return found


def renewed(options: StoreOptions, stale: Connection) -> bool:
    """Look for credentials again after the store refused them: whether there are others now than `stale` has."""
    key = _key(options)
    with _lock:
        if _connections.get(key) is not stale:
            return True
        session, credentials = _session()
        if credentials == stale.credentials:
            return False
        _connections[key] = Connection(options, session, credentials)
        return True


def _key(options: StoreOptions) -> tuple[Any, ...]:
    variables = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    return (os.getpid(), options, variables)


def _session() -> tuple[Any, Any]:
    """A session that has read everything anew, and the credentials that it found."""
    import botocore.session
    from botocore.exceptions import BotoCoreError

    session = botocore.session.get_session()
    try:
        found = session.get_credentials()
        return session, None if found is None else found.get_frozen_credentials()
    except BotoCoreError:
        return session, None  # the first request says it better
