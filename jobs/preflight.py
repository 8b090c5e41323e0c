"""What a cluster has to have before a job begins: looked at on every node, every fault at once, nothing written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cluster.ask import Told, ask_every_node, gpu_memory
from cluster.cards import card_fault, card_least
from cluster.connect import ConnectError, connect
from jobs.code import sender_faults
from jobs.ending import CHECKED
from jobs.rundir import resolve_models
from jobs.spec import JobSpec, check_places
from pipeline.errors import JobError
from pipeline.models.store import ModelStore
from pipeline.software import differences, fingerprint
from pipeline.storage import is_local, local_path


@dataclass(frozen=True, slots=True)
class Look:
    """What one machine says. models: digests by id, None for one that cannot be had there. cards: bytes of each GPU, None
    where nobody can say."""

    faults: tuple[str, ...]
    models: Mapping[str, str | None]
    cards: tuple[int, ...] | None


def look(spec: JobSpec, software: Mapping[str, str | None]) -> Look:
    """On the machine that is asked. software: the driver's. Models that a mirror has are fetched into the cache.

    Stores are only read: whether they can be written shows when the run's lease is taken, before anything else is.
    """
    faults = [f"the software differs: {text}" for text in differences(software, fingerprint())]
    faults += check_places(spec)
    if is_local(spec.output.uri) and (fault := _unwritable(local_path(spec.output.uri))) is not None:
        faults.append(fault)
    uses, errors = resolve_models(spec, spec.make_recipe())
    for error in errors:
        faults += [f"{text}\n    {error.hint}".rstrip() if error.hint else text for text in error.faults]
    return Look(tuple(faults), {use.id: use.sha256 for use in uses}, gpu_memory())


@contextmanager
def on_cluster(spec: JobSpec, tell: Callable[[str], None]) -> Iterator[None]:
    """The job's cluster, checked and connected while the body runs. Nothing for a job on an embedded Ray: the plan looks at
    this machine anyway.

    Raises JobError with every fault of every node.
    """
    if spec.cluster.address is None:
        yield
        return
    try:
        with connect(spec.cluster.address, spec.cluster.cpus) as resources:
            software = fingerprint()
            told = ask_every_node(partial(look, spec, software))
            here = _of_the_driver(told) or look(spec, software)
            faults = [*sender_faults(Path.cwd()), *gathered(here, told), *card_faults(spec, here.models, told)]
            if faults:
                raise JobError(list(dict.fromkeys(faults)))
            tell(f"{CHECKED}: {len(told)} nodes, {resources.cpus:g} CPUs, {resources.gpus:g} GPUs")
            yield
    except ConnectError as error:
        raise JobError(str(error)) from error


def _of_the_driver(told: Sequence[Told[Look]]) -> Look | None:
    """What the driver's own node said, where that has nothing to complain of: then the driver has no more to say."""
    answers = (node.answer for node in told if node.here)
    return next((answer for answer in answers if answer is not None and not answer.faults), None)


def gathered(here: Look, told: Sequence[Told[Look]]) -> list[str]:
    """Faults of this machine as they are; those that only other nodes have, with the nodes' names."""
    faults = list(here.faults)
    where: dict[str, list[str]] = {}
    for node in told:
        if node.answer is None:
            faults.append(str(node.fault))
            continue
        lacking = [
            f"model {name} is installed for the driver and cannot be had there"
            for name, digest in here.models.items()
            if digest is not None and node.answer.models.get(name) is None
        ]
        for text in dict.fromkeys((*node.answer.faults, *lacking)):
            where.setdefault(text, []).append(node.name)
    faults += [f"node {', '.join(names)}: {text}" for text, names in where.items() if text not in here.faults]
    return faults


def card_faults(spec: JobSpec, models: Mapping[str, str | None], told: Sequence[Told[Look]]) -> list[str]:
    """Nodes whose smallest card cannot hold the networks that share it. A card that nobody can ask is not judged."""
    installed = {name for name, digest in models.items() if digest is not None}
    recipe = spec.make_recipe()
    weights = recipe.weight_bytes(ModelStore(spec.model_source()), installed)
    # Networks of pools that several stages share stay on cores.
    least = {stage.name: card_least(weights[stage.name]) for stage in recipe.stages if stage.holds_network(installed)}
    cards = int(sum(node.gpus for node in told))
    faults = []
    for node in told:
        known = None if node.answer is None else node.answer.cards
        if node.gpus > 0 and known and (fault := card_fault(least, min(known), cards)) is not None:
            faults.append(f"node {node.name}: {fault}")
    return faults


def _unwritable(output: Path) -> str | None:
    there = next(folder for folder in (output, *output.parents) if folder.exists())
    if not there.is_dir():
        return f"output.uri: {there} is no folder"
    return None if os.access(there, os.W_OK | os.X_OK) else f"output.uri: {there} cannot be written"
