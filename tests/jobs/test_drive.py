"""A driver without Ray: passes are functions that commit through provenance, and lose what they are told to lose."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.connect import Resources
from cluster.nodes import Node
from jobs import drive, lease, run
from jobs.choices import Changed
from jobs.drive import Driver
from jobs.rundir import Plan, prepare
from jobs.spec import JobSpec
from jobs.update import update
from jobs.verify import verify
from pipeline import provenance
from pipeline.errors import ItemError, JobError, Reason
from pipeline.provenance import OvertakenError
from pipeline.record import from_manifest
from pipeline.runtime import Pass
from pipeline.storage import Store
from pipeline.tally import Death, Hand, StageCount

Rows = list[dict[str, Any]]


class Cluster:
    """Stands for Ray. kills: letters of photographs that end their worker; loses: that are lost without a death, so often.
    Everything else is committed as refused, which needs no image."""

    def __init__(self) -> None:
        self.kills: set[str] = set()
        self.seconds = 1.0
        self.loses: Counter[str] = Counter()
        self.loses_nodes = True
        self.said: tuple[str, ...] = ()
        self.reason = Reason.TRUNCATED
        self.passes: list[tuple[bool, list[list[str]]]] = []
        self.connected = 0
        self.during: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def connect(self, address: str | None, cpus: int | None) -> Iterator[Resources]:
        self.connected += 1
        yield Resources((Node(4.0),))

    def restore(
        self, work: Any, pools: Any, pending: Sequence[pa.Table], *, alone: bool, watch: Callable[[Any], Sequence[str]]
    ) -> Pass:
        store, deaths, done = Store(work.output), [], 0
        names = [[Path(uri).stem for uri in block["source_uri"].to_pylist()] for block in pending]
        self.passes.append((alone, names))
        for block, letters in zip(pending, names, strict=True):
            if self.kills & set(letters):
                hand = Hand("w1", "node", tuple(block["item_no"].to_pylist()), "repair", 0.0, 600.0)
                deaths.append(Death(hand, self.seconds))
                continue
            for record, letter in zip(from_manifest(block), letters, strict=True):
                if self.loses[letter]:
                    self.loses[letter] -= 1
                    continue
                ended = record.ended(ItemError(self.reason, "half"))
                provenance.commit(store, work.run, work.stamp, [ended])
                done += 1
        self.during()
        if faults := watch({"deliver": StageCount(done)}):
            raise JobError(faults)
        return Pass(tuple(deaths), self.said, lost_nodes=self.loses_nodes)

    @property
    def tried(self) -> list[tuple[bool, str]]:
        """alone, and the letters of a pass as one word."""
        return [(alone, "".join(letter for block in names for letter in block)) for alone, names in self.passes]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    found = Cluster()
    monkeypatch.setattr(drive, "restore", found.restore)
    monkeypatch.setattr(drive, "connect", found.connect)
    return found


@pytest.fixture
def plan(make_spec: Callable[..., JobSpec], scans: Path) -> Plan:
    return prepare(make_spec())


def go(plan: Plan, *, retry: bool = False) -> run.Summary:
    return run.execute(plan, lambda counts, total: None, retry=retry)


def rows(plan: Plan) -> dict[str, dict[str, Any]]:
    return {Path(row["source_uri"]).stem: row for row in provenance.live(Store(), plan.run).to_pylist()}


def loose(plan: Plan) -> list[Path]:
    return list(Path(plan.run, "provenance/terms").rglob("*.parquet"))


def test_one_pass_does_what_is_missing_and_ends_with_a_seal(plan: Plan, cluster: Cluster) -> None:
    summary = go(plan)
    assert (summary.worked_on, summary.refused, summary.missing, summary.exit_code) == (4, 4, 0, 3)
    assert cluster.tried == [(False, "abcd")]
    assert loose(plan) == []
    assert {row["term"] for row in rows(plan).values()} == {2}
    assert verify(plan.run).faults == ()


def test_a_run_that_is_done_asks_nobody(plan: Plan, cluster: Cluster) -> None:
    go(plan)
    assert go(prepare(plan.spec)).worked_on == 0
    assert (cluster.connected, len(cluster.passes)) == (1, 1)


def test_what_was_committed_by_a_killed_driver_is_not_done_again(plan: Plan, cluster: Cluster) -> None:
    def die() -> None:
        raise KeyboardInterrupt

    cluster.loses["b"] = cluster.loses["d"] = 1
    cluster.during = die
    with pytest.raises(KeyboardInterrupt):
        go(plan)
    assert len(loose(plan)) == 2
    cluster.during = lambda: None
    assert go(prepare(plan.spec)).worked_on == 2
    assert cluster.tried == [(False, "abcd"), (False, "bd")]
    assert {letter: row["term"] for letter, row in rows(plan).items()} == {"a": 2, "b": 3, "c": 2, "d": 3}


def test_what_was_lost_is_tried_again_alone(plan: Plan, cluster: Cluster) -> None:
    cluster.loses["c"] = 2
    go(plan)
    assert cluster.tried == [(False, "abcd"), (True, "c"), (True, "c")]
    assert not Path(plan.run, "attempts").exists()


@pytest.mark.parametrize(
    ("seconds", "said", "reason"),
    [
        (1.0, ("ActorDiedError: w1",), "worker-died"),
        (1.0, ("w1: OutOfMemoryError",), "out-of-memory"),
        (601.0, (), "deadline-exceeded"),
    ],
)
def test_what_kills_three_workers_is_quarantined_with_its_cause(
    plan: Plan, cluster: Cluster, seconds: float, said: tuple[str, ...], reason: str
) -> None:
    cluster.kills, cluster.seconds, cluster.said = {"b"}, seconds, said
    summary = go(plan)
    assert (summary.failed, summary.refused, summary.missing) == (1, 3, 0)
    assert cluster.tried == [(False, "abcd"), (True, "b"), (True, "b")]
    row = rows(plan)["b"]
    assert (row["status"], row["reason"]) == ("failed", reason)
    assert "in 3 tries" in row["detail"]
    assert loose(plan) == []
    assert verify(plan.run).faults == ()


def test_neighbours_in_a_block_are_not_quarantined(
    plan: Plan, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drive, "_BLOCKS", 2)
    cluster.kills = {"b"}
    assert (go(plan).failed, cluster.passes[0]) == (1, (False, [["a", "c"], ["b", "d"]]))
    assert cluster.tried[1:] == [(True, "bd"), (True, "b")]
    assert rows(plan)["d"]["status"] == "refused"


def test_suspects_of_an_earlier_driver_are_met_alone(plan: Plan, cluster: Cluster) -> None:
    cluster.kills = {"b"}

    def die() -> None:
        if len(cluster.passes) == 2:
            raise KeyboardInterrupt

    cluster.during = die
    with pytest.raises(KeyboardInterrupt):
        go(plan)
    cluster.during = lambda: None
    go(prepare(plan.spec))
    # One death was written down; that of the pass in which the driver was killed was not.
    assert cluster.tried == [(False, "abcd"), (True, "b"), (True, "b"), (True, "b")]
    assert rows(plan)["b"]["reason"] == "worker-died"


def test_what_is_lost_alone_while_every_node_stands_is_quarantined(plan: Plan, cluster: Cluster) -> None:
    cluster.loses["b"], cluster.loses_nodes, cluster.said = 1000, False, ("ActorDiedError: on the way",)
    go(plan)
    assert cluster.tried == [(False, "abcd")] + [(True, "b")] * 3
    row = rows(plan)["b"]
    assert row["reason"] == "worker-died"
    assert "in 3 tries" in row["detail"]
    assert "on the way" in row["detail"]


def test_passes_that_get_nowhere_end_the_run(plan: Plan, cluster: Cluster) -> None:
    cluster.loses["b"] = 1000
    with pytest.raises(JobError, match="1 photographs were lost in 3 passes in a row, and no worker died of them"):
        go(plan)
    assert cluster.tried == [(False, "abcd")] + [(True, "b")] * 3
    cluster.loses.clear()
    assert go(prepare(plan.spec)).missing == 0


def test_retry_works_on_what_may_pass_and_on_nothing_else(plan: Plan, cluster: Cluster) -> None:
    cluster.kills = {"b"}
    go(plan)
    cluster.kills = set()
    assert go(prepare(plan.spec)).worked_on == 0
    assert go(prepare(plan.spec), retry=True).worked_on == 1
    assert cluster.tried[3:] == [(True, "b")]
    assert (rows(plan)["b"]["reason"], rows(plan)["b"]["term"]) == ("truncated", 4)
    assert go(prepare(plan.spec), retry=True).worked_on == 0


def test_retry_of_what_still_kills_ends_in_quarantine_again(plan: Plan, cluster: Cluster) -> None:
    cluster.kills = {"b"}
    for term in (2, 3, 4):
        before = len(cluster.passes)
        assert go(prepare(plan.spec), retry=term > 2).failed == 1
        assert len(cluster.passes) - before == 3
        assert (rows(plan)["b"]["term"], rows(plan)["b"]["reason"]) == (term, "worker-died")
    assert len(rows(plan)) == 4


def test_a_retry_that_is_killed_goes_on_as_a_retry(plan: Plan, cluster: Cluster) -> None:
    cluster.reason = Reason.SOURCE_MISSING
    go(plan)
    cluster.reason = Reason.TRUNCATED
    cluster.loses["a"] = 1

    def die() -> None:
        raise KeyboardInterrupt

    cluster.during = die
    with pytest.raises(KeyboardInterrupt):
        go(prepare(plan.spec), retry=True)
    cluster.during = lambda: None
    # Without --retry every photograph has a row.
    assert go(prepare(plan.spec)).worked_on == 0
    assert go(prepare(plan.spec), retry=True).worked_on == 1
    assert {row["reason"] for row in rows(plan).values()} == {"truncated"}


def test_many_rounds_do_everything_once(plan: Plan, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive, "_ROUND", 3)
    assert go(plan).worked_on == 4
    assert [word for _, word in cluster.tried] == ["abc", "d"]


def test_who_loses_the_lease_stops(plan: Plan, cluster: Cluster) -> None:
    with lease.hold(Store(), plan.run, "run") as held:
        driver = Driver(plan, Store(), held, lambda counts, total: None, retry=False)
        cluster.during = lambda: setattr(held, "_lost", OvertakenError("somebody else has it"))
        with pytest.raises(JobError, match="somebody else has it"):
            driver.drive()
        held._lost = None


def test_a_driver_that_was_overtaken_leaves_no_seal(plan: Plan, cluster: Cluster) -> None:
    with lease.hold(Store(), plan.run, "run") as held:
        driver = Driver(plan, Store(), held, lambda counts, total: None, retry=False)
        cluster.during = lambda: Path(plan.run, "lease/00000003.json").write_text("{}") and None
        with pytest.raises(OvertakenError):
            driver.drive()
    assert len(list(Path(plan.run, "provenance/seals").iterdir())) == 1


def test_nobody_drives_a_run_that_somebody_drives(plan: Plan, cluster: Cluster) -> None:
    with lease.hold(Store(), plan.run, "run"), pytest.raises(lease.LeaseHeldError):
        go(plan)
    assert cluster.connected == 0


def test_commits_are_gathered_while_a_pass_runs(
    make_spec: Callable[..., JobSpec], scans: Path, cluster: Cluster
) -> None:
    plan = prepare(make_spec(output={"compact_after": 2}))
    seals: list[int] = []
    compact = drive.Compactor.compact

    def counted(compactor: Any) -> None:
        compact(compactor)
        seals.append(compactor.seal.number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drive.Compactor, "compact", counted)
        go(plan)
    # Before the pass, in the thread during it, and behind it.
    assert len(seals) == 3
    assert verify(plan.run).faults == ()


@pytest.mark.parametrize(
    ("photographs", "after"), [(1, 4096), (10_000_000, 4096), (40_000_000, 9765), (100_000_000, 16_384)]
)
def test_large_runs_gather_commits_less_often(photographs: int, after: int) -> None:
    assert drive.compact_after(photographs) == after


def test_a_compaction_that_fails_in_its_thread_stops_the_run_in_words(
    make_spec: Callable[..., JobSpec], scans: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = prepare(make_spec(output={"compact_after": 1}))
    with lease.hold(Store(), plan.run, "run") as held:
        driver = Driver(plan, Store(), held, lambda counts, total: None, retry=False)

        def fail() -> None:
            raise OSError("no answer")

        def during() -> None:
            monkeypatch.setattr(driver.compactor, "compact", fail)
            driver._look({"deliver": StageCount(4)}, 4)
            thread = driver.keeper._thread
            assert thread is not None
            thread.join(60)

        cluster.during = during
        with pytest.raises(JobError, match="its provenance cannot be compacted: no answer"):
            driver.drive()


def test_a_manifest_that_grew_between_plan_and_lease(
    plan: Plan, cluster: Cluster, scans: Path, scan: Callable[..., bytes]
) -> None:
    (scans / "late.png").write_bytes(scan(9))
    update(plan.spec, Changed.REFUSE)
    summary = go(plan)
    assert summary.missing == 0


def test_what_an_update_appends_is_what_the_next_run_works_on(
    plan: Plan, cluster: Cluster, scans: Path, scan: Callable[..., bytes]
) -> None:
    go(plan)
    (scans / "late.png").write_bytes(scan(9))
    update(plan.spec, Changed.REFUSE)
    assert go(prepare(plan.spec)).worked_on == 1
    assert cluster.tried[1:] == [(False, "late")]
    assert verify(plan.run).faults == ()


def test_a_store_that_goes_away_at_the_very_end_is_one_sentence(
    plan: Plan, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> dict[str, int]:
        raise OSError("no answer")

    monkeypatch.setattr(provenance, "counts", refuse)
    with pytest.raises(JobError, match="no answer"):
        go(plan)
