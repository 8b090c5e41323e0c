"""Ingest: the only stage that reads a source. Fetches, hashes and decodes; refuses with a typed reason."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field

from pipeline.admission import Admission
from pipeline.codecs import PagePolicy
from pipeline.confinement import refusal, target_refusal
from pipeline.errors import ItemError, Reason
from pipeline.guard import Decoder, Shared
from pipeline.guard.limits import MOST_BYTES, icc_fault
from pipeline.honesty.proof import proof_of
from pipeline.memory import Size, need, size_of
from pipeline.photograph import Photograph
from pipeline.record import Record
from pipeline.stage import Footprint, Parameters
from pipeline.storage import Store, is_local, local_path


class IngestParameters(Parameters):
    """megapixels: larger photographs are refused. gigabytes: larger files are refused (10^9 bytes).

    pages: of a file with several, the first is restored, or the file is refused.
    """

    megapixels: float = Field(default=200.0, gt=0)
    gigabytes: float = Field(default=4.0, gt=0)
    pages: PagePolicy = "first"


class Ingest:
    """A record with its source's digest and decoded photograph; or, where the bytes could be read but not decoded, with
    the digest and the reason. Raises ItemError where they could not even be read.

    roots: what may be read, or None for anything. admission: asked for the memory that stages of `working` and their `networks`
    will need, once a photograph's size is known; whoever runs them releases it. decoder: a process of its own, started when
    first needed.
    """

    name: ClassVar[str] = "ingest"
    version: ClassVar[str] = "2"
    # The decoder's process counts, too.
    footprint: ClassVar[Footprint] = Footprint(working=lambda size: 3 * size.stored, seconds=0.3)

    def __init__(
        self,
        parameters: IngestParameters,
        store: Store,
        roots: Sequence[str] | None = None,
        admission: Admission | None = None,
        working: Sequence[Callable[[Size], int]] | None = None,
        networks: Sequence[str] = (),
    ) -> None:
        self.parameters = parameters
        self.store = store
        self.roots = roots
        self.admission = admission
        self.working = (self.footprint.working,) if working is None else tuple(working)
        self.networks = tuple(networks)
        self.decoder = Decoder()

    def open(self) -> None:
        """Start the decoder now rather than with the first photograph. Raises JobError where it does not come up."""
        self.decoder.open()

    def close(self) -> None:
        self.decoder.close()

    def read(self, record: Record) -> Record:
        self._confine(record.source_uri)
        record, source = self._fetch(record)
        with source:
            try:
                photograph = self.decoder.decode(
                    source,
                    record.item_id,
                    int(self.parameters.megapixels * 1e6),
                    self._admit,
                    pages=self.parameters.pages,
                )
                if self.admission is not None and not self.admission.held_bytes:
                    self._admit(size_of(photograph))
            except ItemError as error:
                return record.ended(error)
        photograph, findings = _sound_metadata(photograph)
        photograph = replace(photograph, proof=proof_of(photograph))
        return replace(
            record,
            photograph=photograph,
            findings=findings,
            source_format=photograph.container.format,
            source_width=photograph.width,
            source_height=photograph.height,
            source_channels=int(photograph.pixels.shape[2]) + (photograph.alpha is not None),
            depth=photograph.pixels.dtype.itemsize * 8,
        )

    def _confine(self, uri: str) -> None:
        """The manifest was looked at when the run was planned; links may have come since."""
        if self.roots is None:
            return
        fault = refusal(uri, self.roots)
        if fault is None and is_local(uri):
            fault = target_refusal(str(local_path(uri)), self.roots)
        if fault is not None:
            raise ItemError(Reason.OUTSIDE_ROOTS, fault)

    def _fetch(self, record: Record) -> tuple[Record, Shared]:
        """The record with the digest of the very bytes that the decoder gets; they leave this process's own memory here."""
        data = self.store.read_source(record.source_uri, int(self.parameters.gigabytes * 1e9), record.source_etag)
        if record.source_bytes is not None and record.source_bytes != len(data):
            raise ItemError(
                Reason.SOURCE_CHANGED,
                f"{record.source_uri} has {len(data):,} bytes; when the run was planned it had {record.source_bytes:,}",
            )
        digest = hashlib.sha256(data).hexdigest()
        return replace(record, source_bytes=len(data), source_sha256=digest), Shared(data)

    def _admit(self, size: Size) -> None:
        if self.admission is not None:
            self.admission.hold(need(size, self.working, self.networks))


def _sound_metadata(photograph: Photograph) -> tuple[Photograph, dict[str, Any]]:
    """A photograph whose metadata can be carried, and what was found about them.

    A profile that is none stays as it is: it is what the archive has, and no reason to refuse a sound photograph.
    """
    container = photograph.container
    findings: dict[str, Any] = {"pages": container.pages} if container.pages > 1 else {}
    if container.orientation != 1:
        findings["orientation"] = container.orientation
    if container.conversion is not None:
        findings["conversion"] = container.conversion
    for name, most in MOST_BYTES.items():
        value = getattr(container, name)
        if value is not None and len(value) > most:
            findings[name] = f"left out: {len(value):,} bytes are over the limit of {most:,}"
            bare: dict[str, Any] = {name: None}
            container = replace(container, **bare)
    if container.icc is not None and (fault := icc_fault(container.icc)) is not None:
        findings["icc"] = f"kept as it is, and no profile: {fault}"
    return replace(photograph, container=container) if container is not photograph.container else photograph, findings
