"""Shares a cluster among the pools of a run: as much of it for each as makes all of them equally fast."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.cards import card_fault
from cluster.nodes import Node

# More threads than this bring one network little; a second actor brings more.
_MOST_THREADS = 8
# What a throughput that does not fit is lowered by, until it does.
_STEP = 0.98
# Ray counts in ten-thousandths.
_LEAST = 0.0001


class PoolError(Exception):
    """These pools cannot work on these nodes. The text is for the user."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one pool asks for. heavy: it runs a network, on a card where there is one.

    seconds: of one core for a megapixel of the source. card_seconds: of a card instead. memory: bytes of one actor with an
    ordinary photograph in hand. card_memory: bytes of one actor on a card, its weights included. card_least: those without
    which it cannot work at all.
    """

    name: str
    heavy: bool
    seconds: float
    card_seconds: float = 0.0
    memory: int = 0
    card_memory: int = 0
    card_least: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Actors of a pool as the user wants them: at least, at most."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Allocation:
    """What one pool gets. cpus and gpus are for one actor, as Ray reserves them; threads are for its networks.
    rate: megapixels of the source a second, of all its actors together when they do nothing else. least: actors that are kept
    where the cluster grows and shrinks, else as many as `size`."""

    name: str
    size: int
    cpus: float
    gpus: float
    threads: int
    rate: float
    least: int


@dataclass(frozen=True, slots=True)
class Layout:
    """rate: megapixels of the source a second that all pools keep up with. cpus, gpus: of all nodes. bottleneck: the pool that
    gets most of the machine. notes: what is worth saying before work starts."""

    pools: tuple[Allocation, ...]
    rate: float
    cpus: float
    gpus: float
    bottleneck: str = ""
    notes: tuple[str, ...] = ()


def allocate(
    demands: Sequence[Demand],
    nodes: Sequence[Node],
    wanted: Mapping[str, Bounds] | None = None,
    later: Sequence[Node] = (),
) -> Layout:
    """Every pool gets at least one actor, and all of them fit at once: a pool that had to wait would stop the others.

    Looks for the highest throughput for which every pool has actors enough and every actor a place on one node: light pools
    on nodes without a card first, as Ray places them. wanted: actors of a pool as the user wants them; the CPUs of one actor
    shrink so that they fit. later: the nodes that the cluster may grow to; pools are then sized for these, and begin small.
    Raises PoolError where networks do not fit the cards, or no node has a CPU.
    """
    there = tuple(later) or tuple(nodes)
    if not any(node.cpus > 0 for node in there):
        raise PoolError("the cluster has no CPU to give")
    wanted = wanted or {}
    on_card = any(node.gpus > 0 for node in there) and any(demand.heavy for demand in demands)
    _check_cards(demands, there, on_card=on_card)
    best = max(
        (_fitting(demands, there, wanted, every=every, on_card=on_card) for every in (False, True)),
        key=lambda f: f.rate,
    )
    pools = best.pools if on_card else _with_threads(best.pools, demands, there, best.rate)
    if later:
        pools = tuple(_growing(pool, wanted.get(pool.name)) for pool in pools)
    cost = {demand.name: _cost(demand, there, on_card=on_card) for demand in demands}
    return Layout(
        pools,
        rate=min(best.rate, *(pool.rate for pool in pools)),
        cpus=best.cpus,
        gpus=best.gpus,
        bottleneck=max(cost, key=lambda name: cost[name]),
        notes=tuple(_notes(demands, pools, there)),
    )


def _check_cards(demands: Sequence[Demand], nodes: Sequence[Node], *, on_card: bool) -> None:
    if not on_card or any(node.gpus > 0 and node.card_memory is None for node in nodes):
        return
    smallest = min(node.card_memory or 0 for node in nodes if node.gpus > 0)
    least = {demand.name: demand.card_least for demand in demands if demand.heavy}
    fault = card_fault(least, smallest, int(sum(node.gpus for node in nodes)))
    if fault is not None:
        raise PoolError(f"the networks have no place in the cluster: {fault}")


def _cost(demand: Demand, nodes: Sequence[Node], *, on_card: bool) -> float:
    """The share of the machine that a megapixel a second takes: of its cores, or of its cards."""
    if on_card and demand.heavy:
        return demand.card_seconds / sum(node.gpus for node in nodes)
    return demand.seconds / sum(node.cpus for node in nodes)


def _fitting(
    demands: Sequence[Demand], nodes: Sequence[Node], wanted: Mapping[str, Bounds], *, every: bool, on_card: bool
) -> Layout:
    """The highest throughput that fits. every: each card gets an actor of every network, else as few as are fast enough."""
    cores, cards = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    heavy = [demand for demand in demands if demand.heavy]
    on_cards = sum(demand.card_seconds for demand in heavy) if on_card else 0.0
    on_cores = sum(demand.seconds for demand in demands if not (on_card and demand.heavy)) + on_cards
    rate = min(cores / on_cores, cards / on_cards if on_cards else math.inf)
    least = rate * 1e-4
    if not _fits(_smallest(demands, nodes, {}, on_card=on_card), demands, nodes):
        # One actor each is too much for the machine's memory: fewer there cannot be, and photographs wait for one another.
        wanted = {demand.name: Bounds(1, 1) for demand in demands} | dict(wanted)
        demands = [replace(demand, memory=0) for demand in demands]
    while rate > least:
        pools = tuple(
            _sized(demand, rate, nodes, wanted.get(demand.name), every=every, on_card=on_card) for demand in demands
        )
        if _fits(pools, demands, nodes):
            return Layout(pools, rate, cores, cards)
        rate *= _STEP
    return Layout(_smallest(demands, nodes, wanted, on_card=on_card), rate, cores, cards)


def _sized(
    demand: Demand, rate: float, nodes: Sequence[Node], bounds: Bounds | None, *, every: bool, on_card: bool
) -> Allocation:
    """As many actors as keep up with `rate`."""
    if on_card and demand.heavy:
        used = rate * demand.card_seconds
        cards = int(sum(node.gpus for node in nodes))
        size = _bounded(max(cards if every else 1, math.ceil(used - 1e-9)), bounds)
        # A card's memory is shared by fractions, too, since Ray knows no other bound.
        known = [node.card_memory for node in nodes if node.gpus > 0 and node.card_memory]
        share = max(used / size, demand.card_memory / min(known) if known else 0.0)
        core = _floor(min(1.0, used / size))
        return Allocation(
            demand.name, size, core, _floor(min(1.0, share), up=True), 1, size / demand.card_seconds, size
        )
    used = rate * demand.seconds
    most = max(1.0, min(_MOST_THREADS, max(node.cpus for node in nodes))) if demand.heavy else 1.0
    size = _bounded(_actors(used, most), bounds)
    cores = _floor(min(most, used / size))
    return Allocation(demand.name, size, cores, 0.0, max(1, int(cores)), size * max(1.0, cores) / demand.seconds, size)


def _actors(used: float, most: float) -> int:
    """As few actors as can use so many cores, of `most` at most each. What is beyond whole cores is lost to an actor with
    several, so that some more of fewer cores each are taken where that loses less."""
    fewest = max(1, math.ceil(used / most - 1e-9))
    if used / fewest <= 1:
        return fewest
    choices = range(fewest, 2 * fewest + 1)
    whole = {size: size * int(used / size + 1e-9) for size in choices}
    return next((size for size in choices if whole[size] >= 0.95 * used), max(choices, key=lambda size: whole[size]))


def _bounded(size: int, bounds: Bounds | None) -> int:
    return size if bounds is None else min(max(size, bounds.least), bounds.most)


def _smallest(
    demands: Sequence[Demand], nodes: Sequence[Node], wanted: Mapping[str, Bounds], *, on_card: bool
) -> tuple[Allocation, ...]:
    """Where nothing is as it should be: every actor gets an equal sliver, so that at least all of them are placed."""
    sizes = {demand.name: _bounded(1, wanted.get(demand.name)) for demand in demands}
    actors = sum(sizes.values())
    cpus = _floor(max(node.cpus for node in nodes) / actors)
    cards = sum(sizes[demand.name] for demand in demands if demand.heavy)
    gpus = _floor(1 / cards) if on_card else 0.0
    return tuple(
        Allocation(
            d.name, sizes[d.name], min(1.0, cpus), gpus if d.heavy else 0.0, 1, sizes[d.name] / d.seconds, sizes[d.name]
        )
        for d in demands
    )


def _fits(pools: Sequence[Allocation], demands: Sequence[Demand], nodes: Sequence[Node]) -> bool:
    """Whether every actor has a place, largest first, each on the first node with room: without a card those without one."""
    rooms = [_Room.of(node) for node in nodes]
    rooms.sort(key=lambda room: len(room.cards) > 0)
    pairs = sorted(zip(pools, demands, strict=True), key=lambda p: (-p[0].gpus, -p[0].cpus, -p[1].memory))
    for pool, demand in pairs:
        left = pool.size
        for room in rooms:
            left -= room.take(pool, demand.memory, left)
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
    def of(cls, node: Node) -> _Room:
        return cls(node.cpus, math.inf if node.memory is None else node.memory, [1.0] * int(node.gpus))

    def take(self, pool: Allocation, memory: int, most: int) -> int:
        """Places as many actors of a pool as there is room for; how many that were."""
        count = min(most, int((self.cpus + 1e-9) / pool.cpus))
        if memory and self.memory < math.inf:
            count = min(count, int(self.memory / memory))
        if pool.gpus:
            left, count = count, 0
            for i, share in enumerate(self.cards):
                here = min(left - count, int((share + 1e-9) / pool.gpus))
                self.cards[i] -= here * pool.gpus
                count += here
        self.cpus -= count * pool.cpus
        self.memory -= count * memory
        return count


def _with_threads(
    pools: Sequence[Allocation], demands: Sequence[Demand], nodes: Sequence[Node], rate: float
) -> tuple[Allocation, ...]:
    """Threads for networks beyond what Ray reserves for them: light pools leave cores idle, and reservations are rounded
    down. Never more than there are cores, but that every network has one."""
    # What keeps half a core busy at most sleeps most of the time, be it a network.
    busy = {i for i, demand in enumerate(demands) if demand.heavy and rate * demand.seconds > 0.5}
    heavy = busy or {i for i, demand in enumerate(demands) if demand.heavy}
    others = sum(rate * demand.seconds for i, demand in enumerate(demands) if i not in heavy)
    budget = int(sum(node.cpus for node in nodes) - int(others))
    most = int(min(_MOST_THREADS, max(node.cpus for node in nodes)))
    found = list(pools)
    while heavy:
        used = sum(found[i].size * found[i].threads for i in heavy)
        room = [i for i in heavy if found[i].threads < most and used + found[i].size <= budget]
        if not room:
            break
        slowest = min(room, key=lambda i: found[i].size * found[i].threads / demands[i].seconds)
        found[slowest] = replace(found[slowest], threads=found[slowest].threads + 1)
    for i in heavy:
        found[i] = replace(found[i], rate=found[i].size * found[i].threads / demands[i].seconds)
    return tuple(found)


def _growing(pool: Allocation, bounds: Bounds | None) -> Allocation:
    return replace(pool, least=min(pool.size, bounds.least if bounds is not None else 1))


def _notes(demands: Sequence[Demand], pools: Sequence[Allocation], nodes: Sequence[Node]) -> Iterable[str]:
    known = [node.memory for node in nodes if node.memory is not None]
    needed = sum(pool.size * demand.memory for pool, demand in zip(pools, demands, strict=True))
    if len(known) == len(nodes) and needed > sum(known):
        yield (
            f"the pools may take {needed / 1e9:.1f} GB and the cluster has {sum(known) / 1e9:.1f} GB to give: photographs will "
            "wait for one another"
        )


def _floor(share: float, *, up: bool = False) -> float:
    """Ray takes whole numbers above one, and ten-thousandths below; rounding down keeps the sum within what there is."""
    if share >= 1:
        return float(int(share + 1e-9))
    return max(_LEAST, (math.ceil(share * 10_000 - 1e-6) if up else int(share * 10_000)) / 10_000)
