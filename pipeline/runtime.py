"""The Ray Data graph: the only module of the pipeline that knows Ray.

Each pool of actors runs a group of neighbouring stages. StageActor is the only class that Ray sees; it times every stage,
digests what goes in and comes out, and appends the event, so that no stage can forget its provenance.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy

from pipeline import provenance
from pipeline.errors import JobError, Status, StoreError
from pipeline.models.store import ModelSource, ModelStore
from pipeline.recipe import Recipe
from pipeline.record import Record, from_manifest, pack, unpack
from pipeline.stage import Device, Stage
from pipeline.stages import STAGES
from pipeline.stages.deliver import Deliver
from pipeline.stages.ingest import Ingest
from pipeline.storage import Store, StoreOptions
from pipeline.supervision import WorkerBrokenError, run_end, run_stage, verify_transit

# Ray Data cuts a stage's output into blocks of about this size, so that the next stage can start.
_BLOCK_BYTES = 32 << 20
# A worker that dies comes back this often; the photographs it held are tried again by the job, one by one.
_RESTARTS = 100


@dataclass(frozen=True, slots=True)
class Pool:
    """One actor pool. stages: neighbouring names, `ingest` and `deliver` included. cpus, gpus: what Ray reserves for one
    actor. threads: CPU threads that its networks use."""

    stages: tuple[str, ...]
    size: int
    cpus: float
    gpus: float
    threads: int

    @property
    def name(self) -> str:
        return "+".join(self.stages)


@dataclass(frozen=True, slots=True)
class Work:
    """Everything an actor has to know, small enough to travel to each. Never holds pixels, weights or credentials."""

    recipe: Recipe
    stamp: provenance.Stamp
    run: str
    source: StoreOptions
    output: StoreOptions
    models: ModelSource


@dataclass(frozen=True, slots=True)
class StageCount:
    """How far one stage has come. seconds: spent inside it, over all actors."""

    done: int = 0
    failed: int = 0
    seconds: float = 0.0


Counts = Mapping[str, StageCount]


class Tally:
    """An actor that adds up progress and keeps the faults that stop a run."""

    def __init__(self) -> None:
        self.counts: dict[str, StageCount] = {}
        self.faults: list[str] = []

    def add(self, counts: Counts) -> None:
        for stage, more in counts.items():
            so_far = self.counts.get(stage, StageCount())
            self.counts[stage] = StageCount(
                so_far.done + more.done, so_far.failed + more.failed, so_far.seconds + more.seconds
            )

    def report(self, faults: Sequence[str]) -> None:
        self.faults += [fault for fault in faults if fault not in self.faults]

    def stopped(self) -> bool:
        return bool(self.faults)

    def snapshot(self) -> tuple[Counts, tuple[str, ...]]:
        return dict(self.counts), tuple(self.faults)


class StageActor:
    """Runs a group of stages on tables of rows. Rows that have ended pass through untouched."""

    def __init__(self, work: Work, pool: Pool, tally: Any) -> None:
        self.work = work
        self.pool = pool
        self.tally = tally
        try:
            self._open(Device("cuda" if pool.gpus > 0 else "cpu", pool.threads))
        except JobError as error:
            self._stop(error)
            raise

    def _open(self, device: Device) -> None:
        work = self.work
        self.models = ModelStore(work.models)
        self.device = device
        self.ingest = Ingest(work.recipe.ingest, Store(work.source))
        self.deliver = Deliver(work.recipe.deliver, Store(work.output), work.run)
        self.output = Store(work.output)
        self.stages: dict[str, Stage] = {}
        for spec in work.recipe.stages:
            if spec.name in self.pool.stages:
                stage = STAGES[spec.name](spec.parameters, work.recipe.policy)
                stage.open(self.models, device)
                self.stages[spec.name] = stage

    def __call__(self, table: pa.Table) -> pa.Table:
        try:
            return self._work(table)
        except WorkerBrokenError:
            # Ray starts another worker, and the job tries these photographs again.
            os._exit(1)
        except JobError as error:
            self._stop(error)
            raise

    def _work(self, table: pa.Table) -> pa.Table:
        first = "ingest" in self.pool.stages
        if first and ray.get(self.tally.stopped.remote()):
            # The rest of the pass would be worked on and could not be committed.
            raise JobError("the run was stopped")
        records = from_manifest(table) if first else [verify_transit(record) for record in unpack(table)]
        counts: dict[str, StageCount] = {}
        for name in self.pool.stages:
            before, ended = time.perf_counter(), _ended(records)
            records = self._run(name, records)
            counts[name] = StageCount(len(records), _ended(records) - ended, time.perf_counter() - before)
        if "deliver" in self.pool.stages:
            self._commit(records)
            records = [replace(record, photograph=None) for record in records]
        self.tally.add.remote(counts)
        return pack(records)

    def _run(self, name: str, records: list[Record]) -> list[Record]:
        if name == "ingest":
            return [run_end(self.ingest, self.ingest.parameters, self.ingest.read, record) for record in records]
        if name == "deliver":
            done = [run_end(self.deliver, self.deliver.parameters, self.deliver.write, record) for record in records]
            return [replace(r, status=Status.RESTORED) if r.status is Status.PENDING else r for r in done]
        parameters = next(spec.parameters for spec in self.work.recipe.stages if spec.name == name)
        return run_stage(self.stages[name], parameters, records, self.models, self.device)

    def _commit(self, records: list[Record]) -> None:
        try:
            provenance.commit(self.output, self.work.run, self.work.stamp, records)
        except OSError as error:
            raise StoreError(f"provenance cannot be written to {self.work.run}: {error}") from error

    def _stop(self, error: JobError) -> None:
        """Ray wraps what an actor raises in text; the tally carries the sentences to the driver as they are."""
        if not ray.get(self.tally.stopped.remote()):
            ray.get(self.tally.report.remote(error.faults if error.hint is None else (*error.faults, error.hint)))


def _ended(records: Sequence[Record]) -> int:
    return sum(record.status in (Status.REFUSED, Status.FAILED) for record in records)


def restore(
    work: Work, pools: Sequence[Pool], pending: Sequence[pa.Table], *, alone: bool, watch: Callable[[Counts], None]
) -> tuple[str, ...]:
    """Run the graph once over tables of MANIFEST, one block a table. Returns what Ray said of blocks that were lost.

    A photograph whose worker died has no provenance row afterwards; the caller tries it again with `alone`, which hands
    an actor one photograph at a time. Raises JobError where the run cannot go on.
    """
    lost = _configure()
    tally = ray.remote(num_cpus=0)(Tally).remote()
    data = ray.data.from_arrow(list(pending))
    for pool in pools:
        fitting = replace(pool, size=min(pool.size, len(pending)))
        data = _with_pool(data, work, fitting, tally, alone=alone)
    with _watching(tally, watch), warnings.catch_warnings():
        # Advice on pool sizes and deprecations, for the people who write the graph and not for those who run it.
        warnings.filterwarnings("ignore", module=r"ray\.")
        try:
            for _ in data.iter_batches(batch_size=None, batch_format="pyarrow"):
                pass
        except ray.exceptions.RayError as error:
            _raise_faults(tally)
            raise JobError(f"the cluster stopped the run: {_first_line(error)}") from error
    _raise_faults(tally)
    ray.kill(tally)
    return lost.texts


def _with_pool(data: ray.data.Dataset, work: Work, pool: Pool, tally: Any, *, alone: bool) -> ray.data.Dataset:
    with warnings.catch_warnings():
        # `ray_remote_args_fn` is deprecated, and has no successor yet for max_restarts and max_task_retries.
        warnings.simplefilter("ignore")
        return data.map_batches(
            StageActor,
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            fn_constructor_kwargs={"work": work, "pool": pool, "tally": tally},
            compute=ActorPoolStrategy(size=pool.size, max_tasks_in_flight_per_actor=1 if alone else 2),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus or None,
            udf_modifying_row_count=False,
            ray_remote_args_fn=_actor_options,
        )


def _actor_options() -> dict[str, Any]:
    # By default Ray Data retries a task for ever: one photograph that kills its worker would hold the run up for good.
    return {"max_restarts": _RESTARTS, "max_task_retries": 0}


class _Lost(logging.Handler):
    """Ray Data only logs why it dropped a block; this keeps the last words of each distinct error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._texts: dict[str, None] = {}

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self._texts)

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self._texts[_root_cause(record.exc_info[1])] = None


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {_first_line(error)}"


def _configure() -> _Lost:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = _BLOCK_BYTES
    # A block whose worker died is dropped from this pass; the job finds its photographs missing and tries them again.
    context.max_errored_blocks = -1
    context.execution_options.preserve_order = False
    logger = logging.getLogger("ray.data")
    lost = _Lost()
    logger.handlers[:] = [lost]
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    return lost


def _raise_faults(tally: Any) -> None:
    _, faults = ray.get(tally.snapshot.remote())
    if faults:
        raise JobError(faults)


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__


class _watching:  # noqa: N801 - a context manager, named as it is read
    """Asks the tally once a second, in a thread of its own, while the graph runs."""

    def __init__(self, tally: Any, watch: Callable[[Counts], None]) -> None:
        self._tally = tally
        self._watch = watch
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="albumen-progress", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            over = self._over.wait(1.0)
            try:
                counts, _ = ray.get(self._tally.snapshot.remote(), timeout=10)
            except ray.exceptions.GetTimeoutError:
                if over:
                    return
                continue
            except ray.exceptions.RayError:
                return
            self._watch(counts)
            if over:
                return


def chunks(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """Consecutive slices of a table: the blocks that Ray hands to actors."""
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows).combine_chunks()
