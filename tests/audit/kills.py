"""`make audit KILLS=200`: kills whatever a run is made of at random moments, and has the auditor look at what is left.

A reference run is made without a kill. Then round after round the same collection is worked on in a new place, while drivers,
workers, raylets, nodes, `gc` and `update` get SIGKILL, until the kills are used up; every round ends with a run that is
left alone, `run --retry` for what kills have quarantined, `gc --delete`, `verify --sources`, and the audit, with the bytes of
all outputs held against the reference's. Exit code 1 where anything is amiss.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.audit import endings
from tests.audit.auditor import Findings, audit
from tests.audit.collection import make_photographs
from tests.audit.commands import Command
from tests.audit.ground import Buckets, Folders, Ground, digests
from tests.audit.ledger import Deck, Log, Results, Round, table, work_lost
from tests.audit.machine import Machine, environment, free_port, machine
from tests.audit.player import PATIENCE, AbandonedError, Player

_JOB = """
[collection]
name = "audit"
source = "{source}"
max_megapixels = 20
[output]
uri = "{run}"
format = "png"
compact_after = 40
[recipe]
stages = ["analyse", "repair", "colour"]
policy = "presentation"
[recipe.analyse]
damage = "classical"
[cluster]
address = "{address}"
[cluster.pools]
ingest = 2
"""
_BUCKET = "audit"
_FIRST, _LATER = 1_700_000_000, 1_710_000_000
# What kills can bring upon a photograph that is sound.
_BY_KILLS = ("failed: worker-died", "failed: out-of-memory", "failed: deadline-exceeded")
_RETRIES = 4


@dataclass(frozen=True, slots=True)
class Options:
    kills: int
    seed: int
    work: Path
    photographs: int
    rounds: int
    short: bool
    s3: bool
    faults: float
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class Scene:
    """The photographs of all rounds: those that are there first, those that come later, those that change later."""

    first: dict[str, bytes]
    more: dict[str, bytes]
    changed: dict[str, bytes]

    @classmethod
    def make(cls, photographs: int, seed: int) -> Scene:
        files = make_photographs(photographs, seed)
        names = sorted(files)
        first, more = names[: len(names) * 7 // 10], names[len(names) * 7 // 10 :]
        others = make_photographs(photographs, seed + 1)
        return cls(
            {name: files[name] for name in first},
            {name: files[name] for name in more},
            {name: others[name] for name in first[::20] if len(others[name]) != len(files[name])},
        )


class Audit:
    """endpoint: of the S3 service itself, where it is one."""

    def __init__(self, options: Options, cluster: Machine, log: Log, endpoint: str | None) -> None:
        self.endpoint = endpoint
        self.options = options
        self.cluster = cluster
        self.log = log
        self.rng = random.Random(options.seed)
        self.scene = Scene.make(options.photographs, options.seed)
        self.reference: str | None = None
        self.turns = 0
        self.amiss: tuple[str, ...] = ()

    def ground(self, name: str) -> Ground:
        if self.options.s3:
            again = 10.0 if self.options.faults else 0.0
            return Buckets(f"s3://{_BUCKET}/{name}", self.options.work / "bucket.log", str(self.endpoint), again)
        return Folders(self.options.work / name)

    def job(self, name: str, ground: Ground) -> Path:
        path = self.options.work / name / "job.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = _JOB.format(source=ground.source, run=ground.run, address=self.cluster.address)
        path.write_text(text, encoding="utf-8")
        return path

    def play(self, name: str, deck: Deck) -> Round:
        """A run from its plan to its audit."""
        ground = self.ground(name)
        ground.put(self.scene.first, _FIRST)
        player = Player(
            self.job(name, ground), ground, self.cluster, deck, self.rng, self.log, self.options.lease_seconds
        )
        try:
            return self._play(player, ground)
        finally:
            player.close()
            ground.close()

    def _play(self, player: Player, ground: Ground) -> Round:
        started = time.monotonic()
        player.plan()
        player.work(self._end(player))
        quarantined = self._retry(player)
        half, originals = len(ground.opens()), dict(self.scene.first)
        if not self.options.short:
            self._check(ground, originals, player)
            originals |= self.scene.more | self.scene.changed
            ground.put(self.scene.more, _FIRST)
            ground.put(self.scene.changed, _LATER)
            player.grow()
            player.work(self._end(player))
            quarantined += self._retry(player)
        # A changed original is read again, and rightly: each half of the round is counted for itself.
        opens, kills = ground.opens(), player.kills
        last = work_lost(opens[:half], kills) + work_lost(opens[half:], kills)
        with ground.muted():
            orphans, found = self._examine(player)
        self._check(ground, originals, player)
        if last.unexplained:
            self.log.write("unexplained", photographs=last.unexplained)
            player.seen.wrong.append(f"{len(last.unexplained)} photographs were worked on again without a kill")
        return Round(
            kills=dict(player.counted()),
            photographs=found.photographs,
            ended=dict(found.ended),
            faults=dict(Counter(fault.kind for fault in found.faults)),
            lost=last,
            orphans_before=orphans,
            orphans_after=len(found.orphans),
            quarantined=quarantined,
            gave_up=player.seen.gave_up,
            stalled=player.seen.stalled,
            refusals=player.seen.refusals,
            woken=player.seen.woken,
            seconds=round(time.monotonic() - started, 1),
            wrong=tuple(player.seen.wrong),
        )

    @staticmethod
    def _check(ground: Ground, originals: dict[str, bytes], player: Player) -> None:
        if digests(ground) != {name: hashlib.sha256(data).hexdigest() for name, data in originals.items()}:
            player.seen.wrong.append("the originals are not what they were")

    def _end(self, player: Player) -> Callable[[], int | None]:
        """The reference ends plainly; the rounds take turns."""
        if self.reference is None:
            return partial(endings.plain, player)
        self.turns += 1
        return partial(endings.ENDINGS[(self.turns - 1) % len(endings.ENDINGS)], player)

    def _retry(self, player: Player) -> int:
        """What repeated kills have quarantined is tried again, until nothing of it is left. Gives how much it was."""
        quarantined = 0
        for _ in range(_RETRIES):
            ended = Counter(f"{row['status']}: {row['reason']}" for row in player.view().live.values())
            given_up = sum(ended[kind] for kind in _BY_KILLS)
            if not given_up:
                break
            quarantined += given_up
            self.log.write("retry", photographs=given_up)
            player.see_out(player.run("--retry"))
        return quarantined

    def _examine(self, player: Player) -> tuple[int, Findings]:
        """Orphans before `gc`, and the audit after it."""
        run = player.ground.run
        left = len(audit(run, sources=False, endpoint=self.endpoint).orphans)
        for words in (("gc", run, "--delete", "--json"), ("verify", run, "--sources", "--json")):
            command: Command = player.start(*words)
            if command.wait(PATIENCE) != 0:
                player.seen.wrong.append(f"{words[0]} ended with {command.code}: {(command.err or command.out)[-500:]}")
        found = audit(run, reference=self.reference, endpoint=self.endpoint)
        self.log.write("audit", run=run, faults=len(found.faults), orphans_before=left, orphans=len(found.orphans))
        for fault in (*found.faults, *found.orphans)[:50]:
            self.log.write("fault", kind=fault.kind, place=fault.place, message=fault.message)
        return left, found

    def all(self) -> Results:
        reference = self.play("reference", Deck(0, self.rng))
        self.log.write("reference", seconds=reference.seconds, clean=reference.clean, wrong=reference.wrong)
        if reference.faults:
            raise AbandonedError(f"the reference run has faults: {reference.faults}")
        self.amiss = reference.wrong
        self.reference = self.ground_uri("reference")
        rounds: list[Round] = []
        results = self._results(rounds)
        deck = Deck(self.options.kills, self.rng, without=("update",) if self.options.short else ())
        while deck and len(rounds) < (1 if self.options.short else self.options.rounds):
            rounds.append(self.play(f"round-{len(rounds) + 1:02d}", deck))
            one = rounds[-1]
            self.log.write("round", number=len(rounds), clean=one.clean, kills=sum(one.kills.values()), wrong=one.wrong)
            self._save(results := self._results(rounds))
        return results

    def _results(self, rounds: list[Round]) -> Results:
        place = f"bucket, {self.options.faults:.0%} of requests fail" if self.options.s3 else "folder"
        return Results(self.options.seed, place, tuple(rounds), self.amiss)

    def _save(self, results: Results) -> None:
        """After every round, so that an audit that is broken off has something to show."""
        (self.options.work / "results.json").write_text(json.dumps(results.as_json(), indent=2), encoding="utf-8")
        (self.options.work / "results.md").write_text(table(results), encoding="utf-8")

    def ground_uri(self, name: str) -> str:
        return f"s3://{_BUCKET}/{name}/run" if self.options.s3 else str(self.options.work / name / "run")


@contextmanager
def bucket_service(options: Options) -> Iterator[str]:
    """The address of an S3 service. The usual AWS variables name it, or one in front of it that fails."""
    import boto3
    from botocore.config import Config

    direct, log = free_port(), options.work / "bucket.log"
    log.touch()
    started = [_service(options.work, "tests.audit.bucket", "--port", str(direct), "--log", str(log))]
    endpoint = named = f"http://127.0.0.1:{direct}"
    if options.faults:
        port = free_port()
        named = f"http://127.0.0.1:{port}"
        words = ("--port", str(port), "--rate", str(options.faults), "--seed", str(options.seed))
        faults = ("--upstream", endpoint, "--log", str(options.work / "faults.jsonl"))
        started.append(_service(options.work, "tests.faults", *words, *faults))
    os.environ |= {
        "AWS_ENDPOINT_URL": named,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        patient = Config(retries={"mode": "standard", "max_attempts": 10}, connect_timeout=5)
        boto3.client("s3", endpoint_url=endpoint, config=patient).create_bucket(Bucket=_BUCKET)
        yield endpoint
    finally:
        for service in started:
            service.terminate()
            service.wait(30)


def _service(folder: Path, module: str, *words: str) -> subprocess.Popen[bytes]:
    with (folder / f"{module}.err").open("wb") as said:
        return subprocess.Popen([sys.executable, "-m", module, *words], stdout=said, stderr=said)


def parse() -> Options:
    parser = argparse.ArgumentParser(prog="python -m tests.audit.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=lambda text: Path(text).resolve(), required=True, help="a new folder")
    parser.add_argument("--photographs", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=100, help="at most so many, even where kills are left")
    parser.add_argument("--short", action="store_true", help="one round without `update`")
    parser.add_argument("--s3", action="store_true", help="from bucket to bucket, on a service of our own")
    parser.add_argument("--faults", type=float, default=0.0, help="share of requests that fail")
    parser.add_argument("--lease-seconds", type=float, default=20.0)
    return Options(**vars(parser.parse_args()))


def keep_logs(rays: Path, kept: Path) -> None:
    """What Ray and its workers wrote, which ends with the cluster."""
    for session in rays.rglob("session_2*"):
        if (session / "logs").is_dir():
            shutil.copytree(session / "logs", kept / session.name)


def main() -> int:
    options = parse()
    work = options.work
    work.mkdir(parents=True)
    # Sockets need a short path.
    rays = Path("/tmp") / f"audit-{os.getpid()}"
    os.environ |= environment(rays) | {"ALBUMEN_LEASE_SECONDS": str(options.lease_seconds)}
    os.environ.pop("RAY_ADDRESS", None)
    log = Log(work / "log.jsonl")
    try:
        with bucket_service(options) if options.s3 else nullcontext() as endpoint, machine(rays) as cluster:
            results = Audit(options, cluster, log, endpoint).all()
            if not results.clean:
                keep_logs(rays, work / "ray-logs")
    except AbandonedError as error:
        log.write("abandoned", why=str(error))
        return 1
    finally:
        log.close()
    print(table(results))
    print("clean" if results.clean else "NOT CLEAN", f"- log, results.json and results.md in {work}")
    return 0 if results.clean else 1


if __name__ == "__main__":
    sys.exit(main())
