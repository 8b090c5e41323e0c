"""The real graph on simulated nodes: real rounds, pools, passes and commits; stages that sleep as long as the real ones take.

    python -m tests.simulate scale --nodes 1 2 4 8 --photographs 4000 --seconds ingest=0.05,upscale=0.4,deliver=0.1
    python -m tests.simulate scale --nodes 4 --photographs 4000 --seconds upscale=0.4 --lose
    python -m tests.simulate scale --nodes 2 --photographs 100000
    python -m tests.simulate profile --photographs 1000

`scale` runs each number of nodes in a process and on a Ray of its own (`ray.cluster_utils.Cluster`), and prints photographs a
second through commit, overall and between the tenth and the ninetieth hundredth of commits, the driver's memory over time, and
the efficiency beside the smallest number of nodes. Without --seconds photographs are no-ops, and what is measured is the
engine alone. --calibration takes the seconds from a file of `albumen calibrate`, for a photograph of ordinary size. Simulated
nodes share this machine's cores: what an engine takes for N nodes is then taken from two cores, so that efficiency is meant
for seconds that leave the cores idle. --lose ends one node when half is done. `profile` runs the same steps in this process,
without Ray, and prints where a no-op photograph's time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import json
import os
import pstats
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.watched import Watch, held

STAGES = ("analyse", "repair", "upscale", "colour")
_BATCH = 100_000
_STORE_BYTES = 120 << 20


def simulated(actor: type, seconds: Mapping[str, float]) -> type:
    """The real actor with stages that sleep, and photographs of one pixel. Nothing is fetched, decoded, encoded or put; rows
    are committed as ever."""
    from pipeline.errors import Status
    from pipeline.memory import budget
    from pipeline.photograph import Container, Photograph, pixel_digest
    from pipeline.record import Event
    from pipeline.stages import FOOTPRINTS
    from pipeline.storage import Store
    from pipeline.worker import Room

    class Simulated(actor):  # type: ignore[misc]
        def _open(self, device: Any) -> None:
            self.device = device
            self.room = Room(budget())
            self.working = [FOOTPRINTS[name].working for name in self.pool.stages]
            self.networks = ()
            self.output = Store(self.work.output)

        def _run(self, name: str, records: list[Any]) -> list[Any]:
            # A network with more threads is that much faster.
            time.sleep(seconds.get(name, 0.0) / self.pool.threads)
            return [self._done(name, record) for record in records]

        def _done(self, name: str, record: Any) -> Any:
            if name == "ingest":
                photograph = Photograph(record.item_id, np.zeros((1, 1, 3), np.uint8), Container("PNG"))
                record = replace(record, photograph=photograph, source_format="PNG", source_width=1, source_height=1)
            digest = pixel_digest(record.photograph)
            event = Event(name, "0", "applied", None, "{}", (), digest, digest, 0.0, 0.0, "cpu", None, "{}")
            ended = {"status": Status.RESTORED} if name == "deliver" else {}
            return replace(record, events=(*record.events, event), **ended)

    return Simulated


def listed(path: Path, rows: int) -> None:
    """A manifest file: names, and sizes as a collection has them, most of them alike and a few large."""
    rng = np.random.default_rng(0)
    schema = pa.schema([("source_uri", pa.string()), ("bytes", pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, _BATCH):
            numbers = range(start, min(start + _BATCH, rows))
            sizes = rng.lognormal(15, 0.5, len(numbers)).astype(np.int64)
            names = [f"box-{n // 500:06d}/scan-{n:09d}.tif" for n in numbers]
            writer.write_table(pa.table({"source_uri": names, "bytes": sizes}, schema))


def planned(work: Path, rows: int, seconds: Mapping[str, float], address: str | None) -> Any:
    """A run over that many photographs, calibrated to the seconds, so that pools are sized as they would be."""
    from jobs.calibration import Calibration, Sample, save
    from jobs.forecast import place
    from jobs.rundir import prepare
    from jobs.spec import parse_spec
    from pipeline.storage import Store

    work.mkdir(parents=True, exist_ok=True)
    listed(work / "list.parquet", rows)
    spec = parse_spec(
        {
            "collection": {"name": "simulated", "source": str(work / "list.parquet")},
            "output": {"uri": str(work / "run")},
            "recipe": {"stages": list(STAGES), "analyse": {"detector": "none"}},
            "cluster": {} if address is None else {"address": address},
        },
        work,
    )
    plan = prepare(spec)
    # A no-op's seconds are all the engine's, alike in every pool.
    names = ("ingest", *STAGES, "deliver")
    known = {name: max(seconds.get(name, 0.0), 0.001) for name in names}
    sample = Sample(".tif", 3_000_000, 1.0, "restored", 1, known)
    save(Store(), place(plan), Calibration(plan.recipe_id, "simulated", "cpu", 1, (sample,)))
    return plan


class Memory(Watch):
    """The resident memory of this process in megabytes, once a second."""

    def __init__(self) -> None:
        super().__init__(lambda: held("VmRSS") / 1e6, 1.0)

    def course(self) -> list[float]:
        """At the start and at each fifth of the time."""
        last = len(self.values) - 1
        return [round(self.values[i * last // 5]) for i in range(6)] if last >= 0 else []


def one(nodes: int, rows: int, cpus: int, seconds: Mapping[str, float], *, lose: bool, folder: Path) -> dict[str, Any]:
    """In a process of its own: a head without CPUs, `nodes` of `cpus` each, one run."""
    from tests.audit.machine import head_without_cpus

    cluster = head_without_cpus(_STORE_BYTES)
    try:
        there = [cluster.add_node(num_cpus=cpus, object_store_memory=_STORE_BYTES) for _ in range(nodes)]
        return _measured(cluster, there, planned(folder, rows, seconds, str(cluster.address)), seconds, lose=lose)
    finally:
        cluster.shutdown()


def _measured(cluster: Any, there: list[Any], plan: Any, seconds: Mapping[str, float], *, lose: bool) -> dict[str, Any]:
    import pipeline.runtime
    from jobs.run import execute

    pipeline.runtime.StageActor = simulated(pipeline.runtime.StageActor, seconds)  # type: ignore[misc]
    facts: dict[str, Any] = {"nodes": len(there), "photographs": plan.photographs}
    lost: list[threading.Thread] = []
    spent: dict[str, float] = {}

    def watch(counts: Any, total: int) -> None:
        spent.update({name: round(count.seconds, 2) for name, count in counts.items()})
        if lose and not lost and "deliver" in counts and 2 * counts["deliver"].done >= total:
            facts["lost_at_seconds"] = round(time.perf_counter() - started, 1)
            lost.append(
                threading.Thread(target=cluster.remove_node, args=(there[-1],), kwargs={"allow_graceful": False})
            )
            lost[0].start()

    def announce(foreseen: Any) -> None:
        facts["pools"] = {pool.name: [pool.size, pool.cpus, pool.threads] for pool in foreseen.layout.pools}
        facts["planned_rate"] = round(foreseen.layout.rate, 2)

    started = time.perf_counter()
    with Memory() as memory:
        summary = execute(plan, watch, announce=announce)
    for thread in lost:
        thread.join()
    return facts | _rates(plan, summary) | {"driver_megabytes": memory.course(), "stage_seconds": spent}


def _rates(plan: Any, summary: Any) -> dict[str, Any]:
    from pipeline import provenance
    from pipeline.storage import Store

    table = provenance.live(Store(), plan.run, ["item_no", "committed_at", "status"])
    assert table.num_rows == plan.photographs == summary.restored, (table.num_rows, summary)
    assert np.array_equal(np.sort(table["item_no"].to_numpy()), np.arange(plan.photographs))
    at = np.sort(table["committed_at"].cast(pa.int64()).to_numpy()) / 1e6
    tenth = len(at) // 10
    middle = at[tenth:-tenth] if tenth else at
    return {
        "seconds": round(summary.seconds, 1),
        "first_commit_after": round(summary.seconds - (at[-1] - at[0]), 1),
        "per_second": round(len(at) / max(at[-1] - at[0], 1e-9), 2),
        "steady_per_second": round((len(middle) - 1) / max(middle[-1] - middle[0], 1e-9), 2),
    }


def scale(options: argparse.Namespace) -> None:
    """Each number of nodes in a process of its own, so that its driver's memory is its own."""
    from tests.audit.machine import environment

    results = []
    for nodes in options.nodes:
        folder = Path(tempfile.mkdtemp(prefix="alb-sim-"))
        call = [sys.executable, "-m", "tests.simulate", "one", "--nodes", str(nodes), "--work", str(folder)]
        call += ["--photographs", str(options.photographs), "--cpus", str(options.cpus), "--seconds", options.seconds]
        call += ["--lose"] if options.lose else []
        call += ["--calibration", options.calibration] if options.calibration else []
        try:
            variables = os.environ | environment(folder / "ray")
            subprocess.run(call, env=variables, check=True, stdout=subprocess.DEVNULL)
            results.append(json.loads((folder / "result.json").read_text()))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        least = results[0]
        share = least["steady_per_second"] / least["nodes"]
        results[-1]["efficiency"] = round(results[-1]["steady_per_second"] / nodes / share, 3)
        print(json.dumps(results[-1]), flush=True)


