"""Jobs sent to a real Ray head in processes of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.verify import verify

pytestmark = pytest.mark.cluster

SPEC = """
[collection]
name = "submitted"
source = "scans"
[output]
uri = "run"
format = "png"
[recipe]
stages = {stages}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Ray head with the Jobs API, started as an operator starts one."""
    # Ray's sockets have long names, and a Unix socket's path may have 107 bytes at most.
    folder = Path("/tmp") / f"albumen-head-{os.getpid()}"
    port = free_port()
    binaries = str(Path(sys.executable).parent)
    process = subprocess.Popen(
        [
            f"{binaries}/ray", "start", "--head", "--block", "--num-cpus=2", "--num-gpus=0", f"--port={free_port()}",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={port}", f"--temp-dir={folder}", "--disable-usage-stats",
            # The embedded Ray of the other tests has taken the ports that are the same by default.
            f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(lambda: _answers(f"{address}/api/version"), 120, "the Ray head does not answer")
        yield address
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def environment(token: str = "a token that only this test knows") -> dict[str, str]:  # noqa: S107
    """Ray asks for a token by default; head and client get it in the usual variables."""
    binaries = str(Path(sys.executable).parent)
    return os.environ | {
        "PATH": binaries + os.pathsep + os.environ["PATH"],
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": hashlib.sha256(token.encode()).hexdigest(),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2)  # noqa: S310 - our own loopback address
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False
    return True


def _wait(condition: Callable[[], bool], seconds: float, complaint: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.5)


def albumen(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs", *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment(**variables)
    )


def answer(*words: str) -> dict[str, Any]:
    done = albumen(*words, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def make_job(folder: Path, photo: Callable[[int], bytes], count: int, side: int, stages: str) -> Path:
    (folder / "scans").mkdir(parents=True)
    for number in range(count):
        (folder / "scans" / f"{number}.png").write_bytes(photo(side + number))
    job = folder / "job.toml"
    job.write_text(SPEC.format(stages=stages), encoding="utf-8")
    return job


def test_a_submitted_job_finishes_and_another_is_stopped(
    tmp_path: Path, photo: Callable[[int], bytes], head: str
) -> None:
    short = make_job(tmp_path / "short", photo, 3, 40, '["analyse", "repair", "colour"]')
    (tmp_path / "short" / "scans" / "broken.jpg").write_bytes(b"no photograph")
    sent = answer("submit", str(short), "--address", head)
    _wait(
        lambda: answer("status", sent["id"], "--address", head)["state"] not in ("PENDING", "RUNNING"),
        240,
        "it never ended",
    )
    ended = answer("status", sent["id"], "--address", head)
    log = albumen("logs", sent["id"], "--address", head).stdout
    assert (ended["state"], ended["message"]) == ("FINISHED", "with refused or failed photographs"), log
    assert ended["photographs"] == [
        {"status": "refused", "reason": "not-an-image", "photographs": 1},
        {"status": "restored", "reason": "", "photographs": 3},
    ]
    assert "4 photographs worked on" in log
    report = verify(str(tmp_path / "short" / "run"), sources=True)
    assert (report.outputs, report.faults) == (3, ())

    # Four minutes of work: there is time to stop it.
    long = make_job(tmp_path / "long", photo, 4, 400, '["upscale"]')
    sent = answer("submit", str(long), "--address", head)
    _wait(lambda: (tmp_path / "long" / "run" / "run.json").exists(), 240, "it never started")
    stopped = answer("stop", sent["id"], "--address", head)
    assert stopped["state"] == "STOPPED"
    assert answer("status", sent["id"], "--address", head)["state"] == "STOPPED"


def test_an_unknown_job_and_a_wrong_address_are_one_clear_message(
    head: str, tmp_path: Path, photo: Callable[[int], bytes]
) -> None:
    unknown = albumen("status", "raysubmit_nothing", "--address", head)
    assert unknown.returncode == 1
    assert "knows no job 'raysubmit_nothing'" in unknown.stderr
    nobody = f"http://127.0.0.1:{free_port()}"
    wrong = albumen("submit", str(make_job(tmp_path / "x", photo, 1, 32, "[]")), "--address", nobody)
    assert wrong.returncode == 1
    assert f"no Ray cluster answers at {nobody}" in wrong.stderr
    stranger = albumen("status", "raysubmit_nothing", "--address", head, token="another")
    assert stranger.returncode == 1
    assert "token" in stranger.stderr
    for done in (unknown, wrong, stranger):
        assert "Traceback" not in done.stderr
