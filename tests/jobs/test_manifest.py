"""The manifest: what photographs are called, and the parts and indices in which their rows are frozen."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import manifest
from jobs.manifest import Builder, Index, item_id
from jobs.spec import Collection, JobSpec
from pipeline.errors import StoreError
from pipeline.record import MANIFEST
from pipeline.storage import Entry, Store

Merge = Callable[..., JobSpec]
Freeze = Callable[[JobSpec], Any]

NOTHING = Index(-1)


def freeze(
    store: Store, run: str, before: Index, tables: Iterable[pa.Table], ignored: Counter[str], term: int
) -> Index:
    """The next version, of a run that began with version 0."""
    index = manifest.write(store, run, before, before.version + 1, tables, ignored, term)
    put(Path(run, "run.json"), b'{"manifest": 0}')
    return index


def put(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def table(first: int, count: int, size: int | None = 7) -> pa.Table:
    """Rows of MANIFEST from `first` on; one of them is refused where there are five or more."""
    builder = Builder(Collection(name="albums", source="/scans"), first)
    for number in range(first, first + count):
        fault = "cannot be read" if number == first + 4 else None
        assert builder.add((Entry(f"{number}.png", f"/scans/{number}.png", size, None, fault), None)) is None
    return builder.rest()


def test_item_numbers_are_dense(freeze: Freeze, make_spec: Merge, tmp_path: Path) -> None:
    for name in ("a.png", "b.txt", "c.png", ".d.png", "e.png"):
        put(tmp_path / "scans" / name)
    assert [row["item_no"] for row in freeze(make_spec()).rows] == [0, 1, 2]


def test_an_id_does_not_depend_on_place_or_neighbours(freeze: Freeze, make_spec: Merge, tmp_path: Path) -> None:
    put(tmp_path / "scans/box/a.png", b"one")
    put(tmp_path / "moved/box/a.png", b"two")
    put(tmp_path / "moved/aa.png")
    (before,) = freeze(make_spec()).rows
    _, after = freeze(make_spec(collection={"source": "moved"}, output={"uri": "other", "format": "tiff"})).rows
    assert before["item_id"] == after["item_id"] == item_id("albums", "box/a.png")


def test_an_id_depends_on_the_collection() -> None:
    assert item_id("albums", "a.png") != item_id("plates", "a.png")


def test_an_id_stays_what_it_was() -> None:
    assert item_id("albums", "a.png") == "3f8e140a3b4fa356fa37d8ec03ddef36"


@settings(max_examples=100, deadline=None, database=None)
@given(st.text(), st.lists(st.text(min_size=1), min_size=2, unique=True))
def test_other_keys_have_other_ids(collection: str, keys: list[str]) -> None:
    ids = {item_id(collection, key) for key in keys}
    assert len(ids) == len(keys)
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in ids)


@settings(max_examples=100, deadline=None, database=None)
@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1), st.integers(0, 12)),
        min_size=2,
        unique=True,
    )
)
def test_repeated_entries_have_ids_of_their_own(entries: list[tuple[str, int]]) -> None:
    assert len({item_id("albums", key, str(occurrence) if occurrence else "") for key, occurrence in entries}) == len(
        entries
    )


@pytest.fixture
def five(make_spec: Merge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[dict[str, Any]]]:
    """A frozen manifest of five rows, one of them a duplicate, in three parts."""
    monkeypatch.setattr(manifest, "PART_ROWS", 2)
    lines = "".join(f"{name}.png,T {name}\n" for name in "abcda")
    (tmp_path / "l.csv").write_text("source_uri,title\n" + lines)
    spec = make_spec(collection={"source": "l.csv"})
    ignored: Counter[str] = Counter()
    tables = list(manifest.tables(spec, manifest.survey(spec), ignored))
    freeze(Store(), str(tmp_path / "run"), NOTHING, tables, ignored, 1)
    return str(tmp_path / "run"), pa.concat_tables(tables).to_pylist()


def test_a_manifest_is_kept_in_parts_named_by_number_term_and_digest(five: tuple[str, Any]) -> None:
    run, _ = five
    names = sorted(path.name for path in Path(run, "manifest").glob("*.parquet"))
    digests = [hashlib.sha256(Path(run, "manifest", name).read_bytes()).hexdigest() for name in names]
    assert names == [f"part-{number:08d}-00000001-{digest[:12]}.parquet" for number, digest in enumerate(digests)]
    assert [part.num_rows for part in manifest.parts(Store(), run)] == [2, 2, 1]
    index = json.loads(Path(run, "manifest", "index-00000000.json").read_text())
    assert index["parts"] == [
        {"name": name, "rows": rows, "sha256": digest}
        for name, rows, digest in zip(names, [2, 2, 1], digests, strict=True)
    ]
    assert (index["version"], index["photographs"], index["refused"]) == (0, 5, 1)


def test_what_is_read_back_is_what_was_frozen(five: tuple[str, list[dict[str, Any]]]) -> None:
    run, rows = five
    assert pa.concat_tables(manifest.parts(Store(), run)).to_pylist() == rows


def test_pending_is_what_is_not_done(five: tuple[str, list[dict[str, Any]]]) -> None:
    run, rows = five
    left = manifest.pending(Store(), run, np.array([False, True, False, True, False]))
    assert pa.concat_tables(left).to_pylist() == [rows[number] for number in (0, 2, 4)]


def test_a_part_of_which_all_is_done_is_not_pending(five: tuple[str, Any]) -> None:
    run, _ = five
    left = list(manifest.pending(Store(), run, np.array([True, True, False, True, True])))
    assert [part["item_no"].to_pylist() for part in left] == [[2]]
    assert list(manifest.pending(Store(), run, np.ones(5, np.bool_))) == []


def test_other_files_beside_the_parts_are_passed_over(five: tuple[str, Any]) -> None:
    run, _ = five
    put(Path(run, "manifest", ".part-00000003-0badcafe.parquet.0badcafe.part"), b"half")
    put(Path(run, "manifest", ".index-00000009.json.0badcafe.part"), b"half")
    put(Path(run, "manifest", "part-00000003-000000000000.parquet"), b"of a plan that was killed")
    assert [part.num_rows for part in manifest.parts(Store(), run)] == [2, 2, 1]


def test_a_manifest_that_is_gone_is_named(tmp_path: Path) -> None:
    run = str(tmp_path / "none")
    assert manifest.next_version(Store(), run) == 0
    put(Path(run, "run.json"), b'{"manifest": 0}')
    with pytest.raises(StoreError, match=r"index-00000000\.json is not there, with which it began"):
        list(manifest.pending(Store(), run, np.zeros(0, np.bool_)))


def test_a_version_that_takes_parts_out_does_not_count(tmp_path: Path) -> None:
    """Of a planner that was paused before it looked, and woke behind another's plan."""
    run, store = str(tmp_path), Store()
    first = freeze(store, run, NOTHING, [table(0, 3)], Counter(), 2)
    manifest.write(store, run, NOTHING, 1, [table(0, 2)], Counter(), 1)
    found = manifest.versions(store, run)
    assert (found.counting, found.free) == ((first,), 2)
    later = manifest.write(store, run, found.newest, found.free, [table(3, 1)], Counter(), 3)
    assert manifest.versions(store, run).counting == (first, later)
    left = sorted(entry.key for entry in manifest.left_over(store, run))
    assert [name[:14] for name in left] == ["index-00000001", "part-00000000-"]


