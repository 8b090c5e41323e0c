"""Deliver: set depth and metadata, encode, put, read back, hash. Writes images and masks, always under the run's own folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline.codecs import SUFFIXES, FileFormat, encode, xmp
from pipeline.damage import stored_mask
from pipeline.errors import ItemError, Reason, StoreError
from pipeline.honesty.maps import edit_map, invented_map
from pipeline.honesty.measure import measured
from pipeline.models.catalogue import is_generative
from pipeline.photograph import Photograph, narrowed, widened
from pipeline.record import Event, Record
from pipeline.stage import Footprint, Outcome, Parameters
from pipeline.storage import Store, join

# Files beyond this many bytes are read back in pieces of as many.
_WHOLE = 16 << 20
_QUALITY_OF = {"jpeg_quality": ("jpeg",), "quality": ("webp", "avif")}
# Formats that hold 8 bits a sample and no more.
SHALLOW = frozenset({"jpeg", "webp"})
Depth = Literal["source", 8, 16]


class DeliverParameters(Parameters):
    """format: of the delivered files. jpeg_quality: 1..100. quality: of WebP and AVIF, 1..100, None for lossless.
    depth: bits a sample, or as many as the source has; formats that hold 8 get 8.

    Chroma is never subsampled, except in lossy WebP, which knows nothing else.
    """

    format: FileFormat = "tiff"
    jpeg_quality: int = Field(default=95, ge=1, le=100)
    quality: int | None = Field(default=None, ge=1, le=100)
    depth: Depth = "source"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.depth == 16 and self.format in SHALLOW:
            raise ValueError(f"{self.format} holds 8 bits; choose depth 8 or source, or another format")
        return self

    def decisive(self) -> dict[str, object]:
        """What decides the bytes: a quality does in its own formats only, and depth where there is a choice."""
        idle = {name for name, formats in _QUALITY_OF.items() if self.format not in formats}
        return self.model_dump(mode="json", exclude=idle | ({"depth"} if self.format in SHALLOW else set()))

    def chosen_quality(self) -> int | None:
        return self.jpeg_quality if self.format == "jpeg" else self.quality


def image_uri(run: str, name: str, file_format: str) -> str:
    """<run>/images/<aa>/<name>.<ext>; the name is the item's id, so that a retry finds what is there."""
    return join(run, "images", name[:2], name + SUFFIXES[file_format])


def mask_uri(run: str, name: str) -> str:
    """<run>/masks/<aa>/<name>.png, named as images are."""
    return join(run, "masks", name[:2], name + ".png")


def edits_uri(run: str, name: str) -> str:
    """<run>/edits/<aa>/<name>.png, named as images are."""
    return join(run, "edits", name[:2], name + ".png")


def invented_uri(run: str, name: str) -> str:
    """<run>/invented/<aa>/<name>.png, named as images are."""
    return join(run, "invented", name[:2], name + ".png")


