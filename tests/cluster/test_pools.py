"""Sharing a machine: every pool gets an actor, and all of them fit at once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cluster.pools import Allocation, Demand, allocate

quick = settings(max_examples=150, deadline=None, database=None)
cpu_counts = st.integers(1, 256)
gpu_counts = st.integers(0, 16)
# As jobs.run weighs its stages; and far apart, as a recipe of the future may.
kinds = st.lists(st.tuples(st.booleans(), st.sampled_from([0.25, 1.0, 2.0])), min_size=1, max_size=8)
far_apart = st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 1.0, 10.0])), min_size=1, max_size=8)
few = st.dictionaries(st.integers(0, 7).map(str), st.integers(1, 4), max_size=8)
many = st.dictionaries(st.integers(0, 7).map(str), st.integers(1, 64), max_size=8)

Kinds = list[tuple[bool, float]]


def named(found: Kinds) -> list[Demand]:
    return [Demand(str(number), heavy, weight) for number, (heavy, weight) in enumerate(found)]


def all_cpus(found: Sequence[Allocation]) -> float:
    return sum(pool.size * pool.cpus for pool in found)


def all_gpus(found: Sequence[Allocation]) -> float:
    return sum(pool.size * pool.gpus for pool in found)


@quick
@given(kinds, cpu_counts, gpu_counts, many)
def test_every_pool_has_an_actor_in_the_order_asked_for(
    found: Kinds, cpus: int, gpus: int, sizes: dict[str, int]
) -> None:
    demands = named(found)
    pools = allocate(demands, cpus, gpus, sizes)
    assert [pool.name for pool in pools] == [demand.name for demand in demands]
    for pool, demand in zip(pools, demands, strict=True):
        assert pool.size >= 1
        assert pool.threads >= 1
        assert pool.cpus > 0
        assert (pool.gpus > 0) == (demand.heavy and gpus > 0)


@quick
@given(kinds, cpu_counts, gpu_counts, many)
def test_a_size_that_was_asked_for_is_kept(found: Kinds, cpus: int, gpus: int, sizes: dict[str, int]) -> None:
    for pool in allocate(named(found), cpus, gpus, sizes):
        assert pool.size == sizes.get(pool.name, pool.size)


@quick
@given(kinds, cpu_counts)
def test_all_pools_fit_a_machine_without_a_card(found: Kinds, cpus: int) -> None:
    pools = allocate(named(found), cpus, 0)
    assert all_cpus(pools) <= cpus + 1e-9
    assert all_gpus(pools) == 0


@quick
@given(kinds, st.integers(4, 256), gpu_counts)
def test_all_pools_fit_a_machine_with_cards(found: Kinds, cpus: int, gpus: int) -> None:
    pools = allocate(named(found), max(cpus, 4 * gpus), gpus)
    assert all_cpus(pools) <= max(cpus, 4 * gpus) + 1e-9
    assert all_gpus(pools) <= gpus + 1e-9


@quick
@given(kinds, st.integers(8, 256), few)
def test_all_pools_fit_with_a_few_sizes_given(found: Kinds, cpus: int, sizes: dict[str, int]) -> None:
    assert all_cpus(allocate(named(found), cpus, 0, sizes)) <= cpus + 1e-9


@quick
@example([(True, 1.0), (False, 1.0), (True, 1.0)], 1, 16)
@given(kinds, cpu_counts, gpu_counts)
def test_all_pools_fit_any_machine(found: Kinds, cpus: int, gpus: int) -> None:
    pools = allocate(named(found), cpus, gpus)
    assert all_cpus(pools) <= cpus + 1e-9
    assert all_gpus(pools) <= gpus + 1e-9


@quick
@example([(True, 0.1), (True, 0.1), (True, 0.1), (True, 10.0), (True, 10.0)], 4, 1)
@given(far_apart, cpu_counts, st.integers(0, 1))
def test_all_pools_fit_when_their_weights_are_far_apart(found: Kinds, cpus: int, gpus: int) -> None:
    pools = allocate(named(found), cpus, gpus)
    assert all_cpus(pools) <= cpus + 1e-9
    assert all_gpus(pools) <= gpus + 1e-9


@quick
@example([(False, 1.0)], 1, 0, {"0": 200})
@given(kinds, cpu_counts, gpu_counts, many)
def test_all_pools_fit_whatever_sizes_are_given(found: Kinds, cpus: int, gpus: int, sizes: dict[str, int]) -> None:
    pools = allocate(named(found), cpus, gpus, sizes)
    assert all_cpus(pools) <= cpus + 1e-9
    assert all_gpus(pools) <= gpus + 1e-9


@quick
@given(kinds, cpu_counts, many)
def test_threads_beyond_one_are_not_given_out_twice(found: Kinds, cpus: int, sizes: dict[str, int]) -> None:
    pools = allocate(named(found), cpus, 0, sizes)
    heavy = [pool for pool, (networks, _) in zip(pools, found, strict=True) if networks]
    assert sum(pool.size * pool.threads for pool in heavy if pool.threads > 1) <= cpus


@quick
@example([(True, 0.25), (True, 0.25), (True, 1.0)], 3)
@given(kinds, cpu_counts)
def test_networks_have_no_more_threads_than_cores(found: Kinds, cpus: int) -> None:
    pools = allocate(named(found), cpus, 0)
    heavy = [pool for pool, (networks, _) in zip(pools, found, strict=True) if networks]
    actors = sum(pool.size for pool in heavy)
    assert sum(pool.size * pool.threads for pool in heavy) <= max(cpus, actors)


def test_a_lone_network_on_a_small_machine_uses_every_core() -> None:
    ingest, upscale, deliver = allocate(named([(False, 1), (True, 1), (False, 1)]), 4, 0)
    assert (upscale.size, upscale.threads) == (1, 4)
    assert (ingest.cpus, deliver.cpus) == (0.5, 0.5)


def test_a_lone_network_on_a_large_machine_becomes_several_actors() -> None:
    _, upscale, _ = allocate(named([(False, 1), (True, 1), (False, 1)]), 64, 0)
    assert upscale.size == 6
    assert 4 <= upscale.threads <= 8


def test_more_weight_gets_more_of_the_machine() -> None:
    light, heavy = allocate([Demand("faces", True, 1.0), Demand("upscale", True, 2.0)], 48, 0)
    assert heavy.size * heavy.cpus == pytest.approx(2 * light.size * light.cpus, rel=0.2)


def test_every_card_gets_an_actor_of_a_lone_network() -> None:
    _, upscale = allocate(named([(False, 1), (True, 1)]), 64, 8)
    assert (upscale.size, upscale.gpus) == (8, 1.0)


def test_two_networks_share_one_card() -> None:
    faces, upscale = allocate([Demand("faces", True, 1.0), Demand("upscale", True, 2.0)], 8, 1)
    assert (faces.size, upscale.size) == (1, 1)
    assert (faces.gpus, upscale.gpus) == pytest.approx((1 / 3, 2 / 3), abs=0.01)


def test_light_pools_alone_use_the_whole_machine() -> None:
    (only,) = allocate(named([(False, 1)]), 12, 0)
    assert (only.size, only.cpus) == (12, 1.0)


def test_one_core_is_enough_for_a_whole_recipe() -> None:
    pools = allocate(named([(False, 1), (True, 0.25), (False, 1), (True, 1), (True, 2), (False, 1)]), 1, 0)
    assert [pool.size for pool in pools] == [1] * 6
    assert all_cpus(pools) <= 1


def test_an_allocation_is_the_same_every_time() -> None:
    demands = named([(False, 1), (True, 2), (True, 1), (False, 1)])
    assert allocate(demands, 24, 2) == allocate(list(demands), 24, 2)


def test_no_actor_asks_for_more_cpus_than_a_node_has() -> None:
    for node in (2, 4, 16):
        found = allocate([Demand("upscale", heavy=True), Demand("rest", heavy=False)], 64, 0, node_cpus=node)
        assert all(allocation.cpus <= node for allocation in found)
        assert all(allocation.threads <= node for allocation in found)
        assert found[0].size >= 64 * 0.8 / max(node, 8)


def test_three_actors_on_two_cards_have_a_place_each() -> None:
    [found] = allocate([Demand("upscale", heavy=True)], 8, 2, {"upscale": 3})
    assert int(1 / found.gpus) * 2 >= 3
