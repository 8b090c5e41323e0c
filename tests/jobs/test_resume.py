"""A driver that is killed in the middle of its run, and the run that goes on."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.verify import verify
from pipeline.provenance import live
from pipeline.storage import Store

pytestmark = pytest.mark.cluster

# So many that a kill behind the second leaves some, however fast the machine.
PHOTOGRAPHS = 40


def start(job: Path, *options: str) -> subprocess.Popen[str]:
    """`albumen run` with a Ray of its own, as a user starts it, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "jobs", "run", str(job), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
    )


def state(run: Path) -> dict[str, tuple[int, str]]:
    """Modification time and digest of every delivered image and of every commit."""
    files = [*run.glob("provenance/terms/*/*.parquet"), *run.glob("images/*/*.png")]
    return {p.name: (p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).hexdigest()) for p in files}


def committed(run: Path) -> dict[str, str]:
    """Sources that have a row, and the names of their outputs."""
    rows = live(Store(), str(run), ["source_uri", "output_uri"]).to_pylist()
    return {row["source_uri"]: Path(row["output_uri"]).name for row in rows}


def test_a_killed_run_goes_on_and_does_nothing_twice(tmp_path: Path, photo: Callable[[int], bytes]) -> None:
    scans, run = tmp_path / "scans", tmp_path / "run"
    scans.mkdir()
    for number in range(PHOTOGRAPHS):
        (scans / f"{number}.png").write_bytes(photo(88 + number))
    job = tmp_path / "job.toml"
    job.write_text(
        """
        [collection]
        name = "killed"
        source = "scans"
        [output]
        uri = "run"
        format = "png"
        [recipe]
        stages = ["analyse", "repair", "colour"]
        [recipe.analyse]
        damage = "classical"
        [cluster]
        cpus = 2
        """,
        encoding="utf-8",
    )
    driver = start(job)
    deadline = time.monotonic() + 240
    while len(list(run.glob("provenance/terms/*/*.parquet"))) < 2:
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline, "the run committed nothing in four minutes"
        time.sleep(0.05)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    _wait_for_orphans(run)
    before, done = state(run), committed(run)
    assert 2 <= len(done) < PHOTOGRAPHS
    kept = {name: Path(name).read_bytes() for name in done}
    for name in done:
        # Whoever read what is finished would now fail.
        Path(name).unlink()

    again = start(job, "--json")
    output, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    summary: dict[str, Any] = json.loads(output)
    assert (summary["restored"], summary["worked_on"]) == (PHOTOGRAPHS, PHOTOGRAPHS - len(done))
    after = state(run)
    # What was committed before the kill was not delivered again: neither its bytes nor its time has changed.
    assert {name: after[name] for name in done.values()} == {name: before[name] for name in done.values()}
    for name, data in kept.items():
        Path(name).write_bytes(data)
    rows = live(Store(), str(run)).to_pylist()
    assert [row["item_no"] for row in rows] == list(range(PHOTOGRAPHS))
    assert len({row["term"] for row in rows}) == 2
    delivered = {Path(row["output_uri"]).name: row["output_sha256"] for row in rows}
    assert {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in run.glob("images/*/*.png")} == delivered
    # At its end the run is compacted: no loose commit is left.
    assert list(run.glob("provenance/terms/*/*.parquet")) == []
    assert verify(str(run), sources=True).faults == ()


def _wait_for_orphans(run: Path) -> None:
    """Workers outlive their driver by moments; what they still commit counts as committed."""
    seen: dict[str, tuple[int, str]] = {}
    for _ in range(60):
        now = state(run)
        if now == seen:
            return
        seen = now
        time.sleep(3)
    pytest.fail("workers of the killed driver still write")
