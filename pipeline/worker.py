"""The actor that Ray runs: a group of neighbouring stages, in a process of its own on one node of the cluster.

StageActor times every stage, digests what goes in and comes out, and appends the event, so that no stage can forget its
provenance. It is made and fed by the graph in `runtime`.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import ray

from pipeline import provenance
from pipeline.admission import Admission
from pipeline.errors import ItemError, JobError, Status, StoreError
from pipeline.memory import budget, need, need_together, size_of
from pipeline.meter import Meter, logs_wanted, write_lines
from pipeline.metrics import lines_of, of_commit, of_stage
from pipeline.models.store import ModelSource, ModelStore
from pipeline.recipe import Recipe
from pipeline.record import Record, from_manifest
from pipeline.software import check_same, fingerprint
from pipeline.stage import Device, Stage
from pipeline.stages import FOOTPRINTS, STAGES
from pipeline.stages.deliver import Deliver
from pipeline.stages.ingest import Ingest
from pipeline.storage import Store, StoreOptions, join
from pipeline.supervision import WorkerBrokenError, run_end, run_stage, verify_transit
from pipeline.tally import Hand, StageCount
from pipeline.transit import pack, unpack


@dataclass(frozen=True, slots=True)
class Pool:
    """One actor pool. stages: neighbouring names, `ingest` and `deliver` included. cpus, gpus: what Ray reserves for one
    actor. threads: CPU threads that its networks use. least: actors that are kept when there is less to do, and that it begins
    with, on a cluster that grows and shrinks; None for always `size`."""

    stages: tuple[str, ...]
    size: int
    cpus: float
    gpus: float
    threads: int
    least: int | None = None

    @property
    def name(self) -> str:
        return "+".join(self.stages)


@dataclass(frozen=True, slots=True)
class Deadline:
    """How long one stage may take for one photograph: `base` seconds, and more for every megapixel."""

    base: float
    per_megapixel: float

    def seconds(self, megapixels: float) -> float:
        return self.base + self.per_megapixel * megapixels


@dataclass(frozen=True, slots=True)
class Work:
    """Everything an actor has to know, small enough to travel to each. Never holds pixels, weights or credentials.

    software: the driver's, which every actor compares with its own before it opens anything. logs: whether a line of JSON is
    printed for each photograph."""

    recipe: Recipe
    stamp: provenance.Stamp
    run: str
    source: StoreOptions
    roots: tuple[str, ...]
    output: StoreOptions
    models: ModelSource
    deadline: Deadline
    software: Mapping[str, str | None] = field(default_factory=fingerprint)
    logs: bool = field(default_factory=logs_wanted)


class StageActor:
    """Runs a group of stages on tables of rows. Rows that have ended pass through untouched."""

    def __init__(self, work: Work, pool: Pool, tally: Any) -> None:
        self.work = work
        self.pool = pool
        self.tally = tally
        context = ray.get_runtime_context()
        self.worker, self.node = context.get_actor_id(), context.get_node_id()
        self.meter = Meter(work.stamp.run_id)
        ray.get(tally.opened.remote(self.worker))
        try:
            check_same(work.software, place := ray.util.get_node_ip_address())
            _check_folder(work, place)
            self._open(Device("cuda" if pool.gpus > 0 else "cpu", pool.threads))
        except JobError as error:
            self._stop(error)
            raise

    def _open(self, device: Device) -> None:
        work = self.work
        self.models = ModelStore(work.models)
        self.device = device
        self.room = Room(budget())
        self.working = [FOOTPRINTS[name].working for name in self.pool.stages]
        self.networks = self._architectures() if device.kind == "cpu" else ()
        self.ingest = Ingest(work.recipe.ingest, Store(work.source), work.roots, self.room, self.working, self.networks)
        self.deliver = Deliver(work.recipe.deliver, Store(work.output), work.run, work.stamp.recipe_id)
        self.output = Store(work.output)
        self.stages: dict[str, Stage] = {}
        for spec in work.recipe.stages:
            if spec.name in self.pool.stages:
                stage = STAGES[spec.name](spec.parameters, work.recipe.policy)
                stage.open(self.models, device)
                self.stages[spec.name] = stage

    def _architectures(self) -> tuple[str, ...]:
        """Of the models that this pool's stages use."""
        specs = [spec for spec in self.work.recipe.stages if spec.name in self.pool.stages]
        opened = (model for spec in specs for model in spec.opens(spec.available(self.models)))
        return tuple(self.models.card(model).architecture for model in opened)

    def __call__(self, table: pa.Table) -> pa.Table:
        counts: dict[str, StageCount] = {}
        hand = Hand(self.worker, self.node, tuple(table["item_no"].to_pylist()))
        whole = False
        # Waited for, so that whoever dies here is known to have had these photographs in hand.
        go_on = ray.get(self.tally.take.remote(hand))
        try:
            if not go_on and "ingest" in self.pool.stages:
                # The rest of the pass would be worked on and could not be committed.
                raise JobError("the run was stopped")
            done = self._work(table, counts)
            whole = True
            return done
        except WorkerBrokenError:
            # Ray starts another worker, and the job tries these photographs again.
            os._exit(1)
        except JobError as error:
            self._stop(error)
            raise
        finally:
            faulthandler.cancel_dump_traceback_later()
            self.room.release()
            self.tally.leave.remote(self.worker, counts, whole=whole)

    def _work(self, table: pa.Table, counts: dict[str, StageCount]) -> pa.Table:
        if "ingest" in self.pool.stages:
            records = from_manifest(table)
        else:
            records = self._admitted([verify_transit(record) for record in unpack(table)])
        for name in self.pool.stages:
            self._begin(name, records)
            given, begun, ended = records, time.perf_counter(), _ended(records)
            records = self._run(name, given)
            seconds = time.perf_counter() - begun
            counts[name] = StageCount(len(records), _ended(records) - ended, seconds)
            self.meter.add(of_stage(name, given, records, seconds))
        if "deliver" in self.pool.stages:
            self._commit(records)
            records = [replace(record, photograph=None) for record in records]
        return pack(records)

    def _admitted(self, records: list[Record]) -> list[Record]:
        """Waits until the machine has room for what this pool does with the photographs, one after another."""
        records = [self._fitting(record) for record in records]
        sizes = [size_of(record.photograph) for record in records if record.photograph is not None]
        if sizes:
            wanted = need_together(sizes, self.working, self.networks)
            # Each of them fits. Where all do not, the machine is theirs alone.
            self.room.hold(min(wanted, self.room.total_bytes))
        return records

    def _fitting(self, record: Record) -> Record:
        """The record, ended where this machine will never have room for its photograph."""
        if record.photograph is None:
            return record
        try:
            self.room.check(need(size_of(record.photograph), self.working, self.networks))
        except ItemError as error:
            return record.ended(error)
        return record

    def _begin(self, stage: str, records: Sequence[Record]) -> None:
        """Whatever hangs in a stage, also in code that never lets Python run again, ends this process after its deadline."""
        size = sum(r.photograph.pixels.size / 3e6 for r in records if r.photograph is not None)
        deadline = self.work.deadline.seconds(size)
        self.room.begin(deadline)
        self.tally.at.remote(self.worker, stage, deadline)

    def _run(self, name: str, records: list[Record]) -> list[Record]:
        if name == "ingest":
            return [run_end(self.ingest, self.ingest.parameters, self.ingest.read, record) for record in records]
        if name == "deliver":
            done = [run_end(self.deliver, self.deliver.parameters, self.deliver.write, record) for record in records]
            return [replace(r, status=Status.RESTORED) if r.status is Status.PENDING else r for r in done]
        parameters = next(spec.parameters for spec in self.work.recipe.stages if spec.name == name)
        return run_stage(self.stages[name], parameters, records, self.models, self.device)

    def _commit(self, records: list[Record]) -> None:
        begun = time.perf_counter()
        try:
            provenance.commit(self.output, self.work.run, self.work.stamp, records)
        except OSError as error:
            raise StoreError(f"provenance cannot be written to {self.work.run}: {error}") from error
        self.meter.add(of_commit(records, time.perf_counter() - begun))
        if self.work.logs:
            write_lines(lines_of(records, self.work.stamp.run_id))

    def _stop(self, error: JobError) -> None:
        """Ray wraps what an actor raises in text; the tally carries the sentences to the driver as they are."""
        if not ray.get(self.tally.stopped.remote()):
            ray.get(self.tally.report.remote(error.faults if error.hint is None else (*error.faults, error.hint)))