def test_the_manifest_begins_with_the_version_that_the_run_names(tmp_path: Path) -> None:
    """A plan that was killed before its run.json leaves a version that counts for nothing."""
    run, store = str(tmp_path), Store()
    manifest.write(store, run, NOTHING, 0, [table(0, 3)], Counter(), 1)
    index = manifest.write(store, run, NOTHING, manifest.next_version(store, run), [table(0, 2)], Counter(), 2)
    put(Path(run, "run.json"), b'{"manifest": 1}')
    assert manifest.versions(store, run).counting == (index,)
    assert len(list(manifest.left_over(store, run))) == 2


def test_a_later_version_goes_on_behind_the_one_before(tmp_path: Path) -> None:
    run, store = str(tmp_path), Store()
    first = freeze(store, run, NOTHING, [table(0, 5)], Counter(x=1), 1)
    second = freeze(store, run, first, [table(5, 2, None)], Counter(), 1)
    assert (first.version, first.photographs, first.known_bytes, first.refused, first.ignored) == (
        0,
        5,
        35,
        1,
        {"x": 1},
    )
    assert (second.version, second.photographs, second.known_bytes, second.refused) == (1, 7, 35, 1)
    assert second.parts[:1] == first.parts
    assert manifest.sound_index(store, run) == second
    assert [n for part in manifest.parts(store, run) for n in part["item_no"].to_pylist()] == list(range(7))
    assert [part.num_rows for part in manifest.parts(store, run, first)] == [5]
    assert json.loads((tmp_path / "manifest/index-00000000.json").read_text())["photographs"] == 5


def test_a_table_without_rows_makes_no_part(tmp_path: Path) -> None:
    index = freeze(Store(), str(tmp_path), NOTHING, [MANIFEST.empty_table(), table(0, 1)], Counter(), 1)
    assert [part["rows"] for part in index.parts] == [1]


def test_versions_sort_as_numbers(tmp_path: Path) -> None:
    run, store = str(tmp_path), Store()
    index = NOTHING
    for number in range(12):
        index = freeze(store, run, index, [table(number, 1)], Counter(), 1)
    assert manifest.sound_index(store, run).version == 11
    assert [n for part in manifest.parts(store, run) for n in part["item_no"].to_pylist()] == list(range(12))


def test_two_who_write_one_version_are_told_apart(tmp_path: Path) -> None:
    run, store = str(tmp_path), Store()
    first = freeze(store, run, NOTHING, [table(0, 3)], Counter(), 1)
    freeze(store, run, first, [table(3, 1)], Counter(), 1)
    with pytest.raises(StoreError, match="somebody else wrote version 1"):
        freeze(store, run, first, [table(3, 2)], Counter(), 1)
    assert manifest.sound_index(store, run).photographs == 4


