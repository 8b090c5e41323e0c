"""Which stages share a pool of actors, what each pool asks for, and how a cluster is divided among them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from cluster.cards import card_least
from cluster.connect import Resources
from cluster.pools import Allocation, Bounds, Demand, Layout, PoolError, Work, allocate
from jobs.calibration import ENGINE, Calibration
from jobs.rundir import Plan
from pipeline.errors import JobError
from pipeline.memory import Size, need
from pipeline.models.store import ModelStore
from pipeline.stages import FOOTPRINTS
from pipeline.worker import Pool

# What a worker's process takes before it holds a photograph: Python, Ray, codecs; and with torch in it.
_PROCESS = 300 << 20
_WITH_TORCH = 700 << 20
# Seconds of one core that a photograph takes in every pool beside its stages (Ray's blocks and calls, packing), and its commit
# in the last one (`tests.simulate profile` and `scale`, docs/scaling.md).
_HANDLING = 0.006
_COMMIT = 0.006
# A photograph of which nothing is known, megapixels; and bytes of a pixel in a file, where only those are.
_ORDINARY = 12.0
_BYTES_A_PIXEL = 1.0


def stage_groups(plan: Plan) -> tuple[tuple[tuple[str, ...], bool], ...]:
    """Neighbouring stages that share a pool, and whether they hold a model: those with one never share."""
    installed = _installed(plan)
    groups: list[tuple[list[str], bool]] = [(["ingest"], False)]
    for spec in plan.recipe.stages:
        holds = spec.holds_network(installed)
        if holds or groups[-1][1]:
            groups.append(([spec.name], holds))
        else:
            groups[-1][0].append(spec.name)
    if groups[-1][1]:
        groups.append((["deliver"], False))
    else:
        groups[-1][0].append("deliver")
    return tuple((tuple(names), heavy) for names, heavy in groups)


def demands(plan: Plan, calibration: Calibration | None = None) -> tuple[Demand, ...]:
    """What each pool asks for: what was measured, and where nothing was, what its stages declare."""
    weights = plan.recipe.weight_bytes(ModelStore(plan.spec.model_source()), _installed(plan))
    card_bytes = calibration.card_bytes if calibration is not None else {}
    engine = (calibration.rate(ENGINE) or 0.0) if calibration is not None else 0.0
    size = _ordinary(plan, calibration)
    in_hand, on_cores = _in_hand(plan, size, on_cores=False), _in_hand(plan, size, on_cores=True)
    found, groups = [], stage_groups(plan)
    for number, (names, heavy) in enumerate(groups):
        weighs = sum(weights.get(name, 0) for name in names)
        around = (_HANDLING + (_COMMIT if number == len(groups) - 1 else 0.0)) / (size.pixels / 1e6)
        found.append(
            Demand(
                name="+".join(names),
                heavy=heavy,
                seconds=sum(_core_seconds(name, calibration, heavy=heavy, network=name in weights) for name in names)
                + (around if number else around + engine),
                card_seconds=sum(_card_seconds(name, calibration) for name in names) if heavy else 0.0,
                memory=max(in_hand[name] for name in names) + _PROCESS + (_WITH_TORCH + weighs if weighs else 0),
                core_memory=max(on_cores[name] - in_hand[name] for name in names) if heavy else 0,
                card_memory=card_bytes.get(names[0], weights[names[0]] + FOOTPRINTS[names[0]].card_bytes)
                if heavy
                else 0,
                card_least=card_least(weights[names[0]]) if heavy else 0,
            )
        )
    return tuple(found)


def _in_hand(plan: Plan, size: Size, *, on_cores: bool) -> dict[str, int]:
    """Bytes that an ordinary photograph takes in each stage. A network that has no pool of its own works on cores.
    on_cores: the others do, too, rather than on cards."""
    grown = _scales(plan)
    store, installed = ModelStore(plan.spec.model_source()), _installed(plan)
    networks = {
        spec.name: [store.card(model).architecture for model in spec.opens(installed)]
        for spec in plan.recipe.stages
        if on_cores or not spec.holds_network(installed)
    }
    # A stage behind the upscaler holds photographs of its size.
    return {
        name: need(_times(size, scale), [FOOTPRINTS[name].working], networks.get(name, ()))
        for name, scale in grown.items()
    }


def lay_out(plan: Plan, resources: Resources, calibration: Calibration | None = None) -> Layout:
    """The cluster's share of every pool. Raises JobError where they cannot work on it."""
    sizes = plan.spec.cluster.pools
    wanted: dict[str, Bounds] = {}
    for names, _ in stage_groups(plan):
        chosen = next((sizes[name] for name in names if name in sizes), None)
        if chosen is not None:
            wanted["+".join(names)] = (
                Bounds(chosen, chosen) if isinstance(chosen, int) else Bounds(chosen.min, chosen.max)
            )
    try:
        work = Work(plan.photographs, _ordinary(plan, calibration).pixels / 1e6)
        return allocate(demands(plan, calibration), resources.shapes, wanted, resources.later, work)
    except PoolError as error:
        raise JobError(str(error)) from error


