"""Sharing a cluster: every pool gets an actor, all of them fit at once, and none is slower than the others for want of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cluster.nodes import Node
from cluster.pools import Allocation, Bounds, Demand, Layout, PoolError, Work, allocate

quick = settings(max_examples=60, deadline=None, database=None)
GB = 10**9

seconds = st.sampled_from([0.01, 0.3, 2.0, 5.0, 60.0, 600.0])
light = st.builds(lambda s: ("light", s, 0.0), seconds)
heavy = st.builds(lambda s, c: ("heavy", s, c), seconds, st.sampled_from([0.05, 0.2, 1.5]))
kinds = st.lists(st.one_of(light, heavy), min_size=1, max_size=8)
plain = st.builds(Node, st.sampled_from([1.0, 2.0, 4.0, 16.0, 96.0]))
carded = st.builds(Node, st.sampled_from([4.0, 16.0, 64.0]), st.sampled_from([1.0, 2.0, 8.0]))
clusters = st.lists(st.one_of(plain, carded), min_size=1, max_size=6)
without = st.lists(plain, min_size=1, max_size=6)
sizes = st.dictionaries(st.integers(0, 7).map(str), st.integers(1, 64).map(lambda n: Bounds(n, n)), max_size=8)

Kinds = list[tuple[str, float, float]]


def named(found: Kinds, memory: int = 0, card_memory: int = 0) -> list[Demand]:
    return [
        Demand(str(number), kind == "heavy", on_core, on_card, memory, card_memory)
        for number, (kind, on_core, on_card) in enumerate(found)
    ]


def placed(pools: Sequence[Allocation], nodes: Sequence[Node]) -> bool:
    """Actors one by one, those with a card first, then by cores, each where the fewest cores are left that suffice."""
    cpus = [node.cpus for node in nodes]
    cards = [[1.0] * int(node.gpus) for node in nodes]
    actors = [(pool.gpus, pool.cpus) for pool in pools for _ in range(pool.size)]
    for gpus, cores in sorted(actors, reverse=True):
        for i in sorted(range(len(nodes)), key=lambda i: (len(cards[i]) > 0, i)):
            card = next((c for c, left in enumerate(cards[i]) if left >= gpus - 1e-9), None)
            if cpus[i] >= cores - 1e-9 and (not gpus or card is not None):
                cpus[i] -= cores
                if gpus and card is not None:
                    cards[i][card] -= gpus
                break
        else:
            return False
    return True


def at(layout: Layout, name: str) -> Allocation:
    return next(pool for pool in layout.pools if pool.name == name)


@quick
@given(kinds, clusters, sizes)
def test_every_pool_has_an_actor_in_the_order_asked_for(
    found: Kinds, nodes: list[Node], wanted: dict[str, Bounds]
) -> None:
    demands = named(found)
    layout = allocate(demands, nodes, wanted)
    assert [pool.name for pool in layout.pools] == [demand.name for demand in demands]
    cards = any(node.gpus for node in nodes)
    for pool, demand in zip(layout.pools, demands, strict=True):
        assert pool.size >= 1
        assert pool.threads >= 1
        assert pool.cpus > 0
        assert (pool.gpus > 0) == (demand.heavy and cards)
        assert pool.size == wanted.get(pool.name, Bounds(pool.size, pool.size)).least
        assert pool.least == pool.size


@quick
@example([("light", 0.3, 0.0)] * 6, [Node(1.0)])
@example([("heavy", 60.0, 0.2), ("heavy", 600.0, 1.5)], [Node(4.0, 1.0), Node(4.0, 1.0)])
@given(kinds, clusters)
def test_all_pools_have_a_place_at_once(found: Kinds, nodes: list[Node]) -> None:
    assert placed(allocate(named(found), nodes).pools, nodes)


@quick
@example([("light", 0.3, 0.0)], [Node(1.0)], {"0": Bounds(64, 64)})
@given(kinds, without, sizes)
def test_all_pools_have_a_place_whatever_sizes_are_given(
    found: Kinds, nodes: list[Node], wanted: dict[str, Bounds]
) -> None:
    layout = allocate(named(found), nodes, wanted)
    assert sum(pool.size * pool.cpus for pool in layout.pools) <= sum(node.cpus for node in nodes) + 1e-6
    assert placed(layout.pools, nodes)


@quick
@given(kinds, clusters)
def test_pools_are_equally_fast_within_one_actor(found: Kinds, nodes: list[Node]) -> None:
    """No pool is slower than all together, and none could spare an actor (a core, of one with several threads)."""
    demands = named(found)
    layout = allocate(demands, nodes)
    cards = sum(node.gpus for node in nodes)
    for pool, demand in zip(layout.pools, demands, strict=True):
        assert pool.rate >= layout.rate * (1 - 1e-9)
        if demand.heavy and cards:
            # A network may be on every card, so that each has all.
            assert pool.size <= cards or (pool.size - 1) / demand.card_seconds <= layout.rate * 1.001
        elif not demand.heavy:
            assert pool.size == 1 or (pool.size - 1) / demand.seconds <= layout.rate * 1.25


@quick
@given(kinds, without)
def test_a_cluster_without_cards_is_used(found: Kinds, nodes: list[Node]) -> None:
    """At least half of what the cores could do if work were divided without a remainder; on equal nodes of many cores more."""
    demands = named(found)
    layout = allocate(demands, nodes)
    best = sum(node.cpus for node in nodes) / sum(demand.seconds for demand in demands)
    assert layout.rate <= best * (1 + 1e-9)
    busy = [demand for demand in demands if demand.heavy]
    if len(busy) <= 1:
        assert layout.rate >= best * 0.4


@quick
@given(kinds, clusters, st.one_of(plain, carded))
def test_another_node_never_makes_a_run_slower(found: Kinds, nodes: list[Node], more: Node) -> None:
    if (more.gpus > 0) != any(node.gpus for node in nodes):
        # The first card changes where networks run, and how fast a card is beside cores is not for this test.
        more = nodes[0]
    demands = named(found)
    assert allocate(demands, [*nodes, more]).rate >= allocate(demands, nodes).rate * 0.8


@quick
@given(kinds, without)
def test_networks_have_no_more_threads_than_cores(found: Kinds, nodes: list[Node]) -> None:
    demands = named(found)
    layout = allocate(demands, nodes)
    busy = [
        pool
        for pool, demand in zip(layout.pools, demands, strict=True)
        if demand.heavy and pool.threads > 1 and layout.rate * demand.seconds > 0.5
    ]
    assert sum(pool.size * pool.threads for pool in busy) <= sum(node.cpus for node in nodes)
    assert all(pool.threads <= max(node.cpus for node in nodes) for pool in layout.pools)


@quick
@given(kinds, st.lists(plain, min_size=1, max_size=4), st.integers(1, 64))
def test_actors_beyond_the_first_fit_the_memory(found: Kinds, nodes: list[Node], gigabytes: int) -> None:
    nodes = [Node(node.cpus, 0.0, gigabytes * GB) for node in nodes]
    demands = named(found, memory=2 * GB)
    layout = allocate(demands, nodes)
    needed = sum(pool.size * 2 * GB for pool in layout.pools)
    one_each = all(pool.size == 1 for pool in layout.pools)
    assert one_each or needed <= sum(node.memory or 0 for node in nodes)
    assert bool(layout.notes) == (needed > sum(node.memory or 0 for node in nodes))


RECIPE = [
    Demand("ingest", heavy=False, seconds=5.0, memory=GB),
    Demand("faces", heavy=True, seconds=30.0, card_seconds=0.2, memory=2 * GB, card_memory=4 * GB, card_least=2 * GB),
    Demand(
        "upscale", heavy=True, seconds=600.0, card_seconds=1.5, memory=2 * GB, card_memory=6 * GB, card_least=4 * GB
    ),
    Demand("deliver", heavy=False, seconds=13.0, memory=GB),
]


def test_what_networks_compute_with_bounds_their_actors_on_cores_alone() -> None:
    bare = [Demand("read", False, 0.01, memory=GB), Demand("upscale", True, 16.0, 0.1, memory=GB)]
    counted = [bare[0], replace(bare[1], core_memory=8 * GB)]
    nodes = [Node(64.0, memory=32 * GB)]
    assert at(allocate(bare, nodes), "upscale").size >= 8
    assert at(allocate(counted, nodes), "upscale").size <= 3
    cards = [replace(nodes[0], gpus=4.0)]
    assert allocate(counted, cards) == allocate(bare, cards)


def test_the_network_of_a_small_machine_uses_every_core() -> None:
    """In as many actors, for threads of one network wait for one another."""
    layout = allocate(RECIPE, [Node(4.0)])
    assert [pool.size for pool in layout.pools] == [1, 1, 4, 1]
    assert at(layout, "upscale").threads == 1
    assert layout.bottleneck == "upscale"


@pytest.mark.parametrize("work", [Work(photographs=12, megapixels=0.5), Work(photographs=1000, megapixels=2.0)])
def test_few_photographs_and_long_ones_get_all_threads(work: Work) -> None:
    """Four actors would have three rounds of work each, or hold a photograph for twenty minutes."""
    layout = allocate(RECIPE, [Node(4.0)], work=work)
    assert [pool.size for pool in layout.pools] == [1, 1, 1, 1]
    assert (at(layout, "upscale").threads, at(layout, "faces").threads) == (4, 1)
    enough = Work(photographs=16, megapixels=1.0)
    assert allocate(RECIPE, [Node(4.0)], work=enough) == allocate(RECIPE, [Node(4.0)])


def test_a_network_on_a_large_machine_becomes_several_actors() -> None:
    upscale = at(allocate(RECIPE, [Node(64.0)]), "upscale")
    assert upscale.threads == 1
    assert upscale.size >= 56
    long = at(allocate(RECIPE, [Node(64.0)], work=Work(10_000, 6.0)), "upscale")
    assert 6 <= long.threads <= 8
    assert long.size * long.threads >= 56


def test_what_takes_longer_gets_more() -> None:
    one, two = Demand("one", True, 10.0), Demand("two", True, 20.0)
    layout = allocate([one, two], [Node(48.0)])
    assert at(layout, "two").rate == pytest.approx(at(layout, "one").rate, rel=0.15)


def test_networks_on_cards_leave_cores_to_the_rest() -> None:
    layout = allocate(RECIPE, [Node(64.0, 8.0)])
    assert layout.bottleneck in ("ingest", "deliver")
    assert at(layout, "deliver").size >= 40
    assert at(layout, "upscale").size <= 8


def test_light_pools_go_to_nodes_without_cards() -> None:
    with_cards, cores = [Node(4.0, 1.0)] * 2, [Node(16.0)] * 4
    assert allocate(RECIPE, with_cards + cores).rate > 2 * allocate(RECIPE, with_cards).rate


def test_a_network_that_fits_no_card_is_named() -> None:
    with pytest.raises(
        PoolError, match=r"no place in the cluster: a GPU with 2\.8 GiB cannot hold upscale, which takes 3\.7"
    ):
        allocate(RECIPE, [Node(16.0, 2.0, card_memory=3 * GB)])
    # Any card may be given to any network, the small one too; and networks that share one are added up.
    with pytest.raises(PoolError, match=r"a GPU with 2\.8 GiB cannot hold upscale"):
        allocate(RECIPE, [Node(16.0, 1.0, card_memory=3 * GB), Node(16.0, 1.0, card_memory=80 * GB)])
    with pytest.raises(
        PoolError, match=r"a GPU with 4\.7 GiB cannot hold the networks that share it \(upscale, faces\)"
    ):
        allocate(RECIPE, [Node(16.0, 1.0, card_memory=5 * GB)])


def test_a_card_that_is_short_of_what_networks_like_is_taken_whole() -> None:
    """What a network takes with its usual tiles is an estimate, and it makes do with smaller ones."""
    layout = allocate(RECIPE, [Node(16.0, 2.0, card_memory=5 * GB)])
    assert at(layout, "upscale").gpus == 1.0
    assert placed(layout.pools, [Node(16.0, 2.0)])
    # Of a card that nobody knows nothing is said.
    assert allocate(RECIPE, [Node(16.0, 1.0, card_memory=3 * GB), Node(16.0, 1.0)])


def test_a_card_of_known_memory_holds_no_more_than_it_can() -> None:
    layout = allocate(RECIPE, [Node(16.0, 1.0, card_memory=12 * GB)])
    assert (at(layout, "faces").size, at(layout, "upscale").size) == (1, 1)
    assert at(layout, "faces").gpus >= 4 / 12
    assert at(layout, "upscale").gpus >= 6 / 12
    on_card = sum(pool.size * pool.gpus for pool in layout.pools)
    assert on_card <= 1 + 1e-9


def test_two_networks_that_do_not_fit_one_card_go_to_two() -> None:
    layout = allocate(RECIPE, [Node(16.0, 2.0, card_memory=8 * GB)])
    assert at(layout, "faces").gpus + at(layout, "upscale").gpus > 1
    assert placed(layout.pools, [Node(16.0, 2.0)])


def test_three_actors_on_two_cards_have_a_place_each() -> None:
    pool = at(allocate(RECIPE, [Node(16.0, 2.0)], {"upscale": Bounds(3, 3)}), "upscale")
    assert pool.size == 3
    assert int(1 / pool.gpus) * 2 >= 3


def test_pools_of_a_cluster_that_may_grow_begin_small() -> None:
    later = [Node(16.0)] * 8
    layout = allocate(RECIPE, [Node(16.0)], later=later)
    assert layout == allocate(RECIPE, [], later=later)
    assert all(pool.least == 1 for pool in layout.pools)
    assert [pool.size for pool in layout.pools] == [pool.size for pool in allocate(RECIPE, later).pools]
    kept = allocate(RECIPE, [Node(16.0)], {"upscale": Bounds(2, 6)}, later=later)
    assert (at(kept, "upscale").least, at(kept, "upscale").size) == (2, 6)


def test_a_cluster_of_nothing_is_refused() -> None:
    with pytest.raises(PoolError, match="no CPU to give"):
        allocate(RECIPE, [])


def test_thousands_of_nodes_are_planned_for_at_once() -> None:
    layout = allocate(RECIPE, [Node(64.0)] * 1000 + [Node(16.0, 1.0)] * 1000)
    assert math.isclose(sum(pool.size * pool.gpus for pool in layout.pools), 1000, rel_tol=0.05)


def test_an_allocation_is_the_same_every_time() -> None:
    assert allocate(RECIPE, [Node(24.0, 2.0)]) == allocate(list(RECIPE), [Node(24.0, 2.0)])


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 8, 12])
@pytest.mark.parametrize("cores", [4.0, 8.0, 16.0])
def test_light_pools_do_not_cost_networks_their_nodes(nodes: int, cores: float) -> None:
    """Some hundredths of a core on two nodes, and actors that fill a node elsewhere still have a place on these."""
    demands = [Demand("ingest", False, 0.04), Demand("upscale", True, 16.0), Demand("deliver", False, 0.07)]
    layout = allocate(demands, [Node(cores)] * nodes)
    assert layout.rate >= 0.95 * nodes * cores / 16.11
    assert at(layout, "upscale").size * at(layout, "upscale").threads <= nodes * cores
