"""What travels to a cluster with a job."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pipeline
from jobs import code
from jobs.code import pack_code, sender, sender_faults
from jobs.spec import JobSpec, load_spec
from pipeline.errors import JobError

TRACKED = ("pipeline/*.py", "jobs/*.py", "cluster/*.py", "pipeline/models/weights/*")


def test_it_is_the_code_the_lock_and_the_job_and_nothing_else(
    make_spec: Callable[..., JobSpec], scans: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sent"
    pack_code(folder, make_spec(cluster={"address": "ray://elsewhere:10001"}))
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    root = Path(pipeline.__file__).parent.parent
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *TRACKED],  # noqa: S607
        cwd=root, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert files == {*tracked, "requirements.lock", "sender.json", "job.json"}
    assert (folder / "requirements.lock").read_bytes() == (root / "requirements.lock").read_bytes()
    assert "pipeline/models/weights/damage.safetensors" in files
    assert "pipeline/models/weights/noise.safetensors" in files
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 12_000_000
    # On the cluster the driver joins the one that it runs in.
    assert load_spec(folder / "job.json").cluster.address == "auto"


def test_what_was_sent_is_a_program(make_spec: Callable[..., JobSpec], scans: Path, tmp_path: Path) -> None:
    pack_code(tmp_path / "sent", make_spec())
    asked = "import jobs, pipeline.software as s; print(jobs.__path__[0], s.lock_digest())"
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=tmp_path / "sent", capture_output=True, text=True, check=True
    )
    path, lock = done.stdout.split()
    assert Path(path) == tmp_path / "sent" / "jobs"
    assert len(lock) == 64


def test_what_cannot_be_code_is_not_sent(
    make_spec: Callable[..., JobSpec], scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "MOST_BYTES", 1000)
    with pytest.raises(JobError, match="is this a checkout"):
        pack_code(tmp_path / "sent", make_spec())


def test_another_python_than_the_senders_is_one_fault(tmp_path: Path) -> None:
    assert sender_faults(tmp_path) == []
    (tmp_path / "sender.json").write_text(json.dumps(sender()))
    assert sender_faults(tmp_path) == []
    (tmp_path / "sender.json").write_text(json.dumps(sender() | {"python": "3.9.1"}))
    [fault] = sender_faults(tmp_path)
    assert "and the job was sent from Python 3.9: " in fault
