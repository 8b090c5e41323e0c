"""What lies in a run's folder and nothing explains: left over from kills. Listed, and taken away on request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, takewhile

import pyarrow as pa
import pyarrow.compute as pc

from jobs import lease, manifest, rundir
from jobs.lease import Held
from pipeline import provenance
from pipeline.errors import StoreError
from pipeline.provenance import Compactor
from pipeline.provenance.schema import parts_folder, terms_folder
from pipeline.provenance.view import newest_seal
from pipeline.storage import Entry, Store, StoreOptions, canonical, is_temporary, join

_BATCH = 1000
# Characters of an item id.
_ID = 32
# What lies beside provenance: its kind, its folder, and the column that names it.
_FOLDERS = (
    ("image", "images", "output_uri"),
    ("mask", "masks", "mask_uri"),
    ("edits", "edits", "edits_uri"),
    ("invented", "invented", "invented_uri"),
)


@dataclass(frozen=True, slots=True)
class Orphan:
    """kind: `image`, `mask`, `edits` and `invented` (maps), `part`, `commit`, `manifest`, `temporary`. Size in bytes."""

    kind: str
    uri: str
    size: int


def orphans(run: str, endpoint: str | None = None) -> Iterator[Orphan]:
    """What `collect` would take away if nobody worked on the run. Changes nothing. Raises JobError where `run` is none."""
    place = canonical(run)
    rundir.load(place, endpoint)
    store = Store(StoreOptions(endpoint))
    try:
        yield from _orphans(store, place, closed_below=newest_seal(store, place).term)
    except OSError as error:
        raise StoreError(f"{place} cannot be read: {error}") from error


def collect(run: str, endpoint: str | None = None) -> list[Orphan]:
    """Take away what nothing explains, under the run's lease and behind a new seal, so that nothing written later by
    whoever was paused can count. Raises LeaseHeldError where somebody works on the run."""
    place = canonical(run)
    rundir.load(place, endpoint)
    store = Store(StoreOptions(endpoint))
    try:
        with lease.hold(store, place, "gc") as held:
            Compactor(store, place, held.term).compact()
            return _delete(store, held, list(_orphans(store, place, closed_below=held.term)))
    except OSError as error:
        raise StoreError(f"{place}: {error}") from error


def _delete(store: Store, held: Held, found: list[Orphan]) -> list[Orphan]:
    for start in range(0, len(found), _BATCH):
        held.check()
        store.delete_many(orphan.uri for orphan in found[start : start + _BATCH])
    return found


def _orphans(store: Store, run: str, closed_below: int) -> Iterator[Orphan]:
    named = {part.name for part in newest_seal(store, run).parts}
    for entry in store.list_if_there(parts_folder(run)):
        if entry.key not in named:
            yield _orphan("part", entry)
    for entry in store.list_if_there(terms_folder(run)):
        term = entry.key.split("/", 1)[0]
        if is_temporary(entry.key) or (term.isdecimal() and int(term) < closed_below):
            yield _orphan("commit", entry)
    for entry in manifest.left_over(store, run):
        yield _orphan("manifest", entry)
    for name in ("lease", "attempts", "manifest", "provenance/seals"):
        for entry in store.list_if_there(join(run, name)):
            if is_temporary(entry.key):
                yield _orphan("temporary", entry)
    # A dot sorts before every name that a run has.
    for entry in takewhile(lambda entry: entry.key.startswith("."), store.list(run)):
        if is_temporary(entry.key):
            yield _orphan("temporary", entry)
    rows = provenance.live(store, run, ["item_id", *(column for _, _, column in _FOLDERS)])
    rows = rows.filter(pc.is_valid(rows["output_uri"]))
    for kind, folder, column in _FOLDERS:
        yield from _files(store, join(run, folder), kind, rows["item_id"], rows[column])


def _files(store: Store, place: str, kind: str, items: pa.ChunkedArray, uris: pa.ChunkedArray) -> Iterator[Orphan]:
    """Images, masks or maps of restored photographs under other names than their rows give: no later driver asks for those
    again.

    items, uris: of the restored photographs; one without such a file has a null there. What a photograph without a restored
    row left behind stays: the next driver finds it, and it counts as delivered where its bytes are right. A file that no
    run can have written is left to `verify` to report.
    """
    homes = pc.utf8_slice_codeunits(items, 0, 2)
    for folder, entries in groupby(store.list_if_there(place), lambda entry: entry.key.rsplit("/", 1)[0]):
        here = pc.equal(homes, folder)
        # Below this folder, wherever the run was moved to since.
        known = {uri.rsplit("/", 1)[1] for uri in uris.filter(here).drop_null().to_pylist()}
        restored = set(items.filter(here).to_pylist())
        for entry in entries:
            name = entry.key.rsplit("/", 1)[-1]
            if is_temporary(entry.key) or (name not in known and name[:_ID] in restored):
                yield _orphan(kind, entry)


def _orphan(kind: str, entry: Entry) -> Orphan:
    return Orphan("temporary" if is_temporary(entry.key) else kind, entry.uri, entry.size or 0)
