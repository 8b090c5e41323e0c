"""The lease: one driver at a time, terms that only grow, and no lease that outlives its holder."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import lease
from jobs.lease import Held, Holder, Lease, LeaseHeldError, current, hold
from pipeline.errors import JobError, StoreError
from pipeline.provenance import OvertakenError
from pipeline.storage import Entry, Store

ELSEWHERE = Holder("ada", "another-machine", "another-boot", 1, 1)


def lease_of(holder: Holder, term: int = 1, ago: float = 0.0, seconds: float = 60.0, **facts: Any) -> Lease:
    then = datetime.now(UTC) - timedelta(seconds=ago)
    return Lease(term, holder, "run", then, then, seconds, **facts)


def put(run: Path, found: Lease) -> Path:
    path = run / "lease" / f"{found.term:08d}.json"
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(found.to_json())
    return path


class Clock:
    """The lease's time of day, which stands still from the first look on, but for its sleeping. at: seconds slept.
    during: called after each sleep."""

    def __init__(self) -> None:
        self.began: datetime | None = None
        self.at = 0.0
        self.monotonic = time.monotonic
        self.during: Callable[[], object] = lambda: None

    def sleep(self, seconds: float) -> None:
        self.at += seconds
        assert self.at < 7200, "it waits without end"
        self.during()

    def now(self, zone: object) -> datetime:
        assert zone is UTC
        self.began = self.began or datetime.now(UTC)
        return self.began + timedelta(seconds=self.at)

    def is_just_past(self, moment: datetime) -> bool:
        return moment <= self.now(UTC) <= moment + timedelta(seconds=1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(lease, "datetime", found)
    monkeypatch.setattr(lease, "time", found)
    return found


def test_the_first_lease_has_term_1_and_is_released(tmp_path: Path) -> None:
    run = str(tmp_path)
    with hold(Store(), run, "run") as held:
        assert held.term == 1
        held.check()
        inside = current(Store(), run)
        assert inside is not None
        assert (inside.holder, inside.purpose) == (Holder.me(), "run")
        assert not inside.released
        assert inside.ends_at > datetime.now(UTC)
    after = current(Store(), run)
    assert after == replace(inside, released=True)


def test_a_file_says_what_the_document_says(tmp_path: Path) -> None:
    with hold(Store(), str(tmp_path), "run"):
        facts = json.loads((tmp_path / "lease/00000001.json").read_text())
    assert set(facts) == {"term", "holder", "purpose", "taken_at", "renewed_at", "seconds", "released"}
    assert set(facts["holder"]) == {"user", "host", "boot", "pid", "started"}
    assert facts["seconds"] == 60
    assert datetime.fromisoformat(facts["taken_at"]).tzinfo is not None


def test_terms_grow_and_files_stay(tmp_path: Path) -> None:
    for term in range(1, 4):
        with hold(Store(), str(tmp_path), "run") as held:
            assert held.term == term
    assert [path.name for path in sorted((tmp_path / "lease").iterdir())] == [
        f"0000000{term}.json" for term in (1, 2, 3)
    ]


@settings(max_examples=40, deadline=None, database=None)
@given(st.lists(st.integers(0, 4), max_size=8))
def test_terms_have_no_gaps_however_late_listings_are(late: list[int]) -> None:
    """What lets `check_term` look at the next term alone. late: how many of the newest leases each taker is not shown."""
    listed = Store.list_if_there
    with tempfile.TemporaryDirectory() as run, pytest.MonkeyPatch.context() as patch:
        for hidden in late:

            def shown(store: Store, root: str, after: str | None = None, hidden: int = hidden) -> Iterator[Entry]:
                found = [*listed(store, root, after)]
                return iter(found[: max(0, len(found) - hidden)])

            patch.setattr(Store, "list_if_there", shown)
            with suppress(LeaseHeldError), hold(Store(), run, "run"):
                pass
            names = sorted(path.name for path in Path(run, "lease").iterdir())
            assert names == [f"{term:08d}.json" for term in range(1, len(names) + 1)]


def test_what_raises_inside_still_releases(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), hold(Store(), str(tmp_path), "run"):
        raise KeyboardInterrupt
    found = current(Store(), str(tmp_path))
    assert found is not None
    assert found.released


def renewed(run: Path, found: Lease, clock: Clock) -> Lease:
    later = replace(found, renewed_at=found.renewed_at + timedelta(seconds=clock.at))
    put(run, later)
    return later


def test_a_held_lease_refuses_with_who_and_until_when(tmp_path: Path, clock: Clock) -> None:
    before = lease_of(ELSEWHERE, 3)
    put(tmp_path, before)
    clock.during = lambda: clock.at >= 15 and renewed(tmp_path, before, clock)
    with pytest.raises(LeaseHeldError) as caught, hold(Store(), str(tmp_path), "gc"):
        pytest.fail("the lease was given twice")
    assert "`run` of ada@another-machine (process 1) is at work on it since" in caught.value.faults[0]
    later = current(Store(), str(tmp_path))
    assert later is not None
    assert later.renewed_at > before.renewed_at
    assert f"last heard of at {later.renewed_at:%H:%M:%S}" in caught.value.faults[0]
    assert caught.value.hint is not None
    assert f"can be taken over after {later.ends_at:%Y-%m-%d %H:%M:%S} UTC" in caught.value.hint
    assert [path.name for path in (tmp_path / "lease").iterdir()] == ["00000003.json"]
    # Told as soon as it was heard of again.
    assert 15 <= clock.at < 16


def test_this_process_cannot_take_it_twice(tmp_path: Path, clock: Clock) -> None:
    with hold(Store(), str(tmp_path), "run") as held:
        with pytest.raises(LeaseHeldError), hold(Store(), str(tmp_path), "gc"):
            pytest.fail("the lease was given twice")
        held.check()
    # One that is known to be alive is not waited for.
    assert clock.at == 0


def test_of_many_threads_one_gets_it(tmp_path: Path) -> None:
    barrier, answers = threading.Barrier(8), []
    answered, done = threading.Semaphore(0), threading.Event()

    def answer(term: int) -> None:
        answers.append(term)
        answered.release()

    def grab() -> None:
        barrier.wait()
        try:
            with hold(Store(), str(tmp_path), "run") as held:
                answer(held.term)
                done.wait(60)
        except LeaseHeldError:
            answer(0)

    threads = [threading.Thread(target=grab) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert answered.acquire(timeout=60)
    done.set()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [0] * 7 + [1]


def _grab(run: str, start: Any, over: Any, answers: Any) -> None:
    start.wait()
    try:
        with hold(Store(), run, "run") as held:
            answers.put(held.term)
            over.wait(60)
    except LeaseHeldError:
        answers.put(0)


def test_of_many_processes_one_gets_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, over, answers = context.Barrier(4), context.Event(), context.Queue()
    workers = [context.Process(target=_grab, args=(str(tmp_path), start, over, answers)) for _ in range(4)]
    for worker in workers:
        worker.start()
    found = sorted(answers.get(timeout=60) for _ in workers)
    over.set()
    for worker in workers:
        worker.join(60)
    assert found == [0, 0, 0, 1]


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process on this machine, which holds the lease."""
    code = f"""
import sys
from jobs.lease import hold
from pipeline.storage import Store
with hold(Store(), {str(tmp_path)!r}, "run"):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as found:
        assert found.stdout is not None
        assert found.stdout.readline() == "held\n"
        yield found
        found.kill()


def test_the_lease_of_a_process_that_was_killed_is_free_at_once(
    tmp_path: Path, clock: Clock, other: subprocess.Popen[str]
) -> None:
    with pytest.raises(LeaseHeldError, match=f"process {other.pid}"), hold(Store(), str(tmp_path), "run"):
        pytest.fail("the lease was given twice")
    other.kill()
    # Not waited for yet: a zombie has ended as well.
    while (found := current(Store(), str(tmp_path))) is not None and not found.holder.is_gone():
        assert not found.released
    with hold(Store(), str(tmp_path), "run") as held:
        assert held.term == 2
    assert clock.at == 0


def test_the_lease_of_a_process_that_was_stopped_runs_out(
    tmp_path: Path, clock: Clock, other: subprocess.Popen[str]
) -> None:
    other.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, other.pid, os.WSTOPPED)
    before = current(Store(), str(tmp_path))
    assert before is not None
    assert (before.holder.is_running(), before.holder.is_gone()) == (False, False)
    with hold(Store(), str(tmp_path), "run") as held:
        assert held.term == 2
        assert clock.now(UTC) > before.ends_at
    assert clock.at < 70


def test_a_process_id_that_came_back_is_another_process(tmp_path: Path) -> None:
    me = Holder.me()
    assert not me.is_gone()
    assert replace(me, started=me.started - 1).is_gone()
    assert replace(me, pid=2**22 + 1).is_gone()
    put(tmp_path, lease_of(replace(me, started=me.started - 1)))
    with hold(Store(), str(tmp_path), "run") as held:
        assert held.term == 2


@pytest.mark.parametrize("change", [{"host": "another-machine"}, {"boot": "another-boot"}])
def test_of_another_machine_or_boot_nothing_is_known(tmp_path: Path, clock: Clock, change: dict[str, Any]) -> None:
    holder = replace(Holder.me(), pid=2**22 + 1, **change)
    assert (holder.is_gone(), holder.is_running()) == (False, False)
    before = lease_of(holder)
    put(tmp_path, before)
    with hold(Store(), str(tmp_path), "run") as held:
        assert held.term == 2
    assert clock.is_just_past(before.ends_at)


@pytest.mark.parametrize("ago", [0, 20, 55, 61, 3600, -60])
def test_a_silent_lease_is_waited_for_and_watched_for_two_renewals(tmp_path: Path, clock: Clock, ago: float) -> None:
    """ago: how long before, by our clock, it was renewed; the holder's may be behind it or ahead."""
    before = lease_of(ELSEWHERE, ago=ago)
    put(tmp_path, before)
    with hold(Store(), str(tmp_path), "run") as held:
        assert held.term == 2
    assert clock.began is not None
    assert clock.is_just_past(max(before.ends_at, clock.began + timedelta(seconds=30)))