class Deliver:
    """A record whose photograph is in the store under its own digest, and beside it the mask of its damage where any was
    marked, and the maps of what was edited and what invented where the scan's proof came along. Raises ItemError, and
    StoreError for the store's.

    recipe_id: goes into the XMP of what was changed.
    """

    name: ClassVar[str] = "deliver"
    version: ClassVar[str] = "4"
    footprint: ClassVar[Footprint] = Footprint(working=lambda size: 2 * size.stored, seconds=8.0)

    def __init__(self, parameters: DeliverParameters, store: Store, run: str, recipe_id: str) -> None:
        self.parameters = parameters
        self.store = store
        self.run = run
        self.recipe_id = recipe_id

    def write(self, record: Record) -> Record:
        assert record.photograph is not None
        photograph = self._at_depth(_at_true_size(record.photograph), record.depth)
        photograph, findings = _restated(photograph, record, self.recipe_id)
        data = encode(photograph, self.parameters.format, self.parameters.chosen_quality())
        digest = hashlib.sha256(data).hexdigest()
        uri = self._place(self._image_uri, record.item_id, data, digest)
        mask = stored_mask(record.photograph)
        if mask is not None:
            mask_digest = hashlib.sha256(mask).hexdigest()
            where = self._place(self._mask_uri, record.item_id, mask, mask_digest)
            record = replace(record, mask_uri=where, mask_sha256=mask_digest)
        record = self._with_honesty(record, photograph)
        return replace(
            record,
            findings={"depth": photograph.pixels.dtype.itemsize * 8} | findings,
            output_uri=uri,
            output_sha256=digest,
            output_bytes=len(data),
            output_width=photograph.width,
            output_height=photograph.height,
        )

    def _with_honesty(self, record: Record, photograph: Photograph) -> Record:
        """The record with what the output's pixels, as they are encoded, say beside the scan's, and the two maps."""
        proof = photograph.proof
        found = None if proof is None else measured(proof, photograph, record.events, record.faces)
        if found is None:
            return record
        honesty, shown = found
        edits, invented = edit_map(shown), invented_map(shown)
        digests = [hashlib.sha256(data).hexdigest() for data in (edits, invented)]
        return replace(
            record,
            honesty=honesty,
            edits_uri=self._place(partial(edits_uri, self.run), record.item_id, edits, digests[0]),
            edits_sha256=digests[0],
            invented_uri=self._place(partial(invented_uri, self.run), record.item_id, invented, digests[1]),
            invented_sha256=digests[1],
        )

    def _image_uri(self, name: str) -> str:
        return image_uri(self.run, name, self.parameters.format)

    def _mask_uri(self, name: str) -> str:
        return mask_uri(self.run, name)

    def _place(self, named: Callable[[str], str], item_id: str, data: bytes, digest: str) -> str:
        """Create the file and read it back. Other bytes under its name come from an attempt that was never committed; they
        stay as they are, and this file is named by its digest as well."""
        names = (item_id, f"{item_id}-{digest[:12]}")
        for name in names:
            uri = named(name)
            try:
                created = self.store.create(uri, data)
                same = self._holds(uri, data)
            except OSError as error:
                # A store that takes no photograph is the run's trouble: no photograph's row should say that it failed.
                raise StoreError(f"{uri} cannot be written: {error.strerror or error}") from error
            if same:
                return uri
            if created:
                break
        raise ItemError(Reason.DELIVERY_FAILED, f"{uri}: what was read back is not what was written")

    def _holds(self, uri: str, data: bytes) -> bool:
        """Whether the store gives these bytes back. A large file is not held a second time."""
        if len(data) <= _WHOLE:
            return self.store.read(uri) == data
        with self.store.open(uri) as file:
            pieces = (data[start : start + _WHOLE] for start in range(0, len(data), _WHOLE))
            return all(file.read(len(piece)) == piece for piece in pieces) and not file.read(1)

    def _at_depth(self, photograph: Photograph, source_depth: int | None) -> Photograph:
        """8 bits come from 16 by rounding to nearest; 16 from 8 by the factor 257."""
        depth = self.parameters.depth
        bits = source_depth if depth == "source" else depth
        if self.parameters.format in SHALLOW:
            bits = 8
        if bits is None or bits == photograph.pixels.dtype.itemsize * 8:
            return photograph
        convert = narrowed if bits == 8 else widened
        alpha = None if photograph.alpha is None else convert(photograph.alpha)
        return replace(photograph, pixels=convert(photograph.pixels), alpha=alpha)


def _at_true_size(photograph: Photograph) -> Photograph:
    """More pixels on the same paper: resolution grows with the scale."""
    dpi = photograph.container.dpi
    if dpi is None or photograph.scale == 1:
        return photograph
    scaled = (dpi[0] * photograph.scale, dpi[1] * photograph.scale)
    return replace(photograph, container=replace(photograph.container, dpi=scaled))


def _restated(photograph: Photograph, record: Record, recipe_id: str) -> tuple[Photograph, dict[str, Any]]:
    """The photograph with what was done to it in its XMP. Where no pixel was changed the source's own packet stays."""
    touched = [event for event in record.events if _changed_pixels(event)]
    if not touched or record.source_sha256 is None:
        return photograph, {}
    models = dict.fromkeys(model["id"] for event in touched for model in event.models)
    statement = xmp.Statement(
        generative=any(is_generative(model) for model in models),
        item_id=record.item_id,
        source_sha256=record.source_sha256,
        recipe_id=recipe_id,
        stages=tuple(f"{event.stage} {event.version}" for event in touched),
        models=tuple(models),
        width=photograph.width,
        height=photograph.height,
        dpi=photograph.container.dpi,
    )
    packet, kind, fault = xmp.restated(photograph.container.xmp, statement)
    findings = {"digital_source_type": kind} | ({} if fault is None else {"xmp": fault})
    return replace(photograph, container=replace(photograph.container, xmp=packet)), findings


def _changed_pixels(event: Event) -> bool:
    if event.stage == "ingest" or event.outcome != Outcome.APPLIED:
        return False
    return event.input_sha256 != event.output_sha256
