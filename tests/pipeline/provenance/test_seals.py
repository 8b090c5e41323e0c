"""Compaction: every row exactly once, whoever is killed, paused or racing, and wherever."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import JobError, StoreError
from pipeline.provenance import Compactor, OvertakenError, commit, live, seals
from pipeline.provenance.view import newest_seal
from pipeline.storage import Store

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seals, "PART_ROWS", 3)


def files(run: Path) -> set[str]:
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}


def seal_files(run: Path) -> list[dict[str, Any]]:
    seals = [json.loads(path.read_text()) for path in sorted((run / "provenance/seals").glob("*.json"))]
    return [{name: value for name, value in seal.items() if name != "self_sha256"} for seal in seals]


class Unaware(Store):
    """The store of somebody who was paused after he had looked for a newer lease: he never sees one."""

    def has(self, uri: str) -> bool:
        return "/lease/" not in uri and super().has(uri)


def test_a_run_without_commits_gets_a_seal_that_opens_the_term(tmp_path: Path, terms: Make) -> None:
    Compactor(Store(), str(tmp_path), 1).compact()
    assert seal_files(tmp_path) == [{"number": 1, "term": 1, "rows": 0, "parts": []}]
    assert terms() == {}


def test_loose_commits_become_parts(tmp_path: Path, write: Make, terms: Make, check_sealed: Make) -> None:
    write(1, 4, 0, 2)
    write(1, 1, 3, together=True)
    Compactor(Store(), str(tmp_path), 1).compact()
    assert terms() == dict.fromkeys(range(5), 1)
    check_sealed()
    assert sorted(part["rows"] for part in seal_files(tmp_path)[-1]["parts"]) == [2, 3]
    assert not list((tmp_path / "provenance/terms").rglob("*.parquet"))


def test_a_row_comes_back_from_a_part_as_it_was(tmp_path: Path, write: Make) -> None:
    write(1, 0, 1, 2, 3)
    before = live(Store(), str(tmp_path))
    Compactor(Store(), str(tmp_path), 1).compact()
    assert live(Store(), str(tmp_path)).equals(before)


def test_compacting_twice_changes_nothing(tmp_path: Path, write: Make) -> None:
    write(1, 0, 1, 2, 3)
    compactor = Compactor(Store(), str(tmp_path), 1)
    compactor.compact()
    before = files(tmp_path)
    compactor.compact()
    Compactor(Store(), str(tmp_path), 1).compact()
    assert files(tmp_path) == before


def test_full_parts_are_not_written_again(tmp_path: Path, write: Make, check_sealed: Make) -> None:
    compactor = Compactor(Store(), str(tmp_path), 1)
    write(1, 0, 1, 2)
    compactor.compact()
    [whole] = seal_files(tmp_path)[-1]["parts"]
    write(1, 3, 4)
    compactor.compact()
    write(1, 5, 6)
    compactor.compact()
    assert whole in seal_files(tmp_path)[-1]["parts"]
    assert [part["rows"] for part in seal_files(tmp_path)[-1]["parts"]] == [3, 3, 1]
    check_sealed()
    # What a part replaced is gone, and every seal is kept.
    assert len(list((tmp_path / "provenance/parts").iterdir())) == 3
    assert [seal["number"] for seal in seal_files(tmp_path)] == [1, 2, 3, 4]


def test_a_later_term_replaces_a_row_in_a_full_part(
    tmp_path: Path, write: Make, take: Make, terms: Make, check_sealed: Make
) -> None:
    write(1, *range(7))
    Compactor(Store(), str(tmp_path), 1).compact()
    take(2)
    write(2, 1, 8)
    Compactor(Store(), str(tmp_path), 2).compact()
    assert terms() == {0: 1, 1: 2, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 8: 2}
    check_sealed()


def test_an_earlier_term_replaces_nothing(tmp_path: Path, write: Make, take: Make, terms: Make) -> None:
    """The row of a worker that was overtaken, committed before the new driver has sealed."""
    take(2)
    compactor = Compactor(Store(), str(tmp_path), 2)
    commit_unaware(tmp_path, write, 1, 5)
    write(2, 5, note="term 2")
    compactor.compact()
    assert terms() == {5: 2}


def commit_unaware(run: Path, write: Make, term: int, *numbers: int) -> None:
    """As a worker that was paused between its look for a newer lease and its commit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "has", Unaware.has)
        write(term, *numbers)