def test_a_part_that_was_left_over_is_used_again(tmp_path: Path) -> None:
    """Killed between its parts and its index, a plan writes the same names again; nothing is overwritten."""
    run, store = str(tmp_path), Store()
    index = freeze(store, run, NOTHING, [table(0, 3)], Counter(), 1)
    (tmp_path / "manifest/index-00000000.json").unlink()
    [part] = (tmp_path / "manifest").glob("*.parquet")
    before = part.stat().st_mtime_ns
    assert freeze(store, run, NOTHING, [table(0, 3)], Counter(), 1) == index
    assert part.stat().st_mtime_ns == before


def test_no_later_term_names_a_part_that_was_left_over(tmp_path: Path) -> None:
    """Whoever was paused before taking a leftover away takes nothing else away."""
    run, store = str(tmp_path), Store()
    left = freeze(store, run, NOTHING, [table(0, 3)], Counter(), 1)
    (tmp_path / "manifest/index-00000000.json").unlink()
    index = freeze(store, run, NOTHING, [table(0, 3)], Counter(), 2)
    assert [part["sha256"] for part in index.parts] == [part["sha256"] for part in left.parts]
    (tmp_path / "manifest" / left.parts[0]["name"]).unlink()
    assert [part.num_rows for part in manifest.parts(store, run)] == [3]


def test_one_flipped_bit_in_a_part_is_found(five: tuple[str, Any]) -> None:
    run, _ = five
    part = sorted(Path(run, "manifest").glob("*.parquet"))[1]
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(StoreError, match=f"{part.name} is damaged: its sha256 is"):
        list(manifest.parts(Store(), run))


def test_a_part_that_is_gone_is_named(five: tuple[str, Any]) -> None:
    run, _ = five
    part = sorted(Path(run, "manifest").glob("*.parquet"))[2]
    part.unlink()
    with pytest.raises(StoreError, match=f"{part.name} is gone"):
        list(manifest.parts(Store(), run))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", "{}", '{"version": 0}', '{"version": 0, "parts": null}', '{"parts": [], "x": 1}'],
)
def test_a_damaged_index_is_named(five: tuple[str, Any], text: str) -> None:
    run, _ = five
    Path(run, "manifest", "index-00000000.json").write_text(text)
    with pytest.raises(StoreError, match=r"index-00000000\.json is damaged"):
        manifest.sound_index(Store(), run)


@settings(max_examples=30, deadline=None, database=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 7))
def test_tables_hold_every_entry_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, named: list[int], rows: int
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    (folder / "l.csv").write_text("source_uri\n" + "".join(f"{number}.png\n" for number in named))
    spec = JobSpec.model_validate(
        {"collection": {"name": "albums", "source": str(folder / "l.csv")}, "output": {"uri": str(folder / "run")}}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "PART_ROWS", rows)
        tables = list(manifest.tables(spec, manifest.survey(spec), Counter()))
    assert [part.num_rows for part in tables[:-1]] == [rows] * (len(named) // rows)
    found = pa.concat_tables(tables).to_pylist()
    assert [row["item_no"] for row in found] == list(range(len(named)))
    assert [Path(row["source_uri"]).stem for row in found] == [str(number) for number in named]
    seen: Counter[int] = Counter()
    for number, row in zip(named, found, strict=True):
        assert (row["reason"] == "duplicate") == (seen[number] > 0)
        seen[number] += 1
    assert len({row["item_id"] for row in found}) == len(found)


def test_the_parts_are_parquet_that_says_its_schema(five: tuple[str, Any]) -> None:
    run, _ = five
    for part in Path(run, "manifest").glob("*.parquet"):
        assert pq.read_schema(part).equals(MANIFEST)


@pytest.mark.parametrize(
    ("roots", "reasons"),
    [
        # The manifest's folder.
        ((), [None, None, "outside-roots", "outside-roots", "outside-roots"]),
        (("box",), [None, "outside-roots", "outside-roots", "outside-roots", "outside-roots"]),
        (("box", "../elsewhere"), [None, "outside-roots", None, "outside-roots", None]),
    ],
)
def test_originals_outside_the_roots_are_refused_and_keep_their_rows(
    freeze: Freeze, make_spec: Merge, tmp_path: Path, roots: tuple[str, ...], reasons: list[str | None]
) -> None:
    base = tmp_path / "base"
    outside = tmp_path / "elsewhere"
    names = ["box/a.png", "boxes/b.png", f"{outside}/c.png", f"{outside}s/d.png", "box/../../elsewhere/e.png"]
    base.mkdir()
    (base / "list.csv").write_text("source_uri\n" + "".join(f"{name}\n" for name in names))
    sections = {"source": "list.csv"} | ({"roots": roots} if roots else {})
    rows = freeze(make_spec(base, collection=sections)).rows
    assert [row["reason"] for row in rows] == reasons
    assert [row["item_no"] for row in rows] == list(range(5))
    assert all((row["detail"] is None) == (row["reason"] is None) for row in rows)
