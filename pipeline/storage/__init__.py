"""Bytes in and out of folders and buckets: whole or not at all, again where that helps, never under a source."""

from pipeline.storage.faults import CredentialsError, GaveUpError, os_errors
from pipeline.storage.names import (
    Entry,
    Patience,
    StoreOptions,
    canonical,
    contains,
    is_local,
    is_temporary,
    join,
    local_path,
)
from pipeline.storage.store import Store

__all__ = [
    "CredentialsError",
    "Entry",
    "GaveUpError",
    "Patience",
    "Store",
    "StoreOptions",
    "canonical",
    "contains",
    "is_local",
    "is_temporary",
    "join",
    "local_path",
    "os_errors",
]
