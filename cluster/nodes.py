"""What a cluster's nodes have: those that are there, and those that it could grow to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Of a node that Ray says no memory of, and of a machine that is asked without Ray.
_OF_ITS_MEMORY = 0.6
# An autoscaler may have no limit; nobody plans for more nodes of one kind than this.
_MOST_OF_A_KIND = 1000
# Memory of the cards that Ray names, gigabytes; of a name with several sizes the smallest. Manufacturers' data sheets.
_CARD_GIGABYTES: Mapping[str, int] = {
    "K80": 12, "P4": 8, "P100": 12, "V100": 16, "T4": 16, "A10G": 24, "L4": 24, "L40S": 48, "A100": 40, "H20": 96, "H100": 80,
    "H200": 141, "B200": 180, "B300": 270, "RTX-PRO-6000": 96,
}  # fmt: skip
_NAMED = "accelerator_type:"
# Of a card's memory, what its driver and libraries leave.
_OF_A_CARD = 0.9


@dataclass(frozen=True, slots=True)
class Node:
    """What one node can give. memory: bytes for actors, None where nobody said. card_memory: bytes of each GPU, likewise."""

    cpus: float
    gpus: float = 0.0
    memory: int | None = None
    card_memory: int | None = None


def node_of(resources: Mapping[str, float]) -> Node:
    """A node from its resources in Ray's names."""
    names = [name.removeprefix(_NAMED).upper() for name in resources if name.startswith(_NAMED)]
    cards = [size for name in names for kind, size in _CARD_GIGABYTES.items() if name in (kind, f"NVIDIA-{kind}")]
    return Node(
        cpus=float(resources.get("CPU", 0.0)),
        gpus=float(resources.get("GPU", 0.0)),
        memory=int(resources["memory"]) if resources.get("memory") else None,
        card_memory=int(min(cards) * 1e9 * _OF_A_CARD) if cards else None,
    )


def alive() -> tuple[Node, ...]:
    """The nodes that are there and have CPUs or GPUs to give. Needs a connection."""
    import ray

    found = (node_of(node["Resources"]) for node in ray.nodes() if node["Alive"])
    return tuple(node for node in found if node.cpus > 0 or node.gpus > 0)


def at_most(now: Iterable[Node]) -> tuple[Node, ...]:
    """The nodes that there may be when an autoscaler has added all that it is allowed to; empty where there is none.

    The autoscaler tells Ray its kinds of nodes with the most of each. Ray shows that to its own libraries only: what a later
    version of Ray may move is asked for here, and in no other place.
    """
    from ray._private.state import state

    config = state.get_cluster_config()
    groups = [] if config is None else [group for group in config.node_group_configs if group.resources]
    return grown(tuple(now), [(node_of(dict(group.resources)), group.min_count, group.max_count) for group in groups])


def grown(now: tuple[Node, ...], kinds: Iterable[tuple[Node, int, int]]) -> tuple[Node, ...]:
    """kinds: a node of each, the fewest and the most that there may be (-1: without limit). Empty where none may be added."""
    kinds = [(node, least, _MOST_OF_A_KIND if most < 0 else min(most, _MOST_OF_A_KIND)) for node, least, most in kinds]
    if not any(most > least for _, least, most in kinds):
        return ()
    named = tuple(node for node, _, most in kinds for _ in range(most) if node.cpus > 0 or node.gpus > 0)
    # What is there and belongs to no kind stays as it is: a head that was started by hand.
    known = {(node.cpus, node.gpus) for node in named}
    return (*(node for node in now if (node.cpus, node.gpus) not in known), *named)


def this_machine(cpus: int | None = None) -> tuple[Node, ...]:
    """This machine as an embedded Ray would see it, without starting one. cpus: as the job asks for them."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    there = len(os.sched_getaffinity(0))
    cards: list[Any] = list(Path("/proc/driver/nvidia/gpus").glob("*"))
    return (Node(float(cpus or there), float(len(cards)), int(total * _OF_ITS_MEMORY)),)
