"""Shares a cluster among the pools of a run: as much of it for each as makes all of them equally fast."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.cards import card_fault
from cluster.nodes import Node
from cluster.places import Actors, have_places

# More threads than this bring one network little; a second actor brings more.
_MOST_THREADS = 8
# Cores are divided in another way where that is so much faster: plans are not exact, and more actors take more memory.
_WORTH = 1.05
# What each of several threads of one network brings: they wait for one another, and for whatever takes a core from one of them
# (measured: docs/performance.md, part c).
_TOGETHER = 0.8
# Photographs for each actor below which the last ones leave too many of them idle; and seconds that one may be in a network's
# hands, for as long as that is lost where an actor is.
_ROUNDS, _IN_HAND = 4, 600.0
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
    which it cannot work at all. core_memory: what its network takes beside `memory` where it works on cores.
    """

    name: str
    heavy: bool
    seconds: float
    card_seconds: float = 0.0
    memory: int = 0
    card_memory: int = 0
    card_least: int = 0
    core_memory: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Actors of a pool as the user wants them: at least, at most."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to do. megapixels: of an ordinary photograph."""

    photographs: int
    megapixels: float


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


@dataclass(frozen=True, slots=True)
class _Way:
    """How networks are divided into actors. on_card: on cards, where `every` card gets one of each network, else as few as are
    fast enough. threads: on cores, what an actor has at most; None lets each network have what wastes least by itself."""

    on_card: bool = False
    every: bool = False
    threads: int | None = None


def allocate(
    demands: Sequence[Demand],
    nodes: Sequence[Node],
    wanted: Mapping[str, Bounds] | None = None,
    later: Sequence[Node] = (),
    work: Work | None = None,
) -> Layout:
    """Every pool gets at least one actor, and all of them fit at once: a pool that had to wait would stop the others.

    Looks for the highest throughput for which every pool has actors enough and every actor a place on one node: light pools
    on nodes without a card first, as Ray places them. wanted: actors of a pool as the user wants them; the CPUs of one actor
    shrink so that they fit. later: the nodes that the cluster may grow to; pools are then sized for these, and begin small.
    work: what there is to do, where that is known. Raises PoolError where networks do not fit the cards, or no node has a CPU.
    """
    there = tuple(later) or tuple(nodes)
    if not any(node.cpus > 0 for node in there):
        raise PoolError("the cluster has no CPU to give")
    wanted = wanted or {}
    on_card = any(node.gpus > 0 for node in there) and any(demand.heavy for demand in demands)
    _check_cards(demands, there, on_card=on_card)
    if not on_card:
        demands = [replace(demand, memory=demand.memory + demand.core_memory) for demand in demands]
    best = _on_cards(demands, there, wanted) if on_card else _on_cores(demands, there, wanted, work)
    pools = best.pools
    if later:
        pools = tuple(_growing(pool, wanted.get(pool.name)) for pool in pools)
    cost = {demand.name: _cost(demand, there, on_card=on_card) for demand in demands}
    return replace(
        best,
        pools=pools,
        rate=min(best.rate, *(pool.rate for pool in pools)),
        bottleneck=max(cost, key=lambda name: cost[name]),
        notes=tuple(_notes(demands, pools, there)),
    )


def _on_cards(demands: Sequence[Demand], nodes: Sequence[Node], wanted: Mapping[str, Bounds]) -> Layout:
    """Each card gets an actor of every network, or as few as are fast enough, whichever lets more through."""
    ways = (_Way(on_card=True, every=every) for every in (False, True))
    return max((_fitting(demands, nodes, wanted, way) for way in ways), key=lambda layout: layout.rate)


def _on_cores(
    demands: Sequence[Demand], nodes: Sequence[Node], wanted: Mapping[str, Bounds], work: Work | None
) -> Layout:
    """Networks in few actors of many cores, or in more of fewer, which lose less to waiting and start later to deliver. What is
    lost to remainders differs with the nodes."""
    most = min(_MOST_THREADS, int(max(node.cpus for node in nodes)))
    best = _threaded(demands, nodes, wanted, _Way())
    for threads in range(most, 0, -1):
        found = _threaded(demands, nodes, wanted, _Way(threads=threads))
        if _effective(found) > _effective(best) * _WORTH and _even(found, demands, work):
            best = found
    return best


def _effective(layout: Layout) -> float:
    """Megapixels of the source a second, less what threads of one network lose."""
    return min(pool.rate * (_TOGETHER if pool.threads > 1 else 1.0) for pool in layout.pools)


