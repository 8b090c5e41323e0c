"""The manifest: which photographs a run is about, frozen in Parquet parts that an index names."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.listing import Named, described, entries
from jobs.spec import SCHEMES, Collection, JobSpec
from pipeline.confinement import refusal
from pipeline.errors import Reason, SpecError, StoreError
from pipeline.parquet import parquet_bytes, read_parquet
from pipeline.provenance.schema import numbered
from pipeline.record import MANIFEST
from pipeline.selfdigest import DIGEST, json_with_digest
from pipeline.storage import Entry, Store, is_local, join

PART_ROWS = 100_000
# What is named by a run in its manifest folder.
_NAME = re.compile(r"index-(?P<version>\d{8})\.json|part-\d{8}-\d{8}-[0-9a-f]{12}\.parquet")


@dataclass(frozen=True, slots=True)
class Index:
    """What the manifest is: its parts by name, with rows and digests, and what they add up to."""

    version: int
    photographs: int = 0
    known_bytes: int = 0
    refused: int = 0
    ignored: dict[str, int] = field(default_factory=dict)
    parts: tuple[dict[str, Any], ...] = ()


def item_id(collection: str, key: str, mark: str = "") -> str:
    """32 hex digits from the collection's name and the source's key: no pixel is read to name a photograph.

    mark: empty for the first entry of a key; what tells a repeated entry, or a later version of the source, from it.
    """
    text = f"{collection}\0{key}" + (f"\0{mark}" if mark else "")
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Survey:
    """A first look at a source that is not empty. repeated: hashes of places that are named more than once, perhaps.
    folders: of the originals, where a manifest names them one by one."""

    repeated: frozenset[int] = frozenset()
    folders: frozenset[str] = frozenset()


def survey(spec: JobSpec) -> Survey:
    """Look once through the source, in 8 bytes a photograph, before anything is written.

    Raises SpecError where it holds no photograph or is a manifest that cannot be used, StoreError where it cannot be read.
    """
    ignored: Counter[str] = Counter()
    named = entries(spec, ignored)
    first = next(named, None)
    if first is None:
        left_out = f"; left out: {_counted(ignored)}" if ignored else ""
        raise SpecError(f"collection.source: {spec.collection.source} holds no photograph{left_out}")
    if not spec.collection.is_manifest:
        # A store lists a name once.
        return Survey()
    folders: set[str] = set()
    hashes = np.fromiter(_places(chain([first], named), folders), np.int64)
    hashes.sort()
    return Survey(frozenset(hashes[1:][hashes[1:] == hashes[:-1]].tolist()), frozenset(folders))


def _places(named: Iterable[Named], folders: set[str]) -> Iterator[int]:
    for entry, _ in named:
        place = place_of(entry.uri)
        folders.add(place.rsplit("/", 1)[0])
        yield hash(place)


def place_of(uri: str) -> str:
    """Where a source lies, whatever way it is spelled."""
    if is_local(uri) and ("//" in uri or "/." in uri):
        return posixpath.normpath(uri)
    return uri


def _counted(ignored: Counter[str]) -> str:
    return ", ".join(f"{count} {suffix}" for suffix, count in ignored.most_common())


class Builder:
    """Gathers rows of MANIFEST into tables of PART_ROWS. Item numbers go on from `first`."""

    def __init__(self, collection: Collection, first: int = 0) -> None:
        self.collection = collection.name
        self.roots = collection.allowed_roots
        self.number = first
        # Nearly every name: a look at its beginning is enough.
        self._plainly_below = tuple(root.rstrip("/") + "/" for root in self.roots)
        self._rows: list[tuple[Any, ...]] = []

    def add(self, named: Named, occurrence: int = 0, mark: str = "", supersedes: str | None = None) -> pa.Table | None:
        """Take in one photograph; a table whenever there are enough. occurrence: how often its place was named before."""
        entry, cells = named
        reason, detail = self._fault(entry, occurrence)
        row = (
            self.number,
            item_id(self.collection, entry.key, str(occurrence) if occurrence else mark),
            entry.uri.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"),
            entry.size,
            entry.etag,
            entry.modified,
            supersedes,
            described(cells),
            reason,
            detail,
        )
        self._rows.append(row)
        self.number += 1
        return self.rest() if len(self._rows) >= PART_ROWS else None

    def _fault(self, entry: Entry, occurrence: int) -> tuple[str | None, str | None]:
        if entry.fault is not None:
            return str(Reason.SOURCE_UNREADABLE), entry.fault
        if not is_local(entry.uri) and entry.uri.split("://")[0] not in SCHEMES:
            return str(Reason.UNSUPPORTED), f"{entry.uri}: only paths and s3:// are read"
        if not _is_text(entry.uri):
            return str(Reason.SOURCE_UNREADABLE), "the file's name is not UTF-8; rename it"
        plain = entry.uri.startswith(self._plainly_below) and "/." not in entry.uri and "\0" not in entry.uri
        if not plain and (outside := refusal(entry.uri, self.roots)) is not None:
            return str(Reason.OUTSIDE_ROOTS), outside
        if occurrence:
            detail = f"the source is named {occurrence + 1} times; its first entry is restored"
            return str(Reason.DUPLICATE), detail
        return None, None

    def rest(self) -> pa.Table:
        """What was gathered since the last table."""
        columns: Iterable[Sequence[Any]] = zip(*self._rows, strict=True) if self._rows else [()] * len(MANIFEST)
        arrays = [pa.array(values, column.type) for values, column in zip(columns, MANIFEST, strict=True)]
        self._rows.clear()
        return pa.Table.from_arrays(arrays, schema=MANIFEST)


def tables(spec: JobSpec, known: Survey, ignored: Counter[str]) -> Iterator[pa.Table]:
    """The source as tables of MANIFEST. Raises as `survey` does."""
    builder = Builder(spec.collection)
    seen: Counter[str] = Counter()
    for named in entries(spec, ignored):
        occurrence = 0
        if known.repeated and hash(place := place_of(named[0].uri)) in known.repeated:
            occurrence = seen[place]
            seen[place] += 1
        if (table := builder.add(named, occurrence)) is not None:
            yield table
    yield builder.rest()


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def write(
    store: Store, run: str, before: Index, version: int, more: Iterable[pa.Table], ignored: Counter[str], term: int
) -> Index:
    """Freeze tables of MANIFEST behind the parts of an index. Raises OSError, StoreError where the version is taken.

    version: one that was free when `before` was read. term: of the lease; it is in the names of parts, so that none is ever
    named again.
    """
    parts, photographs, known_bytes, refused = (
        list(before.parts),
        before.photographs,
        before.known_bytes,
        before.refused,
    )
    for table in more:
        if table.num_rows == 0:
            continue
        data = parquet_bytes(table, looked_up=("item_id", "source_uri"))
        digest = hashlib.sha256(data).hexdigest()
        name = f"part-{numbered(len(parts))}-{numbered(term)}-{digest[:12]}.parquet"
        store.create(join(run, "manifest", name), data)
        parts.append({"name": name, "rows": table.num_rows, "sha256": digest})
        photographs += table.num_rows
        known_bytes += int(np.nansum(table["source_bytes"].to_numpy()))
        refused += table.num_rows - table["reason"].null_count
    index = Index(version, photographs, known_bytes, refused, dict(ignored), tuple(parts))
    facts = {name: getattr(index, name) for name in Index.__slots__}
    if not store.create(_index_uri(run, index.version), json_with_digest(facts, indent=1)):
        raise StoreError(f"{run}: somebody else wrote version {index.version} of its manifest")
    return index


def _index_name(version: int) -> str:
    return f"index-{numbered(version)}.json"


def _index_uri(run: str, version: int) -> str:
    return join(run, "manifest", _index_name(version))


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of a manifest that count, each with all parts of the one before; and a version that is free.

    Others are left over: from plans that were killed before their run.json, or were paused and woke behind another's.
    """

    counting: tuple[Index, ...]
    free: int

    @property
    def newest(self) -> Index:
        return self.counting[-1]