def pools_of(layout: Layout) -> tuple[Pool, ...]:
    return tuple(_pool(allocation) for allocation in layout.pools)


def plan_pools(plan: Plan, resources: Resources, calibration: Calibration | None = None) -> tuple[Pool, ...]:
    return pools_of(lay_out(plan, resources, calibration))


def said(layout: Layout) -> Iterator[str]:
    """A layout in lines for people."""
    width = max(len(pool.name) for pool in layout.pools)
    for pool in layout.pools:
        actors = f"{pool.size}" if pool.least == pool.size else f"{pool.least} to {pool.size}"
        share = f"{pool.cpus:g} CPU" + (f", {pool.gpus:g} GPU" if pool.gpus else "")
        threads = f", {pool.threads} threads" if pool.threads > 1 else ""
        mark = "  (the bottleneck)" if pool.name == layout.bottleneck and len(layout.pools) > 1 else ""
        yield f"Pool      {pool.name:<{width}}  {actors} x {share}{threads}, up to {pool.rate:.3g} megapixels/s{mark}"
    for note in layout.notes:
        yield f"Note      {note}"


def _pool(allocation: Allocation) -> Pool:
    a = allocation
    return Pool(tuple(a.name.split("+")), a.size, a.cpus, a.gpus, a.threads, None if a.least == a.size else a.least)


def _core_seconds(stage: str, calibration: Calibration | None, *, heavy: bool, network: bool) -> float:
    """Seconds of one core for a megapixel. network: whether it computes with one, be it in a pool that it shares."""
    rate = None if calibration is None else calibration.rate(stage)
    if calibration is None or rate is None or (heavy and calibration.device == "cuda"):
        declared = FOOTPRINTS[stage]
        return declared.seconds + (declared.network_seconds if network else 0.0)
    # A network had all its threads for as long as that.
    return max(rate * (calibration.threads if heavy else 1), 1e-6)


def _card_seconds(stage: str, calibration: Calibration | None) -> float:
    rate = None if calibration is None or calibration.device != "cuda" else calibration.rate(stage)
    return max(FOOTPRINTS[stage].card_seconds if rate is None else rate, 1e-6)


def _ordinary(plan: Plan, calibration: Calibration | None) -> Size:
    """An ordinary photograph of the collection, in 8-bit RGB."""
    megapixels = calibration.megapixels() if calibration is not None else None
    if megapixels is None:
        known = plan.index.known_bytes / max(plan.photographs, 1) / _BYTES_A_PIXEL / 1e6
        megapixels = min(known, _ORDINARY) if known else _ORDINARY
    side = max(1, round(math.sqrt(megapixels * 1e6)))
    return Size(side, side, 3, 8)


def _times(size: Size, scale: int) -> Size:
    return Size(size.width * scale, size.height * scale, size.channels, size.depth)


def _scales(plan: Plan) -> dict[str, int]:
    """How much larger than the source a photograph is on one side when it enters each stage."""
    store, scale = ModelStore(plan.spec.model_source()), 1
    found = {"ingest": 1}
    for spec in plan.recipe.stages:
        found[spec.name] = scale
        for need_ in spec.needs():
            if need_.task == "upscale":
                scale *= store.card(need_.model_id).scale
    return found | {"deliver": scale}


def _installed(plan: Plan) -> set[str]:
    return {use.id for use in plan.models if use.sha256 is not None}
