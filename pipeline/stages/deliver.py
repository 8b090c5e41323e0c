"""Deliver: encode, put, read back, hash. The only stage that writes an image, and always under the run's own folder."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from pipeline.codecs import SUFFIXES, FileFormat, encode
from pipeline.errors import ItemError, Reason, StoreError
from pipeline.photograph import Photograph
from pipeline.record import Record
from pipeline.stage import Parameters
from pipeline.storage import Store, join

_QUALITY_OF = {"jpeg_quality": ("jpeg",), "quality": ("webp", "avif")}


class DeliverParameters(Parameters):
    """format: of the delivered files. jpeg_quality: 1..100. quality: of WebP and AVIF, 1..100, None for lossless.

    Chroma is never subsampled, except in lossy WebP, which knows nothing else.
    """

    format: FileFormat = "tiff"
    jpeg_quality: int = Field(default=95, ge=1, le=100)
    quality: int | None = Field(default=None, ge=1, le=100)

    def decisive(self) -> dict[str, object]:
        """What decides the bytes: a quality does in its own formats only."""
        idle = {name for name, formats in _QUALITY_OF.items() if self.format not in formats}
        return self.model_dump(mode="json", exclude=idle)

    def chosen_quality(self) -> int | None:
        return self.jpeg_quality if self.format == "jpeg" else self.quality


def image_uri(run: str, item_id: str, file_format: str) -> str:
    """<run>/images/<aa>/<item_id>.<ext>, decided by the item alone: a retry writes the same name."""
    return join(run, "images", item_id[:2], item_id + SUFFIXES[file_format])


class Deliver:
    """A record whose photograph is in the store under its own digest. Raises ItemError, and StoreError for the store's."""

    name: ClassVar[str] = "deliver"
    version: ClassVar[str] = "2"

    def __init__(self, parameters: DeliverParameters, store: Store, run: str) -> None:
        self.parameters = parameters
        self.store = store
        self.run = run

    def write(self, record: Record) -> Record:
        assert record.photograph is not None
        photograph = _at_true_size(record.photograph)
        data = encode(photograph, self.parameters.format, self.parameters.chosen_quality())
        uri = image_uri(self.run, record.item_id, self.parameters.format)
        digest = hashlib.sha256(data).hexdigest()
        try:
            self.store.put(uri, data)
            kept = self.store.read(uri)
        except OSError as error:
            # A store that takes no photograph is the run's trouble: no photograph's row should say that it failed.
            raise StoreError(f"{uri} cannot be written: {error.strerror or error}") from error
        if hashlib.sha256(kept).hexdigest() != digest:
            raise ItemError(Reason.DELIVERY_FAILED, f"{uri}: what was read back is not what was written")
        return replace(
            record,
            output_uri=uri,
            output_sha256=digest,
            output_bytes=len(data),
            output_width=photograph.width,
            output_height=photograph.height,
        )


def _at_true_size(photograph: Photograph) -> Photograph:
    """More pixels on the same paper: resolution grows with the scale."""
    dpi = photograph.container.dpi
    if dpi is None or photograph.scale == 1:
        return photograph
    scaled = (dpi[0] * photograph.scale, dpi[1] * photograph.scale)
    return replace(photograph, container=replace(photograph.container, dpi=scaled))
