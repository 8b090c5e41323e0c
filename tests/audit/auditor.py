"""Proves from a run's manifest and store alone that nothing was lost and nothing was done twice.

It knows docs/run-directory.md and shares no code with what wrote the run: the standard library, pyarrow, and boto3 for
buckets. `python -m tests.audit.auditor RUN [--reference RUN]` ends with 1 where there are faults.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from tests.audit.delivered import BESIDE, EDITS, IMAGES, INVENTED, MASKS
from tests.audit.places import Place, place, read_uri
from tests.audit.reader import (
    INDEX,
    LEASE,
    LOOSE,
    PART,
    SEAL,
    Fault,
    Notes,
    View,
    parquet,
    part_file,
    read_json,
    read_view,
)

_MANIFEST_PART = re.compile(r"manifest/part-\d{8}-\d{8}-([0-9a-f]{8,64})\.parquet")
_ATTEMPTS = re.compile(r"attempts/\d{8}\.json")
_TEMPORARY = re.compile(r"(?:.*/)?\.[^/]+\.part")
_PLANNED = {
    "item_no": pa.int64(),
    "item_id": pa.string(),
    "source_uri": pa.string(),
    "source_bytes": pa.int64(),
    "reason": pa.string(),
}
_STATUSES = ("restored", "refused", "failed")


@dataclass(frozen=True, slots=True)
class Findings:
    """ended: photographs by status, and by status and reason. outputs, masks, maps, sources: files hashed. compared:
    photographs held against the reference. faults: what is wrong. orphans: what a kill left over and `gc` may remove."""

    run: str
    photographs: int
    ended: Mapping[str, int]
    outputs: int
    masks: int
    maps: int
    sources: int
    compared: int
    faults: tuple[Fault, ...]
    orphans: tuple[Fault, ...]

    @property
    def clean(self) -> bool:
        return not self.faults


def audit(
    run: str,
    sources: bool = True,
    reference: str | None = None,
    *,
    endpoint: str | None = None,
    source_endpoint: str | None = None,
) -> Findings:
    """Every fault of a run that nobody is writing to. Reads every output, and with `sources` every original, in full.

    reference: another run of the same photographs; reasons and bytes of outputs must be equal, photograph by photograph.
    Raises FileNotFoundError where `run` holds no run.json.
    """
    here, notes = place(run, endpoint), Notes()
    known = _known(here, notes)
    manifest, named = read_manifest(here, notes)
    view = read_view(here, notes)
    for fault in _rows(manifest, view, known):
        notes.faults.append(fault)
    delivered = {folder.name: folder.digests(here, view, notes) for folder in (IMAGES, *BESIDE)}
    _seals(here, notes)
    _leases(here, view, notes)
    _leftovers(here, manifest, named, view, notes)
    hashed = _sources(manifest, view, source_endpoint or endpoint, notes) if sources else 0
    compared = 0
    if reference is not None:
        compared = _compare(place(reference, endpoint), view, delivered, notes)
    ended = Counter(
        row["status"] if row["reason"] is None else f"{row['status']}: {row['reason']}" for row in view.live.values()
    )
    return Findings(
        run,
        len(manifest),
        dict(ended),
        len(delivered[IMAGES.name]),
        len(delivered[MASKS.name]),
        len(delivered[EDITS.name]) + len(delivered[INVENTED.name]),
        hashed,
        compared,
        tuple(notes.faults),
        tuple(notes.orphans),
    )


def _known(run: Place, notes: Notes) -> Mapping[str, Any]:
    return read_json(run, "run.json", ("run_id", "recipe_id", "manifest"), notes, "run") or {}


def read_manifest(run: Place, notes: Notes) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """The manifest's rows by item_id, from the last index that counts; and the names that count: of the version that run.json
    names, and of each later one that has all parts of the one before."""
    # Its faults are noted where run.json is read.
    first = _known(run, Notes()).get("manifest", 0)
    wanted = ("version", "photographs", "known_bytes", "refused", "ignored", "parts")
    last: tuple[str, Mapping[str, Any]] | None = None
    names: set[str] = set()
    before: list[str] = []
    for key in sorted(run.list("manifest/")):
        match = INDEX.fullmatch(key)
        if match is None or int(match[1]) < first:
            continue
        index = read_json(run, key, wanted, notes, "manifest")
        if index is None:
            continue
        if index["version"] != int(match[1]):
            notes.fault("manifest", key, f"says that its version is {index['version']}")
        parts = [part["name"] for part in index["parts"]]
        if parts[: len(before)] != before:
            continue
        before, last = parts, (key, index)
        names.add(key)
    if last is None:
        notes.fault("manifest", "manifest", "there is no index")
        return {}, names
    rows = list(_manifest_rows(run, *last, notes))
    items = {row["item_id"]: row for row in rows}
    if len(items) != len(rows):
        twice = [item for item, count in Counter(row["item_id"] for row in rows).items() if count > 1]
        notes.fault("manifest", last[0], f"photographs are in it more than once: {', '.join(twice[:5])}")
    return items, names | {f"manifest/{part_file(name)}" for name in before}


def _manifest_rows(run: Place, key: str, index: Mapping[str, Any], notes: Notes) -> Iterator[dict[str, Any]]:
    number, size, refused = 0, 0, 0
    for part in index["parts"]:
        name = f"manifest/{part_file(part['name'])}"
        try:
            data = run.read(name)
        except FileNotFoundError:
            notes.fault("manifest", name, f"is not there; {key} names it")
            continue
        digest = hashlib.sha256(data).hexdigest()
        if digest != part["sha256"]:
            notes.fault("manifest", name, f"sha256 is {digest}; {key} says {part['sha256']}")
        table = parquet(data, name, notes, "manifest", _PLANNED)
        match = _MANIFEST_PART.fullmatch(name)
        if match is None or not part["sha256"].startswith(match[1]):
            notes.fault("manifest", name, "is not named by its digest")
        if table is None:
            continue
        if table.num_rows != part["rows"]:
            notes.fault("manifest", name, f"has {table.num_rows} rows; {key} says {part['rows']}")
        for row in table.to_pylist():
            if row["item_no"] != number:
                notes.fault("manifest", name, f"item_no is {row['item_no']} where {number} should be")
            number, size = number + 1, size + (row["source_bytes"] or 0)
            refused += row["reason"] is not None
            yield row
    found = {"photographs": number, "known_bytes": size, "refused": refused}
    for name, value in found.items():
        if index[name] != value:
            notes.fault("manifest", key, f"{name} is {index[name]}; its parts add up to {value}")


def _rows(manifest: Mapping[str, Mapping[str, Any]], view: View, known: Mapping[str, Any]) -> Iterator[Fault]:
    for item in manifest.keys() - view.live.keys():
        yield Fault("missing", item, "in the manifest, but no row that counts answers it")
    for item, row in view.live.items():
        planned = manifest.get(item)
        if planned is None:
            yield Fault("unknown", item, "a row answers no photograph of the manifest")
        elif (planned["item_no"], planned["source_uri"]) != (row["item_no"], row["source_uri"]):
            yield Fault("row", item, "manifest and row differ in item_no or source_uri")
        for name in ("run_id", "recipe_id"):
            if name in known and row[name] != known[name]:
                yield Fault("row", item, f"{name} is {row[name]}; run.json says {known[name]}")
        if row["status"] not in _STATUSES:
            yield Fault("row", item, f"status is {row['status']!r}")
        elif row["status"] == "restored":
            absent = [n for n in ("source_sha256", "output_uri", "output_sha256", "output_bytes") if row[n] is None]
            if absent:
                yield Fault("row", item, f"is restored and has no {', '.join(absent)}")
            if row["reason"] is not None:
                yield Fault("row", item, f"is restored with the reason {row['reason']}")
            for folder in BESIDE:
                if (row[folder.uri] is None) != (row[folder.sha256] is None):
                    yield Fault("row", item, f"has one of {folder.uri} and {folder.sha256} without the other")
        elif not row["reason"]:
            yield Fault("row", item, f"is {row['status']} without a reason")
        elif named := [folder.uri for folder in BESIDE if row[folder.uri] is not None]:
            yield Fault("row", item, f"is {row['status']} and has {', '.join(named)}")


def _leases(run: Place, view: View, notes: Notes) -> None:
    terms: set[int] = set()
    for key in run.list("lease/"):
        match = LEASE.fullmatch(key)
        if match is None:
            continue
        terms.add(int(match[1]))
        lease = read_json(run, key, ("term", "holder", "released"), notes, "lease")
        if lease is not None and lease["term"] != int(match[1]):
            notes.fault("lease", key, f"says that its term is {lease['term']}")
    used = {row["term"] for row in view.live.values()} | ({view.seal.term} if view.seal else set())
    for term in sorted(used - terms):
        notes.fault("lease", f"lease/{term:08d}.json", "is not there, but rows or the seal are of that term")


def _leftovers(run: Place, manifest: Mapping[str, Any], named: set[str], view: View, notes: Notes) -> None:
    """Every name below the run is explained, an orphan, or a fault."""
    delivered = set().union(*(folder.keys(view) for folder in (IMAGES, *BESIDE)))
    for key in run.list():
        if key == "run.json" or key in view.counted | delivered | named or _ATTEMPTS.fullmatch(key):
            continue
        if any(pattern.fullmatch(key) for pattern in (LEASE, SEAL)):
            continue
        if _TEMPORARY.fullmatch(key):
            notes.orphan("temporary", key, "a write that was never finished")
        elif LOOSE.fullmatch(key):
            notes.orphan("closed-commit", key, "a commit of a term that a seal has closed")
        elif PART.fullmatch(key):
            notes.orphan("part", key, "the last seal does not name it")
        elif _MANIFEST_PART.fullmatch(key):
            notes.orphan("manifest-part", key, "no index that counts names it")
        elif INDEX.fullmatch(key):
            notes.orphan("index", key, "left over from a plan or an update that was killed or overtaken")
        elif IMAGES.explains(key, manifest):
            notes.orphan("image", key, "no row that counts names it")
        elif any(folder.explains(key, manifest) for folder in BESIDE):
            notes.orphan("mask" if MASKS.explains(key, manifest) else "map", key, "no row that counts names it")
        else:
            notes.fault("unexplained", key, "nothing explains this file")


def _seals(run: Place, notes: Notes) -> None:
    """Terms never fall from one seal to the next: an old driver that seals late would take rows away."""
    highest = 0
    for key in run.list("provenance/seals/"):
        if SEAL.fullmatch(key):
            seal = read_json(run, key, ("term",), notes, "seal")
            if seal is not None and seal["term"] < highest:
                notes.fault("seal", key, f"its term is {seal['term']}; that of a seal before it was {highest}")
            highest = highest if seal is None else max(highest, seal["term"])


def _sources(manifest: Mapping[str, Mapping[str, Any]], view: View, endpoint: str | None, notes: Notes) -> int:
    followed = {row.get("supersedes") for row in manifest.values()} - {None}
    hashed = 0
    for item, row in view.live.items():
        # An older version's file is no longer there: its successor has the name.
        if row["source_sha256"] is None or item in followed:
            continue
        try:
            found = hashlib.sha256(read_uri(row["source_uri"], endpoint)).hexdigest()
        except OSError as error:
            notes.fault("source", row["source_uri"], f"the original cannot be read: {error}")
            continue
        hashed += 1
        if found != row["source_sha256"]:
            notes.fault("source", row["source_uri"], f"the original has changed: sha256 is {found}")
    return hashed


def _compare(reference: Place, view: View, delivered: Mapping[str, Mapping[str, str]], notes: Notes) -> int:
    known = Notes()
    theirs = read_view(reference, known)
    digests = {folder.name: folder.digests(reference, theirs, known) for folder in (IMAGES, *BESIDE)}
    for fault in known.faults:
        notes.fault("reference", fault.place, f"the reference itself has a fault: {fault.kind}: {fault.message}")
    for item in view.live.keys() ^ theirs.live.keys():
        notes.fault("unequal", item, "is in one of the two runs only")
    both = view.live.keys() & theirs.live.keys()
    for item in both:
        mine, other = view.live[item], theirs.live[item]
        for name in ("status", "reason", "source_sha256"):
            if mine[name] != other[name]:
                notes.fault("unequal", item, f"{name} is {mine[name]}; in the reference it is {other[name]}")
        for name, found in delivered.items():
            if found.get(item) != digests[name].get(item):
                what = {IMAGES.name: "image", MASKS.name: "mask"}.get(name, f"map of {name}")
                notes.fault("unequal", item, f"its {what} has other bytes than the reference's")
    return len(both)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.audit.auditor", description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run's folder or s3:// prefix")
    parser.add_argument("--reference", help="an uninterrupted run of the same photographs")
    parser.add_argument("--no-sources", action="store_true", help="do not hash the originals")
    parser.add_argument("--endpoint", help="S3 service, where AWS_ENDPOINT_URL does not name it")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        found = audit(options.run, not options.no_sources, options.reference, endpoint=options.endpoint)
    except FileNotFoundError as error:
        print(f"{options.run} is no run: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(asdict(found), indent=2))
    else:
        for fault in found.faults:
            print(f"{fault.kind:<12} {fault.place}: {fault.message}")
        print(
            f"{found.photographs} photographs, {found.outputs} outputs, {found.masks} masks,"
            f" {found.maps} maps and {found.sources} sources hashed, {found.compared} compared:"
            f" {len(found.faults)} faults, {len(found.orphans)} orphans"
        )
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
