"""Adds up a run's progress, and knows which photographs each worker has in hand. An actor at run time; without Ray here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class StageCount:
    """How far one stage has come. seconds: spent inside it, over all actors."""

    done: int = 0
    failed: int = 0
    seconds: float = 0.0


# Seconds within which a death is noticed: another process starts in the worker's place, or the pass ends.
_NOTICED = 60.0
Counts = Mapping[str, StageCount]


@dataclass(frozen=True, slots=True)
class Hand:
    """What a worker has taken up. worker, node: Ray's ids. deadline: seconds that `stage` may take, counted from `since`
    (the tally's own clock)."""

    worker: str
    node: str
    items: tuple[int, ...]
    stage: str = ""
    since: float = 0.0
    deadline: float = float("inf")


@dataclass(frozen=True, slots=True)
class Death:
    """A worker that ended, or raised what nobody foresaw, with photographs in hand. seconds: that its last stage had taken."""

    hand: Hand
    seconds: float

    @property
    def hung(self) -> bool:
        """Ended by its deadline. Deaths are noticed late, but not by much: what took far longer died earlier, of itself."""
        return self.hand.deadline <= self.seconds <= self.hand.deadline + _NOTICED


class Tally:
    """Counts, faults that stop the run, and what is in whose hands."""

    def __init__(self) -> None:
        self.counts: dict[str, StageCount] = {}
        self.faults: list[str] = []
        self.hands: dict[str, Hand] = {}
        self.deaths: list[Death] = []
        # When photographs left one pool for the next, by item_no.
        self.between: dict[int, float] = {}

    def opened(self, worker: str) -> None:
        """A worker's process begins; what one of that name had in hand before, it died with."""
        self._bury(worker)

    def take(self, hand: Hand) -> bool:
        """A worker takes photographs up. False where the run was stopped and nothing more should be worked on."""
        self._bury(hand.worker)
        for item in hand.items:
            self.between.pop(item, None)
        self.hands[hand.worker] = replace(hand, since=time.monotonic())
        return not self.faults

    def at(self, worker: str, stage: str, deadline: float) -> None:
        """The stage that has begun on what the worker has in hand."""
        if worker in self.hands:
            self.hands[worker] = replace(self.hands[worker], stage=stage, since=time.monotonic(), deadline=deadline)

    def leave(self, worker: str, counts: Counts, *, whole: bool) -> None:
        """A worker lets go of what it had in hand. whole: it answered; else the photographs are lost to this pass."""
        if whole:
            hand = self.hands.pop(worker, None)
            if hand is not None and "deliver" not in counts:
                self.between |= dict.fromkeys(hand.items, time.monotonic())
        else:
            self._bury(worker)
        for stage, more in counts.items():
            so_far = self.counts.get(stage, StageCount())
            self.counts[stage] = StageCount(
                so_far.done + more.done, so_far.failed + more.failed, so_far.seconds + more.seconds
            )

    def report(self, faults: Sequence[str]) -> None:
        """Faults for which the run has to stop."""
        self.faults += [fault for fault in faults if fault not in self.faults]

    def stopped(self) -> bool:
        return bool(self.faults)

    def snapshot(self) -> tuple[Counts, tuple[str, ...]]:
        return dict(self.counts), tuple(self.faults)

    def longest_wait(self) -> float:
        """Seconds since the photograph left its pool that has waited longest for the next one; 0 where none waits."""
        return time.monotonic() - min(self.between.values()) if self.between else 0.0

    def casualties(self) -> tuple[Death, ...]:
        """All deaths. To be asked when no worker works any more: what is still in hand then, a worker died with."""
        for worker in list(self.hands):
            self._bury(worker)
        return tuple(self.deaths)

    def _bury(self, worker: str) -> None:
        if (hand := self.hands.pop(worker, None)) is not None:
            self.deaths.append(Death(hand, time.monotonic() - hand.since))