def profile(rows: int) -> None:
    """A no-op photograph's steps through three pools, in this process: rows of the manifest, packed, unpacked, committed."""
    from jobs import lease, manifest
    from pipeline.storage import Store

    folder = Path(tempfile.mkdtemp(prefix="alb-sim-"))
    try:
        plan = planned(folder, rows, {}, None)
        with lease.hold(Store(), plan.run, "run") as held:
            stamp = plan.stamp(held.term)
            [table] = manifest.parts(Store(), plan.run)
            clock = Clock()
            for start in range(rows):
                _through(plan, stamp, table.slice(start, 1), clock)
            clock.print(rows)
            profiler = cProfile.Profile()
            # Other names are committed a second time: the same would be there already.
            plan = planned(folder / "again", rows, {}, None)
            profiler.runcall(lambda: [_through(plan, stamp, table.slice(start, 1), Clock()) for start in range(rows)])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(18)
    print("\n".join(line for line in text.getvalue().splitlines() if line.strip()))


class Clock:
    """Adds up the time on the wall, and that of this process's CPU, by step."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[..., Any], *given: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        done = work(*given)
        self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - wall
        self.cpu[name] = self.cpu.get(name, 0.0) + time.process_time() - cpu
        return done

    def print(self, rows: int) -> None:
        print(f"{'milliseconds a photograph':<28} {'CPU':>7} {'wall':>8}")
        for name in sorted(self.cpu, key=lambda name: -self.cpu[name]):
            print(f"{name:<28} {1e3 * self.cpu[name] / rows:7.2f} {1e3 * self.wall[name] / rows:8.2f}")
        cpu, wall = sum(self.cpu.values()), sum(self.wall.values())
        print(
            f"{'all':<28} {1e3 * cpu / rows:7.2f} {1e3 * wall / rows:8.2f}  {rows / cpu:.0f} a second and core at most\n"
        )


def _through(plan: Any, stamp: Any, row: pa.Table, clock: Clock) -> None:
    from pipeline import provenance
    from pipeline.record import from_manifest, pack, unpack
    from pipeline.storage import Store
    from pipeline.supervision import verify_transit

    store, worker = Store(), _worker()
    records = clock("rows of the manifest", from_manifest, row)
    for names in (("ingest", "analyse", "repair"), ("upscale",), ("colour", "deliver")):
        for name in names:
            records = clock("events", lambda r, n=name: [worker._done(n, record) for record in r], records)
        if names[-1] == "deliver":
            clock("commit", provenance.commit, store, plan.run, stamp, records)
            records = [replace(record, photograph=None) for record in records]
        packed = clock("pack", pack, records)
        if names[-1] != "deliver":
            records = clock("unpack", unpack, packed)
            records = clock("digest of arrival", lambda r: [verify_transit(record) for record in r], records)


def _worker() -> Any:
    """A simulated actor outside Ray: only what `_done` needs."""
    kind = simulated(object, {})
    return kind.__new__(kind)


def parsed_seconds(text: str, calibration: str | None) -> dict[str, float]:
    """Seconds a photograph, by stage."""
    seconds: dict[str, float] = {}
    if calibration:
        from jobs.calibration import Calibration, Sample

        facts = json.loads(Path(calibration).read_text())
        samples = tuple(Sample(**sample) for sample in facts["samples"])
        found = Calibration(facts["recipe_id"], "", facts["device"], facts["threads"], samples)
        ordinary = found.megapixels() or 1.0
        names = {name for sample in samples for name in sample.seconds} & {"ingest", *STAGES, "deliver"}
        seconds = {name: (found.rate(name) or 0.0) * ordinary for name in names}
    given = (part.split("=") for part in text.split(",") if part)
    return seconds | {name: float(value) for name, value in given}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["scale", "profile", "one"])
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--photographs", type=int, default=2000)
    parser.add_argument("--cpus", type=int, default=4, help="of each simulated node")
    parser.add_argument("--seconds", default="", help="a photograph, by stage: ingest=0.05,upscale=0.4")
    parser.add_argument("--calibration", help="take the seconds from this file")
    parser.add_argument("--lose", action="store_true", help="end a node when half is done")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.what == "scale":
        scale(options)
    elif options.what == "profile":
        profile(options.photographs)
    else:
        seconds = parsed_seconds(options.seconds, options.calibration)
        found = one(
            options.nodes[0], options.photographs, options.cpus, seconds, lose=options.lose, folder=options.work
        )
        with suppress(FileExistsError):
            (options.work / "result.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
