"""Which stages share a pool, how many actors they get, and what a run's end says. No Ray is started."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.cards import card_least
from cluster.connect import Resources
from cluster.nodes import Node
from jobs import graph
from jobs.graph import demands, plan_pools, stage_groups
from jobs.run import Summary, describe, summarise
from jobs.rundir import ModelUse, Plan, prepare
from jobs.spec import JobSpec
from pipeline.models.store import ModelStore
from pipeline.stages import FOOTPRINTS

ALL = ["analyse", "repair", "faces", "upscale", "compose", "colour"]
Planned = Callable[..., Plan]


@pytest.fixture
def planned(make_spec: Callable[..., JobSpec], scans: Path) -> Planned:
    """A plan over the default stages, with the named models taken to be installed."""

    def make(installed: set[str] | None = None, **sections: Any) -> Plan:
        sections["recipe"] = {"stages": ALL} | sections.get("recipe", {})
        plan = prepare(make_spec(**sections))
        if installed is None:
            return plan
        models = [ModelUse(use.id, use.required, "0" * 64 if use.id in installed else None, "") for use in plan.models]
        return replace(plan, models=tuple(models))

    return make


EMBEDDED = "realesrgan-x4plus-embedded"
DETECTOR, RESTORER, DAMAGE = "retinaface-resnet50", "gfpgan-v1.4", "albumen-damage"


def test_without_downloads_only_the_upscaler_stands_alone(planned: Planned) -> None:
    assert stage_groups(planned()) == (
        (("ingest", "analyse", "repair", "faces"), False),
        (("upscale",), True),
        (("compose", "colour", "deliver"), False),
    )


def test_with_every_model_networks_never_share(planned: Planned) -> None:
    assert stage_groups(planned({EMBEDDED, DETECTOR, RESTORER})) == (
        (("ingest",), False),
        (("analyse",), True),
        (("repair",), False),
        (("faces",), True),
        (("upscale",), True),
        (("compose", "colour", "deliver"), False),
    )


def test_a_stage_that_lacks_one_of_its_models_holds_none(planned: Planned) -> None:
    assert stage_groups(planned({EMBEDDED, DETECTOR})) == (
        (("ingest",), False),
        (("analyse",), True),
        (("repair", "faces"), False),
        (("upscale",), True),
        (("compose", "colour", "deliver"), False),
    )


def test_a_recipe_without_models_is_one_pool(planned: Planned) -> None:
    plan = planned(recipe={"stages": ["analyse", "repair", "colour"], "analyse": {"detector": None}})
    assert stage_groups(plan) == ((("ingest", "analyse", "repair", "colour", "deliver"), False),)


@pytest.mark.parametrize("share", [0, 0.5])
def test_noise_is_taken_away_in_a_pool_of_its_own_where_a_job_asks_for_it(
    planned: Planned, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr(graph, "_HANDLING", 0.0)
    stages = {"stages": ["analyse", "repair", "colour"], "analyse": {"detector": None}, "policy": "presentation"}
    plan = planned(recipe=stages | {"repair": {"denoise": share}})
    together = ((("ingest", "analyse", "repair", "colour", "deliver"), False),)
    apart = ((("ingest", "analyse"), False), (("repair",), True), (("colour", "deliver"), False))
    assert stage_groups(plan) == (apart if share else together)
    seconds = {demand.name: demand.seconds for demand in demands(plan)}
    declared = FOOTPRINTS["repair"]
    assert seconds.get("repair") == (declared.seconds + declared.network_seconds if share else None)


def test_a_network_at_the_end_still_gets_a_pool_for_delivery(planned: Planned) -> None:
    plan = planned(recipe={"stages": ["upscale"]})
    assert stage_groups(plan) == ((("ingest",), False), (("upscale",), True), (("deliver",), False))


def test_a_run_of_no_stage_reads_and_delivers(planned: Planned) -> None:
    assert stage_groups(planned(recipe={"stages": []})) == ((("ingest", "deliver"), False),)


def test_every_pool_handles_photographs_and_the_last_one_commits_them(
    planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of small photographs, that is most of what a light pool does."""
    plan = planned(recipe={"stages": ["upscale"]})
    with_all = [demand.seconds for demand in demands(plan)]
    monkeypatch.setattr(graph, "_COMMIT", 0.0)
    without_commits = [demand.seconds for demand in demands(plan)]
    monkeypatch.setattr(graph, "_HANDLING", 0.0)
    bare = [demand.seconds for demand in demands(plan)]
    assert with_all[:2] == without_commits[:2]
    assert with_all[2] > without_commits[2]
    assert all(more > less for more, less in zip(without_commits, bare, strict=True))


@pytest.mark.parametrize("installed", [set(), {EMBEDDED}, {EMBEDDED, DETECTOR}, {EMBEDDED, DETECTOR, RESTORER}])
def test_every_stage_is_in_one_pool_and_in_order(planned: Planned, installed: set[str]) -> None:
    names = [name for group, _ in stage_groups(planned(installed)) for name in group]
    assert names == ["ingest", *ALL, "deliver"]


