"""Sends a job to a Ray cluster through Ray's Jobs API, and asks about it later."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

import cluster
import jobs
import pipeline
from jobs.spec import JobSpec
from pipeline.errors import JobError

_PACKAGES = (pipeline, jobs, cluster)
_SPEC = "job.json"
_PATIENCE = 60.0
_RUN = "albumen_run"
_ENDPOINT = "albumen_endpoint"


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job as the cluster knows it. state: Ray's word. run: the run's folder."""

    id: str
    state: str
    message: str | None
    run: str | None
    endpoint: str | None


def submit(spec: JobSpec, address: str) -> str:
    """Send the project's code and the job, never data or credentials. Returns the job's id. Raises JobError."""
    inside = spec.model_copy(update={"cluster": spec.cluster.model_copy(update={"address": "auto"})})
    with tempfile.TemporaryDirectory(prefix="albumen-submit-") as folder:
        _stage_code(Path(folder), inside)
        metadata = {_RUN: spec.output.uri, "albumen_collection": spec.collection.name}
        if spec.output.endpoint is not None:
            metadata[_ENDPOINT] = spec.output.endpoint
        with _clear_errors(address):
            return _send(_client(address), folder, metadata)


def _send(client: JobSubmissionClient, folder: str, metadata: dict[str, str]) -> str:
    """A head that has just started takes no job until its agent is there; that is worth waiting for."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            job: str = client.submit_job(
                entrypoint=f"python -m jobs run {_SPEC}", runtime_env={"working_dir": folder}, metadata=metadata
            )
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(2)
        else:
            return job


def _stage_code(folder: Path, spec: JobSpec) -> None:
    for package in _PACKAGES:
        source = Path(next(iter(package.__path__)))
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / _SPEC).write_text(spec.to_json(), encoding="utf-8")


def status(job: str, address: str) -> Submitted:
    with _clear_errors(address, job):
        info = _client(address).get_job_info(job)
    metadata = info.metadata or {}
    state, message = str(info.status), info.message
    if info.driver_exit_code == 3:
        # Ray knows only zero and the rest; three means that the run came to its end.
        state, message = "FINISHED", "with refused or failed photographs"
    return Submitted(job, state, message, metadata.get(_RUN), metadata.get(_ENDPOINT))


def logs(job: str, address: str, *, follow: bool) -> Iterator[str]:
    """The driver's output; with `follow`, as it comes, until the job ends."""
    with _clear_errors(address, job):
        client = _client(address)
        if not follow:
            yield client.get_job_logs(job)
            return
        stream = client.tail_job_logs(job)
        loop = asyncio.new_event_loop()
        try:
            while True:
                try:
                    yield loop.run_until_complete(anext(stream))
                except StopAsyncIteration:
                    return
        finally:
            loop.close()


def stop(job: str, address: str, wait: float = 60.0) -> Submitted:
    """Ask the job to stop and wait until it has. Photographs in flight are worked on when it is submitted again."""
    with _clear_errors(address, job):
        client = _client(address)
        client.stop_job(job)
        deadline = time.monotonic() + wait
        while not JobStatus(client.get_job_status(job)).is_terminal() and time.monotonic() < deadline:
            time.sleep(0.5)
    return status(job, address)


def _client(address: str) -> JobSubmissionClient:
    logging.getLogger("ray").setLevel(logging.ERROR)
    return JobSubmissionClient(address)


@contextmanager
def _clear_errors(address: str, job: str | None = None) -> Iterator[None]:
    try:
        yield
    except AuthenticationError as error:
        raise JobError(
            f"the cluster at {address} does not accept this token: {_first(error)}",
            hint="Put the cluster's token into RAY_AUTH_TOKEN, or into the file that RAY_AUTH_TOKEN_PATH names.",
        ) from error
    except (ConnectionError, OSError) as error:
        raise JobError(f"no Ray cluster answers at {address}: {_first(error)}") from error
    except (RuntimeError, ValueError) as error:
        text = f"the cluster at {address} knows no job {job!r}" if job and "404" in str(error) else _first(error)
        raise JobError(text) from error


def _first(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