class Room(Admission):
    """Room in the machine's memory, and the deadline of what is done there: waiting for room is no part of that."""

    _deadline: float | None = None

    def begin(self, deadline: float) -> None:
        """Whatever hangs from now on, also in code that never lets Python run again, ends this process after `deadline`."""
        self._deadline = deadline
        faulthandler.dump_traceback_later(deadline, exit=True, file=sys.__stderr__ or sys.stderr)

    def hold(self, size: int) -> None:
        faulthandler.cancel_dump_traceback_later()
        super().hold(size)
        if self._deadline is not None:
            self.begin(self._deadline)

    def release(self) -> None:
        self._deadline = None
        super().release()


def _check_folder(work: Work, place: str) -> None:
    """A folder of the same name on a node's own disk would take photographs that nobody finds again."""
    try:
        there = Store(work.output).has(join(work.run, "run.json"))
    except OSError as error:
        raise StoreError(f"node {place} cannot read {work.run}: {error}") from error
    if not there:
        raise StoreError(
            f"node {place} does not see the run: there is no run.json in {work.run}",
            hint="A run on several machines needs a bucket, or a folder that all of them share.",
        )


def _ended(records: Sequence[Record]) -> int:
    return sum(record.status in (Status.REFUSED, Status.FAILED) for record in records)
