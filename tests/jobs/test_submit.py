"""Jobs sent to a real Ray head in processes of its own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
import s3fs

from jobs import lease, submit
from jobs.standing import standing
from jobs.verify import verify
from pipeline.metrics import COMMIT_SECONDS, METRICS, PHOTOGRAPHS, STAGE_SECONDS
from pipeline.provenance import live
from pipeline.storage import Store

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


METRICS_PORT = free_port()
# Ray's sockets have long names, and a Unix socket's path may have 107 bytes at most.
HEAD_FOLDER = Path("/tmp") / f"albumen-head-{os.getpid()}"
_STARTS = 4


@pytest.fixture(scope="module")
def head(s3: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Ray head with the Jobs API, started as an operator starts one; it has the variables of `s3`."""
    log = tmp_path_factory.mktemp("head") / "head.log"
    for _ in range(_STARTS):
        port = free_port()
        process = _start_head(port, log)
        address = f"http://127.0.0.1:{port}"
        try:
            # On a busy machine Ray gives its own start up after half a minute.
            if _comes(lambda address=address: _answers(f"{address}/api/version"), process, 150):
                yield address
                assert process.poll() is None, log.read_text(encoding="utf-8")
                return
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
            shutil.rmtree(HEAD_FOLDER, ignore_errors=True)
    pytest.fail(f"no Ray head came up: {log.read_text(encoding='utf-8')}")


def _start_head(port: int, log: Path) -> subprocess.Popen[bytes]:
    binaries = str(Path(sys.executable).parent)
    with log.open("a") as said:
        return subprocess.Popen(
            [
                f"{binaries}/ray", "start", "--head", "--block", "--num-cpus=2", "--num-gpus=0", f"--port={free_port()}",
                "--dashboard-host=127.0.0.1", f"--dashboard-port={port}", f"--temp-dir={HEAD_FOLDER}",
                f"--metrics-export-port={METRICS_PORT}", "--disable-usage-stats",
                # The embedded Ray of the other tests has taken the ports that are the same by default.
                f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}",
            ],
            stdout=said,
            stderr=subprocess.STDOUT,
            # Who ends it need not wait half a minute for what nobody runs any more.
            env=environment() | {"ALBUMEN_LOG": "json", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"},
        )  # fmt: skip


