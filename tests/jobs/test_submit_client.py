"""What `submit` and its sisters say to a cluster, and what they make of its answers: a server of Ray's Jobs API, here.

Only the server is ours: the client is Ray's. tests/jobs/test_submit.py has a real cluster.
"""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import ray

from jobs import submit
from jobs.rundir import prepare
from jobs.spec import JobSpec, load_spec, parse_spec
from pipeline.errors import JobError

Call = Callable[..., tuple[int, str, str]]
TOKEN_REFUSED = 401


class Head:
    """A head as the Jobs API shows it. version: of its Ray. refuses: every token. logs: of every job."""

    def __init__(self) -> None:
        self.version = ray.__version__
        self.refuses = False
        self.jobs: dict[str, dict[str, Any]] = {}
        self.packages: dict[str, bytes] = {}
        self.logs = "Checked the cluster: 2 nodes, 16 CPUs, 1 GPUs\n"
        self.ends: dict[str, Any] = {"status": "RUNNING"}
        self.stopped: list[str] = []
        head = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(*head.get(self.path))

            def do_PUT(self) -> None:
                head.packages[self.path.rsplit("/", 1)[1]] = self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(200, {})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self._answer(*head.post(self.path, json.loads(body) if body else {}))

            def _answer(self, code: int, value: Any) -> None:
                if head.refuses:
                    code, value = TOKEN_REFUSED, "Unauthorized: Missing authentication token"
                data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def get(self, path: str) -> tuple[int, Any]:
        if path == "/api/version":
            return 200, {"version": "4", "ray_version": self.version, "ray_commit": "", "session_name": ""}
        if path.startswith("/api/packages/"):
            return (200, {}) if path.rsplit("/", 1)[1] in self.packages else (404, "no package")
        if path == "/api/jobs/":
            return 200, list(self.jobs.values())
        job = path.split("/")[3]
        if job not in self.jobs:
            return 404, f"Job {job} does not exist"
        return (200, {"logs": self.logs}) if path.endswith("/logs") else (200, self.jobs[job] | self.ends)

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path.endswith("/stop"):
            self.stopped.append(path.split("/")[3])
            self.ends = {"status": "STOPPED"}
            return 200, {"stopped": True}
        job = body["submission_id"]
        self.jobs[job] = {
            "type": "SUBMISSION", "submission_id": job, "entrypoint": body["entrypoint"], "metadata": body["metadata"],
            "runtime_env": body["runtime_env"], "status": "PENDING", "message": "queued", "start_time": 1_700_000_000_000,
        }  # fmt: skip
        return 200, {"job_id": job, "submission_id": job}


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[Head]:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    found = Head()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


@pytest.fixture
def job(tmp_path: Path, scans: Path, no_models: Path) -> Path:
    path = tmp_path / "job.toml"
    path.write_text(
        '[collection]\nname = "albums"\nsource = "scans"\n[output]\nuri = "run"\n[recipe]\nstages = ["analyse"]\n'
    )
    return path


