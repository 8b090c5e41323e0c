"""Who killed how many workers, of what, and when it is enough."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.attempts import Attempts
from pipeline.errors import Reason, Status, StoreError
from pipeline.storage import Store
from pipeline.tally import Death, Hand


def death(worker: str = "w1", stage: str = "repair", seconds: float = 1.0, deadline: float = 600.0) -> Death:
    return Death(Hand(worker, "node", (1,), stage, 0.0, deadline), seconds)


def attempts(run: Path, term: int = 1, *, anew: bool = False) -> Attempts:
    return Attempts(Store(), str(run), term, anew=anew)


def test_three_deaths_are_enough(tmp_path: Path) -> None:
    book = attempts(tmp_path)
    assert (book.knows("a"), book.count("a"), book.is_over("a")) == (False, 0, False)
    for tried in (1, 2, 3):
        book.add("a", death(), ())
        assert (book.knows("a"), book.count("a"), book.total) == (True, tried, tried)
        assert book.is_over("a") == (tried == 3)
    assert not book.is_over("b")


def test_deaths_count_on_in_later_terms(tmp_path: Path) -> None:
    for term in (1, 2, 3):
        book = attempts(tmp_path, term)
        assert book.count("a") == term - 1
        book.add("a", death(), ())
        book.save()
        assert json.loads((tmp_path / f"attempts/{term:08d}.json").read_text()) == {"a": term}
    book = attempts(tmp_path, 4)
    assert book.is_over("a")
    assert book.verdict("a").reason is Reason.WORKER_DIED
    assert "in 3 tries; an earlier driver saw its workers die" in book.verdict("a").detail


def test_without_deaths_nothing_is_written(tmp_path: Path) -> None:
    attempts(tmp_path).save()
    assert list(tmp_path.iterdir()) == []


def test_anew_gives_up_nothing_beforehand_and_still_knows(tmp_path: Path) -> None:
    book = attempts(tmp_path)
    for item in ("over", "over", "over", "once"):
        book.add(item, death(), ())
    book.save()
    again = attempts(tmp_path, 2, anew=True)
    assert (again.count("over"), again.count("once")) == (0, 1)
    assert again.knows("over")
    again.add("over", death(), ())
    again.save()
    later = attempts(tmp_path, 3)
    assert (later.count("over"), later.count("once")) == (1, 1)


@pytest.mark.parametrize(
    ("found", "said", "reason", "words"),
    [
        (death(seconds=600.0), (), Reason.DEADLINE_EXCEEDED, "repair did not end within its deadline of 600 s"),
        (death(), ("w1: OutOfMemoryError: killed",), Reason.OUT_OF_MEMORY, "Ray said: w1: OutOfMemoryError: killed"),
        (death(), ("w1: node running low on memory",), Reason.OUT_OF_MEMORY, "the last one ended in repair"),
        (death(), ("ActorDiedError: w1 died",), Reason.WORKER_DIED, "Ray said: ActorDiedError: w1 died"),
        (death(stage=""), (), Reason.WORKER_DIED, "the last one ended in its pool"),
        (death(), ("w2: OutOfMemoryError", "w1: segfault"), Reason.WORKER_DIED, "Ray said: w1: segfault"),
        # What hung was ended by its deadline, whatever else is said.
        (death(seconds=610.0), ("w1: OutOfMemoryError",), Reason.DEADLINE_EXCEEDED, "deadline"),
        # What was noticed long after its deadline had died of itself before it.
        (death(seconds=700.0), ("w1: OutOfMemoryError",), Reason.OUT_OF_MEMORY, "Ray said: w1: OutOfMemoryError"),
    ],
)
def test_the_verdict_names_the_cause(
    tmp_path: Path, found: Death, said: tuple[str, ...], reason: Reason, words: str
) -> None:
    book = attempts(tmp_path)
    for _ in range(3):
        book.add("a", found, said)
    verdict = book.verdict("a")
    assert verdict.reason is reason
    assert verdict.reason.status is Status.FAILED
    assert verdict.detail.startswith("no worker survived this photograph in 3 tries; ")
    assert words in verdict.detail


def test_another_workers_lack_of_memory_is_not_its_own(tmp_path: Path) -> None:
    book = attempts(tmp_path)
    book.add("a", death("w1"), ("actor w2: OutOfMemoryError",))
    assert book.verdict("a").reason is Reason.WORKER_DIED


@pytest.mark.parametrize("text", ["", "{", "\x00"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "attempts").mkdir()
    (tmp_path / "attempts/00000001.json").write_text(text)
    with pytest.raises(StoreError, match=r"00000001\.json is damaged") as caught:
        attempts(tmp_path, 2)
    assert caught.value.hint is not None


def test_a_temporary_file_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "attempts").mkdir()
    (tmp_path / "attempts/.00000001.json.0badcafe.part").write_text('{"a": ')
    assert attempts(tmp_path, 2).total == 0
