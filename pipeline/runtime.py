"""The Ray Data graph: actors of `worker` in pools, one behind the other, and what is looked at while they work."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.errors import JobError
from pipeline.meter import Meter
from pipeline.metrics import QUEUE_SECONDS, Sample
from pipeline.tally import Counts, Death, Tally
from pipeline.worker import Pool, StageActor, Work

# Ray Data cuts a stage's output into blocks of about this size, so that the next stage can start.
_BLOCK_BYTES = 32 << 20
# A worker that dies comes back this often; the photographs it held are tried again by the job, one by one.
_RESTARTS = 100


@dataclass(frozen=True, slots=True)
class Pass:
    """What became of one pass. deaths: of workers with photographs in hand, those of lost nodes left out. said: Ray's words
    about each distinct loss. lost_nodes: whether the cluster lost any."""

    deaths: tuple[Death, ...]
    said: tuple[str, ...]
    lost_nodes: bool = False


def restore(
    work: Work,
    pools: Sequence[Pool],
    pending: Sequence[pa.Table],
    *,
    alone: bool,
    watch: Callable[[Counts], Sequence[str]],
) -> Pass:
    """Run the graph once over tables of MANIFEST, one block a table.

    A photograph whose worker died has no provenance row afterwards; the caller tries it again with `alone`, which hands
    an actor one photograph at a time. watch: called about once a second; what it answers are faults that stop the run.
    Raises JobError where the run cannot go on.
    """
    lost, before = _configure(), _nodes()
    # Beside the driver, whose end it shares: on any other node its loss would leave workers that nobody counts.
    beside = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    tally = ray.remote(num_cpus=0, scheduling_strategy=beside, max_restarts=-1, max_task_retries=-1)(Tally).remote()
    data = ray.data.from_blocks(list(pending))
    for pool in pools:
        fitting = replace(pool, size=min(pool.size, len(pending)))
        data = _with_pool(data, work, fitting, tally, alone=alone)
    with _watching(tally, watch, Meter(work.stamp.run_id)), warnings.catch_warnings():
        # Advice on pool sizes and deprecations, for the people who write the graph and not for those who run it.
        warnings.filterwarnings("ignore", module=r"ray\.")
        try:
            for _ in data.iter_batches(batch_size=None, batch_format="pyarrow"):
                pass
        except ray.exceptions.RayError as error:
            _raise_faults(tally)
            raise JobError(f"the cluster stopped the run: {_first_line(error)}") from error
    _raise_faults(tally)
    there = _nodes()
    deaths = tuple(death for death in ray.get(tally.casualties.remote()) if death.hand.node in there)
    ray.kill(tally)
    return Pass(deaths, lost.texts, lost_nodes=not before <= there)


def _nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


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
            compute=ActorPoolStrategy(
                min_size=pool.size if pool.least is None else min(pool.least, pool.size),
                max_size=pool.size,
                max_tasks_in_flight_per_actor=1 if alone else 2,
            ),
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
    try:
        _, faults = ray.get(tally.snapshot.remote())
    except ray.exceptions.RayActorError as error:
        raise JobError(
            f"the cluster lost the worker that counts for the driver: {_first_line(error)}",
            hint="Run the same command again to go on.",
        ) from error
    if faults:
        raise JobError(faults)


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__


class _watching:  # noqa: N801 - a context manager, named as it is read
    """Asks the tally once a second, in a thread of its own, while the graph runs."""

    def __init__(self, tally: Any, watch: Callable[[Counts], Sequence[str]], meter: Meter) -> None:
        self._tally = tally
        self._watch = watch
        self._meter = meter
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
                waited = ray.get(self._tally.longest_wait.remote(), timeout=10)
            except ray.exceptions.GetTimeoutError:
                if over:
                    return
                continue
            except ray.exceptions.RayError:
                return
            self._meter.add([Sample(QUEUE_SECONDS, waited)])
            if faults := self._watch(counts):
                self._tally.report.remote(faults)
            if over:
                return


def chunks(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """Consecutive slices of a table: the blocks that Ray hands to actors."""
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows).combine_chunks()