def test_a_silent_lease_by_the_machines_own_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_LOOK", 0.02)
    before = lease_of(ELSEWHERE, seconds=0.3)
    put(tmp_path, before)
    with hold(Store(), str(tmp_path), "run") as held:
        assert held.term == 2
        assert datetime.now(UTC) > before.ends_at


def test_a_lease_that_is_released_while_it_is_waited_for(tmp_path: Path, clock: Clock) -> None:
    before = lease_of(ELSEWHERE)
    put(tmp_path, before)
    clock.during = lambda: (
        clock.at >= 5
        and put(tmp_path, replace(before, released=True, renewed_at=before.renewed_at + timedelta(seconds=clock.at)))
    )
    with hold(Store(), str(tmp_path), "run") as held:
        assert held.term == 2
    assert 5 <= clock.at < 6


def test_a_lease_that_is_gone_while_it_is_waited_for_is_named(tmp_path: Path, clock: Clock) -> None:
    path = put(tmp_path, lease_of(ELSEWHERE))
    clock.during = lambda: path.unlink(missing_ok=True)
    with pytest.raises(StoreError, match="the lease that was there is gone"), hold(Store(), str(tmp_path), "run"):
        pytest.fail("the lease was given anew")


@pytest.mark.parametrize("lost", [0, 1])
def test_a_holder_whose_clock_is_behind_lives_and_may_lose_one_renewal(tmp_path: Path, clock: Clock, lost: int) -> None:
    """By our clock its lease has run out an hour ago; it renews every 15 seconds, and the first ones are lost."""
    before = lease_of(ELSEWHERE, ago=3600)
    put(tmp_path, before)
    clock.during = lambda: clock.at >= 15 * (1 + lost) and renewed(tmp_path, before, clock)
    with pytest.raises(LeaseHeldError), hold(Store(), str(tmp_path), "run"):
        pytest.fail("the lease was given twice")


