"""Runs made by hand, name by name, after docs/run-directory.md: what the auditor is tested on."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Tree = dict[str, bytes]

RUN_ID, RECIPE_ID = "0123456789abcdef", "ab" * 32
_MANIFEST = pa.schema(
    [
        ("item_no", pa.int64()),
        ("item_id", pa.string()),
        ("source_uri", pa.string()),
        ("source_bytes", pa.int64()),
        ("source_etag", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("supersedes", pa.string()),
    ]
)
_ROW = pa.schema(
    [
        *(_MANIFEST.field(name) for name in ("item_no", "item_id", "source_uri", "source_bytes")),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("source_sha256", pa.string()),
        ("events", pa.list_(pa.struct([("stage", pa.string()), ("seconds", pa.float64())]))),
        ("output_uri", pa.string()),
        ("output_sha256", pa.string()),
        ("output_bytes", pa.int64()),
        ("mask_uri", pa.string()),
        ("mask_sha256", pa.string()),
        ("edits_uri", pa.string()),
        ("edits_sha256", pa.string()),
        ("invented_uri", pa.string()),
        ("invented_sha256", pa.string()),
        ("run_id", pa.string()),
        ("recipe_id", pa.string()),
        ("committed_at", pa.timestamp("us", tz="UTC")),
        ("term", pa.int64()),
    ]
)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def item_id(number: int) -> str:
    return sha(f"handmade {number}".encode())[:32]


def image_key(number: int, data: bytes | None = None) -> str:
    """data: of an image whose plain name was taken by other bytes."""
    item = item_id(number)
    return f"images/{item[:2]}/{item}{'' if data is None else f'-{sha(data)[:16]}'}.png"


def mask_key(number: int, data: bytes | None = None) -> str:
    return image_key(number, data).replace("images/", "masks/")


def map_key(kind: str, number: int) -> str:
    """kind: `edits` or `invented`."""
    return image_key(number).replace("images/", f"{kind}/")


def loose_key(term: int, numbers: Sequence[int]) -> str:
    return f"provenance/terms/{term:08d}/{sha(' '.join(map(item_id, numbers)).encode())[:32]}.parquet"


@dataclass
class Handmade:
    """tree: what lies below the run. sources: the originals, by number, under `source_root`."""

    source_root: str
    tree: Tree = field(default_factory=dict)
    sources: dict[int, bytes] = field(default_factory=dict)

    def source_uri(self, number: int) -> str:
        return f"{self.source_root}/{number}.png"

    def planned(self, number: int, **others: Any) -> dict[str, Any]:
        row = {
            "item_no": number,
            "item_id": item_id(number),
            "source_uri": self.source_uri(number),
            "source_bytes": len(self.sources[number]),
        }
        return dict.fromkeys(_MANIFEST.names) | row | others

    def row(self, number: int, term: int, reason: str | None = None, **others: Any) -> dict[str, Any]:
        """A restored photograph, whose image is put in its place, or one that ended for a reason. Even numbers have a mask,
        multiples of three have maps."""
        row = {name: self.planned(number)[name] for name in _ROW.names[:4]} | {
            "status": "refused",
            "reason": reason,
            "source_sha256": sha(self.sources[number]),
            "events": [{"stage": "ingest", "seconds": 0.5}, {"stage": "repair", "seconds": float("nan")}],
            "run_id": RUN_ID,
            "recipe_id": RECIPE_ID,
            "committed_at": datetime(2026, 1, term, tzinfo=UTC),
            "term": term,
        }
        if reason is None:
            image = f"restored {number}".encode()
            self.tree[image_key(number)] = image
            row |= {
                "status": "restored",
                "output_uri": f"/where/it/was/{image_key(number)}",
                "output_sha256": sha(image),
                "output_bytes": len(image),
            }
            if number % 2 == 0:
                mask = f"mask of {number}".encode()
                self.tree[mask_key(number)] = mask
                row |= {"mask_uri": f"/where/it/was/{mask_key(number)}", "mask_sha256": sha(mask)}
            for kind in ("edits", "invented") if number % 3 == 0 else ():
                drawn = f"{kind} of {number}".encode()
                self.tree[map_key(kind, number)] = drawn
                row |= {f"{kind}_uri": f"/where/it/was/{map_key(kind, number)}", f"{kind}_sha256": sha(drawn)}
        return dict.fromkeys(_ROW.names) | row | others

    def commit(self, term: int, *rows: Mapping[str, Any], folder: int | None = None) -> str:
        key = loose_key(term if folder is None else folder, [row["item_no"] for row in rows])
        self.tree[key] = parquet(rows, _ROW)
        return key

    def part(self, *rows: Mapping[str, Any]) -> dict[str, Any]:
        data = parquet(rows, _ROW)
        name = f"00000001-{sha(data)[:12]}.parquet"
        self.tree[f"provenance/parts/{name}"] = data
        return {"name": name, "rows": len(rows), "sha256": sha(data)}

    def seal(self, number: int, term: int, *parts: Mapping[str, Any]) -> None:
        rows = sum(part["rows"] for part in parts)
        self.put(
            f"provenance/seals/{number:08d}.json", {"number": number, "term": term, "rows": rows, "parts": list(parts)}
        )

    def manifest_part(self, number: int, *rows: Mapping[str, Any]) -> dict[str, Any]:
        data = parquet(rows, _MANIFEST)
        name = f"part-{number:08d}-00000001-{sha(data)[:12]}.parquet"
        self.tree[f"manifest/{name}"] = data
        return {"name": name, "rows": len(rows), "sha256": sha(data)}

    def index(self, version: int, rows: Sequence[Mapping[str, Any]], *parts: Mapping[str, Any]) -> None:
        value = {
            "version": version,
            "photographs": len(rows),
            "known_bytes": sum(row["source_bytes"] for row in rows),
            "refused": sum(row["reason"] is not None for row in rows),
            "ignored": {".txt": 1},
            "parts": list(parts),
        }
        self.put(f"manifest/index-{version:08d}.json", value)

    def lease(self, term: int, *, released: bool = True) -> None:
        holder = {"user": "anna", "host": "h", "boot": "b", "pid": 1, "started": 1}
        value = {"term": term, "holder": holder, "taken_at": "", "renewed_at": "", "seconds": 60, "released": released}
        self.put(f"lease/{term:08d}.json", value)

    def put(self, key: str, value: Any) -> None:
        self.tree[key] = json.dumps(value).encode()


def parquet(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema), target, compression="zstd")
    return target.getvalue()


def make_run(source_root: str) -> Handmade:
    """Ten photographs after three terms, with nothing left over.

    0, 1 in term 1's part; 2 failed in it and was restored in term 3; 3 and 4 (refused) in term 2's part; 5, 6, 7 loose in
    term 3, where 7 failed; 8 was refused while listing; 9 came with an update, as the new version of 0.
    """
    run = Handmade(source_root, sources={number: f"original {number}".encode() for number in range(10)})
    rows = [run.planned(number) for number in range(8)] + [run.planned(8, reason="duplicate", detail="named twice")]
    rows.append(run.planned(9, source_uri=run.source_uri(0), supersedes=item_id(0)))
    first, second = run.manifest_part(0, *rows[:5]), run.manifest_part(1, *rows[5:9])
    run.index(0, rows[:9], first, second)
    run.index(1, rows, first, second, run.manifest_part(2, *rows[9:]))
    run.put("run.json", {"run_id": RUN_ID, "recipe_id": RECIPE_ID, "manifest": 0})
    for term in (1, 2, 3):
        run.lease(term, released=term < 3)
    failed = run.row(2, 1, "worker-died", status="failed")
    one = run.part(run.row(0, 1), run.row(1, 1), failed)
    two = run.part(run.row(3, 2), run.row(4, 2, "truncated"))
    run.seal(3, 2, one)
    run.seal(4, 3, one, two)
    run.commit(3, run.row(2, 3))
    run.commit(3, run.row(5, 3), run.row(6, 3))
    run.commit(3, run.row(7, 3, "stage-failed", status="failed"))
    run.commit(3, run.row(8, 3, "duplicate", source_sha256=None))
    run.commit(3, run.row(9, 3, source_uri=run.source_uri(0)))
    run.put("attempts/00000002.json", {item_id(2): 2})
    # What is at the old name now is the new version.
    run.sources[0] = run.sources[9]
    return run
