"""What travels to a cluster with a job: this code with its weights, the lock with its digest, and the job. Nothing else."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path

import cluster
import jobs
import pipeline
from jobs.spec import JobSpec
from pipeline.errors import JobError

SPEC = "job.json"
# What the machine that sends a job runs on, for the driver to compare.
SENDER = "sender.json"
LOCK = "requirements.lock"
_PACKAGES = (pipeline, jobs, cluster)
_WEIGHTS = "models/weights/*"
# Far above what the code is; only something that does not belong there could reach it.
MOST_BYTES = 16 << 20


def pack_code(folder: Path, spec: JobSpec) -> None:
    """Lay modules, lock, sender and job out as the driver's working directory. Raises JobError where it grows beyond reason.

    Of the three packages only `.py` files and the weights that ship with them are taken: no other data, no caches, and
    nothing that lies beside them.
    """
    for package in _PACKAGES:
        root = Path(next(iter(package.__path__)))
        for file in sorted([*root.rglob("*.py"), *root.glob(_WEIGHTS)]):
            target = folder / root.name / file.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    lock = Path(pipeline.__file__).parent.parent / LOCK
    if lock.is_file():
        shutil.copyfile(lock, folder / LOCK)
    (folder / SENDER).write_text(json.dumps(sender()), encoding="utf-8")
    inside = spec.model_copy(update={"cluster": spec.cluster.model_copy(update={"address": "auto"})})
    (folder / SPEC).write_text(inside.to_json(), encoding="utf-8")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if size > MOST_BYTES:
        raise JobError(f"the code to send is {size / 1e6:.1f} MB, which is more than code can be; is this a checkout?")


def sender() -> dict[str, str]:
    """Albumen's and Python's version on the machine that sends a job."""
    return {"albumen": pipeline.__version__, "python": platform.python_version()}


def sender_faults(folder: Path) -> list[str]:
    """On the cluster: what is wrong with its Python for whoever sent the job. Nothing for a job that nobody sent."""
    try:
        sent: Mapping[str, str] = json.loads((folder / SENDER).read_text(encoding="utf-8"))
    except OSError:
        return []
    theirs, ours = (_minor(text) for text in (sent["python"], platform.python_version()))
    if theirs == ours:
        return []
    return [f"the cluster runs Python {ours}, and the job was sent from Python {theirs}: install one of them on both"]


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
