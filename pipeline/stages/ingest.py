"""Ingest: the only stage that reads a source. Fetches, hashes and decodes; refuses with a typed reason."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from pipeline.codecs import PagePolicy, decode
from pipeline.errors import ItemError, Reason
from pipeline.record import Record
from pipeline.stage import Parameters
from pipeline.storage import Store


class IngestParameters(Parameters):
    """megapixels: larger photographs are refused. gigabytes: larger files are refused (10^9 bytes).

    pages: of a file with several, the first is restored, or the file is refused.
    """

    megapixels: float = Field(default=200.0, gt=0)
    gigabytes: float = Field(default=4.0, gt=0)
    pages: PagePolicy = "first"


class Ingest:
    """A record with its source's digest and decoded photograph; or, where the bytes could be read but not decoded, with
    the digest and the reason. Raises ItemError where they could not even be read."""

    name: ClassVar[str] = "ingest"
    version: ClassVar[str] = "2"

    def __init__(self, parameters: IngestParameters, store: Store) -> None:
        self.parameters = parameters
        self.store = store

    def read(self, record: Record) -> Record:
        data = self.store.read_source(record.source_uri, int(self.parameters.gigabytes * 1e9), record.source_etag)
        if record.source_bytes is not None and record.source_bytes != len(data):
            raise ItemError(
                Reason.SOURCE_CHANGED,
                f"{record.source_uri} has {len(data):,} bytes; when the run was planned it had {record.source_bytes:,}",
            )
        record = replace(record, source_bytes=len(data), source_sha256=hashlib.sha256(data).hexdigest())
        try:
            photograph = decode(
                data, record.item_id, int(self.parameters.megapixels * 1e6), pages=self.parameters.pages
            )
        except ItemError as error:
            return record.ended(error)
        return replace(
            record,
            photograph=photograph,
            source_format=photograph.container.format,
            source_width=photograph.width,
            source_height=photograph.height,
            source_channels=int(photograph.pixels.shape[2]) + (photograph.alpha is not None),
            depth=photograph.pixels.dtype.itemsize * 8,
        )