def versions(store: Store, run: str) -> Versions:
    """Of a planned run. Raises OSError, StoreError where the manifest is damaged or gone."""
    first = json.loads(store.read(join(run, "run.json"))).get("manifest")
    if not isinstance(first, int):
        raise StoreError(f"{join(run, 'run.json')} is damaged: it does not say with which index the manifest began")
    there = _there(store, run)
    counting: list[Index] = []
    for number in there:
        if number < first:
            continue
        index = _read_index(store, _index_uri(run, number))
        held = counting[-1].parts if counting else ()
        if index.parts[: len(held)] == held:
            counting.append(index)
    if not counting or counting[0].version != first:
        raise StoreError(
            f"{join(run, 'manifest')} is damaged: {_index_uri(run, first)} is not there, with which it began"
        )
    return Versions(tuple(counting), there[-1] + 1)


def next_version(store: Store, run: str) -> int:
    """One above all that are there, whether they count or not."""
    return max(_there(store, run), default=-1) + 1


def _there(store: Store, run: str) -> list[int]:
    found = (_NAME.fullmatch(entry.key) for entry in store.list_if_there(join(run, "manifest")))
    return sorted(int(name["version"]) for name in found if name is not None and name["version"] is not None)


def _read_index(store: Store, uri: str) -> Index:
    try:
        facts = json.loads(store.read(uri))
        facts.pop(DIGEST, None)
        return Index(**(facts | {"parts": tuple(facts["parts"])}))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(f"{uri} is damaged: {error}") from error


def left_over(store: Store, run: str) -> Iterator[Entry]:
    """Versions that do not count, and parts that no version that counts has."""
    found = versions(store, run)
    counting = {_index_name(index.version) for index in found.counting} | {part["name"] for part in found.newest.parts}
    for entry in store.list(join(run, "manifest")):
        if _NAME.fullmatch(entry.key) and entry.key not in counting:
            yield entry


def sound_index(store: Store, run: str) -> Index:
    """The manifest of a planned run as it stands. Raises as `versions` does."""
    return versions(store, run).newest


def parts(store: Store, run: str, index: Index | None = None) -> Iterator[pa.Table]:
    """The frozen manifest, part by part, in the order of item_no. Raises StoreError for a part that is damaged or gone."""
    for part in (sound_index(store, run) if index is None else index).parts:
        uri = join(run, "manifest", part["name"])
        try:
            data = store.read(uri)
        except FileNotFoundError as error:
            raise StoreError(f"{uri} is gone") from error
        if (found := hashlib.sha256(data).hexdigest()) != part["sha256"]:
            raise StoreError(f"{uri} is damaged: its sha256 is {found}; the index says {part['sha256']}")
        yield read_parquet(pa.BufferReader(data)).cast(MANIFEST)


def pending(store: Store, run: str, done: NDArray[np.bool_]) -> Iterator[pa.Table]:
    """The rows of the manifest that are not done, a table for every part that holds some. done: by item_no."""
    for part in parts(store, run):
        if (rows := part.filter(pa.array(~done[part["item_no"].to_numpy()]))).num_rows:
            yield rows
