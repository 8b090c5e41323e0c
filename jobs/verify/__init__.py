"""Does the run hold what its record says? Every fault is reported, not only the first (docs/query.md)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs import rundir
from jobs.choices import Depth
from jobs.verify.files import Folder, check_source
from jobs.verify.record import Planned, Rows, check_digests, mark_of, planned_ids, read_manifest
from jobs.verify.report import Fault, Faults, Report, as_json, as_text
from pipeline.errors import JobError, StoreError
from pipeline.selfdigest import JSON_MARK, is_right
from pipeline.storage import Store, StoreOptions, canonical, join

__all__ = ["Depth", "Fault", "Report", "as_json", "as_text", "verify"]

# Rows that are looked at together, and files that are read at once.
_ROWS = 512
_READERS = 4
_MAPS = ("edits_uri", "invented_uri")


def verify(run: str, endpoint: str | None = None, *, sources: bool = False, depth: Depth = Depth.USUAL) -> Report:
    """Manifest against provenance, provenance against images, masks and maps, events as a chain.

    QUICK opens no image: files are there and have their size. USUAL hashes images, masks and maps. FULL also hashes the
    originals, as `sources` does, and holds run.json, indexes, seals and loose commits against the digests that they have of
    themselves. Raises JobError where `run` is no run or a driver is at work on it, StoreError where nothing can be read.
    """
    place, store = canonical(run), Store(StoreOptions(endpoint))
    try:
        known, fault = _load(store, place, endpoint)
        if fault is not None:
            return Report(0, 0, 0, 0, 0, (fault,))
        collection = known["spec"].get("collection", {})
        check = _Check(store, Store(StoreOptions(collection.get("endpoint"))), place, depth, sources=sources)
        return check.report()
    except OSError as error:
        raise StoreError(f"{place} cannot be read: {error}") from error


def _load(store: Store, run: str, endpoint: str | None) -> tuple[dict[str, Any], Fault | None]:
    uri = join(run, "run.json")
    try:
        return rundir.load(run, endpoint), None
    except StoreError:
        raise
    except JobError as error:
        # A run of another version is no fault, a run.json that a flipped bit has made unreadable is one.
        if not store.has(uri) or is_right(store.read(uri), JSON_MARK) is not False:
            raise
        return {}, Fault(
            "run", uri, f"it is not as it was written, and nothing beside it can be judged: {error.faults[0]}"
        )


class _Check:
    """One look at one run. Memory: some 95 bytes a photograph, and the rows of one part."""

    def __init__(self, store: Store, originals: Store, run: str, depth: Depth, *, sources: bool) -> None:
        self.store = store
        self.originals = originals
        self.run = run
        self.depth = depth
        self.with_sources = sources or depth is Depth.FULL
        self.faults = Faults()
        self.images = Folder(store, run, "images", "restored image")
        self.masks = Folder(store, run, "masks", "mask")
        self.maps = {
            "edits": Folder(store, run, "edits", "edit map"),
            "invented": Folder(store, run, "invented", "map of invented detail"),
        }
        self.counts = {"outputs": 0, "masks": 0, "maps": 0, "sources": 0}

    def report(self) -> Report:
        if self.depth is Depth.FULL:
            check_digests(self.store, self.run, self.faults)
        planned = read_manifest(self.store, self.run, self.faults)
        rows = Rows(self.store, self.run, self.faults, full=self.depth is Depth.FULL)
        met = np.zeros(len(planned.numbers), np.bool_)
        with ThreadPoolExecutor(_READERS) as pool:
            for table in rows.tables():
                self._count(planned, met, table)
                for start in range(0, table.num_rows, _ROWS):
                    some = table.slice(start, _ROWS).to_pylist()
                    for found in pool.map(lambda row: list(self._row(row, planned)), some):
                        self.faults.found += found
        if rows.whole and planned.whole:
            for item in planned_ids(self.store, self.run, planned.numbers[~met]) if not met.all() else ():
                self.faults.add("missing", item, "in the manifest, but no provenance row answers it")
        if rows.whole:
            for folder in (self.images, self.masks, *self.maps.values()):
                folder.unexplained(self.faults)
        return Report(planned.photographs, **self.counts, faults=tuple(self.faults.found))

    def _count(self, planned: Planned, met: NDArray[np.bool_], table: pa.Table) -> None:
        """Each row answers the row of the manifest with its number."""
        for row in table.select(
            ["item_no", "item_id", "source_uri", "status", "mask_uri", *_MAPS, "source_sha256"]
        ).to_pylist():
            at = int(np.searchsorted(planned.numbers, row["item_no"]))
            if at == len(met) or planned.numbers[at] != row["item_no"]:
                if planned.whole:
                    self.faults.add("unknown", str(row["item_no"]), "a provenance row answers no row of the manifest")
            else:
                met[at] = True
                if planned.marks[at] != mark_of(row["item_id"], row["source_uri"]):
                    text = "manifest and provenance name different photographs under one number"
                    self.faults.add("manifest", row["item_id"], text)
            restored = row["status"] == "restored"
            self.counts["outputs"] += restored
            self.counts["masks"] += restored and row["mask_uri"] is not None
            self.counts["maps"] += sum(restored and row[name] is not None for name in _MAPS)
            self.counts["sources"] += self._has_source(row, planned)

    def _has_source(self, row: dict[str, Any], planned: Planned) -> bool:
        # The original of an earlier version is gone: another one stands in its place.
        there = row["source_sha256"] is not None and row["item_id"] not in planned.superseded
        return self.with_sources and there

    def _row(self, row: dict[str, Any], planned: Planned) -> Iterator[Fault]:
        if row["status"] == "restored":
            yield from self._file(self.images, row, row["output_uri"], row["output_sha256"], row["output_bytes"])
            if row["mask_uri"] is not None:
                yield from self._file(self.masks, row, row["mask_uri"], row["mask_sha256"], None)
            for name, folder in self.maps.items():
                if row[f"{name}_uri"] is not None:
                    yield from self._file(folder, row, row[f"{name}_uri"], row[f"{name}_sha256"], None)
        yield from _chain(row)
        if self._has_source(row, planned):
            yield from check_source(self.originals, row)

    def _file(
        self, folder: Folder, row: dict[str, Any], uri: str | None, digest: str, length: int | None
    ) -> Iterator[Fault]:
        if uri is None:
            yield Fault("provenance", row["item_id"], "it is restored, and its row names no file")
            return
        place, size = folder.explain(row, uri)
        if self.depth is Depth.QUICK:
            yield from folder.look(row, place, size, length)
        else:
            yield from folder.hash(row, place, digest)


def _chain(row: dict[str, Any]) -> Iterator[Fault]:
    """Each stage must have been given what the one before let go; the ends are the source file and the output file."""
    events = row["events"] or []
    if events and row["source_sha256"] is not None and events[0]["input_sha256"] != row["source_sha256"]:
        yield Fault("chain", row["item_id"], "the first event does not start from the source file")
    for before, event in pairwise(events):
        if event["input_sha256"] != before["output_sha256"]:
            yield Fault(
                "chain", row["item_id"], f"{event['stage']} was given other pixels than {before['stage']} let go"
            )
    if row["status"] == "restored" and (not events or events[-1]["output_sha256"] != row["output_sha256"]):
        yield Fault("chain", row["item_id"], "the last event does not lead to the delivered file")
