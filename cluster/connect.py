"""Connects to a Ray cluster, or starts an embedded one for as long as it is needed."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from cluster.nodes import Node, alive, at_most


class ConnectError(Exception):
    """No cluster answered, or it has nothing to work with. The text is for the user."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a cluster can give. shapes: its nodes, as far as they have something to give. later: the nodes that it may grow to,
    empty where it stays as it is."""

    shapes: tuple[Node, ...]
    later: tuple[Node, ...] = ()

    @property
    def cpus(self) -> float:
        return sum(node.cpus for node in self.shapes)

    @property
    def gpus(self) -> float:
        return sum(node.gpus for node in self.shapes)


@contextmanager
def connect(address: str | None, cpus: int | None = None) -> Iterator[Resources]:
    """A connection for the body of the `with`.

    address: None starts an embedded cluster on this machine and stops it at the end; `auto` joins the one that this
    process runs in; else host:port or ray://host:port. cpus: of the embedded cluster, None for all.
    A connection that is already open is used and left open. Raises ConnectError.
    """
    mine = not ray.is_initialized()
    if mine:
        _start(address, cpus)
    try:
        yield _resources()
    finally:
        if mine:
            ray.shutdown()


def _start(address: str | None, cpus: int | None) -> None:
    # Off by request: Ray would otherwise send usage data from sites that must not talk to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    asked_to_end = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            # "local" and never None: without an address ray.init would join any cluster that runs on this machine.
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
            )
        else:
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:
        # Ray raises a bare Exception where a node starts too slowly.
        if type(error) is not Exception and not isinstance(error, OSError | RuntimeError | ValueError):
            raise
        place = (
            "an embedded Ray cluster cannot be started" if address is None else f"no Ray cluster answers at {address}"
        )
        raise ConnectError(f"{place}: {str(error).strip().splitlines()[0]}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            # Ray puts its own in its place, which leaves at once with the signal's number as exit code.
            signal.signal(signal.SIGTERM, asked_to_end)


def _knock(address: str) -> None:
    """Ray itself goes on asking an address where nobody is for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _resources() -> Resources:
    now = alive()
    found = Resources(now, at_most(now))
    if found.cpus <= 0 and not any(node.cpus > 0 for node in found.later):
        raise ConnectError("the cluster has no CPU to give")
    return found