def test_two_who_watch_one_old_lease(tmp_path: Path, clock: Clock) -> None:
    put(tmp_path, lease_of(ELSEWHERE, ago=3600))
    clock.during = lambda: clock.at >= 29 and put(tmp_path, lease_of(Holder.me(), 2))
    with pytest.raises(LeaseHeldError, match=f"process {os.getpid()}"), hold(Store(), str(tmp_path), "run"):
        pytest.fail("the lease was given twice")


DAMAGED = ["", "{", "null", "[]", "{}", '{"term": 1}', "\x00\x01", '{"holder": {}}', "\ud800"]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_lease_was_taken_when_it_was_last_written(tmp_path: Path, clock: Clock, text: str) -> None:
    path = put(tmp_path, lease_of(ELSEWHERE, 4))
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    found = current(Store(), str(tmp_path))
    assert found is not None
    assert (found.term, found.holder.user, found.released) == (4, "somebody", False)
    assert found.renewed_at.timestamp() == pytest.approx(path.stat().st_mtime, abs=0.01)
    with hold(Store(), str(tmp_path), "run") as held:
        # Its term is not given again.
        assert held.term == 5
    assert clock.is_just_past(found.ends_at)


def test_a_damaged_lease_that_is_written_again_is_held(tmp_path: Path, clock: Clock) -> None:
    before = lease_of(ELSEWHERE)
    path = put(tmp_path, before)
    path.write_text("{")
    clock.during = lambda: clock.at >= 15 and put(tmp_path, before)
    with pytest.raises(LeaseHeldError, match="ada@another-machine"), hold(Store(), str(tmp_path), "run"):
        pytest.fail("the lease was given twice")