def _comes(condition: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if condition():
            # It answers before its own start is over.
            time.sleep(5)
            return process.poll() is None
        time.sleep(0.5)
    return False


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


@dataclass(frozen=True)
class Ended:
    """A job that has come to its end. facts: what `status` says of it. log: what it printed."""

    id: str
    facts: dict[str, Any]
    log: str


@pytest.fixture(scope="module")
def from_bucket(head: str, s3: str, photo: Callable[[int], bytes], tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A job from bucket to bucket at its end, which no test changes: three photographs and a file that is none."""
    s3fs.S3FileSystem(endpoint_url=s3, use_listings_cache=False).mkdir("archive")
    for number in range(3):
        Store().put(f"s3://archive/scans/{number}.png", photo(40 + number))
    Store().put("s3://archive/scans/broken.jpg", b"no photograph")
    job = tmp_path_factory.mktemp("bucket") / "bucket.toml"
    text = SPEC.format(stages='["analyse", "repair", "colour"]')
    job.write_text(text.replace('"scans"', '"s3://archive/scans"').replace('"run"', '"s3://archive/run"'))
    sent = answer("submit", str(job), "--address", head)
    assert sent["state"] in ("RUNNING", "FINISHED")
    facts = _ended(sent["id"], head)
    return Ended(sent["id"], facts, albumen("logs", sent["id"], "--address", head).stdout)


_ASK_RAY = """
import sys
from ray.job_submission import JobSubmissionClient
print(JobSubmissionClient(sys.argv[1]).get_job_info(sys.argv[2]).json())
"""


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


def test_a_job_finishes_with_refused_photographs(from_bucket: Ended, head: str) -> None:
    ended, log = from_bucket.facts, from_bucket.log
    assert (ended["state"], ended["message"]) == ("FINISHED", "with refused or failed photographs"), log
    assert ended["photographs"] == [
        {"status": "refused", "reason": "not-an-image", "photographs": 1},
        {"status": "restored", "reason": "", "photographs": 3},
    ]
    assert (ended["total"], ended["done"], ended["failed"], ended["left"]) == (4, 4, 1, 0)
    assert "Checked the cluster: 1 nodes, 2 CPUs" in log
    assert "4 photographs worked on" in log
    report = verify(ended["run"], sources=True)
    assert (report.outputs, report.faults) == (3, ())
    # The weights that come with the code came with the job.
    events = [event for row in live(Store(), ended["run"], ["events"]).to_pylist() for event in row["events"]]
    analysed = [[model["id"] for model in event["models"]] for event in events if event["stage"] == "analyse"]
    assert analysed == [["albumen-damage"]] * 3
    # What was measured arrives where Prometheus asks, and every photograph has its line.
    _wait(lambda: "ray_albumen_photographs_total{" in _metrics(), 60, "no metric of ours arrives")
    names = set(re.findall(r"^(ray_albumen_\w+?)(?:_bucket|_sum|_count)?{", _metrics(), re.M))
    assert names <= {metric.exported for metric in METRICS}
    assert {PHOTOGRAPHS.exported, STAGE_SECONDS.exported, COMMIT_SECONDS.exported} <= names
    files = HEAD_FOLDER.glob("session_2*/logs/worker-*.err")
    lines = [json.loads(line) for file in files for line in file.open() if "item_id" in line]
    mine = [line["status"] for line in lines if line["source_uri"].startswith("s3://archive/")]
    assert sorted(mine) == ["refused", *["restored"] * 3]
    [listed] = [job for job in answer_list(head) if job["id"] == from_bucket.id]
    assert (listed["collection"], listed["state"], listed["run"]) == ("submitted", "FINISHED", ended["run"])


def test_a_job_that_is_stopped_finishes_what_it_has_begun_and_is_resumed(
    tmp_path: Path, photo: Callable[[int], bytes], head: str
) -> None:
    job = make_job(tmp_path, photo, 60, 100, '["analyse", "repair", "colour"]\nanalyse.damage = "classical"')
    run = str(tmp_path / "run")
    sent = answer("submit", str(job), "--address", head)
    early = albumen("resume", sent["id"], "--address", head)
    assert (early.returncode, "there is nothing to resume" in early.stderr) == (1, True)
    _wait(lambda: any((tmp_path / "run" / "provenance" / "terms").rglob("*.parquet")), 120, "it never began")
    stopped = answer("stop", sent["id"], "--address", head)
    log = albumen("logs", sent["id"], "--address", head).stdout
    assert stopped["state"] == "STOPPED", log
    assert "Stopped. Run the same command again to go on." in log
    held = lease.current(Store(), run)
    assert held is not None
    assert held.released
    found = standing(run)
    assert 0 < found.done < 60
    # What was in hand was finished: no image lies there without its row.
    assert len(list((tmp_path / "run" / "images").rglob("*.png"))) == found.done
    again = answer("resume", sent["id"], "--address", head)
    assert again["id"] != sent["id"]
    ended = _ended(again["id"], head)
    assert (ended["state"], ended["done"], ended["failed"]) == ("SUCCEEDED", 60, 0)
    report = verify(run, sources=True)
    assert (report.outputs, report.faults) == (60, ())


def test_what_the_cluster_finds_wrong_is_said_at_once_and_nothing_is_written(
    head: str, tmp_path: Path, photo: Callable[[int], bytes]
) -> None:
    job = make_job(tmp_path, photo, 1, 32, '["upscale"]')
    text = job.read_text().replace('"scans"', '"s3://no-such-bucket/scans"')
    job.write_text(
        f'{text}\n[recipe.upscale]\nmodel = "realesrgan-x2plus"\n[models]\nmirror = "mirror"\ncache = "cache"\n'
    )
    done = albumen("submit", str(job), "--address", head)
    assert done.returncode == 1
    assert "there is no bucket 'no-such-bucket'" in done.stderr
    assert f"model realesrgan-x2plus: cannot fetch {tmp_path / 'mirror'}" in done.stderr
    assert done.stderr.startswith("albumen: 2 faults:"), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_no_credential_is_in_anything_that_a_job_leaves_behind(head: str, from_bucket: Ended) -> None:
    run = from_bucket.facts["run"]
    mine = environment()
    secrets = [mine["AWS_SECRET_ACCESS_KEY"].encode(), mine["RAY_AUTH_TOKEN"].encode()]
    assert all(len(secret) > 30 for secret in secrets)
    info = subprocess.run(
        [sys.executable, "-c", _ASK_RAY, head, from_bucket.id], capture_output=True, check=True, env=mine
    ).stdout
    assert b"albumen_spec" in info
    places = {"job": info, "logs": from_bucket.log.encode()}
    places |= {entry.uri: Store().read(entry.uri) for entry in Store().list(run)}
    # Ray's own logs, and the code that was sent as it was unpacked for the workers.
    files = [file for file in HEAD_FOLDER.rglob("*") if file.is_file() and not file.is_symlink()]
    assert any(file.name == "job.json" for file in files)
    assert any("driver" in file.name for file in files)
    places |= {str(file): file.read_bytes() for file in files}
    assert len(places) > 40
    assert [place for place, data in places.items() if any(secret in data for secret in secrets)] == []


def test_an_unknown_job_and_a_wrong_token_are_one_clear_message(
    head: str, tmp_path: Path, photo: Callable[[int], bytes]
) -> None:
    unknown = albumen("status", "raysubmit_nothing", "--address", head)
    assert unknown.returncode == 1
    assert "knows no job 'raysubmit_nothing'" in unknown.stderr
    job = make_job(tmp_path / "x", photo, 1, 32, "[]")
    stranger = albumen("submit", str(job), "--address", head, token="another")
    assert stranger.returncode == 1
    assert "does not accept this token" in stranger.stderr
    for done in (unknown, stranger):
        assert "Traceback" not in done.stderr


def test_another_ray_than_ours_is_one_fault() -> None:
    assert submit._version_faults("http://head:8265", ray.__version__) == []
    [fault] = submit._version_faults("http://head:8265", "1.13.0")
    assert fault.startswith("the cluster at http://head:8265 runs Ray 1.13.0, and this machine has Ray 2.")


def _metrics() -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=10) as asked:
        text: str = asked.read().decode()
    return text


def answer_list(head: str) -> list[dict[str, Any]]:
    done = albumen("list", "--address", head, "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _ended(job: str, head: str) -> dict[str, Any]:
    """Follows the job's logs until it ends. What `status` says of it then."""
    albumen("logs", job, "-f", "--address", head)
    facts: dict[str, Any] = {}

    def over() -> bool:
        facts.update(answer("status", job, "--address", head))
        return facts["state"] not in ("PENDING", "RUNNING")

    _wait(over, 120, "it never ended")
    return facts
