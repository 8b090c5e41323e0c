from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import ItemError, Reason, Status
from pipeline.provenance import PROVENANCE, Stamp, commit, committed_numbers, counts, dataset, folder, live
from pipeline.record import SCHEMA_VERSION, Event, Record
from pipeline.storage import Store

STAMP = Stamp("run1", "c" * 64, "albumen 0")


@pytest.fixture
def store() -> Store:
    return Store()


def restored(number: int, note: str = "") -> Record:
    event = Event("repair", "1", "applied", None, "{}", (), "a", "b", 0.5, 1.0, "cpu", None, "{}")
    return Record(number, f"item{number}", f"/scans/{number}", status=Status.RESTORED, detail=note, events=(event,))


def refused(number: int) -> Record:
    return Record(number, f"item{number}", f"/scans/{number}").ended(ItemError(Reason.TRUNCATED, "too short"))


def objects(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "provenance").iterdir())


def test_nothing_committed_is_an_empty_table(store: Store, tmp_path: Path) -> None:
    run = str(tmp_path)
    assert dataset(store, run) is None
    assert committed_numbers(store, run).tolist() == []
    assert live(store, run).schema == PROVENANCE
    assert live(store, run, ["status"]).column_names == ["status"]
    assert counts(store, run) == {}


def test_the_same_commit_twice_is_one_object(store: Store, tmp_path: Path) -> None:
    records = [restored(1), refused(2)]
    commit(store, str(tmp_path), STAMP, records)
    first = objects(tmp_path)
    commit(store, str(tmp_path), STAMP, records[::-1])
    assert objects(tmp_path) == first
    assert len(first) == 1
    assert live(store, str(tmp_path)).num_rows == 2


def test_other_photographs_make_another_object(store: Store, tmp_path: Path) -> None:
    commit(store, str(tmp_path), STAMP, [restored(1)])
    commit(store, str(tmp_path), STAMP, [restored(1), restored(2)])
    assert len(objects(tmp_path)) == 2


def test_a_row_holds_record_and_stamp(store: Store, tmp_path: Path) -> None:
    commit(store, str(tmp_path), STAMP, [restored(5)])
    row = live(store, str(tmp_path)).to_pylist()[0]
    assert (row["run_id"], row["recipe_id"], row["software"]) == ("run1", "c" * 64, "albumen 0")
    assert row["schema_version"] == SCHEMA_VERSION
    assert row["committed_at"].utcoffset().total_seconds() == 0
    assert (row["item_no"], row["status"], row["events"][0]["stage"]) == (5, "restored", "repair")


def test_overlapping_objects_count_each_photograph_once(store: Store, tmp_path: Path) -> None:
    run = str(tmp_path)
    commit(store, run, STAMP, [restored(3), restored(1), refused(2)])
    commit(store, run, STAMP, [restored(3)])
    commit(store, run, STAMP, [refused(2), restored(7)])
    assert len(objects(tmp_path)) == 3
    assert live(store, run)["item_no"].to_pylist() == [1, 2, 3, 7]
    assert committed_numbers(store, run).tolist() == [1, 2, 3, 7]
    assert counts(store, run) == {"restored": 3, "refused": 1}


def test_the_object_whose_name_sorts_first_wins(store: Store, tmp_path: Path) -> None:
    run = str(tmp_path)
    groups = [[restored(1, f"with {other}"), restored(other)] for other in range(2, 8)]
    names = []
    for group in groups:
        before = set(objects(tmp_path)) if (tmp_path / "provenance").exists() else set()
        commit(store, run, STAMP, group)
        names.append((set(objects(tmp_path)) - before).pop())
    winner = min(range(len(groups)), key=lambda i: names[i])
    assert live(store, run, ["detail"])["detail"].to_pylist()[0] == groups[winner][0].detail


def test_chosen_columns_come_alone_and_in_order(store: Store, tmp_path: Path) -> None:
    commit(store, str(tmp_path), STAMP, [restored(2), refused(1)])
    found = live(store, str(tmp_path), ["reason", "item_id"])
    assert found.to_pylist() == [{"reason": "truncated", "item_id": "item1"}, {"reason": None, "item_id": "item2"}]


def test_other_files_in_the_folder_are_not_read(store: Store, tmp_path: Path) -> None:
    commit(store, str(tmp_path), STAMP, [restored(1)])
    store.put(f"{folder(str(tmp_path))}/.x.parquet.1234.part", b"half")
    assert committed_numbers(store, str(tmp_path)).tolist() == [1]


def test_a_photograph_on_its_way_is_never_committed(store: Store, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        commit(store, str(tmp_path), STAMP, [replace(restored(1), status=Status.PENDING)])
    assert not (tmp_path / "provenance").exists()


def test_provenance_works_in_a_bucket(store: Store, tmp_path: Path) -> None:
    run = f"memory://{tmp_path.name}-provenance"
    commit(store, run, STAMP, [restored(1)])
    commit(store, run, STAMP, [restored(1), restored(2)])
    assert live(store, run)["item_no"].to_pylist() == [1, 2]