@pytest.mark.parametrize(
    "facts",
    [
        {"taken_at": "yesterday"},
        {"renewed_at": None},
        {"holder": None},
        {"holder": {"user": "ada"}},
        {"renewed_at": "2020-01-01T00:00:00"},
        {"seconds": None},
        {"seconds": "soon"},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"seconds": 1e300},
        {"seconds": -1},
        {"term": "first", "released": True},
        {"term": 7, "released": True},
        {"released": "perhaps"},
    ],
)
def test_a_lease_with_a_wrong_fact_is_damaged(tmp_path: Path, clock: Clock, facts: dict[str, Any]) -> None:
    path = put(tmp_path, lease_of(ELSEWHERE))
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    found = current(Store(), str(tmp_path))
    assert found is not None
    assert (found.term, found.holder.user, found.released) == (1, "somebody", False)
    with hold(Store(), str(tmp_path), "run") as held:
        assert held.term == 2
    assert clock.is_just_past(found.ends_at)


def test_a_fact_of_a_later_version_is_passed_over(tmp_path: Path) -> None:
    path = put(tmp_path, lease_of(ELSEWHERE, released=True))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"more": 1}))
    assert current(Store(), str(tmp_path)) == replace(lease_of(ELSEWHERE), **_times(path), released=True)


def _times(path: Path) -> dict[str, datetime]:
    facts = json.loads(path.read_text())
    return {name: datetime.fromisoformat(facts[name]) for name in ("taken_at", "renewed_at")}


@pytest.mark.parametrize(
    "name", ["1.json", "000000009.json", "0000000a.json", "00000009.json.bak", "sub/00000009.json"]
)
def test_another_file_is_no_lease(tmp_path: Path, name: str) -> None:
    put(tmp_path, lease_of(ELSEWHERE, released=True))
    (tmp_path / "lease" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "lease" / name).write_bytes(b"{")
    with hold(Store(), str(tmp_path), "run") as held:
        assert held.term == 2


def test_a_temporary_file_is_no_lease(tmp_path: Path) -> None:
    put(tmp_path, lease_of(ELSEWHERE, released=True))
    (tmp_path / "lease/.00000002.json.0badcafe.part").write_bytes(b"half")
    with hold(Store(), str(tmp_path), "run") as held:
        assert held.term == 2


def test_a_store_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bool:
        raise OSError("no answer")

    monkeypatch.setattr(Store, "create", refuse)
    with (
        pytest.raises(StoreError, match="the run's lease cannot be taken: no answer"),
        hold(Store(), str(tmp_path), "run"),
    ):
        pytest.fail("a lease was given that is nowhere written")


def test_how_long_a_lease_is_good_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALBUMEN_LEASE_SECONDS", "7.5")
    with hold(Store(), str(tmp_path), "run"):
        found = current(Store(), str(tmp_path))
        assert found is not None
        assert found.ends_at - found.renewed_at == timedelta(seconds=7.5)


@pytest.mark.parametrize("text", ["soon", "", "nan", "inf", "-1", "0", "0.99", "86401"])
def test_a_wrong_setting_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("ALBUMEN_LEASE_SECONDS", text)
    with pytest.raises(JobError, match="ALBUMEN_LEASE_SECONDS"), hold(Store(), str(tmp_path), "run"):
        pass


