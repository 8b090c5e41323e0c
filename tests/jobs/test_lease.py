"""The lease: one driver at a time, terms that only grow, and no lease that outlives its holder."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs import lease
from jobs.lease import Held, Holder, Lease, LeaseHeldError, current, hold
from pipeline.errors import StoreError
from pipeline.provenance import OvertakenError
from pipeline.storage import Store

ELSEWHERE = Holder("ada", "another-machine", "another-boot", 1, 1)


def lease_of(holder: Holder, term: int = 1, ago: float = 0.0, seconds: float = 60.0, **facts: Any) -> Lease:
    then = datetime.now(UTC) - timedelta(seconds=ago)
    return Lease(term, holder, "run", then, then, seconds, **facts)


def put(run: Path, found: Lease) -> Path:
    path = run / "lease" / f"{found.term:08d}.json"
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(found.to_json())
    return path


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the lease's code slept; it does not really."""
    found: list[float] = []
    monkeypatch.setattr(lease.time, "sleep", found.append)
    return found


def test_the_first_lease_has_term_1_and_is_released(tmp_path: Path) -> None:
    run = str(tmp_path)
    with hold(Store(), run, "run") as held:
        assert held.term == 1
        held.check()
        inside = current(Store(), run)
        assert inside is not None
        assert (inside.holder, inside.purpose, inside.released) == (Holder.me(), "run", False)
        assert not inside.is_free(datetime.now(UTC))
    after = current(Store(), run)
    assert after == replace(inside, released=True)
    assert after.is_free(datetime.now(UTC))


def test_a_file_says_what_the_document_says(tmp_path: Path) -> None:
    with hold(Store(), str(tmp_path), "run"):
        facts = json.loads((tmp_path / "lease/00000001.json").read_text())
    assert set(facts) == {"term", "holder", "purpose", "taken_at", "renewed_at", "seconds", "released"}
    assert set(facts["holder"]) == {"user", "host", "boot", "pid", "started"}
    assert facts["seconds"] == lease.SECONDS
    assert datetime.fromisoformat(facts["taken_at"]).tzinfo is not None


def test_terms_grow_and_files_stay(tmp_path: Path) -> None:
    for term in range(1, 4):
        with hold(Store(), str(tmp_path), "run") as held:
            assert held.term == term
    assert [path.name for path in sorted((tmp_path / "lease").iterdir())] == [
        f"0000000{term}.json" for term in (1, 2, 3)
    ]


def test_what_raises_inside_still_releases(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), hold(Store(), str(tmp_path), "run"):
        raise KeyboardInterrupt
    found = current(Store(), str(tmp_path))
    assert found is not None
    assert found.released


def test_a_held_lease_refuses_with_who_and_until_when(tmp_path: Path) -> None:
    put(tmp_path, lease_of(ELSEWHERE, 3))
    with pytest.raises(LeaseHeldError) as caught, hold(Store(), str(tmp_path), "gc"):
        pytest.fail("the lease was given twice")
    assert "`run` of ada@another-machine (process 1) is at work on it since" in caught.value.faults[0]
    assert caught.value.hint is not None
    assert "can be taken over after" in caught.value.hint
    assert [path.name for path in (tmp_path / "lease").iterdir()] == ["00000003.json"]


def test_this_process_cannot_take_it_twice(tmp_path: Path) -> None:
    with hold(Store(), str(tmp_path), "run") as held:
        with pytest.raises(LeaseHeldError), hold(Store(), str(tmp_path), "gc"):
            pytest.fail("the lease was given twice")
        held.check()