def _even(layout: Layout, demands: Sequence[Demand], work: Work | None) -> bool:
    """Whether all actors of networks have something to do nearly to the end, and none has it for too long."""
    networks = [(pool, demand) for pool, demand in zip(layout.pools, demands, strict=True) if demand.heavy]
    return work is None or all(
        pool.size * _ROUNDS <= work.photographs and work.megapixels * demand.seconds / pool.threads <= _IN_HAND
        for pool, demand in networks
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


def _fitting(demands: Sequence[Demand], nodes: Sequence[Node], wanted: Mapping[str, Bounds], way: _Way) -> Layout:
    """The highest throughput that fits."""
    on_card = way.on_card
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
        pools = tuple(_sized(demand, rate, nodes, wanted.get(demand.name), way) for demand in demands)
        if (way.threads is None or _spared(pools, demands, nodes, rate) >= 0) and _fits(pools, demands, nodes):
            return Layout(pools, rate, cores, cards)
        rate *= _STEP
    return Layout(_smallest(demands, nodes, wanted, on_card=on_card), rate, cores, cards)


def _sized(demand: Demand, rate: float, nodes: Sequence[Node], bounds: Bounds | None, way: _Way) -> Allocation:
    """As many actors as keep up with `rate`."""
    if way.on_card and demand.heavy:
        used = rate * demand.card_seconds
        cards = int(sum(node.gpus for node in nodes))
        size = _bounded(max(cards if way.every else 1, math.ceil(used - 1e-9)), bounds)
        # A card's memory is shared by fractions, too, since Ray knows no other bound.
        known = [node.card_memory for node in nodes if node.gpus > 0 and node.card_memory]
        share = max(used / size, demand.card_memory / min(known) if known else 0.0)
        core = _floor(min(1.0, used / size))
        return Allocation(
            demand.name, size, core, _floor(min(1.0, share), up=True), 1, size / demand.card_seconds, size
        )
    used = rate * demand.seconds
    most = max(1.0, min(_MOST_THREADS, max(node.cpus for node in nodes))) if demand.heavy else 1.0
    if way.threads is not None and demand.heavy:
        size = _bounded(max(1, math.ceil(used / way.threads - 1e-9)), bounds)
        cores = _floor(min(way.threads, most, used / size))
        threads = _rounded_up(min(way.threads, most, used / size), cores, nodes)
    else:
        size = _bounded(_actors(used, most), bounds)
        cores = _floor(min(most, used / size))
        threads = max(1, int(cores))
    return Allocation(demand.name, size, cores, 0.0, threads, size * max(cores, threads) / demand.seconds, size)


def _rounded_up(share: float, cores: float, nodes: Sequence[Node]) -> int:
    """Threads for a share of cores of which Ray reserves whole ones: one more, where so many actors as find a place on a node
    still have no more threads than it has cores. What is not reserved is where light pools find theirs."""
    threads = math.ceil(share - 1e-9)
    crowded = any(int(node.cpus / cores) * threads > node.cpus for node in nodes)
    return max(1, int(cores) if crowded else threads)


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
    pairs = zip(pools, demands, strict=True)
    return have_places((Actors(pool.size, pool.cpus, pool.gpus, demand.memory) for pool, demand in pairs), nodes)


def _busy(demands: Sequence[Demand], rate: float) -> set[int]:
    """Networks that keep more than half a core busy, or all of them: what does less sleeps most of the time."""
    heavy = {i for i, demand in enumerate(demands) if demand.heavy}
    return {i for i in heavy if rate * demands[i].seconds > 0.5} or heavy


def _spared(pools: Sequence[Allocation], demands: Sequence[Demand], nodes: Sequence[Node], rate: float) -> int:
    """Cores beyond the threads of networks and what the others are busy with."""
    busy = _busy(demands, rate)
    others = sum(rate * demand.seconds for i, demand in enumerate(demands) if i not in busy)
    return int(sum(node.cpus for node in nodes) - int(others)) - sum(pools[i].size * pools[i].threads for i in busy)


def _threaded(demands: Sequence[Demand], nodes: Sequence[Node], wanted: Mapping[str, Bounds], way: _Way) -> Layout:
    """With threads for networks beyond what Ray reserves for them: light pools leave cores idle, and reservations are rounded
    down. Never more than there are cores, but that every network has one."""
    layout = _fitting(demands, nodes, wanted, way)
    busy, spared = _busy(demands, layout.rate), _spared(layout.pools, demands, nodes, layout.rate)
    most = int(min(_MOST_THREADS, max(node.cpus for node in nodes)))
    found = list(layout.pools)
    while room := [i for i in busy if found[i].threads < most and found[i].size <= spared]:
        slowest = min(room, key=lambda i: found[i].size * found[i].threads / demands[i].seconds)
        found[slowest] = replace(found[slowest], threads=found[slowest].threads + 1)
        spared -= found[slowest].size
    for i in busy:
        found[i] = replace(found[i], rate=found[i].size * found[i].threads / demands[i].seconds)
    return replace(layout, pools=tuple(found), rate=min(layout.rate, *(pool.rate for pool in found)))


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