class Renewing(Store):
    """A store whose `put` fails while `broken` is set, and says when it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False
        self.failed = threading.Semaphore(0)
        self.renewed = threading.Semaphore(0)

    def put(self, uri: str, data: bytes) -> None:
        if self.broken:
            self.failed.release()
            raise OSError("no answer")
        super().put(uri, data)
        self.renewed.release()


@contextmanager
def holding(store: Store, run: Path, seconds: float) -> Iterator[Held]:
    """The lease as `hold` gives it, through the store itself."""
    found = lease_of(Holder.me(), seconds=seconds)
    put(run, found)
    held = Held(store, str(run), found)
    try:
        yield held
    finally:
        held.close()


def test_the_holder_hears_of_a_store_that_is_silent_before_its_lease_runs_out(tmp_path: Path) -> None:
    with hold(Store(), str(tmp_path), "run") as held:
        patience = held._store.options.patience
        assert max(patience.answer, patience.total) <= 60 / 4


def test_a_lease_is_renewed_while_it_is_held(tmp_path: Path) -> None:
    store = Renewing()
    with holding(store, tmp_path, 0.2) as held:
        first = current(store, str(tmp_path))
        for _ in range(3):
            assert store.renewed.acquire(timeout=60)
        later = current(store, str(tmp_path))
        assert first is not None
        assert later is not None
        assert later.renewed_at > first.renewed_at
        assert later.taken_at == first.taken_at
        held.check()


def test_a_renewal_that_fails_once_costs_nothing(tmp_path: Path) -> None:
    store = Renewing()
    with holding(store, tmp_path, 40) as held:
        # The thread's own steps, without its waiting.
        held._over.set()
        held._thread.join()
        held._over = _Steps([lambda: setattr(store, "broken", True), lambda: setattr(store, "broken", False)])  # type: ignore[assignment]
        held._renew_until_over()
        assert held.lost is None
        assert store.failed.acquire(timeout=0)
        assert store.renewed.acquire(timeout=0)
        held._over = _Steps([])  # type: ignore[assignment]


class _Steps:
    """An event that is set when its steps are used up; every wait takes one."""

    def __init__(self, steps: list[Callable[[], None]]) -> None:
        self.steps = steps

    def wait(self, seconds: float) -> bool:
        if not self.steps:
            return True
        self.steps.pop(0)()
        return False

    def set(self) -> None:
        self.steps = []


def test_a_lease_that_could_not_be_renewed_in_time_is_lost(tmp_path: Path) -> None:
    store = Renewing()
    with holding(store, tmp_path, 0.2) as held:
        store.broken = True
        held._thread.join(60)
        assert not held._thread.is_alive()
        with pytest.raises(StoreError, match="the lease could not be renewed for 0 s: no answer"):
            held.check()
        store.broken = False
    found = current(store, str(tmp_path))
    assert found is not None
    # What was lost is not released: somebody else may have it.
    assert not found.released


@pytest.mark.parametrize("steps", [1, 3])
def test_who_was_overtaken_hears_of_it(tmp_path: Path, steps: int) -> None:
    with holding(Store(), tmp_path, 0.2) as held:
        # From the last on, since a term is only taken behind one that is there.
        for term in range(2 + steps - 1, 1, -1):
            other = put(tmp_path, lease_of(ELSEWHERE, term))
        held._thread.join(60)
        assert isinstance(held.lost, OvertakenError)
        with pytest.raises(OvertakenError, match="this one holds term 1 no longer"):
            held.check()
        before = other.read_bytes()
    assert other.read_bytes() == before
    found = current(Store(), str(tmp_path))
    assert found is not None
    assert (found.term, found.released) == (1 + steps, False)


def test_a_release_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    store = Renewing()
    with holding(store, tmp_path, 60):
        store.broken = True
    found = current(Store(), str(tmp_path))
    assert found is not None
    assert not found.released


@pytest.mark.parametrize("released", [False, True])
def test_a_lease_survives_its_own_text(tmp_path: Path, *, released: bool) -> None:
    found = lease_of(Holder.me(), 3, released=released)
    put(tmp_path, found)
    assert current(Store(), str(tmp_path)) == found


def test_a_lease_in_a_bucket(s3: str, tmp_path: Path) -> None:
    import s3fs

    s3fs.S3FileSystem(endpoint_url=s3, use_listings_cache=False).mkdir("leases")
    run = f"s3://leases/{tmp_path.name}"
    with hold(Store(), run, "run") as held:
        assert held.term == 1
        with pytest.raises(LeaseHeldError), hold(Store(), run, "run"):
            pytest.fail("the lease was given twice")
    with hold(Store(), run, "run") as held:
        assert held.term == 2