def test_of_many_threads_one_gets_it(tmp_path: Path) -> None:
    barrier, answers = threading.Barrier(8), []
    done = threading.Event()

    def grab() -> None:
        barrier.wait()
        try:
            with hold(Store(), str(tmp_path), "run") as held:
                answers.append(held.term)
                done.wait(60)
        except LeaseHeldError:
            answers.append(0)
        if len(answers) == 8:
            done.set()

    threads = [threading.Thread(target=grab) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(answers) < 8:
        assert any(thread.is_alive() for thread in threads)
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


def test_the_lease_of_a_process_that_was_killed_is_free_at_once(tmp_path: Path, slept: list[float]) -> None:
    code = f"""
import os, sys
from jobs.lease import hold
from pipeline.storage import Store
with hold(Store(), {str(tmp_path)!r}, "run"):
    print("held", flush=True)
    sys.stdin.read()
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(LeaseHeldError, match=f"process {other.pid}"), hold(Store(), str(tmp_path), "run"):
        pytest.fail("the lease was given twice")
    other.kill()
    # Not waited for yet: a zombie has ended as well.
    other.stdout.read()
    while (found := current(Store(), str(tmp_path))) is not None and not found.holder.is_gone():
        assert not found.released
    with hold(Store(), str(tmp_path), "run") as held:
        assert held.term == 2
    other.wait()
    assert slept == []


def test_a_process_id_that_came_back_is_another_process(tmp_path: Path) -> None:
    me = Holder.me()
    assert not me.is_gone()
    assert replace(me, started=me.started - 1).is_gone()
    assert replace(me, pid=2**22 + 1).is_gone()
    put(tmp_path, lease_of(replace(me, started=me.started - 1)))
    with hold(Store(), str(tmp_path), "run") as held:
        assert held.term == 2


@pytest.mark.parametrize("change", [{"host": "another-machine"}, {"boot": "another-boot"}])
def test_of_another_machine_or_boot_nothing_is_known(tmp_path: Path, change: dict[str, Any]) -> None:
    holder = replace(Holder.me(), pid=2**22 + 1, **change)
    assert not holder.is_gone()
    put(tmp_path, lease_of(holder))
    with pytest.raises(LeaseHeldError), hold(Store(), str(tmp_path), "run"):
        pytest.fail("the lease was given twice")


def test_a_lease_that_ran_out_is_watched_before_it_is_taken(tmp_path: Path, slept: list[float]) -> None:
    put(tmp_path, lease_of(ELSEWHERE, ago=61))
    with hold(Store(), str(tmp_path), "run") as held:
        assert held.term == 2
    assert len(slept) == 1
    assert slept[0] >= 60 / 4


def test_a_lease_that_has_not_run_out_is_not_watched(tmp_path: Path, slept: list[float]) -> None:
    put(tmp_path, lease_of(ELSEWHERE, ago=55))
    with pytest.raises(LeaseHeldError), hold(Store(), str(tmp_path), "run"):
        pytest.fail("the lease was given twice")
    assert slept == []


def test_a_holder_whose_clock_is_behind_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By our clock its lease has run out an hour ago; it is renewed while we watch."""
    before = lease_of(ELSEWHERE, ago=3600)
    put(tmp_path, before)
    later = replace(before, renewed_at=before.renewed_at + timedelta(seconds=15))
    monkeypatch.setattr(lease.time, "sleep", lambda seconds: put(tmp_path, later))
    with pytest.raises(LeaseHeldError), hold(Store(), str(tmp_path), "run"):
        pytest.fail("the lease was given twice")


@pytest.mark.xfail(
    strict=True, reason="an old lease is watched for one renewal's time, so one lost request is one too many"
)
def test_a_holder_whose_clock_is_behind_may_lose_one_renewal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lease_of(ELSEWHERE, ago=3600)
    put(tmp_path, before)

    def sleep(seconds: float) -> None:
        # It renews every 15 seconds; the next one is lost.
        if seconds >= 30:
            put(tmp_path, replace(before, renewed_at=before.renewed_at + timedelta(seconds=30)))

    monkeypatch.setattr(lease.time, "sleep", sleep)
    with pytest.raises(LeaseHeldError), hold(Store(), str(tmp_path), "run"):
        pytest.fail("the lease was given twice")


def test_two_who_watch_one_old_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, lease_of(ELSEWHERE, ago=3600))
    faster: list[Held] = []

    def sleep(seconds: float) -> None:
        faster.append(Held(Store(), str(tmp_path), lease_of(Holder.me(), 2)))
        put(tmp_path, lease_of(Holder.me(), 2))

    monkeypatch.setattr(lease.time, "sleep", sleep)
    with pytest.raises(LeaseHeldError, match=f"process {os.getpid()}"), hold(Store(), str(tmp_path), "run"):
        pytest.fail("the lease was given twice")
    faster[0].close()


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "{}", '{"term": 1}', "\x00\x01", '{"holder": {}}'])
def test_a_damaged_lease_is_named(tmp_path: Path, text: str) -> None:
    path = put(tmp_path, lease_of(ELSEWHERE))
    path.write_text(text)
    with pytest.raises(StoreError, match=r"00000001\.json is damaged") as caught, hold(Store(), str(tmp_path), "run"):
        pytest.fail("a damaged lease was taken over")
    assert caught.value.hint is not None


