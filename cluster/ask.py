"""Asks every node of a cluster the same question, each on its own machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
import ray.util.client
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

T = TypeVar("T")
# Starting a worker, unpacking the code and fetching models from a mirror take their time.
_PATIENCE = 1800.0


@dataclass(frozen=True, slots=True)
class Told(Generic[T]):
    """What a node answered. name: its address. gpus: in Ray's count. answer: None where `fault` says why there is none. here:
    it is the node that asks."""

    name: str
    gpus: float
    answer: T | None
    fault: str | None = None
    here: bool = False


def ask_every_node(question: Callable[[], T], patience: float = _PATIENCE) -> list[Told[T]]:
    """Needs an open connection. Nodes that have neither CPU nor GPU to give are left out: no work will reach them.

    patience: seconds for all answers together. A node that is lost, or whose Python cannot read the question, is a fault.
    """
    nodes = [node for node in ray.nodes() if node["Alive"] and _works(node["Resources"])]
    asked = []
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(_answer)
        asked.append(task.remote(question))
    mine = _own_node()
    ready, _ = ray.wait(asked, num_returns=len(asked), timeout=patience) if asked else ([], [])
    return [
        _told(node, reference, patience, ready=reference in ready, here=node["NodeID"] == mine)
        for node, reference in zip(nodes, asked, strict=True)
    ]


def _own_node() -> str | None:
    """Ray's id of the node that this process is on; None for a client, which only talks to one (ray://)."""
    if ray.util.client.ray.is_connected():
        return None
    return str(ray.get_runtime_context().get_node_id())


def _answer(question: Callable[[], T]) -> T:
    return question()


def _works(resources: dict[str, float]) -> bool:
    return resources.get("CPU", 0.0) > 0 or resources.get("GPU", 0.0) > 0


def _told(node: dict[str, Any], reference: Any, patience: float, *, ready: bool, here: bool) -> Told[T]:
    name, gpus = str(node["NodeManagerAddress"]), float(node["Resources"].get("GPU", 0.0))
    if not ready:
        return Told(name, gpus, None, f"node {name} did not answer within {patience:.0f} s", here)
    try:
        return Told(name, gpus, ray.get(reference), here=here)
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        said = f"node {name} could not be asked: {lines[-1].strip() if lines else error}"
        return Told(name, gpus, None, said, here)


def gpu_memory() -> tuple[int, ...] | None:
    """Bytes of each NVIDIA card of this machine, whichever of them Ray lets this process see; None where nobody can say."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    question = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(question, capture_output=True, text=True, timeout=60, check=True)
        return tuple(int(line) << 20 for line in done.stdout.split("\n") if line.strip())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