def test_pools_fit_a_small_machine(planned: Planned) -> None:
    pools = plan_pools(planned(), Resources((Node(4.0),)))
    assert [pool.name for pool in pools] == ["ingest+analyse+repair+faces", "upscale", "compose+colour+deliver"]
    assert [pool.size for pool in pools] == [1, 1, 1]
    assert sum(pool.size * pool.cpus for pool in pools) <= 4
    assert pools[1].threads == 4
    assert all(pool.gpus == 0 for pool in pools)


def test_a_small_network_in_a_shared_pool_is_counted_there(planned: Planned) -> None:
    """Its weights and torch, what it computes with, its seconds; and never a card."""
    network, classical = (
        demands(planned(output={"uri": name}, recipe={"analyse": {"damage": name}}))[0]
        for name in ("albumen-damage", "classical")
    )
    assert network.name == classical.name == "ingest+analyse+repair+faces"
    assert network.memory - classical.memory > (700 << 20) + 2 * 1877928
    assert network.seconds - classical.seconds == FOOTPRINTS["analyse"].network_seconds > 0
    assert not network.heavy
    assert (network.card_seconds, network.card_memory, network.card_least) == (0, 0, 0)


def test_what_a_network_computes_with_is_counted_where_it_works_on_cores(planned: Planned) -> None:
    """On a card that is the card's memory."""
    found = {demand.name: demand for demand in demands(planned())}
    assert found["upscale"].core_memory > 50 << 20
    assert [demand.core_memory for demand in found.values() if not demand.heavy] == [0, 0]


@pytest.mark.parametrize("cores", [1.0, 2.0, 16.0])
def test_a_shared_pool_has_one_thread_for_an_actor_whatever_it_computes_with(planned: Planned, cores: float) -> None:
    pool = plan_pools(planned(), Resources((Node(cores),)))[0]
    assert pool.name == "ingest+analyse+repair+faces"
    assert (pool.threads, pool.cpus <= 1) == (1, True)


def test_weights_are_counted_as_they_lie_in_memory(planned: Planned) -> None:
    """The embedded network's file holds 16-bit floats. What no stage works with takes nothing."""
    found = {demand.name: demand for demand in demands(planned({EMBEDDED, DETECTOR}))}
    assert found["upscale"].card_least == card_least(2 * 33424520)
    assert found["upscale"].card_memory == 2 * 33424520 + FOOTPRINTS["upscale"].card_bytes
    assert found["repair+faces"].card_least == 0
    assert planned().recipe.weight_bytes(ModelStore(), {EMBEDDED}) == {"upscale": 2 * 33424520}
    both = planned().recipe.weight_bytes(ModelStore(), {EMBEDDED, DAMAGE})
    assert both == {"upscale": 2 * 33424520, "analyse": 2 * 1877928}


def test_a_card_goes_to_networks_only(planned: Planned) -> None:
    pools = plan_pools(planned({EMBEDDED, DETECTOR, RESTORER}), Resources((Node(16.0, 1.0),)))
    on_card = {pool.name: pool.gpus for pool in pools if pool.gpus}
    assert list(on_card) == ["analyse", "faces", "upscale"]
    assert on_card["upscale"] > on_card["faces"] > on_card["analyse"] > 0
    assert sum(on_card.values()) <= 1


@pytest.mark.parametrize("stage", ["ingest", "repair", "faces"])
def test_a_size_may_name_any_stage_of_a_pool(planned: Planned, stage: str) -> None:
    plan = planned(cluster={"pools": {stage: 3}})
    pools = plan_pools(plan, Resources((Node(8.0),)))
    assert pools[0].size == 3
    assert sum(pool.size * pool.cpus for pool in pools) <= 8


def test_a_size_of_one_pool_leaves_the_others_alone(planned: Planned) -> None:
    resources = Resources((Node(8.0),))
    before = plan_pools(planned(), resources)
    after = plan_pools(planned(cluster={"pools": {"deliver": 2}}), resources)
    assert after[:2] == before[:2]
    assert after[2].size == 2


def test_a_run_at_its_end(finished: Plan) -> None:
    summary = summarise(finished, worked_on=3, seconds=1.5)
    assert summary == Summary(
        run=finished.run,
        run_id=finished.run_id,
        photographs=4,
        restored=2,
        refused=1,
        failed=1,
        worked_on=3,
        seconds=1.5,
    )
    assert (summary.missing, summary.exit_code) == (0, 3)


def test_a_run_that_has_not_begun(planned: Planned) -> None:
    summary = summarise(planned())
    assert (summary.restored, summary.missing, summary.exit_code) == (0, 4, 3)


def test_a_run_that_restored_everything_is_code_0(finished: Plan) -> None:
    assert replace(summarise(finished), photographs=2, refused=0, failed=0).exit_code == 0


def test_a_summary_as_plain_values(finished: Plan) -> None:
    answer = json.loads(json.dumps(describe(summarise(finished, 4, 12.345))))
    assert answer == {
        "run": finished.run,
        "run_id": finished.run_id,
        "photographs": 4,
        "restored": 2,
        "refused": 1,
        "failed": 1,
        "worked_on": 4,
        "seconds": 12.3,
        "foreseen_seconds": None,
        "exit_code": 3,
    }
