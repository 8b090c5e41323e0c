"""Does the run hold what its record says? Every image and mask is hashed again; every fault is reported, not only the first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from jobs import manifest, rundir
from pipeline import provenance
from pipeline.provenance.view import newest_seal, part_uri
from pipeline.storage import Store, StoreOptions, canonical, is_temporary, join


@dataclass(frozen=True, slots=True)
class Fault:
    """kind: a word to filter on. place: item id or path. message: one sentence."""

    kind: str
    place: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """How many were looked at, of each: rows of the manifest, restored images, masks, originals."""

    photographs: int
    outputs: int
    masks: int
    sources: int
    faults: tuple[Fault, ...]


def verify(run: str, endpoint: str | None = None, *, sources: bool = False) -> Report:
    """Manifest against provenance, provenance against images and masks, events as a chain; with `sources`, originals as well.

    Raises JobError where `run` is no run.
    """
    place = canonical(run)
    known = rundir.load(place, endpoint)
    store = Store(StoreOptions(endpoint))
    source_store = Store(StoreOptions(known["spec"]["collection"]["endpoint"]))
    index = manifest.sound_index(store, place)
    rows = provenance.live(store, place).to_pylist()
    faults = [*_parts(store, place), *_counts(store, place, index, rows), *_outputs(store, place, rows)]
    replaced = {row["supersedes"] for row in rows}
    for row in rows:
        faults += _chain(row)
        # The original of an earlier version is gone: another one stands in its place.
        if sources and row["item_id"] not in replaced:
            faults += _source(source_store, row)
    hashed = sum(row["source_sha256"] is not None and row["item_id"] not in replaced for row in rows) if sources else 0
    restored = [row for row in rows if row["status"] == "restored"]
    masks = sum(row["mask_uri"] is not None for row in restored)
    return Report(index.photographs, len(restored), masks, hashed, tuple(faults))


def _parts(store: Store, run: str) -> Iterator[Fault]:
    """Each part of the newest seal has the digest that the seal says."""
    for part in newest_seal(store, run).parts:
        uri = part_uri(run, part)
        try:
            found = hashlib.sha256(store.read(uri)).hexdigest()
        except OSError as error:
            yield Fault("provenance", uri, f"a part of the provenance cannot be read: {error}")
            continue
        if found != part.sha256:
            yield Fault("provenance", uri, f"sha256 is {found}; the seal says {part.sha256}")


def _counts(store: Store, run: str, index: manifest.Index, rows: list[dict[str, Any]]) -> Iterator[Fault]:
    parts = [part.select(["item_no", "item_id", "source_uri"]) for part in manifest.parts(store, run, index)]
    planned = pa.concat_tables(parts) if parts else pa.table({"item_no": pa.array([], pa.int64()), "item_id": []})
    if planned.num_rows != index.photographs:
        yield Fault("manifest", join(run, "manifest"), f"{planned.num_rows} rows; its index says {index.photographs}")
    committed = np.array([row["item_no"] for row in rows], np.int64)
    numbers = planned["item_no"].to_numpy()
    for item in planned.filter(pa.array(~np.isin(numbers, committed)))["item_id"].to_pylist():
        yield Fault("missing", item, "in the manifest, but no provenance row answers it")
    plans = {row["item_no"]: row for row in planned.to_pylist()}
    for row in rows:
        plan = plans.get(row["item_no"], row)
        if (plan["item_id"], plan["source_uri"]) != (row["item_id"], row["source_uri"]):
            yield Fault(
                "manifest", row["item_id"], "manifest and provenance name different photographs under one number"
            )
    for number in np.setdiff1d(committed, numbers):
        yield Fault("unknown", str(number), "a provenance row answers no row of the manifest")


def _outputs(store: Store, run: str, rows: list[dict[str, Any]]) -> Iterator[Fault]:
    restored = [row for row in rows if row["status"] == "restored"]
    images = [_File(row, row["output_uri"], row["output_sha256"]) for row in restored]
    masks = [_File(row, row["mask_uri"], row["mask_sha256"]) for row in restored if row["mask_uri"] is not None]
    yield from _files(store, run, "images", "restored image", images)
    yield from _files(store, run, "masks", "mask", masks)


@dataclass(frozen=True, slots=True)
class _File:
    row: dict[str, Any]
    uri: str
    sha256: str


def _files(store: Store, run: str, folder: str, what: str, files: list[_File]) -> Iterator[Fault]:
    """Each file is there and has its digest, and there is no other in the folder."""
    expected: set[str] = set()
    for file in files:
        # Below this folder, wherever the run was moved to since.
        key = f"{file.row['item_id'][:2]}/{file.uri.rsplit('/', 1)[1]}"
        expected.add(key)
        uri = join(run, folder, key)
        try:
            found = hashlib.sha256(store.read(uri)).hexdigest()
        except FileNotFoundError:
            yield Fault("lost", uri, f"the {what} of {file.row['source_uri']} is not there")
            continue
        except OSError as error:
            yield Fault("unreadable", uri, str(error))
            continue
        if found != file.sha256:
            yield Fault("altered", uri, f"sha256 is {found}; it was delivered as {file.sha256}")
    for entry in store.list_if_there(join(run, folder)):
        if entry.key not in expected and not is_temporary(entry.key):
            yield Fault("unexplained", entry.uri, "no provenance row explains this file")


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


def _source(store: Store, row: dict[str, Any]) -> Iterator[Fault]:
    if row["source_sha256"] is None:
        return
    try:
        found = hashlib.sha256(store.read(row["source_uri"])).hexdigest()
    except OSError as error:
        yield Fault("source", row["source_uri"], f"the original cannot be read: {error}")
        return
    if found != row["source_sha256"]:
        yield Fault("source", row["source_uri"], f"the original has changed since: sha256 is {found}")


def as_json(report: Report) -> str:
    return json.dumps(
        {
            "photographs": report.photographs,
            "outputs": report.outputs,
            "masks": report.masks,
            "sources": report.sources,
            "faults": [{"kind": f.kind, "place": f.place, "message": f.message} for f in report.faults],
        },
        indent=2,
    )
