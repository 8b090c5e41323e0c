"""The simulation's actors do what it says of them: real rows, real commits, no pixels. Ray stands aside."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

import jobs.drive
from cluster.connect import Resources
from cluster.nodes import Node
from jobs.calibration import Calibration, Sample, save
from pipeline import runtime, worker
from pipeline.storage import Store
from pipeline.tally import Tally
from tests import simulate


class Remote:
    """A tally that is called as an actor is."""

    def __init__(self) -> None:
        self.tally = Tally()

    def __getattr__(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(remote=getattr(self.tally, name))


def restore(
    work: worker.Work,
    pools: Sequence[worker.Pool],
    pending: Sequence[pa.Table],
    *,
    alone: bool,
    watch: Callable[[Any], Any],
) -> runtime.Pass:
    """One actor of each pool, one photograph at a time."""
    tally = Remote()
    actors = [runtime.StageActor(work, pool, tally) for pool in pools]
    for block in pending:
        for row in range(block.num_rows):
            table = block.slice(row, 1)
            for actor in actors:
                table = actor(table)
    watch(tally.tally.counts)
    return runtime.Pass((), ())


class Here:
    """In place of `connect`."""

    def __init__(self, *_: object) -> None:
        """Nobody is asked."""

    def __enter__(self) -> Resources:
        return Resources((Node(4.0),))

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALBUMEN_MODELS", str(tmp_path / "models"))
    here = SimpleNamespace(get_actor_id=lambda: "worker", get_node_id=lambda: "node")
    util = SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1")
    ray = SimpleNamespace(get=lambda answer: answer, get_runtime_context=lambda: here, util=util)
    monkeypatch.setattr(worker, "ray", ray)
    monkeypatch.setattr(jobs.drive, "restore", restore)
    monkeypatch.setattr(jobs.drive, "connect", Here)
    # Restored at the end of the test: `_measured` puts the simulated actor in its place for good.
    monkeypatch.setattr(runtime, "StageActor", runtime.StageActor)


def test_a_simulated_run_commits_every_photograph_once(without_ray: None, tmp_path: Path) -> None:
    plan = simulate.planned(tmp_path, 30, {}, None)
    facts = simulate._measured(None, [None, None], plan, {}, lose=False)
    assert (facts["nodes"], facts["photographs"]) == (2, 30)
    assert list(facts["pools"]) == ["ingest+analyse+repair", "upscale", "colour+deliver"]
    assert facts["per_second"] > 0
    assert set(facts["stage_seconds"]) == {"ingest", *simulate.STAGES, "deliver"}
    assert json.loads(json.dumps(facts)) == facts


def test_stages_sleep_as_long_as_they_are_told_and_less_with_threads(
    without_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(simulate.time, "sleep", slept.append)
    plan = simulate.planned(tmp_path, 2, {"upscale": 8.0, "ingest": 0.5}, None)
    facts = simulate._measured(None, [None], plan, {"upscale": 8.0, "ingest": 0.5}, lose=False)
    threads = facts["pools"]["upscale"][2]
    assert threads > 1
    assert sorted(value for value in slept if value) == sorted([0.5, 8.0 / threads] * 2)


def test_pools_are_sized_for_the_seconds(without_ray: None, tmp_path: Path) -> None:
    from jobs.forecast import foresee

    plan = simulate.planned(tmp_path, 2, {"ingest": 3.0, "upscale": 1.0}, None)
    pools = foresee(plan, Store(), Resources((Node(16.0),))).layout.pools
    assert pools[0].name == "ingest+analyse+repair"
    assert pools[0].size > 3 * pools[2].size


def test_seconds_come_from_a_calibration_and_from_the_command_line(tmp_path: Path) -> None:
    one = Sample(".tif", 10, 4.0, "restored", 1, {"ingest": 1.0, "upscale": 8.0, "engine": 1.0})
    save(Store(), str(tmp_path / "c.json"), Calibration("r", "slice", "cpu", 2, (one,)))
    assert simulate.parsed_seconds("", str(tmp_path / "c.json")) == {"ingest": 1.0, "upscale": 8.0}
    assert simulate.parsed_seconds("upscale=2", str(tmp_path / "c.json")) == {"ingest": 1.0, "upscale": 2.0}
    assert simulate.parsed_seconds("ingest=0.5,deliver=1", None) == {"ingest": 0.5, "deliver": 1.0}


def test_memory_is_told_in_fifths() -> None:
    memory = simulate.Memory()
    assert memory.course() == []
    memory.values = [float(n) for n in range(101)]
    assert memory.course() == [0, 20, 40, 60, 80, 100]
