"""Compaction: loose commits become parts, and a seal says which parts count. Safe to be killed anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import AlbumenError, StoreError
from pipeline.parquet import parquet_bytes
from pipeline.provenance.commit import OvertakenError, check_term
from pipeline.provenance.schema import numbered, seals_folder
from pipeline.provenance.view import Part, Seal, looking, loose, newest_rows, part_uri, read
from pipeline.selfdigest import json_with_digest
from pipeline.storage import Store, join

# Rows of a part: with their events some 60 MB in memory.
PART_ROWS = 16_384
_ROW_GROUP = 4096
# What one photograph is asked for by.
LOOKED_UP = ("item_id", "source_uri")
# How often a compaction starts anew where somebody who was paused has sealed meanwhile.
_TRIES = 3


class _SealTakenError(AlbumenError):
    """Somebody else has created the seal of that number."""


class Compactor:
    """Seals a run for the holder of its lease. Only one may work on a run at a time: the lease sees to it.

    Keeps the term of every committed row in memory, 4 bytes a photograph.
    """

    def __init__(self, store: Store, run: str, term: int) -> None:
        self.store = store
        self.run = run
        self.term = term
        self._load()

    def _load(self) -> None:
        self.seal, rows = looking(self.store, self.run, self._parts)
        self._terms = np.zeros(0, np.int32)
        self._remember(rows)

    def _parts(self, seal: Seal, _: object) -> tuple[Seal, pa.Table]:
        return seal, read(self.store, [part_uri(self.run, part) for part in seal.parts], ["item_no", "term"])

    def compact(self) -> None:
        """Take in all loose commits, and close the terms before this one.

        Raises OvertakenError where the lease was lost, StoreError where a part cannot be read back, OSError as the store does.
        """
        for _ in range(_TRIES):
            try:
                self._compact()
            except (_SealTakenError, FileNotFoundError):
                # A driver that was paused has sealed after we took over. What it sealed is right: we go on from there.
                self._load()
            else:
                return
        raise OvertakenError(f"{self.run}: another driver keeps sealing it; this one holds term {self.term}")

    def _compact(self) -> None:
        absorbed: set[str] = set()
        while True:
            # A store may go on listing for a while what was deleted.
            fresh = (commit for commit in loose(self.store, self.run, self.seal.term) if commit.uri not in absorbed)
            if not (batch := [commit.uri for commit in islice(fresh, PART_ROWS)]):
                break
            self._absorb(batch)
            absorbed.update(batch)
        if self.seal.term < self.term:
            self._put_seal(self.seal.parts, self.term)

    def terms(self, total: int) -> NDArray[np.int32]:
        """The term of each item number below `total` in the seal's parts; 0 where they hold no row of it."""
        return self._known(np.arange(total))

    def _absorb(self, batch: Sequence[str]) -> None:
        found = read(self.store, batch, None)
        fresh = found.take(pa.array(newest_rows(found["item_no"].to_numpy(), found["term"].to_numpy())))
        fresh = fresh.filter(pa.array(fresh["term"].to_numpy() > self._known(fresh["item_no"].to_numpy())))
        if fresh.num_rows:
            kept, stale, tables = self._beside(fresh)
            merged = pa.concat_tables([*tables, fresh])
            merged = merged.take(pc.sort_indices(merged["item_no"])).combine_chunks()
            slices = (merged.slice(start, PART_ROWS) for start in range(0, merged.num_rows, PART_ROWS))
            added = [self._put_part(rows) for rows in slices]
            self._put_seal((*kept, *added), self.seal.term)
            self._remember(fresh)
            names = {part.name for part in self.seal.parts}
            self.store.delete_many(part_uri(self.run, part) for part in stale if part.name not in names)
        self.store.delete_many(batch)

    def _beside(self, fresh: pa.Table) -> tuple[list[Part], list[Part], list[pa.Table]]:
        """Parts that stay, parts that are written anew with the fresh rows, and the rows of those that still count."""
        numbers = fresh["item_no"].to_numpy()
        replaced = numbers[self._known(numbers) > 0]
        kept, stale, tables = [], [], []
        for part in self.seal.parts:
            whole = part.rows >= PART_ROWS
            uri = part_uri(self.run, part)
            if whole and not (
                len(replaced) and np.isin(read(self.store, [uri], ["item_no"])["item_no"].to_numpy(), replaced).any()
            ):
                kept.append(part)
                continue
            stale.append(part)
            rows = read(self.store, [uri], None)
            tables.append(rows.filter(pa.array(~np.isin(rows["item_no"].to_numpy(), replaced))))
        return kept, stale, tables

    def _put_part(self, rows: pa.Table) -> Part:
        data = parquet_bytes(rows, group=_ROW_GROUP, looked_up=LOOKED_UP)
        digest = hashlib.sha256(data).hexdigest()
        # The number keeps names from coming again: whoever was paused before taking a part away takes nothing else away.
        part = Part(f"{numbered(self.seal.number + 1)}-{digest[:12]}.parquet", rows.num_rows, digest)
        uri = part_uri(self.run, part)
        self.store.create(uri, data)
        kept = self.store.read(uri)
        if hashlib.sha256(kept).hexdigest() != digest:
            raise StoreError(f"{uri}: what was read back is not what was written")
        return part

    def _put_seal(self, parts: Sequence[Part], term: int) -> None:
        check_term(self.store, self.run, self.term)
        seal = Seal(self.seal.number + 1, term, tuple(parts))
        facts = {
            "number": seal.number,
            "term": term,
            "rows": seal.rows,
            "parts": [{"name": part.name, "rows": part.rows, "sha256": part.sha256} for part in seal.parts],
        }
        # Seals stay for ever: a name that came free again would let a driver that was paused here seal what is long past.
        uri = join(seals_folder(self.run), numbered(seal.number) + ".json")
        if not self.store.create(uri, json_with_digest(facts, indent=1)):
            raise _SealTakenError
        self.seal = seal

    def _known(self, numbers: NDArray[np.int64]) -> NDArray[np.int32]:
        known = np.zeros(len(numbers), np.int32)
        inside = numbers < len(self._terms)
        known[inside] = self._terms[numbers[inside]]
        return known

    def _remember(self, rows: pa.Table) -> None:
        numbers, terms = rows["item_no"].to_numpy(), rows["term"].to_numpy()
        if not len(numbers):
            return
        if (most := int(numbers.max()) + 1) > len(self._terms):
            self._terms = np.concatenate(
                [self._terms, np.zeros(max(most - len(self._terms), len(self._terms)), np.int32)]
            )
        self._terms[numbers] = np.maximum(self._terms[numbers], terms)
