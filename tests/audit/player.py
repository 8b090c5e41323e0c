"""Plays one run from its plan to its end while parts of it are killed."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.audit.auditor import read_manifest
from tests.audit.commands import Command
from tests.audit.ground import Ground
from tests.audit.ledger import DRIVER_ENDS, IN_SESSION, STOPPED, Deck, Kill, Log
from tests.audit.machine import Machine, kill
from tests.audit.places import place
from tests.audit.reader import Notes, View, read_view

# No step takes so long, not on a machine that others use too.
PATIENCE = 300.0
_POLL = 0.004
# Drivers that may end by themselves with an error in a round, as long as the next one goes on.
_GIVE_UPS = 25
# Photographs that are taken to be left before there is a plan.
_UNPLANNED = 60
# Exit codes of a run that came to its end.
DONE = (0, 3)


class AbandonedError(Exception):
    """The round cannot be brought to its end."""


@dataclass
class Tallied:
    """What happened in a round, beside the kills."""

    gave_up: int = 0
    stalled: int = 0
    refusals: int = 0
    woken: int = 0
    wrong: list[str] = field(default_factory=list)


class Player:
    """job: the job's file. logs: where drivers print to. lease_seconds: how long a stopped driver keeps its lease."""

    def __init__(
        self,
        job: Path,
        ground: Ground,
        machine: Machine,
        deck: Deck,
        rng: random.Random,
        log: Log,
        lease_seconds: float,
    ) -> None:
        self.job = job
        self.ground = ground
        self.machine = machine
        self.deck = deck
        self.rng = rng
        self.log = log
        self.lease_seconds = lease_seconds
        self.place = place(ground.run, ground.endpoint)
        self.kills: list[Kill] = []
        self.seen = Tallied()
        self.commands: list[Command] = []

    def counted(self) -> Counter[str]:
        return Counter(one.kind for one in self.kills if one.kind != STOPPED)

    def start(self, *words: str) -> Command:
        self.commands.append(Command(self.job.parent / "said", f"{len(self.commands) + 1:03d}-{words[0]}", *words))
        return self.commands[-1]

    def close(self) -> None:
        """Nothing that was started outlives the round."""
        for command in self.commands:
            command.kill()

    def run(self, *options: str) -> Command:
        return self.start("run", str(self.job), "--json", *options)

    def view(self) -> View:
        return read_view(self.place, Notes())

    def committed(self) -> int:
        return len(self.view().live)

    def planned(self) -> int:
        rows, _ = read_manifest(self.place, Notes())
        return len(rows)

    def plan(self) -> None:
        """Kills drivers that plan, as long as there are such kills left for this round."""
        while self.rng.random() < 0.7 and (kind := self.deck.draw(["planning"])) is not None:
            if self._planned_already():
                self.deck.put_back(kind)
                return
            driver = self.run()
            moment = self.rng.choice(("start", "lease/", "manifest/part", "manifest/index"))
            self._await_name(driver, moment)
            self.hit_command(kind, driver, moment)

    def work(self, finish: Callable[[], int | None]) -> None:
        """Sessions of drivers until one of them comes to the end of all that is planned. finish: the last session."""
        enough = max(8, self.left() // 5) if self._planned_already() else 8
        while self.deck and (left := self.left()) > enough:
            self.collect()
            if self._session(left * 2 // 3) in DONE:
                return
        while finish() not in DONE:
            self._check_patience()

    def _planned_already(self) -> bool:
        return "run.json" in self.place.list("run.json")

    def left(self) -> int:
        return self.planned() - self.committed() if self._planned_already() else _UNPLANNED

    def _session(self, most: int) -> int | None:
        """One driver, what is killed under it, and its end. Gives its exit code, None where it was killed.

        most: photographs after which it is killed in any case, so that something is left for the last session.
        """
        end = self.deck.draw(DRIVER_ENDS)
        driver, before = self.run(), len(self.ground.opens())
        if end == "opening":
            moment = self._await_name(driver, "lease/")
            return self.hit_command(end, driver, moment, within=0.6)
        for _ in range(self.rng.randint(3, 14)):
            kind = self.deck.draw(IN_SESSION) if len(self.ground.opens()) - before < most else None
            if kind is None:
                break
            if not self.wait_for_work(driver, self.rng.randint(0, 6)):
                self.deck.put_back(kind)
                break
            self._hit_below(kind)
        if end == "compacting" and driver.code is None:
            return self.hit_command(end, driver, self._await_part(driver), within=0.03)
        if driver.code is None and self.wait_for_work(driver, self.rng.randint(2, 12)):
            return self.hit_command("working", driver, "photographs taken up", within=0.2)
        if end is not None:
            self.deck.put_back(end)
        return self.see_out(driver)

    def see_out(self, driver: Command) -> int | None:
        """Lets a driver come to its end."""
        code = driver.wait(PATIENCE)
        if code is None:
            self.stall(driver)
        elif code not in DONE:
            self.seen.gave_up += 1
            self.log.write("gave-up", code=code, said=driver.err[-2000:])
            if code < 0:
                self.seen.wrong.append(f"a driver that nobody killed died of signal {-code}")
            if "Traceback" in driver.err:
                self.seen.wrong.append(f"a driver ended with a traceback: {driver.err.strip().splitlines()[-1][:300]}")
            self._check_patience()
        else:
            self.log.write("finished", code=code, committed=self.committed())
        return code

    def stall(self, driver: Command) -> None:
        self.seen.stalled += 1
        self.log.write("stalled", pid=driver.pid, said=driver.err[-2000:])
        driver.kill()

    def _check_patience(self) -> None:
        if self.seen.gave_up > _GIVE_UPS or self.seen.stalled > _GIVE_UPS:
            raise AbandonedError(f"{self.seen.gave_up} drivers gave up and {self.seen.stalled} stalled")

    def _hit_below(self, kind: str) -> None:
        time.sleep(self.rng.uniform(0, 0.25))
        if kind in ("worker", "tally"):
            there = self.machine.workers("StageActor" if kind == "worker" else "Tally")
            self.note(kind, kill([self.rng.choice(there)]) if there else (), "photographs taken up")
            return
        node = self.machine.busiest()
        self.note(kind, (self.machine.kill_raylet if kind == "raylet" else self.machine.kill_node)(node), "work")
        time.sleep(self.rng.uniform(0, 2))
        self.machine.replace(node)

    def hit_command(self, kind: str, command: Command, moment: str, within: float = 0.1) -> int | None:
        """Kills a process a random moment later. Gives its exit code where it was faster."""
        time.sleep(self.rng.uniform(0, within))
        if command.kill():
            self.note(kind, (command.pid,), moment)
            return None
        self.deck.put_back(kind)
        self.log.write("too-late", kind=kind, code=command.code)
        return self.see_out(command) if command.words[0] == "run" else command.code

    def note(self, kind: str, pids: tuple[int, ...], moment: str) -> None:
        if not pids:
            self.deck.put_back(kind)
            return
        self.kills.append(Kill(kind, time.monotonic(), moment, pids))
        self.log.write(
            "kill", kind=kind, pids=pids, moment=moment, opened=len(self.ground.opens()), left=len(self.deck)
        )

    def wait_for(self, command: Command, ready: Callable[[], bool], poll: float = _POLL) -> bool:
        """True as soon as it is ready, False where the command ended before, or never got there."""
        deadline = time.monotonic() + PATIENCE
        while not ready():
            if command.code is not None:
                return False
            if time.monotonic() > deadline:
                self.stall(command)
                return False
            time.sleep(poll)
        return True

    def wait_for_work(self, driver: Command, more: int) -> bool:
        before = len(self.ground.opens())
        return self.wait_for(driver, lambda: len(self.ground.opens()) > before + more, poll=0.02)

    def _await_name(self, command: Command, moment: str) -> str:
        """Until a new object appears whose key begins so; `start` is some time on the way there."""
        if moment == "start":
            time.sleep(self.rng.uniform(0, 8))
            return moment
        before = self.place.list(moment).keys()
        self.wait_for(command, lambda: bool(self.place.list(moment).keys() - before))
        return moment

    def _await_part(self, driver: Command) -> str:
        if self.wait_for_work(driver, 1):
            before = self.place.list("provenance/parts/").keys()
            self.wait_for(driver, lambda: bool(self.place.list("provenance/parts/").keys() - before))
        return "provenance/parts/"

    def collect(self) -> None:
        """Now and then `gc --delete`, killed while it is at it."""
        if not self._planned_already() or self.rng.random() < 0.6:
            return
        if (kind := self.deck.draw(["gc"])) is not None:
            command = self.start("gc", self.ground.run, "--delete")
            moment = self._await_name(command, self.rng.choice(("start", "lease/", "lease/")))
            self.hit_command(kind, command, moment, within=0.15)

    def grow(self) -> None:
        """`update`, killed some times before it gets through."""
        for number in range(100):
            kind = self.deck.draw(["update"]) if number < 4 else None
            with self.ground.muted():
                command = self.start("update", str(self.job), "--changed", "append", "--json")
                if kind is not None:
                    moment = self.rng.choice(("start", "lease/", "manifest/part", "manifest/index"))
                    self._await_name(command, moment)
                    self.hit_command(kind, command, moment, within=0.02)
                code = command.wait(PATIENCE)
            if code == 0:
                self.log.write("updated", said=command.out)
                return
            if code != -9:
                self.seen.wrong.append(f"update ended with {code}: {command.err.strip()[-300:]}")
        raise AbandonedError("no update got through")
