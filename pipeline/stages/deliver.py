"""Deliver: encode, put, read back, hash. The only stage that writes an image, and always under the run's own folder."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from pipeline.codecs import SUFFIXES, encode
from pipeline.errors import ItemError, Reason, StoreError
from pipeline.photograph import Photograph
from pipeline.record import Record
from pipeline.stage import Parameters
from pipeline.storage import Store, join


class DeliverParameters(Parameters):
    """format: of the delivered files. jpeg_quality: 1..100, chroma never subsampled."""

    format: Literal["tiff", "png", "jpeg"] = "tiff"
    jpeg_quality: int = Field(default=95, ge=1, le=100)

    def decisive(self) -> dict[str, object]:
        """What decides the bytes: quality does for JPEG only."""
        return self.model_dump(mode="json", exclude=set() if self.format == "jpeg" else {"jpeg_quality"})


def image_uri(run: str, name: str, file_format: str) -> str:
    """<run>/images/<aa>/<name>.<ext>; the name is the item's id, so that a retry finds what is there."""
    return join(run, "images", name[:2], name + SUFFIXES[file_format])


class Deliver:
    """A record whose photograph is in the store under its own digest. Raises ItemError, and StoreError for the store's."""

    name: ClassVar[str] = "deliver"
    version: ClassVar[str] = "1"

    def __init__(self, parameters: DeliverParameters, store: Store, run: str) -> None:
        self.parameters = parameters
        self.store = store
        self.run = run

    def write(self, record: Record) -> Record:
        assert record.photograph is not None
        photograph = _at_true_size(record.photograph)
        data = encode(photograph, self.parameters.format, self.parameters.jpeg_quality)
        digest = hashlib.sha256(data).hexdigest()
        uri = self._place(record.item_id, data, digest)
        return replace(
            record,
            output_uri=uri,
            output_sha256=digest,
            output_bytes=len(data),
            output_width=photograph.width,
            output_height=photograph.height,
        )

    def _place(self, item_id: str, data: bytes, digest: str) -> str:
        """Create the file and read it back. Other bytes under its name come from an attempt that was never committed; they
        stay as they are, and this file is named by its digest as well."""
        names = (item_id, f"{item_id}-{digest[:12]}")
        for name in names:
            uri = image_uri(self.run, name, self.parameters.format)
            try:
                created = self.store.create(uri, data)
                kept = self.store.read(uri)
            except OSError as error:
                # A store that takes no photograph is the run's trouble: no photograph's row should say that it failed.
                raise StoreError(f"{uri} cannot be written: {error.strerror or error}") from error
            if hashlib.sha256(kept).hexdigest() == digest:
                return uri
            if created:
                break
        raise ItemError(Reason.DELIVERY_FAILED, f"{uri}: what was read back is not what was written")


def _at_true_size(photograph: Photograph) -> Photograph:
    """More pixels on the same paper: resolution grows with the scale."""
    dpi = photograph.container.dpi
    if dpi is None or photograph.scale == 1:
        return photograph
    scaled = (dpi[0] * photograph.scale, dpi[1] * photograph.scale)
    return replace(photograph, container=replace(photograph.container, dpi=scaled))
