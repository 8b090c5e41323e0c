"""What a reader sees: parts of the newest seal, loose commits from its term on, the highest term of each photograph."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ItemError, Reason, StoreError
from pipeline.provenance import PROVENANCE, Compactor, commit, committed_numbers, counts, live, seals
from pipeline.provenance.view import Seal, loose, newest_rows, newest_seal
from pipeline.record import Record
from pipeline.storage import Store

Make = Callable[..., Any]


def ended(number: int, reason: Reason) -> Record:
    return Record(number, f"item{number}", f"/scans/{number}").ended(ItemError(reason, "went wrong"))


@settings(max_examples=200, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4))))
def test_newest_rows_are_the_highest_term_of_each_number(rows: list[tuple[int, int]]) -> None:
    numbers = np.array([number for number, _ in rows], np.int64)
    terms = np.array([term for _, term in rows], np.int64)
    found = newest_rows(numbers, terms).tolist()
    expected: dict[int, int] = {}
    for number, term in rows:
        expected[number] = max(expected.get(number, 0), term)
    assert [(int(numbers[i]), int(terms[i])) for i in found] == sorted(expected.items())
    # Of rows that are equal the first is taken, so that two readers take the same.
    assert all(i == rows.index(rows[i]) for i in found)


def test_nothing_committed_is_an_empty_table(tmp_path: Path) -> None:
    run = str(tmp_path)
    assert newest_seal(Store(), run) == Seal()
    assert committed_numbers(Store(), run).tolist() == []
    assert live(Store(), run).schema == PROVENANCE
    assert live(Store(), run, ["status"]).column_names == ["status"]
    assert counts(Store(), run) == {}


def test_overlapping_objects_count_each_photograph_once(tmp_path: Path, write: Make) -> None:
    write(1, 3, 1, 2, together=True)
    write(1, 3)
    write(1, 2, 7, together=True)
    assert live(Store(), str(tmp_path))["item_no"].to_pylist() == [1, 2, 3, 7]
    assert committed_numbers(Store(), str(tmp_path)).tolist() == [1, 2, 3, 7]
    assert counts(Store(), str(tmp_path)) == {"restored": 4}


def test_the_highest_term_wins_wherever_it_lies(tmp_path: Path, write: Make, take: Make, terms: Make) -> None:
    write(1, 1, 2, 3)
    Compactor(Store(), str(tmp_path), 1).compact()
    for term in (2, 10):
        take(term)
        write(term, 2)
    write(2, 3)
    assert terms() == {1: 1, 2: 10, 3: 2}


def test_chosen_columns_come_alone_and_in_order(tmp_path: Path, stamp: Make, write: Make) -> None:
    write(1, 2)
    commit(Store(), str(tmp_path), stamp(1), [ended(1, Reason.TRUNCATED)])
    found = live(Store(), str(tmp_path), ["reason", "item_id"])
    assert found.to_pylist() == [{"reason": "truncated", "item_id": "item1"}, {"reason": None, "item_id": "item2"}]
    assert live(Store(), str(tmp_path), ["term", "item_no"]).to_pylist()[0] == {"term": 1, "item_no": 1}


def test_what_may_pass_is_left_out_below_a_term(tmp_path: Path, stamp: Make, write: Make, take: Make) -> None:
    write(1, 0)
    reasons = [Reason.TRUNCATED, Reason.STAGE_FAILED, Reason.SOURCE_MISSING, Reason.WORKER_DIED]
    commit(Store(), str(tmp_path), stamp(1), [ended(number, reason) for number, reason in enumerate(reasons, 1)])
    assert committed_numbers(Store(), str(tmp_path), 1).tolist() == [0, 1, 2, 3, 4]
    assert committed_numbers(Store(), str(tmp_path), 2).tolist() == [0, 1]
    take(2)
    commit(Store(), str(tmp_path), stamp(2), [ended(2, Reason.STAGE_FAILED)])
    assert committed_numbers(Store(), str(tmp_path), 2).tolist() == [0, 1, 2]


def test_other_files_in_the_folders_are_not_read(tmp_path: Path, write: Make, terms: Make) -> None:
    write(1, 1)
    for name in (
        "terms/00000001/.x.parquet.1234.part",
        "terms/00000001/notes.txt",
        "terms/old/x.parquet",
        "seals/.a.part",
    ):
        path = tmp_path / "provenance" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    assert terms() == {1: 1}


def test_loose_commits_of_closed_terms_are_not_listed(tmp_path: Path, write: Make, take: Make) -> None:
    for term in (1, 2, 3):
        take(term)
        write(term, term)
    found = [commit.term for commit in loose(Store(), str(tmp_path), 2)]
    assert found == [2, 3]


def test_seals_are_ordered_as_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "provenance/seals"
    folder.mkdir(parents=True)
    for number in (2, 10, 9):
        facts = {"number": number, "term": number, "rows": 0, "parts": []}
        (folder / f"{number:08d}.json").write_text(json.dumps(facts))
    assert newest_seal(Store(), str(tmp_path)).number == 10


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", "{}", '{"number": 1, "term": 1}', '{"number": 1, "term": 1, "parts": 3}']
)
def test_a_damaged_seal_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "provenance/seals/00000001.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(StoreError, match=r"00000001\.json is damaged"):
        live(Store(), str(tmp_path))


@pytest.mark.parametrize("folder", ["terms", "parts"])
def test_a_damaged_object_is_named(tmp_path: Path, write: Make, folder: str) -> None:
    write(1, 1)
    if folder == "parts":
        Compactor(Store(), str(tmp_path), 1).compact()
    [path] = (tmp_path / "provenance" / folder).rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:-5])
    for columns in (None, ["status"]):
        with pytest.raises(StoreError, match=f"the provenance is damaged: .*{path.name}"):
            live(Store(), str(tmp_path), columns)


def test_a_part_that_is_gone_is_damage_and_no_endless_search(tmp_path: Path, write: Make) -> None:
    write(1, 1)
    Compactor(Store(), str(tmp_path), 1).compact()
    [path] = (tmp_path / "provenance/parts").iterdir()
    path.unlink()
    with pytest.raises(StoreError, match="what its seal names is not there"):
        live(Store(), str(tmp_path))


def test_a_column_that_an_older_version_did_not_know_is_null(tmp_path: Path, write: Make) -> None:
    write(1, 1)
    [path] = (tmp_path / "provenance/terms").rglob("*.parquet")
    pq.write_table(pq.read_table(path).drop_columns(["supersedes", "source_modified"]), path)
    [row] = live(Store(), str(tmp_path)).to_pylist()
    assert (row["item_no"], row["supersedes"], row["source_modified"]) == (1, None, None)


def test_a_column_that_this_version_does_not_know_is_left_out(tmp_path: Path, write: Make) -> None:
    write(1, 1)
    [path] = (tmp_path / "provenance/terms").rglob("*.parquet")
    table = pq.read_table(path)
    pq.write_table(table.append_column("later", pa.array(["x"])), path)
    assert live(Store(), str(tmp_path)).schema == PROVENANCE


def interleaved(tmp_path: Path, hooked: Make, other: Callable[[Path], None], columns: list[str] | None) -> None:
    """`live` with `other` done before each of its operations in turn: the answer is always the same."""
    expected = live(Store(), str(tmp_path), ["item_no", "term"]).to_pylist()
    total = hooked()
    live(total, str(tmp_path), columns)
    for at in range(total.count):
        run = tmp_path.parent / f"reader{at}"
        shutil.copytree(tmp_path, run)

        def meanwhile(number: int, operation: str, at: int = at, run: Path = run) -> None:
            if number == at:
                other(run)

        found = live(hooked(meanwhile), str(run), columns)
        assert found.select(["item_no", "term"]).to_pylist() == expected
        shutil.rmtree(run)


@pytest.mark.parametrize("columns", [None, ["item_no", "term"]])
def test_a_reader_races_a_compaction(
    tmp_path: Path, hooked: Make, write: Make, monkeypatch: pytest.MonkeyPatch, columns: list[str] | None
) -> None:
    monkeypatch.setattr(seals, "PART_ROWS", 3)
    write(1, 0, 1, 2, 3)
    Compactor(Store(), str(tmp_path), 1).compact()
    write(1, 4, 5, 6)
    interleaved(tmp_path, hooked, lambda run: Compactor(Store(), str(run), 1).compact(), columns)


def test_a_reader_races_the_removal_of_leftovers(tmp_path: Path, hooked: Make, write: Make) -> None:
    """A compaction that was killed behind its seal left loose commits that its part holds; the next one deletes them."""
    write(1, 0, 1)
    kept = {path: path.read_bytes() for path in (tmp_path / "provenance/terms").rglob("*.parquet")}
    Compactor(Store(), str(tmp_path), 1).compact()
    for path, data in kept.items():
        path.write_bytes(data)
    interleaved(tmp_path, hooked, lambda run: Compactor(Store(), str(run), 1).compact(), None)


def test_a_reader_that_is_overtaken_at_every_look_gives_up_in_words(tmp_path: Path, hooked: Make) -> None:
    def seal() -> None:
        number = newest_seal(Store(), str(tmp_path)).number + 1
        facts = {"number": number, "term": 0, "parts": [{"name": f"{number}.parquet", "rows": 1, "sha256": ""}]}
        Store().create(str(tmp_path / f"provenance/seals/{number:08d}.json"), json.dumps(facts).encode())

    # No part is there any more when somebody wants to read it, and there always is another seal by then.
    seal()
    with pytest.raises(StoreError, match="is not there"):
        live(hooked(lambda number, operation: seal() if operation == "read" else None), str(tmp_path))
    assert newest_seal(Store(), str(tmp_path)).number < 30