def test_terms_of_rows_are_known(tmp_path: Path, write: Make, take: Make) -> None:
    write(1, 0, 3)
    take(2)
    write(2, 3, 4)
    compactor = Compactor(Store(), str(tmp_path), 2)
    assert compactor.terms(6).tolist() == [0] * 6
    compactor.compact()
    assert compactor.terms(6).tolist() == [1, 0, 0, 2, 2, 0]
    assert compactor.terms(2).tolist() == [1, 0]
    assert Compactor(Store(), str(tmp_path), 2).terms(6).tolist() == [1, 0, 0, 2, 2, 0]


def test_what_is_in_no_seal_does_not_count(tmp_path: Path, write: Make, take: Make, terms: Make) -> None:
    write(1, 0)
    take(2)
    Compactor(Store(), str(tmp_path), 2).compact()
    commit_unaware(tmp_path, write, 1, 1)
    assert terms() == {0: 1}
    Compactor(Store(), str(tmp_path), 2).compact()
    assert terms() == {0: 1}


def test_who_was_overtaken_cannot_seal(tmp_path: Path, write: Make, take: Make) -> None:
    write(1, 0)
    compactor = Compactor(Store(), str(tmp_path), 1)
    take(2)
    with pytest.raises(OvertakenError, match="another driver has taken over"):
        compactor.compact()
    assert seal_files(tmp_path) == []
    assert live(Store(), str(tmp_path)).num_rows == 1


def test_a_part_that_comes_back_altered_is_not_sealed(tmp_path: Path, write: Make) -> None:
    class Forgetful(Store):
        def read(self, uri: str) -> bytes:
            return super().read(uri)[:-1] + b"?" if "/parts/" in uri else super().read(uri)

    write(1, 0, 1)
    with pytest.raises(StoreError, match="what was read back is not what was written"):
        Compactor(Forgetful(), str(tmp_path), 1).compact()
    assert seal_files(tmp_path) == []
    assert len(list((tmp_path / "provenance/terms").rglob("*.parquet"))) == 2


