"""What is to be killed, what was killed, and what came of it: the mix, the log and the table."""

from __future__ import annotations

import json
import random
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.audit.opens import Open

# Shares of each kind among all kills, and what is killed.
KINDS = {
    "planning": (5, "a driver before run.json is there"),
    "opening": (7, "a driver that takes the lease and seals what it finds"),
    "working": (12, "a driver at work"),
    "compacting": (9, "a driver that writes a part or a seal"),
    "worker": (38, "a worker with photographs in hand"),
    "tally": (2, "the worker that counts for the driver"),
    "raylet": (7, "a raylet; its workers are left to find out"),
    "node": (7, "a node: raylet, agents and workers at once"),
    "gc": (6, "`albumen gc --delete`"),
    "update": (7, "`albumen update`"),
}
# Which kinds go first where there are fewer kills than kinds.
_ORDER = ("worker", "working", "raylet", "gc", "opening", "compacting", "planning", "node", "update", "tally")
# No kill, but work is lost to it all the same.
STOPPED = "stopped"
IN_SESSION = ("worker", "tally", "raylet", "node")
DRIVER_ENDS = ("opening", "working", "compacting")


def share_out(kills: int, without: Sequence[str] = ()) -> dict[str, int]:
    """How many kills of each kind: by share, largest remainders first; each kind once where there are enough."""
    kinds = [kind for kind in _ORDER if kind not in without]
    counts = dict.fromkeys(KINDS, 0) | dict.fromkeys(kinds[:kills], 1)
    rest = max(kills - len(kinds), 0)
    total = sum(KINDS[kind][0] for kind in kinds)
    exact = {kind: rest * KINDS[kind][0] / total for kind in kinds}
    for kind in kinds:
        counts[kind] += int(exact[kind])
    for kind in sorted(kinds, key=lambda kind: int(exact[kind]) - exact[kind])[: max(kills - sum(counts.values()), 0)]:
        counts[kind] += 1
    return counts


class Deck:
    """The kills that are still to be made, drawn at random by the weight of what is left of each kind."""

    def __init__(self, kills: int, rng: random.Random, without: Sequence[str] = ()) -> None:
        self.left = share_out(kills, without)
        self._rng = rng

    def __len__(self) -> int:
        return sum(self.left.values())

    def draw(self, kinds: Sequence[str]) -> str | None:
        """One of `kinds`, or None where none is left of any."""
        there = [kind for kind in kinds if self.left[kind]]
        if not there:
            return None
        kind = self._rng.choices(there, [self.left[k] for k in there])[0]
        self.left[kind] -= 1
        return kind

    def put_back(self, kind: str) -> None:
        """A kill that met nobody alive."""
        self.left[kind] += 1


@dataclass(frozen=True, slots=True)
class Kill:
    """at: time.monotonic(). moment: what was waited for. pids: what got SIGKILL."""

    kind: str
    at: float
    moment: str
    pids: tuple[int, ...]


