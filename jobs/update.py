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
from jobs.listing import Named, entries
from jobs.manifest import Builder, Index, Survey, place_of
from jobs.spec import JobSpec
from pipeline import provenance
from pipeline.errors import ItemError, JobError, Reason, StoreError
from pipeline.storage import Entry, Store

# Changed originals that a message names.
_LISTED = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_UNKNOWN = np.iinfo(np.int64).min


@dataclass(slots=True)
class Difference:
    """added, changed, gone: photographs. names: of the first changed ones."""

    added: int = 0
    changed: int = 0
    gone: int = 0
    names: list[str] = field(default_factory=list)


class _Known:
    """The manifest by place: what is known of the latest version of each source, in 48 bytes a photograph."""

    def __init__(self, store: Store, run: str, index: Index) -> None:
        count = index.photographs
        self.places = np.zeros(count, "S16")
        self.sizes = np.full(count, -1, np.int64)
        self.times = np.full(count, _UNKNOWN, np.int64)
        self.tags = np.zeros(count, np.int64)
        self.names = np.zeros(count, "S32")
        at = 0
        for part in manifest.parts(store, run, index):
            span = slice(at, at + part.num_rows)
            repeated = np.array([reason == Reason.DUPLICATE for reason in part["reason"].to_pylist()], np.bool_)
            places = np.array([_hashed(place_of(uri)) for uri in part["source_uri"].to_pylist()], "S16")
            # A repeated entry is no version of its place: nothing will ever be asked of it.
            self.places[span] = np.where(repeated, b"", places)
            self.sizes[span] = part["source_bytes"].fill_null(-1).to_numpy()
            self.times[span] = part["source_modified"].cast(pa.int64()).fill_null(_UNKNOWN).to_numpy()
            self.tags[span] = [_tag(etag) for etag in part["source_etag"].to_pylist()]
            self.names[span] = part["item_id"].to_pylist()
            at += part.num_rows
        # Of equal places the last row stands last, and it is the latest version.
        self.order = np.argsort(self.places, kind="stable")
        self.sources = len(np.unique(self.places[self.places != b""]))
        self.met = np.zeros(count, np.bool_)

    def find(self, place: str) -> int | None:
        """item_no of the latest version of a source, or None for a source that is new."""
        key = np.bytes_(_hashed(place))
        end = int(np.searchsorted(self.places, key, side="right", sorter=self.order))
        if end == 0 or self.places[self.order[end - 1]] != key:
            return None
        number = int(self.order[end - 1])
        self.met[number] = True
        return number


def _hashed(place: str) -> bytes:
    # The last byte keeps numpy from taking a digest that ends in zeros for a shorter one.
    return hashlib.sha256(place.encode("utf-8", "backslashreplace")).digest()[:15] + b"."


def _tag(etag: str | None) -> int:
    return 0 if etag is None else int.from_bytes(hashlib.sha256(etag.encode()).digest()[:8], "big", signed=True)


def update(spec: JobSpec, changed: Changed) -> tuple[Difference, Index]:
    """List the source again and append what is new. Changed originals are refused unless the choice is made: nothing is
    appended then. Raises JobError for that, and where the folder holds no run or that of another job; LeaseHeldError where
    somebody works on it."""
    run = spec.output.uri
    store = Store(spec.output_options)
    rundir.load(run, spec.output.endpoint)
    rundir.prepare(spec)
    try:
        survey = manifest.survey(spec)
        rundir.check_apart(spec, survey)
        with lease.hold(store, run, "update") as held:
            found = manifest.versions(store, run)
            index = found.newest
            work = _Update(spec, store, index, survey, changed)
            difference = work.look()
            if difference.changed and changed is Changed.REFUSE:
                raise _undecided(difference)
            if difference.added or (difference.changed and changed is Changed.APPEND):
                index = manifest.write(store, run, index, found.free, work.tables(), work.ignored, held.term)
            held.check()
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

    def __init__(self, spec: JobSpec, store: Store, index: Index, survey: Survey, changed: Changed) -> None:
        self.spec = spec
        self.changed = changed
        self.index = index
        self.repeated = survey.repeated
        self.known = _Known(store, spec.output.uri, index)
        self.ignored: Counter[str] = Counter()
        self._sources = Store(spec.source_options)
        self._output = store
        self._rows: pa.Table | None = None

    def look(self) -> Difference:
        found = Difference()
        for named, number, _ in self._each(Counter()):
            if number is None:
                found.added += 1
            elif self._differs(named[0], number):
                found.changed += 1
                if len(found.names) < _LISTED:
                    found.names.append(named[0].key)
        found.gone = self.known.sources - int(self.known.met.sum())
        return found

    def tables(self) -> Iterator[pa.Table]:
        builder = Builder(self.spec.collection, self.index.photographs)
        for named, number, occurrence in self._each(self.ignored):
            table = None
            if number is None:
                table = builder.add(named, occurrence)
            elif self.changed is Changed.APPEND and self._differs(named[0], number):
                before = self.known.names[number].decode()
                # What it follows is part of its name: an original that returns to an earlier state is another version still.
                table = builder.add(named, mark=f"{_mark(named[0])} after {before}", supersedes=before)
            if table is not None:
                yield table
        yield builder.rest()

    def _each(self, ignored: Counter[str]) -> Iterator[tuple[Named, int | None, int]]:
        """Each photograph of the source with the item_no of what is known of it, and how often it was named before.

        A place that is known is looked at once, however often it is named.
        """
        seen: Counter[str] = Counter()
        for named in entries(self.spec, ignored):
            place, occurrence = place_of(named[0].uri), 0
            if self.repeated and hash(place) in self.repeated:
                occurrence = seen[place]
                seen[place] += 1
            number = self.known.find(place)
            if number is None or not occurrence:
                yield named, number, occurrence

    def _differs(self, entry: Entry, number: int) -> bool:
        size, time, tag = self.known.sizes[number], self.known.times[number], self.known.tags[number]
        if entry.size is not None and size >= 0 and entry.size != size:
            return True
        if entry.etag is not None and tag:
            return _tag(entry.etag) != int(tag)
        if entry.modified is None or time == _UNKNOWN or (entry.modified - _EPOCH) // _MICROSECOND == int(time):
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