def test_a_job_is_sent_with_the_code_and_without_any_secret(
    albumen: Call, head: Head, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {"AWS_SECRET_ACCESS_KEY": "s3cr3t" * 6, "AWS_SESSION_TOKEN": "sess10n" * 6, "RAY_AUTH_TOKEN": "70ken" * 8}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    code, out, err = albumen("submit", job, "--address", head.address)
    assert (code, err) == (0, "")
    [sent] = head.jobs.values()
    assert f"Submitted {sent['submission_id']}" in out
    assert f"albumen status {tmp_path / 'run'}" in out
    assert sent["entrypoint"] == "exec python -m jobs run job.json"
    assert sent["metadata"]["albumen_run"] == str(tmp_path / "run")
    variables = sent["runtime_env"]["env_vars"]
    assert float(variables["RAY_JOB_STOP_WAIT_TIME_S"]) > float(variables["ALBUMEN_STOP_SECONDS"]) == 60
    assert set(variables) == {"RAY_JOB_STOP_WAIT_TIME_S", "ALBUMEN_STOP_SECONDS"}
    [(name, package)] = head.packages.items()
    assert sent["runtime_env"]["working_dir"] == f"gcs://{name}"
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        names = archive.namelist()
        everything = b"".join(archive.read(name) for name in names)
    files = {name for name in names if not name.endswith("/")}
    assert {"job.json", "sender.json", "requirements.lock", "pipeline/worker.py", "jobs/cli.py"} <= files
    code_and_weights = files - {"job.json", "sender.json", "requirements.lock"}
    assert all(name.endswith(".py") or name.startswith("pipeline/models/weights/") for name in code_and_weights)
    assert len(package) < 8_000_000
    for value in secrets.values():
        assert value.encode() not in everything + json.dumps(sent).encode() + out.encode()


def test_retry_and_json(albumen: Call, head: Head, job: Path, tmp_path: Path) -> None:
    code, out, _ = albumen("submit", job, "--address", head.address, "--retry", "--json")
    [sent] = head.jobs.values()
    assert sent["entrypoint"].endswith("job.json --retry")
    assert code == 0
    assert json.loads(out) == {"id": sent["submission_id"], "run": str(tmp_path / "run"), "state": "RUNNING"}


def test_what_the_cluster_finds_wrong_is_told_as_it_said_it(albumen: Call, head: Head, job: Path) -> None:
    head.ends = {"status": "FAILED", "driver_exit_code": 1, "message": "Job entrypoint command failed"}
    head.logs = (
        "Running entrypoint\n\nalbumen: 2 faults:\n  - the bucket is away\n  - node 10.0.0.2: pillow is 1.0\nAsk him.\n"
    )
    code, _, err = albumen("submit", job, "--address", head.address)
    assert code == 1
    assert err == "albumen: 2 faults:\n  - the bucket is away\n  - node 10.0.0.2: pillow is 1.0\nAsk him.\n"
    # A driver that said nothing of its own.
    head.logs = "killed\n"
    assert albumen("submit", job, "--address", head.address)[2] == "albumen: Job entrypoint command failed\n"


def test_a_cluster_that_takes_long_to_look_is_left_alone(albumen: Call, head: Head, job: Path) -> None:
    head.logs = ""
    code, out, _ = albumen("submit", job, "--address", head.address, "--wait", "0.01")
    assert code == 0
    assert "The cluster has not checked the job after 0 s" in out


def test_faults_of_the_job_and_of_the_cluster_at_once_and_nothing_is_sent(albumen: Call, head: Head, job: Path) -> None:
    head.version = "2.59.0"
    job.write_text(job.read_text() + "[cluster]\nnodes = 7\n")
    code, _, err = albumen("submit", job, "--address", head.address)
    assert code == 2
    assert err.startswith("albumen: 2 faults:\n  - cluster.nodes: ")
    assert f"the cluster at {head.address} runs Ray 2.59.0, and this machine has Ray {ray.__version__}" in err
    assert (head.jobs, head.packages) == ({}, {})
    code, _, err = albumen("submit", job, "--address", "http://127.0.0.1:9")
    assert code == 2
    assert err.startswith("albumen: 2 faults:\n  - cluster.nodes: ")
    assert "no Ray cluster answers at http://127.0.0.1:9" in err


def test_a_wrong_token_and_a_wrong_address_are_one_message_each(albumen: Call, head: Head, job: Path) -> None:
    head.refuses = True
    code, _, err = albumen("submit", job, "--address", head.address)
    assert code == 1
    assert f"the cluster at {head.address} does not accept this token" in err
    assert "RAY_AUTH_TOKEN" in err
    code, _, err = albumen("submit", job, "--address", "http://127.0.0.1:9")
    assert code == 1
    assert err.startswith("albumen: no Ray cluster answers at http://127.0.0.1:9: ")


def test_the_address_that_is_named_counts_before_that_of_the_environment(
    albumen: Call, head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    assert albumen("list", "--address", head.address)[0] == 0
    assert albumen("list")[0] == 1
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", head.address)
    assert albumen("list")[0] == 0


def test_jobs_are_listed_and_those_of_others_are_not(albumen: Call, head: Head, job: Path) -> None:
    assert "knows no job of Albumen" in albumen("list", "--address", head.address)[1]
    albumen("submit", job, "--address", head.address)
    head.jobs["raysubmit_other"] = next(iter(head.jobs.values())) | {"submission_id": "raysubmit_other", "metadata": {}}
    code, out, _ = albumen("list", "--address", head.address, "--json")
    [row] = json.loads(out)
    assert (code, row["collection"], row["started"]) == (0, "albums", "2023-11-14 22:13:20")


def test_a_job_is_stopped_and_resumed_as_it_was(albumen: Call, head: Head, job: Path, tmp_path: Path) -> None:
    albumen("submit", job, "--address", head.address)
    [first] = list(head.jobs)
    code, _, err = albumen("resume", first, "--address", head.address)
    assert code == 1
    assert f"{first} is running: there is nothing to resume" in err
    code, out, _ = albumen("stop", first, "--address", head.address)
    assert (code, head.stopped) == (0, [first])
    assert out.startswith(f"{first}  STOPPED\n")
    assert f"albumen resume {first}" in out
    # The file may be gone by then.
    job.unlink()
    assert albumen("resume", first, "--address", head.address)[0] == 0
    assert len(head.jobs) == 2
    specs = []
    for package in head.packages.values():
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            specs.append(parse_spec(json.loads(archive.read("job.json")), Path("/")))
    assert specs[0] == specs[-1]
    assert specs[0].output.uri == str(tmp_path / "run")


def test_a_job_that_the_cluster_has_forgotten_is_resumed_from_its_run(
    albumen: Call, head: Head, job: Path, tmp_path: Path
) -> None:
    prepare(load_spec(job))
    job.unlink()
    code, _, err = albumen("resume", tmp_path / "run", "--address", head.address)
    assert (code, err) == (0, "")
    [package] = head.packages.values()
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        spec = parse_spec(json.loads(archive.read("job.json")), Path("/"))
    assert (spec.collection.source, spec.output.uri) == (str(tmp_path / "scans"), str(tmp_path / "run"))
    assert [stage.name for stage in spec.make_recipe().stages] == ["analyse"]


def test_a_job_of_somebody_else_is_not_resumed(head: Head) -> None:
    head.jobs["raysubmit_other"] = {"type": "SUBMISSION", "entrypoint": "true", "metadata": {"who": "else"}}
    with pytest.raises(JobError, match="is none of Albumen's"):
        submit.spec_of("raysubmit_other", head.address)


def test_a_job_that_is_too_large_to_remember_is_taken_from_its_run(
    make_spec: Callable[..., JobSpec], scans: Path
) -> None:
    roots = [f"/scans/{number:05d}/{'x' * 80}" for number in range(1000)] + [str(scans.parent)]
    assert "albumen_spec" not in submit._metadata(make_spec(collection={"roots": roots}))
    assert "albumen_spec" in submit._metadata(make_spec())


def test_status_of_a_job_tells_its_run(albumen: Call, head: Head, job: Path, finished: Any) -> None:
    albumen("submit", job, "--address", head.address)
    [name] = list(head.jobs)
    head.jobs[name]["metadata"]["albumen_run"] = finished.run
    head.ends = {"status": "FAILED", "driver_exit_code": 3, "message": "exit code 3"}
    code, out, _ = albumen("status", name, "--address", head.address)
    assert code == 0
    assert out.startswith(f"{name}  FINISHED  with refused or failed photographs\n")
    assert "Done      4 of 4" in out
    answer = json.loads(albumen("status", name, "--address", head.address, "--json")[1])
    assert (answer["state"], answer["id"], answer["done"], answer["left"]) == ("FINISHED", name, 4, 0)
    code, _, err = albumen("status", "raysubmit_nothing", "--address", head.address)
    assert (code, "knows no job 'raysubmit_nothing'" in err) == (1, True)


def test_status_of_a_job_whose_run_cannot_be_seen_says_why(
    albumen: Call, head: Head, job: Path, tmp_path: Path
) -> None:
    albumen("submit", job, "--address", head.address)
    [name] = list(head.jobs)
    code, out, _ = albumen("status", name, "--address", head.address)
    assert code == 0
    assert out.startswith(f"{name}  RUNNING  queued\nRun       {tmp_path / 'run'}\n")
    answer = json.loads(albumen("status", name, "--address", head.address, "--json")[1])
    assert (answer["state"], answer["photographs"]) == ("RUNNING", [])
    assert answer["unseen"]
    assert answer["unseen"] in out


def test_the_job_that_is_sent_is_the_one_that_was_written(make_spec: Callable[..., JobSpec], scans: Path) -> None:
    spec = make_spec()
    text = submit._metadata(spec)["albumen_spec"]
    assert parse_spec(json.loads(text), Path("/")) == spec


@pytest.mark.parametrize(
    ("said", "faults"),
    [
        ("one fault\nwhat to do", ["one fault\nwhat to do"]),
        ("2 faults:\n  - first\n    what to do\nor that\n  - second", ["first\n    what to do\nor that", "second"]),
    ],
)
def test_what_can_be_done_about_a_fault_stays_with_it(said: str, faults: list[str]) -> None:
    assert submit._complaint(f"working\nalbumen: {said}\n") == faults
    assert submit._complaint("nothing was said") == []
