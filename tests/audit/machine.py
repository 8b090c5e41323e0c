"""One Ray cluster on this machine, a head and two simulated nodes, and what of it can be killed."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_STORE_BYTES = 90 << 20
# One actor a node: starting processes is what takes the time on a small machine.
_NODE_CPUS = 1


def environment(folder: Path) -> dict[str, str]:
    """Variables for the cluster and all drivers. folder: short, because Unix sockets lie in it."""
    token = hashlib.sha256(os.urandom(16)).hexdigest()
    return {
        "PYTHONPATH": str(ROOT),
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def head_without_cpus(store_bytes: int) -> Any:
    """A simulated cluster of a head alone, which works on nothing, on ports that no other Ray of this machine has."""
    from ray.cluster_utils import Cluster

    return Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "object_store_memory": store_bytes,
            "include_dashboard": False,
            "dashboard_agent_listen_port": free_port(),
            "ray_client_server_port": free_port(),
            "include_log_monitor": False,
        },
    )


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """The cluster as long as the body runs. `environment` must be in force before ray is imported."""
    folder.mkdir(parents=True, exist_ok=True)
    one = Machine()
    try:
        yield one
    finally:
        one.close()
        shutil.rmtree(folder, ignore_errors=True)


class Machine:
    def __init__(self) -> None:
        self._cluster = head_without_cpus(_STORE_BYTES)
        self._nodes: list[Any] = []
        for _ in range(2):
            self._add()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def _add(self, cpus: int = _NODE_CPUS) -> Any:
        self._nodes.append(self._cluster.add_node(num_cpus=cpus, object_store_memory=_STORE_BYTES))
        return self._nodes[-1]

    @contextmanager
    def widened(self) -> Iterator[None]:
        """Room for a second driver while the actors of another one hold what there is."""
        more = self._add(2)
        try:
            yield
        finally:
            self._remove(more)

    def _remove(self, node: Any) -> None:
        self._cluster.remove_node(node, allow_graceful=False)
        self._nodes.remove(node)

    def workers(self, title: str) -> list[int]:
        """Process ids of workers on the simulated nodes whose title has that word, `StageActor` or `Tally`."""
        raylets = {self._raylet(node) for node in [self._cluster.head_node, *self._nodes]}
        return [
            pid
            for pid, parent, words in processes()
            if parent in raylets and words.startswith("ray::") and title in words
        ]

    def busiest(self) -> Any:
        """The node that has the most actors, so that its loss is one."""
        counts = {id(node): 0 for node in self._nodes}
        for _, parent, words in processes():
            for node in self._nodes:
                if parent == self._raylet(node) and "StageActor" in words:
                    counts[id(node)] += 1
        return max(self._nodes, key=lambda node: counts[id(node)])

    def kill_raylet(self, node: Any) -> tuple[int, ...]:
        """The raylet alone: its workers find out by themselves."""
        return kill([self._raylet(node)])

    def kill_node(self, node: Any) -> tuple[int, ...]:
        """All at once, as when the power goes."""
        return kill(_family(self._raylet(node)))

    @contextmanager
    def stopped(self, node: Any) -> Iterator[tuple[int, ...]]:
        """A node that nobody hears of while the body runs, as behind a broken cable. Its workers wake before its raylet,
        which would have them end."""
        family = _family(self._raylet(node))
        pids = kill(family, signal.SIGSTOP)
        try:
            yield pids
        finally:
            kill(reversed(family), signal.SIGCONT)

    def replace(self, node: Any) -> None:
        """Clears a dead node away and adds a new one."""
        self._remove(node)
        self._add()

    @staticmethod
    def _raylet(node: Any) -> int:
        [raylet] = node.all_processes["raylet"]
        pid: int = raylet.process.pid
        return pid

    def close(self) -> None:
        family = [pid for node in [self._cluster.head_node, *self._nodes] for pid in _family_of(node)]
        self._cluster.shutdown()
        kill(family)


def _family_of(node: Any) -> list[int]:
    pids = [info.process.pid for infos in node.all_processes.values() for info in infos]
    return [member for pid in pids for member in _family(pid)]


def _family(pid: int) -> list[int]:
    """A process and all that it has started, the process first."""
    children: dict[int, list[int]] = {}
    for child, parent, _ in processes():
        children.setdefault(parent, []).append(child)
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def kill(pids: Iterable[int], sign: int = signal.SIGKILL) -> tuple[int, ...]:
    """Those that were there to get the signal."""
    hit: list[int] = []
    for pid in pids:
        try:
            os.kill(pid, sign)
        except ProcessLookupError:
            continue
        hit.append(pid)
    return tuple(hit)


def processes() -> Iterator[tuple[int, int, str]]:
    """Process id, parent and title of all that lives on this machine (proc(5))."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            facts = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue
        if facts[0] != "Z":
            yield int(entry.name), int(facts[1]), words
