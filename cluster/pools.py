"""Shares a cluster's CPUs and GPUs among the pools of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

# Share of the CPUs that a pool without a network gets: decoding and encoding keep up with networks on far fewer cores.
_LIGHT_SHARE = 0.125
# More threads than this bring one network little; a second actor brings more.
_MOST_THREADS = 8


@dataclass(frozen=True, slots=True)
class Demand:
    """What one pool asks for. heavy: it runs a network. weight: its share of the work beside other heavy pools."""

    name: str
    heavy: bool
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Allocation:
    """What one pool gets. cpus and gpus are for one actor, as Ray reserves them; threads are for its networks."""

    name: str
    size: int
    cpus: float
    gpus: float
    threads: int


def allocate(
    demands: Sequence[Demand],
    cpus: float,
    gpus: float,
    sizes: Mapping[str, int] | None = None,
    node_cpus: float | None = None,
) -> tuple[Allocation, ...]:
    """Every pool gets at least one actor, and all of them fit at once: a pool that had to wait would stop the others.

    sizes: actors of a pool as the user wants them; the CPUs of one actor shrink so that they fit.
    node_cpus: CPUs of the largest node, above which no actor could be placed; None for one node that has all.
    """
    wanted = sizes or {}
    heavy = [demand for demand in demands if demand.heavy]
    light = [demand for demand in demands if not demand.heavy]
    light_budget = _light_budget(cpus, len(light), heavy=bool(heavy), on_gpu=gpus > 0)
    result = {d.name: _light(d, light_budget / len(light), wanted) for d in light}
    total = sum(demand.weight for demand in heavy)
    for demand in heavy:
        share = demand.weight / total
        result[demand.name] = _heavy(demand, share, cpus - light_budget, gpus, min(cpus, node_cpus or cpus), wanted)
    if gpus <= 0:
        _share_threads(result, [demand.name for demand in heavy], cpus)
    return tuple(result[demand.name] for demand in demands)


def _share_threads(result: dict[str, Allocation], heavy: Sequence[str], cpus: float) -> None:
    """Every network has at least one thread; what that takes comes from those that have most."""
    while heavy and sum(result[name].size * result[name].threads for name in heavy) > cpus:
        most = max(heavy, key=lambda name: result[name].threads)
        if result[most].threads == 1:
            return
        result[most] = replace(result[most], threads=result[most].threads - 1)


def _light_budget(cpus: float, lights: int, *, heavy: bool, on_gpu: bool) -> float:
    if not heavy:
        return cpus
    if on_gpu:
        # A network on a card needs a core to feed it, and little more.
        return cpus * 0.75
    # Without a card, networks are what the cores are for; on a small machine light stages still get half a core each.
    return max(lights * cpus * _LIGHT_SHARE, min(lights * 0.5, cpus / 2))


def _light(demand: Demand, budget: float, wanted: Mapping[str, int]) -> Allocation:
    size = wanted.get(demand.name) or max(1, int(budget))
    return Allocation(demand.name, size, _floor(min(1.0, budget / size)), 0.0, 1)


def _heavy(
    demand: Demand, share: float, budget: float, gpus: float, node: float, wanted: Mapping[str, int]
) -> Allocation:
    if gpus > 0:
        size = wanted.get(demand.name) or max(1, int(gpus))
        # Whole actors share a card: three actors on two cards mean two on one of them.
        gpu = _floor(share / math.ceil(size / gpus))
        return Allocation(demand.name, size, _floor(min(1.0, budget * share / size)), gpu, 1)
    own = budget * share
    size = wanted.get(demand.name) or max(1, math.ceil(own / min(_MOST_THREADS, node)))
    # Light stages sleep most of the time, so that a lone network may use the cores that are set aside for them.
    threads = max(1, int(own / size)) if own >= 4 else max(1, int(node * share / size))
    return Allocation(demand.name, size, _floor(min(node, own / size)), 0.0, threads)


def _floor(share: float) -> float:
    """Ray counts in ten-thousandths; rounding down keeps the sum within what there is."""
    return max(0.0001, int(share * 10_000) / 10_000 if share < 1 else float(int(share)))
