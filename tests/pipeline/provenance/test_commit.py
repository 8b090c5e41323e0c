"""Commits: one object for photographs that ended together, created once, in the folder of their term."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import s3fs
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ItemError, JobError, Reason, Status
from pipeline.provenance import PROVENANCE, OvertakenError, commit, committed_numbers, live
from pipeline.provenance.commit import check_term, commit_uri
from pipeline.provenance.schema import lease_uri
from pipeline.record import SCHEMA_VERSION, Record
from pipeline.storage import Store, StoreOptions
from tests.faults import Faults

Make = Callable[..., Any]


def refused(number: int) -> Record:
    return Record(number, f"item{number}", f"/scans/{number}").ended(ItemError(Reason.TRUNCATED, "too short"))


def objects(run: Path) -> list[str]:
    folder = run / "provenance"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_commit_lies_in_the_folder_of_its_term(tmp_path: Path, stamp: Make, restored: Make) -> None:
    commit(Store(), str(tmp_path), stamp(12), [restored(1)])
    [name] = objects(tmp_path)
    assert name.startswith("terms/00000012/")
    assert str(tmp_path / "provenance" / name) == commit_uri(str(tmp_path), 12, ["item1"])


def test_the_same_commit_twice_is_one_object_that_is_not_written_again(
    tmp_path: Path, stamp: Make, restored: Make
) -> None:
    records = [restored(1), refused(2)]
    commit(Store(), str(tmp_path), stamp(1), records)
    [first] = objects(tmp_path)
    before = (tmp_path / "provenance" / first).read_bytes()
    commit(Store(), str(tmp_path), stamp(1), [restored(1, "another time"), refused(2)][::-1])
    assert objects(tmp_path) == [first]
    assert (tmp_path / "provenance" / first).read_bytes() == before
    assert live(Store(), str(tmp_path)).num_rows == 2


def test_other_photographs_make_another_object(tmp_path: Path, stamp: Make, restored: Make) -> None:
    commit(Store(), str(tmp_path), stamp(1), [restored(1)])
    commit(Store(), str(tmp_path), stamp(1), [restored(1), restored(2)])
    assert len(objects(tmp_path)) == 2


def test_another_term_makes_another_object(tmp_path: Path, stamp: Make, restored: Make, take: Make) -> None:
    commit(Store(), str(tmp_path), stamp(1), [restored(1)])
    take(2)
    commit(Store(), str(tmp_path), stamp(2), [restored(1)])
    assert [name.split("/")[1] for name in objects(tmp_path)] == ["00000001", "00000002"]


def test_a_row_holds_record_and_stamp(tmp_path: Path, stamp: Make, restored: Make) -> None:
    commit(Store(), str(tmp_path), stamp(3), [restored(5)])
    row = live(Store(), str(tmp_path)).to_pylist()[0]
    assert (row["run_id"], row["recipe_id"], row["software"], row["term"]) == ("run1", "c" * 64, "albumen 0", 3)
    assert row["schema_version"] == SCHEMA_VERSION
    assert row["committed_at"].utcoffset().total_seconds() == 0
    assert (row["item_no"], row["status"], row["events"][0]["stage"]) == (5, "restored", "repair")


def test_an_object_is_parquet_of_the_one_schema(tmp_path: Path, stamp: Make, restored: Make) -> None:
    commit(Store(), str(tmp_path), stamp(1), [restored(5), refused(6)])
    [name] = objects(tmp_path)
    assert pq.read_schema(tmp_path / "provenance" / name).equals(PROVENANCE)


def test_a_photograph_on_its_way_is_never_committed(tmp_path: Path, stamp: Make, restored: Make) -> None:
    with pytest.raises(AssertionError):
        commit(Store(), str(tmp_path), stamp(1), [replace(restored(1), status=Status.PENDING)])
    with pytest.raises(AssertionError):
        commit(Store(), str(tmp_path), stamp(1), [])
    assert not (tmp_path / "provenance").exists()


def test_who_was_overtaken_commits_nothing(tmp_path: Path, stamp: Make, restored: Make, take: Make) -> None:
    take(4)
    commit(Store(), str(tmp_path), stamp(4), [restored(1)])
    before = objects(tmp_path)
    take(5)
    with pytest.raises(OvertakenError, match=r"another driver has taken over; this one holds term 4 no longer"):
        commit(Store(), str(tmp_path), stamp(4), [restored(2)])
    assert objects(tmp_path) == before
    assert issubclass(OvertakenError, JobError)


def test_who_was_overtaken_twice_commits_nothing_either(
    tmp_path: Path, stamp: Make, restored: Make, take: Make
) -> None:
    """docs: a worker commits only after it saw that no higher term exists, be it the next one or one behind it."""
    check_term(Store(), str(tmp_path), 4)
    take(5)
    take(6)
    check_term(Store(), str(tmp_path), 6)
    for term in (4, 5):
        with pytest.raises(OvertakenError):
            check_term(Store(), str(tmp_path), term)
    with pytest.raises(OvertakenError):
        commit(Store(), str(tmp_path), stamp(4), [restored(2)])


def test_the_look_for_a_higher_term_is_one_request_that_no_late_listing_misleads(faulty_s3: Faults) -> None:
    store = Store(StoreOptions(faulty_s3.address))
    s3fs.S3FileSystem(endpoint_url=faulty_s3.address, use_listings_cache=False).mkdir("terms")
    store.create(lease_uri("s3://terms/run", 3), b"{}")
    # What lies below the name is no lease, and no reader of leases takes it for one.
    store.put(lease_uri("s3://terms/run", 4) + "/x", b"{}")
    faulty_s3.reset()
    check_term(store, "s3://terms/run", 3)
    assert faulty_s3.requests == {"head": 1}
    faulty_s3.switches.lag = 100
    store.create(lease_uri("s3://terms/run", 4), b"{}")
    faulty_s3.requests.clear()
    for term in (3, 3, 3):
        with pytest.raises(OvertakenError):
            check_term(store, "s3://terms/run", term)
    assert faulty_s3.requests == {"head": 3}


def test_what_the_store_raises_is_not_swallowed(
    tmp_path: Path, stamp: Make, restored: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(store: Store, uri: str, data: bytes) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Store, "create", full)
    with pytest.raises(OSError, match="No space left"):
        commit(Store(), str(tmp_path), stamp(1), [restored(1)])


def test_provenance_works_in_a_bucket(tmp_path: Path, stamp: Make, restored: Make) -> None:
    run = f"memory://{tmp_path.name}-provenance"
    commit(Store(), run, stamp(1), [restored(1)])
    commit(Store(), run, stamp(1), [restored(1), restored(2)])
    assert live(Store(), run)["item_no"].to_pylist() == [1, 2]
    assert committed_numbers(Store(), run).tolist() == [1, 2]


@settings(max_examples=100, deadline=None, database=None)
@given(st.sets(st.integers(0, 50), min_size=1, max_size=6), st.sets(st.integers(0, 50), min_size=1, max_size=6))
def test_a_name_follows_from_term_and_photographs_alone(one: set[int], other: set[int]) -> None:
    names = [commit_uri("/run", 1, [f"item{number}" for number in numbers]) for numbers in (one, other)]
    assert (names[0] == names[1]) == (one == other)
    assert commit_uri("/run", 1, [f"item{number}" for number in sorted(one, reverse=True)]) == names[0]
    assert commit_uri("/run", 2, [f"item{number}" for number in one]) != names[0]
