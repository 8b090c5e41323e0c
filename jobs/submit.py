"""Sends a job to a Ray cluster through Ray's Jobs API, and asks about it later."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from jobs.code import SPEC, pack_code
from jobs.ending import CHECKED, stop_seconds
from jobs.spec import JobSpec, parse_spec
from pipeline.errors import JobError

_PATIENCE = 60.0
# How faults are listed where there are several.
_BULLET = "  - "
_RUN, _ENDPOINT, _COLLECTION, _SPEC = "albumen_run", "albumen_endpoint", "albumen_collection", "albumen_spec"
_ADDRESS = "RAY_API_SERVER_ADDRESS"
# Ray hands metadata to the driver in one variable, which Linux limits to 128 KiB.
_MOST_METADATA = 64 << 10
# Beside the photographs in flight, a driver that is asked to stop has to compact nothing and to release its lease.
_STOP_MARGIN = 30


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job as the cluster knows it. state: Ray's word. run: the run's folder. started, ended: seconds since 1970."""

    id: str
    state: str
    message: str | None
    run: str | None
    endpoint: str | None
    collection: str | None = None
    started: float | None = None
    ended: float | None = None

    @property
    def over(self) -> bool:
        return self.state not in ("PENDING", "RUNNING")


def submit(spec: JobSpec, address: str, *, retry: bool = False) -> str:
    """Send the project's code and the job, never data or credentials. Returns the job's id. Raises JobError.

    What the cluster finds wrong with the job it says before it works on anything: `checked` waits for that.
    """
    with tempfile.TemporaryDirectory(prefix="albumen-submit-") as folder, _clear_errors(address):
        pack_code(Path(folder), spec)
        return _send(_client(address), folder, _metadata(spec), retry=retry)


def cluster_faults(address: str) -> list[str]:
    """Why no job can be sent there: nobody answers, the token is wrong, or it runs another Ray."""
    try:
        with _clear_errors(address):
            return _version_faults(address, _ray_version(_client(address)))
    except JobError as error:
        return [*error.faults, *([error.hint] if error.hint else [])]


def _version_faults(address: str, theirs: str | None) -> list[str]:
    if theirs in (None, ray.__version__):
        return []
    return [
        f"the cluster at {address} runs Ray {theirs}, and this machine has Ray {ray.__version__}: install one on both"
    ]


def _ray_version(client: JobSubmissionClient) -> str | None:
    answer: dict[str, Any] = client._do_request("GET", "/api/version").json()
    found = answer.get("ray_version")
    return None if found is None else str(found)


def _metadata(spec: JobSpec) -> dict[str, str]:
    found = {_RUN: spec.output.uri, _COLLECTION: spec.collection.name}
    if spec.output.endpoint is not None:
        found[_ENDPOINT] = spec.output.endpoint
    if len(text := spec.model_dump_json(exclude_defaults=True)) <= _MOST_METADATA:
        found[_SPEC] = text
    return found


def _send(client: JobSubmissionClient, folder: str, metadata: dict[str, str], *, retry: bool) -> str:
    """A head that has just started takes no job until its agent is there; that is worth waiting for."""
    deadline = time.monotonic() + _PATIENCE
    wait = stop_seconds()
    environment = {
        # Ray gives a job three seconds otherwise: too few for a photograph to be finished and the lease released.
        "RAY_JOB_STOP_WAIT_TIME_S": str(int(wait) + _STOP_MARGIN),
        "ALBUMEN_STOP_SECONDS": str(wait),
    }
    name = f"albumen-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    while True:
        try:
            job: str = client.submit_job(
                # Without a shell in between, a signal reaches the driver itself.
                entrypoint=f"exec python -m jobs run {SPEC}{' --retry' if retry else ''}",
                submission_id=name,
                runtime_env={"working_dir": folder, "env_vars": environment},
                metadata=metadata,
            )
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(2)
        else:
            return job


def checked(job: str, address: str, wait: float) -> Submitted | None:
    """Wait until the cluster has checked the job or ended it; None where it has done neither after `wait` seconds.

    Raises JobError with what the cluster found wrong, where it ended the job for that.
    """
    deadline = time.monotonic() + wait
    while time.monotonic() < deadline:
        found = status(job, address)
        text = "".join(logs(job, address, follow=False)) if found.state != "PENDING" else ""
        if found.state == "FAILED":
            raise JobError(_complaint(text) or found.message or "the cluster ended the job and did not say why")
        if found.over or CHECKED in text:
            return found
        time.sleep(1)
    return None


def _complaint(log: str) -> list[str]:
    """What `albumen run` said at its end, as it said it."""
    _, mark, said = log.rpartition("\nalbumen: ")
    if not mark:
        return []
    lines = said.strip().splitlines()
    if not re.fullmatch(r"\d+ faults:", lines[0]):
        return ["\n".join(lines)]
    faults: list[str] = []
    for line in lines[1:]:
        if line.startswith(_BULLET) or not faults:
            faults.append(line.removeprefix(_BULLET))
        else:
            # What can be done about a fault stands below it.
            faults[-1] += f"\n{line}"
    return faults


def status(job: str, address: str) -> Submitted:
    with _clear_errors(address, job):
        return _submitted(job, _client(address).get_job_info(job))


def listed(address: str) -> list[Submitted]:
    """Albumen's jobs that the cluster remembers, the latest first."""
    with _clear_errors(address):
        found = [_submitted(info.submission_id, info) for info in _client(address).list_jobs() if info.submission_id]
    ours = [job for job in found if job.run is not None]
    return sorted(ours, key=lambda job: job.started or 0.0, reverse=True)


def spec_of(job: str, address: str) -> JobSpec | None:
    """The job as it was sent; None where it was too large for the cluster to remember."""
    with _clear_errors(address, job):
        metadata = _client(address).get_job_info(job).metadata or {}
    if _RUN not in metadata:
        raise JobError(f"job {job!r} of the cluster at {address} is none of Albumen's")
    return parse_spec(json.loads(metadata[_SPEC]), Path("/")) if _SPEC in metadata else None


def _submitted(job: str, info: Any) -> Submitted:
    metadata = info.metadata or {}
    state, message = str(info.status), info.message
    if info.driver_exit_code == 3:
        # Ray knows only zero and the rest; three means that the run came to its end.
        state, message = "FINISHED", "with refused or failed photographs"
    return Submitted(
        id=job,
        state=state,
        message=message,
        run=metadata.get(_RUN),
        endpoint=metadata.get(_ENDPOINT),
        collection=metadata.get(_COLLECTION),
        started=_seconds(info.start_time),
        ended=_seconds(info.end_time),
    )


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


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


def stop(job: str, address: str, wait: float | None = None) -> Submitted:
    """Ask the job to stop and wait until it has. Photographs in flight are finished; those that take too long for that are
    worked on when the job is resumed."""
    most = stop_seconds() + 2 * _STOP_MARGIN if wait is None else wait
    with _clear_errors(address, job):
        client = _client(address)
        client.stop_job(job)
        deadline = time.monotonic() + most
        while not JobStatus(client.get_job_status(job)).is_terminal() and time.monotonic() < deadline:
            time.sleep(0.5)
    return status(job, address)


def _client(address: str) -> JobSubmissionClient:
    for name in ("ray", "ray.dashboard.modules.dashboard_sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Ray takes the environment's address before the one that it is given.
    before = os.environ.get(_ADDRESS)
    os.environ[_ADDRESS] = address
    try:
        return JobSubmissionClient(address)
    finally:
        if before is None:
            del os.environ[_ADDRESS]
        else:
            os.environ[_ADDRESS] = before


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