def test_a_store_that_lists_what_was_deleted_does_no_harm(
    tmp_path: Path, write: Make, terms: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is listed twice within one compaction, so that what is gone is not asked for again."""
    write(1, *range(5))
    stale: dict[str, Any] = {}

    class Stale(Store):
        def list(self, root: str, after: str | None = None) -> Any:
            found = {entry.key: entry for entry in super().list(root, after)}
            if root.endswith("/terms"):
                stale.update(found)
                return iter([stale[key] for key in sorted(stale)])
            return iter(found.values())

    Compactor(Stale(), str(tmp_path), 1).compact()
    assert terms() == dict.fromkeys(range(5), 1)


def test_temporary_files_are_no_commits(tmp_path: Path, write: Make, terms: Make) -> None:
    write(1, 0)
    folder = tmp_path / "provenance/terms/00000001"
    (folder / f".{'a' * 32}.parquet.0badcafe.part").write_bytes(b"half")
    Compactor(Store(), str(tmp_path), 1).compact()
    assert terms() == {0: 1}


@pytest.fixture
def history(tmp_path: Path, write: Make, take: Make) -> Callable[[], dict[int, int]]:
    """A run with parts of term 1, leftovers of a killed compaction, and loose commits of terms 1 and 2, some of them
    photographs that are worked on again. Gives what counts."""

    def make() -> dict[int, int]:
        take(1)
        write(1, 0, 1, 2, 3, 4)
        kept = {path: path.read_bytes() for path in (tmp_path / "provenance/terms").rglob("*.parquet")}
        Compactor(Store(), str(tmp_path), 1).compact()
        for path, data in list(kept.items())[:2]:
            path.write_bytes(data)
        write(1, 5)
        take(2)
        write(2, 1, 6)
        write(2, 7, 8, together=True)
        return {0: 1, 1: 2, 2: 1, 3: 1, 4: 1, 5: 1, 6: 2, 7: 2, 8: 2}

    return make


# Some of the moments at which somebody is killed or paused; `make slow` tries all.
SOME = pytest.mark.parametrize("most", [8, pytest.param(10_000, marks=pytest.mark.audit)])


def some(moments: list[int], most: int) -> list[int]:
    """At most so many of them, the same ones every time, the first and the last among them."""
    if len(moments) <= most:
        return moments
    return [moments[0], *sorted(random.Random(20260101).sample(moments[1:-1], most - 2)), moments[-1]]


def operations(run: Path, hooked: Make, term: int) -> list[str]:
    """What a compaction asks of the store, in order; it is done on a copy."""
    copy = run.parent / "counted"
    shutil.copytree(run, copy)
    found: list[str] = []
    Compactor(hooked(lambda number, operation: found.append(operation)), str(copy), term).compact()
    shutil.rmtree(copy)
    return found


@SOME
@pytest.mark.parametrize("effect", ["before", "after"])
def test_killed_before_or_after_any_operation_nothing_is_lost_or_doubled(
    tmp_path: Path, history: Make, hooked: Make, killed: Any, terms: Make, check_sealed: Make, effect: str, most: int
) -> None:
    expected = history()
    # Before or after a read the run's folder is as it is before or after its neighbours.
    writes = [at for at, operation in enumerate(operations(tmp_path, hooked, 2)) if operation in ("create", "delete")]
    assert len(writes) > 10
    for at in some(writes, most):
        run = tmp_path.parent / f"{effect}{at}"
        shutil.copytree(tmp_path, run)

        def die(number: int, operation: str, at: int = at) -> None:
            if number == at:
                raise killed

        store = hooked(die) if effect == "before" else hooked(None, die)
        with pytest.raises(killed):
            Compactor(store, str(run), 2).compact()
        assert terms(run) == expected, f"killed {effect} operation {at}"
        Store().create(str(run / "lease/00000003.json"), b"{}")
        Compactor(Store(), str(run), 3).compact()
        assert terms(run) == expected
        check_sealed(run)
        before = files(run)
        Compactor(Store(), str(run), 3).compact()
        assert files(run) == before
        shutil.rmtree(run)


@SOME
def test_killed_again_and_again_it_still_comes_to_its_end(
    tmp_path: Path, history: Make, hooked: Make, killed: Any, terms: Make, check_sealed: Make, most: int
) -> None:
    """One operation further each time."""
    expected = history()
    for term in range(3, 3 + min(most, 40)):
        Store().create(str(tmp_path / f"lease/{term:08d}.json"), b"{}")

        def die(number: int, operation: str, at: int = term) -> None:
            if number == at:
                raise killed

        with contextlib.suppress(killed):
            Compactor(hooked(die), str(tmp_path), term).compact()
        assert terms() == expected
    Compactor(Store(), str(tmp_path), term).compact()
    check_sealed()


def test_readers_see_the_same_after_every_operation(
    tmp_path: Path, history: Make, hooked: Make, terms: Make, check_sealed: Make
) -> None:
    expected = history()
    seen: list[str] = []

    def look(number: int, operation: str) -> None:
        if operation in ("create", "delete"):
            assert terms() == expected, f"after operation {number}"
            seen.append(operation)

    Compactor(hooked(None, look), str(tmp_path), 2).compact()
    assert {"create", "delete"} == set(seen)
    check_sealed()


@SOME
def test_a_zombie_that_is_paused_anywhere_changes_nothing(
    tmp_path: Path, history: Make, hooked: Make, terms: Make, check_sealed: Make, most: int
) -> None:
    """A driver of term 2 is paused before each operation of its compaction; term 3 takes over, works and seals."""
    history()
    expected = {0: 1, 1: 2, 2: 3, 3: 1, 4: 1, 5: 1, 6: 3, 7: 2, 8: 2, 9: 3}
    for at in some(moments(tmp_path, hooked), most):
        run = tmp_path.parent / f"zombie{at}"
        shutil.copytree(tmp_path, run)

        def take_over(number: int, operation: str, at: int = at, run: Path = run) -> None:
            if number != at:
                return
            Store().create(str(run / "lease/00000003.json"), b"{}")
            driver = Compactor(Store(), str(run), 3)
            driver.compact()
            for item in (2, 6, 9):
                commit_into(run, 3, item)
            driver.compact()
            assert terms(run) == expected

        with contextlib.suppress(JobError, OSError):
            Compactor(hooked(take_over), str(run), 2).compact()
        assert terms(run) == expected, f"paused before operation {at}"
        Compactor(Store(), str(run), 3).compact()
        assert terms(run) == expected
        check_sealed(run)
        shutil.rmtree(run)


def commit_into(run: Path, term: int, number: int) -> None:
    from pipeline.errors import Status
    from pipeline.provenance import Stamp
    from pipeline.record import Record

    record = Record(number, f"item{number}", f"/scans/{number}", status=Status.RESTORED, detail=f"term {term}")
    commit(Store(), str(run), Stamp("run1", "c" * 64, "albumen 0", term), [record])


def moments(run: Path, hooked: Make) -> list[int]:
    """Before every operation that writes or lists, and before every third one that reads."""
    found = operations(run, hooked, 2)
    return [at for at, operation in enumerate(found) if operation != "read" or at % 3 == 0]


def race(tmp_path: Path, hooked: Make, zombie_store: Callable[[], Store], at: int, name: str) -> Path:
    """Term 3 compacts; before its operation `at`, a driver of term 2 that was paused behind its look for a newer lease does
    all of its own compaction."""
    run = tmp_path.parent / f"{name}{at}"
    shutil.copytree(tmp_path, run)
    zombie = Compactor(zombie_store(), str(run), 2)
    Store().create(str(run / "lease/00000003.json"), b"{}")

    def awake(number: int, operation: str) -> None:
        if number == at:
            with contextlib.suppress(JobError, OSError):
                zombie.compact()

    driver = Compactor(hooked(awake), str(run), 3)
    driver.compact()
    return run


@SOME
def test_a_zombie_that_seals_before_each_operation_of_the_new_driver(
    tmp_path: Path, history: Make, hooked: Make, terms: Make, check_sealed: Make, most: int
) -> None:
    """Whatever becomes of the new driver's call, nothing is lost, and the next call comes to its end."""
    expected = history()
    for at in some(moments(tmp_path, hooked), most):
        name = tmp_path.parent / f"sealed{at}"
        with contextlib.suppress(JobError, OSError):
            race(tmp_path, hooked, Unaware, at, "sealed")
        assert terms(name) == expected, f"before operation {at}"
        Compactor(Store(), str(name), 3).compact()
        assert terms(name) == expected
        check_sealed(name)
        shutil.rmtree(name)


@SOME
def test_a_zombie_that_seals_does_not_stop_the_new_driver(
    tmp_path: Path, history: Make, hooked: Make, most: int
) -> None:
    """docs: whoever finds an object gone that was listed a moment ago looks at the seals again."""
    history()
    for at in some([*range(len(operations(tmp_path, hooked, 2)))], most):
        shutil.rmtree(race(tmp_path, hooked, Unaware, at, "stopped"))


def test_a_zombie_that_deletes_a_part_whose_bytes_came_again(
    tmp_path: Path, hooked: Make, write: Make, take: Make, terms: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """{5} was a part; {1, 5} replaced it; then 1 is worked on again together with 3, and {5} is a part once more. A driver
    that was paused before it deleted the first {5} must not delete the second."""
    monkeypatch.setattr(seals, "PART_ROWS", 2)
    run = str(tmp_path)
    take(1)
    write(1, 5)
    Compactor(Store(), run, 1).compact()
    write(1, 1)

    def take_over(number: int, operation: str) -> None:
        if operation == "delete" and not (tmp_path / "lease/00000002.json").exists():
            take(2)
            driver = Compactor(Store(), run, 2)
            driver.compact()
            write(2, 1, 3)
            driver.compact()

    Compactor(hooked(take_over), run, 1).compact()
    assert newest_seal(Store(), run).term == 2
    assert terms() == {1: 2, 3: 2, 5: 1}


def test_a_seal_that_was_taken_is_gone_on_from(
    tmp_path: Path, write: Make, take: Make, terms: Make, check_sealed: Make
) -> None:
    """The zombie's seal has the number that the new driver wanted; both were right."""
    take(1)
    write(1, 0, 1, 2, 3)
    zombie = Compactor(Unaware(), str(tmp_path), 1)
    take(2)
    driver = Compactor(Store(), str(tmp_path), 2)
    zombie.compact()
    write(2, 4)
    driver.compact()
    assert terms() == {0: 1, 1: 1, 2: 1, 3: 1, 4: 2}
    assert driver.terms(5).tolist() == [1, 1, 1, 1, 2]
    check_sealed()


def test_somebody_who_seals_for_ever_is_not_fought_for_ever(tmp_path: Path, write: Make, hooked: Make) -> None:
    write(1, 0)

    def rival(number: int, operation: str) -> None:
        if operation == "has":
            number = newest_seal(Store(), str(tmp_path)).number + 1
            facts = {"number": number, "term": 0, "rows": 0, "parts": []}
            Store().create(str(tmp_path / f"provenance/seals/{number:08d}.json"), json.dumps(facts).encode())

    with pytest.raises(OvertakenError, match="another driver keeps sealing it"):
        Compactor(hooked(rival), str(tmp_path), 1).compact()


def test_a_seal_whose_part_is_gone_is_damage(tmp_path: Path, write: Make) -> None:
    write(1, 0)
    Compactor(Store(), str(tmp_path), 1).compact()
    [part] = (tmp_path / "provenance/parts").iterdir()
    part.unlink()
    with pytest.raises(StoreError, match="the provenance is damaged"):
        Compactor(Store(), str(tmp_path), 1)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True), st.booleans()),
        st.tuples(st.just("compact")),
        st.tuples(st.just("crash"), st.integers(0, 40)),
        st.tuples(st.just("term"), st.lists(st.integers(0, 9), max_size=2, unique=True)),
        st.tuples(st.just("zombie"), st.lists(st.integers(0, 9), min_size=1, max_size=2, unique=True)),
    ),
    max_size=10,
)


