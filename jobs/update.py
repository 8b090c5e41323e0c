"""A source that has grown or changed since it was planned: what is new is appended to the manifest, and nothing taken out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from jobs import lease, manifest, rundir
from jobs.choices import Changed
from jobs.listing import entries
from jobs.manifest import Builder, Index, item_id
from jobs.spec import JobSpec
from pipeline import provenance
from pipeline.errors import ItemError, JobError, Reason, StoreError
from pipeline.storage import Entry, Store

# Changed originals that a message names.
_LISTED = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(slots=True)
class Difference:
    """added, changed, gone: photographs. names: of the first changed ones."""

    added: int = 0
    changed: int = 0
    gone: int = 0
    names: list[str] = field(default_factory=list)


class _Known:
    """The manifest by base id, which follows from collection and key: what is known of the latest version of each source.

    40 bytes a photograph. Sizes, times and tags of -1 and 0 are unknown.
    """

    def __init__(self, store: Store, run: str, index: Index) -> None:
        count = index.photographs
        self.ids = np.zeros(count, "S16")
        self.sizes = np.full(count, -1, np.int64)
        self.times = np.zeros(count, np.int64)
        self.tags = np.zeros(count, np.int64)
        self.latest: dict[bytes, tuple[str, int]] = {}
        bases: dict[str, bytes] = {}
        at = repeated = 0
        for part in manifest.parts(store, run, index):
            span = slice(at, at + part.num_rows)
            self.ids[span] = [bytes.fromhex(item) for item in part["item_id"].to_pylist()]
            self.sizes[span] = part["source_bytes"].fill_null(-1).to_numpy()
            self.times[span] = part["source_modified"].cast(pa.int64()).fill_null(0).to_numpy()
            self.tags[span] = [_tag(etag) for etag in part["source_etag"].to_pylist()]
            versions = part.filter(part["supersedes"].is_valid()).select(["item_no", "item_id", "supersedes"])
            for row in versions.to_pylist():
                base = bases.get(row["supersedes"], bytes.fromhex(row["supersedes"]))
                bases[row["item_id"]] = base
                self.latest[_short(base)] = (row["item_id"], row["item_no"])
            repeated += versions.num_rows + part["reason"].to_pylist().count(Reason.DUPLICATE)
            at += part.num_rows
        self.order = np.argsort(self.ids, kind="stable")
        self.met = np.zeros(count, np.bool_)
        self.sources = count - repeated

    def find(self, base: str) -> tuple[str, int] | None:
        """Item id and number of the latest version of a source, or None for a source that is new."""
        key = bytes.fromhex(base)
        place = int(np.searchsorted(self.ids, np.bytes_(key), sorter=self.order))
        if place == len(self.order) or self.ids[self.order[place]] != np.bytes_(key):
            return None
        number = int(self.order[place])
        self.met[number] = True
        return self.latest.get(_short(key), (base, number))


def _short(key: bytes) -> bytes:
    return key.rstrip(b"\0")


def _tag(etag: str | None) -> int:
    return 0 if etag is None else int.from_bytes(hashlib.sha256(etag.encode()).digest()[:8], "big", signed=True)


def update(spec: JobSpec, changed: Changed) -> tuple[Difference, Index]:
    """List the source again and append what is new. Changed originals are refused unless the choice is made: nothing is
    appended then. Raises JobError for that, and where there is no run; LeaseHeldError where somebody works on it."""
    run = spec.output.uri
    store = Store(spec.output_options)
    rundir.load(run, spec.output.endpoint)
    try:
        with lease.hold(store, run, "update"):
            index = manifest.newest_index(store, run)
            work = _Update(spec, store, index, changed)
            difference = work.look()
            if difference.changed and changed is Changed.REFUSE:
                raise _undecided(difference)
            if difference.added or (difference.changed and changed is Changed.APPEND):
                index = manifest.write(store, run, index, work.tables(), work.ignored)
            return difference, index
    except OSError as error:
        raise StoreError(f"{run}: {error}") from error


def _undecided(difference: Difference) -> JobError:
    return JobError(
        f"{difference.changed} originals have changed since they were planned: {', '.join(difference.names)}"
        + (" ..." if difference.changed > len(difference.names) else ""),
        hint="Choose: --changed append restores the new versions beside the old ones, --changed ignore leaves them out. "
        "Nothing was appended.",
    )


class _Update:
    """Two looks at the source: one that counts, one that appends."""

    def __init__(self, spec: JobSpec, store: Store, index: Index, changed: Changed) -> None:
        self.spec = spec
        self.changed = changed
        self.index = index
        self.known = _Known(store, spec.output.uri, index)
        self.ignored: Counter[str] = Counter()
        self._sources = Store(spec.source_options)
        self._output = store
        self._rows: pa.Table | None = None

    def look(self) -> Difference:
        found = Difference()
        for entry, _ in entries(self.spec, Counter()):
            known = self.known.find(item_id(self.spec.collection.name, entry.key))
            if known is None:
                found.added += 1
            elif self._differs(entry, known[1]):
                found.changed += 1
                if len(found.names) < _LISTED:
                    found.names.append(entry.key)
        found.gone = self.known.sources - int(self.known.met.sum())
        return found

    def tables(self) -> Iterator[pa.Table]:
        name = self.spec.collection.name
        builder = Builder(self.spec.collection, self.index.photographs)
        seen: Counter[str] = Counter()
        for named in entries(self.spec, self.ignored):
            base = item_id(name, named[0].key)
            known = self.known.find(base)
            table = None
            if known is None:
                table = builder.add(named, seen[base])
                seen[base] += 1
            elif known is not None and self.changed is Changed.APPEND and self._differs(named[0], known[1]):
                table = builder.add(named, mark=_mark(named[0]), supersedes=known[0])
            if table is not None:
                yield table
        yield builder.rest()

    def _differs(self, entry: Entry, number: int) -> bool:
        size, time, tag = self.known.sizes[number], self.known.times[number], self.known.tags[number]
        if entry.size is not None and size >= 0 and entry.size != size:
            return True
        if entry.etag is not None and tag:
            return _tag(entry.etag) != int(tag)
        if entry.modified is None or not time or (entry.modified - _EPOCH) // _MICROSECOND == int(time):
            return False
        # Touched, and as long as it was: only its bytes can tell. What was not read yet will be read as it is now.
        digest = self._digest(number)
        if digest is None or entry.etag is not None:
            return False
        try:
            data = self._sources.read_source(entry.uri, int(self.spec.collection.max_gigabytes * 1e9))
        except ItemError:
            return False
        return hashlib.sha256(data).hexdigest() != digest

    def _digest(self, number: int) -> str | None:
        """SHA-256 of an original when it was read."""
        if self._rows is None:
            self._rows = provenance.live(self._output, self.spec.output.uri, ["item_no", "source_sha256"])
        numbers = self._rows["item_no"].to_numpy()
        place = int(np.searchsorted(numbers, number))
        found = place < len(numbers) and numbers[place] == number
        return self._rows["source_sha256"][place].as_py() if found else None


def _mark(entry: Entry) -> str:
    return f"{entry.size}:{entry.etag or entry.modified}"