class Log:
    """One JSON object a line, as things happen."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._start = time.monotonic()

    def write(self, event: str, **facts: Any) -> None:
        line = {"at": round(time.monotonic() - self._start, 3), "event": event} | facts
        self._file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        self._file.flush()
        shown = " ".join(f"{name}={value}" for name, value in facts.items() if name != "said")
        print(f"{line['at']:9.1f}  {event:<10} {shown}", flush=True)

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class Lost:
    """Originals that were opened again. by_kind: after a kill. unexplained: without one."""

    by_kind: Mapping[str, int]
    unexplained: tuple[str, ...]

    def __add__(self, other: Lost) -> Lost:
        return Lost(Counter(self.by_kind) + Counter(other.by_kind), self.unexplained + other.unexplained)


# Workers outlive their driver or their raylet by so much, and may take up one more photograph (seconds).
_GRACE = 15.0
_OUTLIVED = (*DRIVER_ENDS, "raylet", "tally", STOPPED)


def work_lost(opens: Iterable[Open], kills: Sequence[Kill]) -> Lost:
    """Which kill made each photograph be worked on again: the first one after it was taken up, or the last one just before."""
    times = [kill.at for kill in kills]
    last: dict[str, float] = {}
    by_kind: Counter[str] = Counter()
    unexplained: list[str] = []
    for one in sorted(opens, key=lambda one: one.at):
        before = last.get(one.name)
        last[one.name] = one.at
        if before is None:
            continue
        first = bisect_left(times, before)
        if first < len(kills) and times[first] <= one.at:
            by_kind[kills[first].kind] += 1
        elif first and before - times[first - 1] < _GRACE and kills[first - 1].kind in _OUTLIVED:
            by_kind[kills[first - 1].kind] += 1
        else:
            unexplained.append(one.name)
    return Lost(dict(by_kind), tuple(unexplained))


@dataclass(frozen=True, slots=True)
class Round:
    """One run of the collection, from its plan to its audit. faults: the auditor's, by kind. gave_up: drivers that ended by
    themselves with an error. stalled: drivers that made no progress. refusals: second drivers that were refused. woken:
    paused drivers that found their lease lost. wrong: what should not have happened, in words."""

    kills: Mapping[str, int]
    photographs: int
    ended: Mapping[str, int]
    faults: Mapping[str, int]
    lost: Lost
    orphans_before: int
    orphans_after: int
    quarantined: int
    gave_up: int
    stalled: int
    refusals: int
    woken: int
    seconds: float
    wrong: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        return not self.faults and not self.wrong and not self.orphans_after


@dataclass(frozen=True, slots=True)
class Results:
    """amiss: what should not have happened in the reference run, in words."""

    seed: int
    place: str
    rounds: Sequence[Round] = field(default_factory=tuple)
    amiss: Sequence[str] = ()

    @property
    def clean(self) -> bool:
        return bool(self.rounds) and all(one.clean for one in self.rounds) and not self.amiss

    def as_json(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "place": self.place,
            "clean": self.clean,
            "amiss": list(self.amiss),
            "kills": dict(_added(one.kills for one in self.rounds)),
            "rounds": [
                {name: getattr(one, name) for name in Round.__slots__ if name != "lost"}
                | {"worked_on_again": dict(one.lost.by_kind), "unexplained": list(one.lost.unexplained)}
                for one in self.rounds
            ],
        }


_TORN = ("altered", "torn", "part", "seal", "manifest", "run", "lease", "row")


def table(results: Results) -> str:
    """Markdown: the kills by kind, and what the auditor found round by round."""
    kills = _added(one.kills for one in results.rounds)
    again = _added(one.lost.by_kind for one in results.rounds)
    lines = ["| killed | times | photographs worked on again | per kill |", "|---|---:|---:|---:|"]
    lines += [
        f"| {text} | {kills[kind]} | {again[kind]} | {again[kind] / kills[kind]:.2f} |"
        for kind, (_, text) in KINDS.items()
        if kills[kind]
    ]
    total, lost = sum(kills.values()), sum(again[kind] for kind in KINDS)
    lines += [f"| **all** | **{total}** | **{lost}** | **{lost / max(total, 1):.2f}** |", ""]
    if again[STOPPED]:
        lines += [f"A driver that was stopped, overtaken and woken: {again[STOPPED]} photographs worked on again.", ""]
    head = "round, kills, photographs, restored, refused, missing, duplicate, lost or torn, unequal bytes, other faults"
    head += ", orphans, after gc, quarantined and retried, refused drivers, woken drivers, minutes"
    lines += [f"| {head.replace(', ', ' | ')} |", "|" + "---:|" * (head.count(",") + 1)]
    lines += [f"| {' | '.join(map(str, _cells(number, one)))} |" for number, one in enumerate(results.rounds, start=1)]
    return "\n".join(lines) + "\n"


def _cells(number: int, one: Round) -> tuple[Any, ...]:
    faults = Counter(one.faults)
    named = {"missing", "duplicate", "lost", "unequal", *_TORN}
    refused = sum(count for status, count in one.ended.items() if status.startswith("refused"))
    return (
        number,
        sum(one.kills.values()),
        one.photographs,
        one.ended.get("restored", 0),
        refused,
        faults["missing"],
        faults["duplicate"],
        faults["lost"] + sum(faults[kind] for kind in _TORN),
        faults["unequal"],
        sum(count for kind, count in faults.items() if kind not in named),
        one.orphans_before,
        one.orphans_after,
        one.quarantined,
        one.refusals,
        one.woken,
        f"{one.seconds / 60:.1f}",
    )


def _added(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return total
