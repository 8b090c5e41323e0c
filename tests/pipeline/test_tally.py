"""Counts, faults, and who died with what in hand."""

from __future__ import annotations

import pytest

from pipeline import tally
from pipeline.tally import Death, Hand, StageCount, Tally


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tally, "time", clock)
    return clock


def hand(worker: str = "w1", *items: int) -> Hand:
    return Hand(worker, "node", items or (1,))


def items(deaths: tuple[Death, ...]) -> list[tuple[str, tuple[int, ...]]]:
    return [(death.hand.worker, death.hand.items) for death in deaths]


def test_counts_of_all_workers_add_up() -> None:
    book = Tally()
    book.take(hand("w1", 1))
    book.leave("w1", {"ingest": StageCount(1, 0, 0.5)}, whole=True)
    book.leave("w2", {"ingest": StageCount(2, 1, 1.0), "repair": StageCount(1, 0, 0.25)}, whole=True)
    counts, faults = book.snapshot()
    assert counts == {"ingest": StageCount(3, 1, 1.5), "repair": StageCount(1, 0, 0.25)}
    assert faults == ()


def test_a_snapshot_does_not_change_later() -> None:
    book = Tally()
    counts, _ = book.snapshot()
    book.leave("w1", {"ingest": StageCount(1)}, whole=True)
    assert counts == {}


def test_who_answers_did_not_die() -> None:
    book = Tally()
    book.opened("w1")
    assert book.take(hand("w1", 1))
    book.leave("w1", {}, whole=True)
    assert book.take(hand("w1", 2))
    book.leave("w1", {}, whole=True)
    assert book.casualties() == ()


def test_what_is_still_in_hand_at_the_end_was_died_with() -> None:
    book = Tally()
    book.take(hand("w1", 1, 2))
    book.take(hand("w2", 3))
    book.leave("w2", {}, whole=True)
    assert items(book.casualties()) == [("w1", (1, 2))]
    # Asked twice, nobody dies twice.
    assert items(book.casualties()) == [("w1", (1, 2))]


def test_a_worker_that_opens_again_died_with_what_it_had() -> None:
    book = Tally()
    book.opened("w1")
    book.take(hand("w1", 4))
    book.opened("w1")
    book.take(hand("w1", 5))
    book.leave("w1", {}, whole=True)
    assert items(book.casualties()) == [("w1", (4,))]


def test_a_worker_that_takes_again_without_leaving_died() -> None:
    book = Tally()
    book.take(hand("w1", 4))
    book.take(hand("w1", 5))
    assert items(book.casualties()) == [("w1", (4,)), ("w1", (5,))]


def test_who_leaves_without_an_answer_lost_its_photographs_and_keeps_its_counts() -> None:
    book = Tally()
    book.take(hand("w1", 4))
    book.leave("w1", {"ingest": StageCount(1)}, whole=False)
    assert items(book.casualties()) == [("w1", (4,))]
    assert book.snapshot()[0] == {"ingest": StageCount(1)}


def test_the_stage_that_had_begun_is_known_with_its_deadline(clock: Clock) -> None:
    book = Tally()
    book.take(hand("w1", 1))
    book.at("w1", "ingest", 60.0)
    clock.now += 50
    book.at("w1", "upscale", 30.0)
    clock.now += 29.5
    [death] = book.casualties()
    assert (death.hand.stage, death.hand.deadline, death.seconds) == ("upscale", 30.0, 29.5)
    assert not death.hung


@pytest.mark.parametrize(("seconds", "hung"), [(29.9, False), (30.0, True), (90.0, True), (90.1, False), (3e4, False)])
def test_whoever_takes_as_long_as_its_deadline_and_not_far_longer_hung(
    clock: Clock, seconds: float, hung: bool
) -> None:
    book = Tally()
    book.take(hand("w1", 1))
    book.at("w1", "repair", 30.0)
    clock.now += seconds
    book.opened("w1")
    [death] = book.casualties()
    assert death.hung is hung


def test_a_hand_taken_anew_has_no_stage_and_no_deadline_yet(clock: Clock) -> None:
    book = Tally()
    book.take(hand("w1", 1))
    book.at("w1", "repair", 30.0)
    book.leave("w1", {}, whole=True)
    book.take(hand("w1", 2))
    clock.now += 10_000
    [death] = book.casualties()
    assert (death.hand.stage, death.hung) == ("", False)


def test_a_stage_of_a_worker_with_empty_hands_is_nothing() -> None:
    book = Tally()
    book.at("w1", "repair", 30.0)
    assert book.casualties() == ()


def test_faults_stop_whoever_takes_more_and_are_said_once() -> None:
    book = Tally()
    assert not book.stopped()
    book.report(["the disk is full"])
    book.report(["the disk is full", "another"])
    assert book.stopped()
    assert book.snapshot()[1] == ("the disk is full", "another")
    assert book.take(hand()) is False


def test_a_worker_that_died_at_once_did_not_hang(clock: Clock) -> None:
    """Nobody opened again under its name (its restarts were used up); its death is noticed when the pass has ended, an hour
    later. It ended in its first second, which no deadline had anything to do with."""
    book = Tally()
    book.take(hand("w1", 1))
    book.at("w1", "repair", 600.0)
    clock.now += 1
    for _ in range(3600):
        book.take(hand("w2", 2))
        book.leave("w2", {}, whole=True)
        clock.now += 1
    [death] = book.casualties()
    assert not death.hung