@settings(max_examples=12, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_any_history_ends_as_the_model_says(
    tmp_path_factory: pytest.TempPathFactory,
    hooked: Make,
    killed: Any,
    restored: Make,
    stamp: Make,
    terms: Make,
    check_sealed: Make,
    steps: list[tuple[Any, ...]],
) -> None:
    """The model: of each photograph the highest term that committed it before that term was closed."""
    run = tmp_path_factory.mktemp("history")
    model: dict[int, int] = {}
    # The sealed term, as a reader knows it; the term in hand.
    term, sealed = 1, 0
    Store().create(str(run / "lease/00000001.json"), b"{}")

    def put(at: int, numbers: list[int], *, together: bool = False) -> None:
        records = [restored(number, f"term {at}") for number in numbers]
        for group in [records] if together else [[record] for record in records]:
            commit(Unaware(), str(run), stamp(at), group)
        if at >= newest_seal(Store(), str(run)).term:
            for number in numbers:
                model[number] = max(model.get(number, 0), at)

    for kind, *details in steps:
        if kind == "commit":
            put(term, details[0], together=details[1])
        elif kind == "compact":
            Compactor(Store(), str(run), term).compact()
        elif kind == "crash":

            def die(number: int, operation: str, at: int = details[0]) -> None:
                if number == at:
                    raise killed

            with contextlib.suppress(killed):
                Compactor(hooked(die), str(run), term).compact()
        elif kind == "term":
            term += 1
            Store().create(str(run / f"lease/{term:08d}.json"), b"{}")
            if details[0]:
                put(term - 1, details[0])
        elif kind == "zombie" and term > 1:
            put(term - 1, details[0])
        sealed_now = newest_seal(Store(), str(run)).term
        assert sealed_now >= sealed
        sealed = sealed_now
        assert terms(run) == model
    Compactor(Store(), str(run), term).compact()
    assert terms(run) == model
    check_sealed(run)
    shutil.rmtree(run)
