"""Whether actors find places on a cluster's nodes, as Ray places them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from cluster.nodes import Node


class Actors(NamedTuple):
    """So many of one kind, and what each of them reserves. memory: bytes."""

    number: int
    cpus: float
    gpus: float
    memory: int


def have_places(actors: Iterable[Actors], nodes: Sequence[Node]) -> bool:
    """Whether every actor has a place, largest first, each on the first node with room: without a card those without one."""
    rooms = [_Room.of(node) for node in nodes]
    rooms.sort(key=lambda room: len(room.cards) > 0)
    for kind in sorted(actors, key=lambda kind: (-kind.gpus, -kind.cpus, -kind.memory)):
        left = kind.number
        for room in rooms:
            left -= room.take(kind, left)
            if not left:
                break
        if left:
            return False
    return True


@dataclass(slots=True)
class _Room:
    """What is left of one node while places are looked for. cards: of each the share that is left, since Ray gives an actor a
    share of one card and never shares of two."""

    cpus: float
    memory: float
    cards: list[float]

    @classmethod
    def of(cls, node: Node) -> Self:
        return cls(node.cpus, math.inf if node.memory is None else node.memory, [1.0] * int(node.gpus))

    def take(self, kind: Actors, most: int) -> int:
        """Places as many actors as there is room for; how many that were."""
        count = min(most, int((self.cpus + 1e-9) / kind.cpus))
        if kind.memory and self.memory < math.inf:
            count = min(count, int(self.memory / kind.memory))
        if kind.gpus:
            left, count = count, 0
            for i, share in enumerate(self.cards):
                here = min(left - count, int((share + 1e-9) / kind.gpus))
                self.cards[i] -= here * kind.gpus
                count += here
        self.cpus -= count * kind.cpus
        self.memory -= count * kind.memory
        return count
