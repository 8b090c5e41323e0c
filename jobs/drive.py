"""Drives a run under its lease: rounds over what is missing, passes until all of a round is done, and what kills its workers
set apart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.connect import connect
from jobs import manifest
from jobs.attempts import Attempts
from jobs.forecast import Foreseen, foresee
from jobs.graph import pools_of
from jobs.lease import Held
from jobs.rundir import Plan
from pipeline import provenance
from pipeline.errors import JobError
from pipeline.provenance import Compactor
from pipeline.record import from_manifest
from pipeline.runtime import Pass, chunks, restore
from pipeline.storage import Store
from pipeline.tally import Counts
from pipeline.worker import Deadline, Pool, Work

# What it answers are faults that stop the run.
Watch = Callable[[Counts, int], Sequence[str] | None]
Announce = Callable[[Foreseen], None]

# Photographs that one execution of the graph is about: bounds what the driver holds of the manifest.
_ROUND = 65_536
# Ray looks at every block before it hands out the first, for 5 ms each; a larger round puts several photographs into one.
_BLOCKS = 1024
# Photographs of ordinary size that go before the largest, so that one is delivered soon and a fault shows early.
_FIRST = 4
# Passes in a row in which nothing was committed and no photograph was found to kill its worker.
_IDLE_PASSES = 3


class Driver:
    """One driver's work on one run. Needs the run's lease, and stops as soon as that is lost."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        held: Held,
        watch: Watch,
        *,
        retry: bool,
        announce: Announce = lambda foreseen: None,
    ) -> None:
        self.plan = plan
        self.store = store
        self.held = held
        self.watch = watch
        self.stamp = plan.stamp(held.term)
        self.attempts = Attempts(store, plan.run, held.term, anew=retry)
        self.retry = retry
        self.announce = announce
        self.foreseen: Foreseen | None = None
        self.compactor = Compactor(store, plan.run, held.term)
        self.keeper = _Keeper(self.compactor, plan.spec.output.compact_after)
        self._again = np.zeros(plan.photographs, np.bool_)

    def drive(self) -> int:
        """Work on all that is missing. Gives how many photographs that were. Raises JobError, OSError."""
        self.compactor.compact()
        if self.retry:
            first = provenance.committed_numbers(self.store, self.plan.run, self.held.term)
            self._again = self.compactor.terms(self.plan.photographs) > 0
            self._again[first] = False
        done = self._done()
        if done.all():
            return 0
        spec = self.plan.spec
        with connect(spec.cluster.address, spec.cluster.cpus) as resources:
            self.foreseen = foresee(self.plan, self.store, resources, done)
            self.announce(self.foreseen)
            pools = pools_of(self.foreseen.layout)
            for rows in _rounds(manifest.pending(self.store, self.plan.run, done)):
                self._round(rows, pools)
        return int((~done).sum())

    def _done(self) -> NDArray[np.bool_]:
        terms = self.compactor.terms(self.plan.photographs)
        return np.where(self._again, terms >= self.held.term, terms > 0)

    def _round(self, rows: pa.Table, pools: Sequence[Pool]) -> None:
        suspect = pa.array([self.attempts.knows(item) for item in rows["item_id"].to_pylist()], pa.bool_())
        missing = self._pass(rows.filter(pa.compute.invert(suspect)), pools, alone=False)
        missing = pa.concat_tables([missing, rows.filter(suspect)])
        idle = 0
        while (missing := self._quarantine(missing)).num_rows:
            before, tried = missing.num_rows, self.attempts.total
            missing = self._pass(missing, pools, alone=True)
            moved = missing.num_rows < before or self.attempts.total > tried
            idle = 0 if moved else idle + 1
            if idle == _IDLE_PASSES:
                raise JobError(
                    f"{missing.num_rows} photographs were lost in {idle} passes in a row, and no worker died of them",
                    hint="Does the cluster lose its nodes? Run the same command again to go on.",
                )

    def _pass(self, rows: pa.Table, pools: Sequence[Pool], *, alone: bool) -> pa.Table:
        """Try photographs once; what is missing afterwards."""
        if not rows.num_rows:
            return rows
        size = 1 if alone else -(-rows.num_rows // _BLOCKS)
        with self.keeper:
            passed = restore(
                self._work(),
                pools,
                list(chunks(largest_first(rows, size), size)),
                alone=alone,
                watch=lambda counts: self._look(counts, rows.num_rows),
            )
        self.held.check()
        self.compactor.compact()
        missing = rows.filter(pa.array(~self._done()[rows["item_no"].to_numpy()]))
        self._count(missing, passed, alone=alone)
        return missing

    def _work(self) -> Work:
        spec = self.plan.spec
        planned = frozenset(use.id for use in self.plan.models if use.sha256 is not None)
        return Work(
            recipe=self.plan.recipe,
            stamp=self.stamp,
            run=self.plan.run,
            source=spec.source_options,
            roots=spec.collection.allowed_roots,
            output=spec.output_options,
            models=replace(spec.model_source(), planned=planned),
            deadline=Deadline(spec.cluster.deadline_seconds, spec.cluster.deadline_seconds_per_megapixel),
        )

    def _look(self, counts: Counts, total: int) -> tuple[str, ...]:
        told = self.watch(counts, total) or ()
        self.keeper.look(counts)
        faults = (fault for error in (self.held.lost, self.keeper.fault) if error is not None for fault in error.faults)
        return (*told, *faults)

    def _count(self, missing: pa.Table, passed: Pass, *, alone: bool) -> None:
        names: Mapping[int, str] = dict(
            zip(missing["item_no"].to_pylist(), missing["item_id"].to_pylist(), strict=True)
        )
        if alone and not passed.deaths and not passed.lost_nodes:
            # Lost before a worker could say that it had it in hand, and alone: nothing else can be to blame.
            for item in names.values():
                self.attempts.add(item, None, passed.said)
        for death in passed.deaths:
            for number in death.hand.items:
                if number in names:
                    self.attempts.add(names[number], death, passed.said)
        self.attempts.save()

    def _quarantine(self, missing: pa.Table) -> pa.Table:
        """Commit photographs that have been tried often enough; the others are given back."""
        over = pa.array([self.attempts.is_over(item) for item in missing["item_id"].to_pylist()], pa.bool_())
        for record in from_manifest(missing.filter(over)):
            ended = record.ended(self.attempts.verdict(record.item_id))
            provenance.commit(self.store, self.plan.run, self.stamp, [ended])
        if pa.compute.any(over).as_py():
            self.compactor.compact()
        return missing.filter(pa.compute.invert(over))


class _Keeper:
    """Compacts in a thread of its own while a pass runs, so that neither the run nor its readers drown in small objects."""

    def __init__(self, compactor: Compactor, after: int) -> None:
        self.compactor = compactor
        self.after = after
        self.fault: JobError | None = None
        self._compacted = 0
        self._thread: threading.Thread | None = None

    def __enter__(self) -> None:
        self._compacted = 0

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def look(self, counts: Counts) -> None:
        committed = counts["deliver"].done if "deliver" in counts else 0
        busy = self._thread is not None and self._thread.is_alive()
        if not busy and self.fault is None and committed - self._compacted >= self.after:
            self._compacted = committed
            self._thread = threading.Thread(target=self._compact, name="albumen-compaction", daemon=True)
            self._thread.start()

    def _compact(self) -> None:
        try:
            self.compactor.compact()
        except JobError as error:
            self.fault = error
        except OSError as error:
            self.fault = JobError(f"{self.compactor.run}: its provenance cannot be compacted: {error}")


def largest_first(rows: pa.Table, size: int) -> pa.Table:
    """Rows of MANIFEST in the order in which they are handed out, in blocks of `size`: the largest files first, so that none is
    begun when all others are done; but before them a few of ordinary size.

    In blocks of several, large and small are dealt out like cards, so that blocks take about equally long. What counts for a
    run is each row's own number; nothing but time depends on the order.
    """
    count = rows.num_rows
    # A size that is not known may be any.
    sizes = rows["source_bytes"].to_numpy(zero_copy_only=False).astype(np.float64)
    sizes[np.isnan(sizes)] = np.nanmedian(sizes) if not np.isnan(sizes).all() else 0.0
    order = np.argsort(-sizes, kind="stable")
    few = min(_FIRST, count // (2 * _FIRST))
    middle = slice((count - few) // 2, (count - few) // 2 + few)
    first, rest = order[middle], np.delete(order, middle)
    blocks = -(-len(rest) // size)
    dealt = [rest[start::blocks] for start in range(blocks)]
    return rows.take(pa.array(np.concatenate([first, *dealt])))


def _rounds(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    gathered: list[pa.Table] = []
    for table in tables:
        for start in range(0, table.num_rows, _ROUND):
            gathered.append(table.slice(start, _ROUND))
            if sum(piece.num_rows for piece in gathered) >= _ROUND:
                yield pa.concat_tables(gathered).combine_chunks()
                gathered = []
    if gathered:
        yield pa.concat_tables(gathered).combine_chunks()