NOT_CHECKED = pytest.mark.xfail(strict=True, reason="types of a lease's facts are not checked")


@pytest.mark.parametrize(
    "facts",
    [
        {"taken_at": "yesterday"},
        {"renewed_at": None},
        {"more": 1},
        {"holder": None},
        {"holder": {"user": "ada"}},
        pytest.param({"renewed_at": "2020-01-01T00:00:00"}, marks=NOT_CHECKED),
        pytest.param({"seconds": "60"}, marks=NOT_CHECKED),
        pytest.param({"seconds": None}, marks=NOT_CHECKED),
        pytest.param({"term": "1", "released": True}, marks=NOT_CHECKED),
    ],
)
def test_a_lease_with_a_wrong_fact_is_named(tmp_path: Path, slept: list[float], facts: dict[str, Any]) -> None:
    path = put(tmp_path, lease_of(ELSEWHERE))
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    with pytest.raises(StoreError, match=r"00000001\.json is damaged"), hold(Store(), str(tmp_path), "run"):
        pytest.fail("a damaged lease was taken over")


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


@pytest.mark.xfail(strict=True, reason="the variable's text is not checked", raises=(ValueError, pytest.fail.Exception))
@pytest.mark.parametrize("text", ["soon", "", "nan", "-1"])
def test_a_wrong_setting_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    from pipeline.errors import JobError

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


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets how long a lease is good, so that its thread renews it several times a second."""
    return lambda seconds: monkeypatch.setenv("ALBUMEN_LEASE_SECONDS", str(seconds))


def test_a_lease_is_renewed_while_it_is_held(tmp_path: Path, short: Callable[[float], None]) -> None:
    short(0.2)
    store = Renewing()
    with hold(store, str(tmp_path), "run") as held:
        first = current(store, str(tmp_path))
        for _ in range(3):
            assert store.renewed.acquire(timeout=60)
        later = current(store, str(tmp_path))
        assert first is not None
        assert later is not None
        assert later.renewed_at > first.renewed_at
        assert later.taken_at == first.taken_at
        held.check()


def test_a_renewal_that_fails_once_costs_nothing(tmp_path: Path, short: Callable[[float], None]) -> None:
    short(40)
    store = Renewing()
    with hold(store, str(tmp_path), "run") as held:
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


def test_a_lease_that_could_not_be_renewed_in_time_is_lost(tmp_path: Path, short: Callable[[float], None]) -> None:
    short(0.2)
    store = Renewing()
    with hold(store, str(tmp_path), "run") as held:
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


def test_who_was_overtaken_hears_of_it(tmp_path: Path, short: Callable[[float], None]) -> None:
    short(0.2)
    with hold(Store(), str(tmp_path), "run") as held:
        other = put(tmp_path, lease_of(ELSEWHERE, 2))
        held._thread.join(60)
        assert isinstance(held.lost, OvertakenError)
        with pytest.raises(OvertakenError, match="this one holds term 1 no longer"):
            held.check()
        before = other.read_bytes()
    assert other.read_bytes() == before
    found = current(Store(), str(tmp_path))
    assert found is not None
    assert (found.term, found.released) == (2, False)


def test_a_release_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    store = Renewing()
    with hold(store, str(tmp_path), "run"):
        store.broken = True
    found = current(Store(), str(tmp_path))
    assert found is not None
    assert not found.released


def test_a_lease_survives_its_own_text() -> None:
    for released in (False, True):
        found = lease_of(Holder.me(), 3, released=released)
        assert Lease.parse(found.to_json(), "x") == found


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
