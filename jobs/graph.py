"""Which stages share a pool of actors, and how a cluster is divided among the pools."""

from __future__ import annotations

from cluster.connect import Resources
from cluster.pools import Allocation, Demand, allocate
from jobs.rundir import Plan
from pipeline.runtime import Pool

# Rough shares of work among networks, until rates are measured.
_WEIGHTS = {"analyse": 0.25, "faces": 1.0, "upscale": 2.0}


def stage_groups(plan: Plan) -> tuple[tuple[tuple[str, ...], bool], ...]:
    """Neighbouring stages that share a pool, and whether they hold a model: those with one never share."""
    installed = {use.id for use in plan.models if use.sha256 is not None}
    groups: list[tuple[list[str], bool]] = [(["ingest"], False)]
    for spec in plan.recipe.stages:
        essential = [need.model_id for need in spec.needs() if need.essential]
        holds = bool(essential) and installed.issuperset(essential)
        if holds or groups[-1][1]:
            groups.append(([spec.name], holds))
        else:
            groups[-1][0].append(spec.name)
    if groups[-1][1]:
        groups.append((["deliver"], False))
    else:
        groups[-1][0].append("deliver")
    return tuple((tuple(names), heavy) for names, heavy in groups)


def plan_pools(plan: Plan, resources: Resources) -> tuple[Pool, ...]:
    groups = stage_groups(plan)
    sizes = plan.spec.cluster.pools
    demands = [
        Demand("+".join(names), heavy, max(_WEIGHTS.get(name, 1.0) for name in names)) for names, heavy in groups
    ]
    chosen = {
        demand.name: next(sizes[name] for name in names if name in sizes)
        for demand, (names, _) in zip(demands, groups, strict=True)
        if any(name in sizes for name in names)
    }
    allocations = allocate(demands, resources.cpus, resources.gpus, chosen, resources.node_cpus)
    return tuple(_pool(names, allocation) for (names, _), allocation in zip(groups, allocations, strict=True))


def _pool(names: tuple[str, ...], allocation: Allocation) -> Pool:
    return Pool(names, allocation.size, allocation.cpus, allocation.gpus, allocation.threads)
