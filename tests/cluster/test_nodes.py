"""What nodes have, from Ray's words, and what a cluster may grow to."""

from __future__ import annotations

import os

from cluster.nodes import Node, grown, node_of, this_machine

GB = 10**9


def test_a_node_in_rays_words() -> None:
    assert node_of({"CPU": 16.0, "GPU": 2.0, "memory": 64e9, "accelerator_type:T4": 1.0, "node:10.0.0.7": 1.0}) == Node(
        16.0, 2.0, 64 * GB, int(16 * GB * 0.9)
    )
    assert node_of({"CPU": 4.0}) == Node(4.0)
    assert node_of({"CPU": 4.0, "GPU": 1.0, "accelerator_type:SOMETHING-NEW": 1.0}).card_memory is None


def test_a_cluster_that_may_not_grow() -> None:
    assert grown((Node(4.0),), []) == ()
    assert grown((Node(4.0),), [(Node(4.0), 1, 1)]) == ()


def test_a_cluster_may_grow_from_nothing_and_keeps_what_stands_beside() -> None:
    head, worker, card = Node(2.0), Node(16.0), Node(8.0, 1.0)
    kinds = [(worker, 0, 3), (card, 0, 1)]
    assert grown((), kinds) == (worker, worker, worker, card)
    assert grown((head, worker), kinds) == (head, worker, worker, worker, card)


def test_a_kind_without_a_limit_has_one_here() -> None:
    assert 100 <= len(grown((), [(Node(16.0), 0, -1)])) <= 10_000


def test_this_machine() -> None:
    [node] = this_machine()
    assert node.cpus == len(os.sched_getaffinity(0))
    assert node.memory
    assert this_machine(3)[0].cpus == 3.0
