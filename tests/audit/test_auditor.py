"""The auditor finds whatever is planted in a sound run, and nothing in the sound one."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audit import auditor, delivered, places, reader
from tests.audit.handmade import Handmade, Tree, image_key, item_id, loose_key, make_run, map_key, mask_key, sha
from tests.audit.reader import Notes, read_view

ROOT = Path(__file__).resolve().parents[2]


class Shelf:
    """Puts runs and originals into a folder or a bucket."""

    def __init__(self, root: str, put: Callable[[str, bytes], None]) -> None:
        self.root = root
        self.run = f"{root}/run"
        self.put = put

    def store(self, run: Handmade, name: str = "run") -> str:
        for number, data in run.sources.items():
            self.put(run.source_uri(number), data)
        for key, data in run.tree.items():
            self.put(f"{self.root}/{name}/{key}", data)
        return f"{self.root}/{name}"


def put_file(path: str, data: bytes) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(data)


@pytest.fixture(params=["folder", "bucket"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    if request.param == "folder":
        return Shelf(str(tmp_path), put_file)
    import boto3

    client = boto3.client("s3", endpoint_url=request.getfixturevalue("s3"))
    name = f"audit-{sha(request.node.name.encode())[:16]}"
    client.create_bucket(Bucket=name)

    def put(uri: str, data: bytes) -> None:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        client.put_object(Bucket=bucket, Key=key, Body=data)

    return Shelf(f"s3://{name}/a b", put)


def test_a_sound_run_has_neither_faults_nor_orphans(shelf: Shelf) -> None:
    run = make_run(f"{shelf.root}/scans")
    place, other = shelf.store(run), shelf.store(run, "other")
    found = auditor.audit(place, reference=other)
    assert (found.faults, found.orphans) == ((), ())
    assert found.clean
    # Of 10 photographs 7 were restored; 8 was never read, and the file of 0 is now that of 9.
    assert (found.photographs, found.outputs, found.sources, found.compared) == (10, 7, 8, 10)
    assert (found.masks, found.maps) == (3, 8)
    assert found.ended == {
        "restored": 7,
        "refused: truncated": 1,
        "refused: duplicate": 1,
        "failed: stage-failed": 1,
    }


def flip(tree: Tree, key: str, place: float = 0.5) -> None:
    data = bytearray(tree[key])
    data[int(len(data) * place)] ^= 1
    tree[key] = bytes(data)


def edit(tree: Tree, key: str, **members: Any) -> None:
    tree[key] = json.dumps(json.loads(tree[key]) | members).encode()


def only(tree: Tree, start: str, place: int = 0) -> str:
    return sorted(key for key in tree if key.startswith(start))[place]


SEAL, INDEX = "provenance/seals/00000004.json", "manifest/index-00000001.json"


def missing_row(run: Handmade) -> None:
    del run.tree[loose_key(3, [5, 6])]
    # An image without a row is no fault: somebody may have been killed between the two.


def two_terms_differ(run: Handmade) -> None:
    run.commit(3, run.row(5, 3, detail="another"))


def twice_in_a_seal(run: Handmade) -> None:
    run.seal(4, 3, *json.loads(run.tree[SEAL])["parts"], run.part(run.row(1, 1)))


def lost_image(run: Handmade) -> None:
    del run.tree[image_key(3)]


def flipped_image(run: Handmade) -> None:
    flip(run.tree, image_key(6))


def shortened_image(run: Handmade) -> None:
    run.tree[image_key(6)] = run.tree[image_key(6)][:-1]


def flipped_part(run: Handmade) -> None:
    flip(run.tree, only(run.tree, "provenance/parts/", 1))


def lost_part(run: Handmade) -> None:
    del run.tree[only(run.tree, "provenance/parts/")]


def wrong_part_name(run: Handmade) -> None:
    seal = json.loads(run.tree[SEAL])
    name = seal["parts"][0]["name"]
    seal["parts"][0]["name"] = "00000001-" + "0" * 12 + ".parquet"
    run.tree[f"provenance/parts/00000001-{'0' * 12}.parquet"] = run.tree.pop(f"provenance/parts/{name}")
    run.put(SEAL, seal)


def flipped_seal(run: Handmade) -> None:
    data = run.tree[SEAL]
    flip(run.tree, SEAL, (data.index(b'"sha256": "') + 12) / len(data))


def torn_seal(run: Handmade) -> None:
    run.tree[SEAL] = run.tree[SEAL][:40]


def wrong_seal_count(run: Handmade) -> None:
    edit(run.tree, SEAL, rows=6)


def wrong_part_count(run: Handmade) -> None:
    seal = json.loads(run.tree[SEAL])
    seal["parts"][0]["rows"] += 1
    run.put(SEAL, seal | {"rows": 6})


def falling_term(run: Handmade) -> None:
    run.seal(3, 4)


def torn_older_seal(run: Handmade) -> None:
    run.tree["provenance/seals/00000003.json"] = b"{"


def flipped_manifest(run: Handmade) -> None:
    flip(run.tree, only(run.tree, "manifest/part-00000001"))


def lost_manifest_part(run: Handmade) -> None:
    del run.tree[only(run.tree, "manifest/part-00000002")]


def torn_index(run: Handmade) -> None:
    run.tree[INDEX] = run.tree[INDEX][:-1]


def wrong_index_count(run: Handmade) -> None:
    edit(run.tree, INDEX, photographs=11)


def wrong_index_bytes(run: Handmade) -> None:
    edit(run.tree, INDEX, known_bytes=1)


def photograph_taken_out(run: Handmade) -> None:
    index = json.loads(run.tree[INDEX])
    rows = [run.planned(number) for number in (0, 5, 6, 7)]
    run.index(1, rows, run.manifest_part(3, *rows), *index["parts"][2:])


def gap_in_numbers(run: Handmade) -> None:
    rows = [run.planned(9, item_no=10, source_uri=run.source_uri(0), supersedes=item_id(0))]
    part = run.manifest_part(2, *rows)
    parts = json.loads(run.tree[INDEX])["parts"]
    edit(run.tree, INDEX, parts=[*parts[:2], part])


def one_id_twice(run: Handmade) -> None:
    part = run.manifest_part(2, run.planned(1, item_no=9, source_bytes=len(run.sources[9])))
    parts = json.loads(run.tree[INDEX])["parts"]
    edit(run.tree, INDEX, parts=[*parts[:2], part])


def torn_commit(run: Handmade) -> None:
    key = loose_key(3, [2])
    run.tree[key] = run.tree[key][:-9]


def empty_commit(run: Handmade) -> None:
    run.tree[loose_key(3, [1])] = b""


def commit_in_anothers_folder(run: Handmade) -> None:
    run.commit(2, run.row(5, 2), folder=4)


def unknown_photograph(run: Handmade) -> None:
    run.sources[12] = b"?"
    run.commit(3, run.row(12, 3, "truncated"))


def another_number(run: Handmade) -> None:
    run.commit(3, run.row(7, 3, "truncated", item_no=6, item_id=item_id(7)))
    del run.tree[loose_key(3, [7])]


def another_recipe(run: Handmade) -> None:
    run.commit(3, run.row(7, 3, "truncated", recipe_id="cd" * 32))


def no_reason(run: Handmade) -> None:
    run.commit(3, run.row(7, 3, status="failed"))


def no_digest(run: Handmade) -> None:
    run.commit(3, run.row(2, 3, output_sha256=None))


def still_pending(run: Handmade) -> None:
    run.commit(3, run.row(7, 3, "truncated", status="pending"))


def misnamed_image(run: Handmade) -> None:
    name = image_key(2, b"other bytes than these")
    run.commit(3, run.row(2, 3, output_uri=f"/x/{name}"))
    run.tree[name] = run.tree.pop(image_key(2))


def misnamed_manifest_part(run: Handmade) -> None:
    parts = json.loads(run.tree[INDEX])["parts"]
    name = f"part-00000002-00000001-{'0' * 12}.parquet"
    run.tree[f"manifest/{name}"] = run.tree.pop(f"manifest/{parts[2]['name']}")
    edit(run.tree, INDEX, parts=[*parts[:2], parts[2] | {"name": name}])


def anothers_image(run: Handmade) -> None:
    run.commit(3, run.row(2, 3, output_uri=f"/where/it/was/{image_key(3)}"))


def extra_file(run: Handmade) -> None:
    run.tree["images/notes.txt"] = b"?"


def extra_image(run: Handmade) -> None:
    run.tree[image_key(77)] = b"?"


def extra_folder(run: Handmade) -> None:
    run.tree["thumbnails/1.png"] = b"?"


def image_in_anothers_folder(run: Handmade) -> None:
    run.tree[f"images/zz/{item_id(1)}.png"] = b"?"


def lost_mask(run: Handmade) -> None:
    del run.tree[mask_key(2)]


def flipped_mask(run: Handmade) -> None:
    flip(run.tree, mask_key(6))


def misnamed_mask(run: Handmade) -> None:
    name = mask_key(2, b"other bytes than these")
    run.commit(3, run.row(2, 3, mask_uri=f"/x/{name}"))
    run.tree[name] = run.tree.pop(mask_key(2))


def anothers_mask(run: Handmade) -> None:
    run.commit(3, run.row(2, 3, mask_uri=f"/where/it/was/{mask_key(6)}"))


def mask_without_a_digest(run: Handmade) -> None:
    run.commit(3, run.row(2, 3, mask_sha256=None))


def mask_of_a_refused_photograph(run: Handmade) -> None:
    run.commit(3, run.row(7, 3, "truncated", mask_uri=f"/x/{mask_key(7)}", mask_sha256=sha(b"")))


def lost_map(run: Handmade) -> None:
    del run.tree[map_key("edits", 6)]


def flipped_map(run: Handmade) -> None:
    flip(run.tree, map_key("invented", 6))


def map_without_a_digest(run: Handmade) -> None:
    run.commit(3, run.row(6, 3, invented_sha256=None), run.row(5, 3))


def map_of_a_refused_photograph(run: Handmade) -> None:
    run.commit(3, run.row(7, 3, "truncated", edits_uri=f"/x/{map_key('edits', 7)}", edits_sha256=sha(b"")))


def extra_map(run: Handmade) -> None:
    run.tree[map_key("edits", 77)] = b"?"


def extra_mask(run: Handmade) -> None:
    run.tree[mask_key(77)] = b"?"


def extra_file_among_masks(run: Handmade) -> None:
    run.tree["masks/notes.txt"] = b"?"


def changed_source(run: Handmade) -> None:
    run.sources[5] = b"another"


def torn_run(run: Handmade) -> None:
    run.tree["run.json"] = b"{"


def torn_lease(run: Handmade) -> None:
    run.tree["lease/00000002.json"] = b""


def lost_lease(run: Handmade) -> None:
    del run.tree["lease/00000002.json"]


PLANTS = [
    (missing_row, "missing"),
    (two_terms_differ, "duplicate"),
    (twice_in_a_seal, "duplicate"),
    (lost_image, "lost"),
    (flipped_image, "altered"),
    (shortened_image, "altered"),
    (flipped_part, "part"),
    (lost_part, "seal"),
    (wrong_part_name, "part"),
    (flipped_seal, "part"),
    (torn_seal, "seal"),
    (wrong_seal_count, "seal"),
    (wrong_part_count, "part"),
    (falling_term, "seal"),
    (torn_older_seal, "seal"),
    (flipped_manifest, "manifest"),
    (lost_manifest_part, "manifest"),
    (torn_index, "manifest"),
    (misnamed_manifest_part, "manifest"),
    (wrong_index_count, "manifest"),
    (wrong_index_bytes, "manifest"),
    (photograph_taken_out, "unknown"),
    (gap_in_numbers, "manifest"),
    (one_id_twice, "manifest"),
    (torn_commit, "torn"),
    (empty_commit, "torn"),
    (commit_in_anothers_folder, "row"),
    (unknown_photograph, "unknown"),
    (another_number, "row"),
    (another_recipe, "row"),
    (no_reason, "row"),
    (no_digest, "row"),
    (still_pending, "row"),
    (anothers_image, "row"),
    (extra_file, "unexplained"),
    (extra_image, "unexplained"),
    (extra_folder, "unexplained"),
    (image_in_anothers_folder, "unexplained"),
    (misnamed_image, "altered"),
    (lost_mask, "lost"),
    (flipped_mask, "altered"),
    (misnamed_mask, "altered"),
    (anothers_mask, "row"),
    (mask_without_a_digest, "row"),
    (mask_of_a_refused_photograph, "row"),
    (lost_map, "lost"),
    (flipped_map, "altered"),
    (map_without_a_digest, "row"),
    (map_of_a_refused_photograph, "row"),
    (extra_map, "unexplained"),
    (extra_mask, "unexplained"),
    (extra_file_among_masks, "unexplained"),
    (changed_source, "source"),
    (torn_run, "run"),
    (torn_lease, "lease"),
    (lost_lease, "lease"),
]


# In a bucket the first of each kind: the checks are the same, only names and bytes come another way.
FIRSTS = {kind: plant for plant, kind in reversed(PLANTS)}
IN_PLACES = [("folder", plant, kind) for plant, kind in PLANTS] + [
    ("bucket", plant, kind) for kind, plant in FIRSTS.items()
]


@pytest.mark.parametrize(
    ("shelf", "plant", "kind"),
    IN_PLACES,
    indirect=["shelf"],
    ids=[f"{where}-{plant.__name__}" for where, plant, _ in IN_PLACES],
)
def test_a_planted_fault_is_found(shelf: Shelf, plant: Callable[[Handmade], None], kind: str) -> None:
    run = make_run(f"{shelf.root}/scans")
    plant(run)
    found = auditor.audit(shelf.store(run))
    assert kind in {fault.kind for fault in found.faults}, found.faults
    assert not found.clean


def test_a_gone_source_is_a_fault(shelf: Shelf) -> None:
    run = make_run(f"{shelf.root}/scans")
    del run.sources[5]
    run.sources |= {5: b""}
    run.source_root = f"{shelf.root}/elsewhere"
    [*faults] = auditor.audit(shelf.store(run)).faults
    assert {fault.kind for fault in faults} == {"source"}
    assert all("cannot be read" in fault.message for fault in faults)


def test_unread_sources_are_not_held_against_a_run(shelf: Shelf) -> None:
    run = make_run(f"{shelf.root}/scans")
    changed_source(run)
    assert auditor.audit(shelf.store(run), sources=False).faults == ()


def zombie_commit(run: Handmade) -> None:
    run.commit(2, run.row(5, 2, detail="late"))


def zombie_photograph(run: Handmade) -> None:
    del run.tree[loose_key(3, [7])]
    run.commit(2, run.row(7, 2, "stage-failed", status="failed"))


# Written by a planner that was paused and woke behind another's plan.
INDEX_OF_ANOTHER = json.dumps(
    {"version": 2, "photographs": 0, "known_bytes": 0, "refused": 0, "ignored": {}, "parts": []}
).encode()
LEFTOVERS: list[tuple[str, bytes, str]] = [
    (loose_key(2, [5]), b"torn, and nobody reads it", "closed-commit"),
    (image_key(7), b"delivered, and killed before the commit", "image"),
    (image_key(1, b"other bytes"), b"other bytes", "image"),
    ("images/ab/.x.png.0f0f.part", b"", "temporary"),
    (mask_key(7), b"delivered, and killed before the commit", "mask"),
    (mask_key(1), b"of an attempt that saw damage where the one that counts saw none", "mask"),
    (mask_key(2, b"other bytes"), b"other bytes", "mask"),
    ("masks/ab/.x.png.0f0f.part", b"", "temporary"),
    (map_key("edits", 7), b"delivered, and killed before the commit", "map"),
    (map_key("invented", 1), b"of an attempt that was measured, as the one that counts was not", "map"),
    ("provenance/parts/00000001-" + "ab" * 6 + ".parquet", b"torn", "part"),
    (f"manifest/part-00000007-00000001-{'ab' * 6}.parquet", b"", "manifest-part"),
    ("manifest/index-00000002.json", INDEX_OF_ANOTHER, "index"),
]


@pytest.mark.parametrize("shelf", ["folder"], indirect=True)
@pytest.mark.parametrize(("key", "data", "kind"), LEFTOVERS, ids=[kind for _, _, kind in LEFTOVERS])
def test_a_leftover_is_an_orphan_and_no_fault(shelf: Shelf, key: str, data: bytes, kind: str) -> None:
    run = make_run(f"{shelf.root}/scans")
    assert key not in run.tree
    run.tree[key] = data
    found = auditor.audit(shelf.store(run))
    assert found.faults == ()
    assert [(orphan.kind, orphan.place) for orphan in found.orphans] == [(kind, key)]


@pytest.mark.parametrize("shelf", ["folder"], indirect=True)
def test_the_manifest_begins_with_the_index_that_the_run_names(shelf: Shelf) -> None:
    """A plan that was killed before its run.json leaves an index that another plan knows nothing of."""
    run = make_run(f"{shelf.root}/scans")
    edit(run.tree, "run.json", manifest=1)
    edit(run.tree, "manifest/index-00000000.json", parts=[])
    found = auditor.audit(shelf.store(run))
    assert found.faults == ()
    assert [(orphan.kind, orphan.place) for orphan in found.orphans] == [("index", "manifest/index-00000000.json")]


def test_a_commit_in_a_closed_term_does_not_count(shelf: Shelf) -> None:
    run = make_run(f"{shelf.root}/scans")
    zombie_commit(run)
    found = auditor.audit(shelf.store(run))
    assert (found.faults, [orphan.kind for orphan in found.orphans]) == ((), ["closed-commit"])
    zombie_photograph(run)
    found = auditor.audit(shelf.store(run, "another"))
    assert [(fault.kind, fault.place) for fault in found.faults] == [("missing", item_id(7))]


@pytest.mark.parametrize("shelf", ["folder"], indirect=True)
def test_equal_rows_in_a_part_and_loose_are_one_row(shelf: Shelf) -> None:
    """A compaction that was killed before it could remove the loose commits."""
    run = make_run(f"{shelf.root}/scans")
    parts = json.loads(run.tree[SEAL])["parts"]
    run.seal(4, 3, *parts, run.part(run.row(5, 3), run.row(6, 3), run.row(7, 3, "stage-failed", status="failed")))
    found = auditor.audit(shelf.store(run))
    assert (found.faults, found.orphans) == ((), ())


@pytest.mark.parametrize("shelf", ["folder"], indirect=True)
def test_the_row_of_the_highest_term_counts(shelf: Shelf) -> None:
    run = make_run(f"{shelf.root}/scans")
    run.lease(4)
    image = b"restored at last"
    run.tree[image_key(7, image)] = image
    late = {"output_uri": f"/x/{image_key(7, image)}", "output_sha256": sha(image), "output_bytes": len(image)}
    run.commit(4, run.row(7, 4) | late)
    del run.tree[image_key(7)]
    found = auditor.audit(shelf.store(run))
    assert (found.faults, found.orphans) == ((), ())
    assert found.ended["restored"] == 8


@pytest.mark.parametrize("shelf", ["folder"], indirect=True)
def test_without_a_seal_all_loose_commits_count(shelf: Shelf) -> None:
    run = make_run(f"{shelf.root}/scans")
    for key in [key for key in run.tree if key.startswith(("provenance/parts/", "provenance/seals/"))]:
        del run.tree[key]
    run.commit(1, run.row(0, 1), run.row(1, 1))
    run.commit(2, run.row(3, 2), run.row(4, 2, "truncated"))
    found = auditor.audit(shelf.store(run))
    assert (found.faults, found.orphans) == ((), ())


def other_bytes(run: Handmade) -> None:
    run.commit(3, run.row(2, 3, output_sha256=sha(b"other bytes"), output_bytes=11))
    run.tree[image_key(2)] = b"other bytes"


def other_mask(run: Handmade) -> None:
    run.commit(3, run.row(2, 3, mask_sha256=sha(b"other bytes")))
    run.tree[mask_key(2)] = b"other bytes"


def no_mask(run: Handmade) -> None:
    run.commit(3, run.row(2, 3, mask_uri=None, mask_sha256=None))
    del run.tree[mask_key(2)]


def other_map(run: Handmade) -> None:
    run.commit(3, run.row(6, 3, edits_sha256=sha(b"other bytes")), run.row(5, 3))
    run.tree[map_key("edits", 6)] = b"other bytes"


def other_reason(run: Handmade) -> None:
    run.commit(3, run.row(7, 3, "worker-died", status="failed"))


def one_photograph_less(run: Handmade) -> None:
    del run.tree[loose_key(3, [8])]


DIFFERENCES = (other_bytes, other_mask, no_mask, other_map, other_reason, one_photograph_less)


@pytest.mark.parametrize(
    ("shelf", "plant"), [*(("folder", plant) for plant in DIFFERENCES), ("bucket", other_bytes)], indirect=["shelf"]
)
def test_a_run_that_differs_from_its_reference_is_found(shelf: Shelf, plant: Callable[[Handmade], None]) -> None:
    run, other = make_run(f"{shelf.root}/scans"), make_run(f"{shelf.root}/scans")
    plant(run)
    place, reference = shelf.store(run), shelf.store(other, "reference")
    assert "unequal" in {fault.kind for fault in auditor.audit(place, reference=reference).faults}


def test_a_reference_with_faults_is_no_reference(shelf: Shelf) -> None:
    run, other = make_run(f"{shelf.root}/scans"), make_run(f"{shelf.root}/scans")
    flipped_image(other)
    place, reference = shelf.store(run), shelf.store(other, "reference")
    assert {fault.kind for fault in auditor.audit(place, reference=reference).faults} == {"reference", "unequal"}


_WITH_DIGEST = ("images/", "masks/", "edits/", "invented/", "provenance/parts/", "manifest/part-")
DIGESTED = sorted(key for key in make_run("/").tree if key.startswith(_WITH_DIGEST))


@settings(max_examples=60, deadline=None)
@given(key=st.sampled_from(DIGESTED), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_of_what_has_a_digest_goes_unseen(
    tmp_path_factory: pytest.TempPathFactory, key: str, place: float, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    # The digest of a part follows from the place of its sources, and its name with it.
    run = make_run("/")
    data = bytearray(run.tree[key])
    data[int(len(data) * place)] ^= 1 << bit
    run.tree[key] = bytes(data)
    for name, content in run.tree.items():
        put_file(f"{folder}/{name}", content)
    found = auditor.audit(str(folder), sources=False)
    assert any(key.rsplit("/", 1)[1].startswith(fault.place) or key == fault.place for fault in found.faults)


def test_a_run_of_before_there_were_maps_is_sound(tmp_path: Path) -> None:
    run = make_run(str(tmp_path / "scans"))
    later = ("edits_uri", "edits_sha256", "invented_uri", "invented_sha256")
    for key in [
        key for key in run.tree if key.startswith(("edits/", "invented/", "provenance/parts/", "provenance/seals/"))
    ]:
        del run.tree[key]
    run.commit(1, run.row(0, 1), run.row(1, 1))
    run.commit(2, run.row(3, 2), run.row(4, 2, "truncated"))
    for key in [key for key in run.tree if key.startswith("provenance/terms/")]:
        target = io.BytesIO()
        pq.write_table(pq.read_table(io.BytesIO(run.tree[key])).drop_columns(list(later)), target)
        run.tree[key] = target.getvalue()
    for key in [key for key in run.tree if key.startswith(("edits/", "invented/"))]:
        del run.tree[key]
    for name, content in run.tree.items():
        put_file(f"{tmp_path}/run/{name}", content)
    assert auditor.audit(f"{tmp_path}/run", sources=False).faults == ()


class Busy:
    """A run that somebody compacts while it is read: all names are there at first, and at the end there is a new seal."""

    root = "busy"

    def __init__(self, before: Tree, after: Tree, moment: int) -> None:
        self.before, self.after, self.moment, self.calls = before, after, moment, 0

    def _tree(self) -> Tree:
        self.calls += 1
        return self.before if self.calls <= self.moment else self.after

    def list(self, under: str = "") -> dict[str, int]:
        return {key: len(data) for key, data in sorted(self._tree().items()) if key.startswith(under)}

    def read(self, key: str) -> bytes:
        try:
            return self._tree()[key]
        except KeyError:
            raise FileNotFoundError(key) from None


def compacted(run: Handmade) -> Tree:
    after = Handmade(run.source_root, dict(run.tree), run.sources)
    for numbers in ([2], [5, 6], [7], [8], [9]):
        del after.tree[loose_key(3, numbers)]
    rows = [after.row(n, 3) for n in (2, 5, 6)] + [after.row(7, 3, "stage-failed", status="failed")]
    rows += [after.row(8, 3, "duplicate", source_sha256=None), after.row(9, 3, source_uri=run.source_uri(0))]
    keep = after.part(after.row(0, 1), after.row(1, 1))
    parts = [keep, json.loads(run.tree[SEAL])["parts"][1], after.part(*rows)]
    for part in (key for key in list(after.tree) if key.startswith("provenance/parts/")):
        if part.rsplit("/", 1)[1] not in {entry["name"] for entry in parts}:
            del after.tree[part]
    after.seal(5, 3, *parts)
    del after.tree[SEAL]
    return after.tree


def test_a_run_that_is_compacted_meanwhile_is_read_whole() -> None:
    run = make_run("/scans")
    after = compacted(run)
    for moment in range(14):
        notes = Notes()
        view = read_view(Busy(run.tree, after, moment), notes)
        assert (len(view.live), notes.faults) == (10, []), moment
        assert view.live[item_id(2)]["status"] == "restored"


def test_the_command_ends_with_1_where_there_are_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(f"{tmp_path}/scans")
    place = Shelf(str(tmp_path), put_file).store(run)

    def called(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["auditor", *words])
        code = auditor.main()
        return code, *capsys.readouterr()

    code, out, _ = called(place, "--json")
    assert (code, json.loads(out)["faults"]) == (0, [])
    (tmp_path / "run" / image_key(3)).unlink()
    command = [sys.executable, "-m", "tests.audit.auditor", place]
    faulty = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (faulty.returncode, faulty.stdout.split()[0]) == (1, "lost"), faulty.stderr
    code, _, err = called(str(tmp_path))
    assert (code, "is no run" in err) == (1, True)


@pytest.mark.parametrize("module", [auditor, delivered, reader, places])
def test_the_auditor_shares_no_code_with_the_writer(module: Any) -> None:
    allowed = {*sys.stdlib_module_names, "pyarrow", "boto3", "botocore"}
    for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            own = ("tests.audit.delivered", "tests.audit.places", "tests.audit.reader")
            assert name.split(".")[0] in allowed or name in own, name
