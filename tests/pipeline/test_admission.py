from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.admission import SHARES, Admission
from pipeline.errors import ItemError, JobError, Reason

TOTAL = SHARES * 1000
HOLDER = """
import sys
from pathlib import Path
from pipeline.admission import Admission
admission = Admission(int(sys.argv[1]), Path(sys.argv[2]))
print("ready", flush=True)
for line in sys.stdin:
    admission.hold(int(line)) if line.strip() != "0" else admission.release()
    print(admission.held_bytes, flush=True)
"""


class Holder:
    """Another process with an Admission of its own."""

    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(TOTAL), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.answer()

    def ask(self, size: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{size}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def another(folder: Path) -> Iterator[Holder]:
    holder = Holder(folder)
    try:
        yield holder
    finally:
        holder.kill()


def free(folder: Path) -> int:
    """How much could be held at this moment, in shares of TOTAL."""
    with Admission(TOTAL, folder) as probe:
        probe._gather(SHARES)
        return len(probe._held)


def test_what_fits_is_held_at_once_and_given_back(tmp_path: Path) -> None:
    with Admission(TOTAL, tmp_path) as one, Admission(TOTAL, tmp_path) as two:
        one.hold(TOTAL // 2)
        two.hold(TOTAL // 2)
        assert free(tmp_path) == 0
        one.release()
        assert free(tmp_path) == SHARES // 2
        assert (one.held_bytes, two.held_bytes) == (0, TOTAL // 2)
    assert free(tmp_path) == SHARES


def test_a_holding_is_replaced_and_not_added_to(tmp_path: Path) -> None:
    with Admission(TOTAL, tmp_path) as one:
        one.hold(10_000)
        one.hold(5_000)
        assert free(tmp_path) == SHARES - 10
        one.hold(200_000)
        assert free(tmp_path) == SHARES - 200


def test_the_smallest_photograph_takes_a_share(tmp_path: Path) -> None:
    with Admission(TOTAL, tmp_path) as one:
        one.hold(1)
        assert free(tmp_path) == SHARES - 1


def test_what_never_fits_is_a_typed_failure(tmp_path: Path) -> None:
    with Admission(TOTAL, tmp_path) as one:
        one.hold(TOTAL)
        one.release()
        with pytest.raises(ItemError) as caught:
            one.hold(TOTAL + 1)
    assert caught.value.reason is Reason.OUT_OF_MEMORY
    assert "GB" in caught.value.detail


def test_who_finds_no_room_waits_for_it(tmp_path: Path) -> None:
    got = threading.Event()
    with another(tmp_path) as holder, Admission(TOTAL, tmp_path) as mine:
        mine.hold(TOTAL // 2)
        holder.ask(TOTAL * 3 // 4)
        waiter = threading.Thread(target=lambda: (holder.answer(), got.set()))
        waiter.start()
        assert not got.wait(0.3)
        mine.release()
        waiter.join(20)
        assert got.is_set()
        assert free(tmp_path) == SHARES // 4


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    with another(tmp_path) as holder, Admission(TOTAL, tmp_path) as mine:
        holder.ask(TOTAL)
        assert holder.answer() == str(TOTAL)
        assert free(tmp_path) == 0
        holder.kill()
        mine.hold(TOTAL)
        assert mine.held_bytes == TOTAL


def test_one_killed_while_it_waits_leaves_the_gate(tmp_path: Path) -> None:
    with another(tmp_path) as waiting, another(tmp_path) as next_one, Admission(TOTAL, tmp_path) as mine:
        mine.hold(TOTAL // 2)
        waiting.ask(TOTAL)
        next_one.ask(TOTAL // 4)
        waiting.kill()
        assert next_one.answer() == str(TOTAL // 4)


def test_a_large_one_is_not_starved_by_small_ones(tmp_path: Path) -> None:
    with another(tmp_path) as large, another(tmp_path) as small, Admission(TOTAL, tmp_path) as mine:
        mine.hold(TOTAL // 2)
        large.ask(TOTAL)
        while free(tmp_path):  # the large one stands at the gate, and has gathered what there is
            pass
        small.ask(1000)
        mine.release()
        assert large.answer() == str(TOTAL)
        large.kill()
        assert small.answer() == "1000"


def test_two_large_ones_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with another(tmp_path) as one, another(tmp_path) as two:
        for _ in range(5):
            for holder in (one, two):
                holder.ask(TOTAL * 2 // 3)
            ready, _, _ = select.select([one.process.stdout, two.process.stdout], [], [], 20.0)
            assert len(ready) == 1
            first, second = (one, two) if ready[0] is one.process.stdout else (two, one)
            assert int(first.answer()) >= TOTAL * 2 // 3
            for holder in (first, second):
                holder.ask(0)
            assert first.answer() == "0"
            assert int(second.answer()) >= TOTAL * 2 // 3
            assert second.answer() == "0"


def test_a_folder_of_another_kind_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(JobError, match="link"):
        Admission(TOTAL, tmp_path / "link")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(JobError, match="file"):
        Admission(TOTAL, tmp_path / "file")


def test_a_budget_of_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="budget"):
        Admission(0)
