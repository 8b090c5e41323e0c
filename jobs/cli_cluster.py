"""Commands about jobs on a cluster: send one, ask about it, stop it, go on with it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.console import AsJson, Endpoint, Job, me, print_json, say
from pipeline.errors import JobError, SpecError

if TYPE_CHECKING:
    from jobs.spec import JobSpec
    from jobs.standing import Standing
    from jobs.submit import Submitted

JobId = Annotated[str, typer.Argument(help="Id that `submit` printed.", metavar="ID")]
JobOrRun = Annotated[
    str, typer.Argument(help="Id that `submit` printed, or a run's folder or prefix.", metavar="ID|RUN")
]
Address = Annotated[str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="Cluster, as http://host:8265.")]
MaybeAddress = Annotated[
    str | None,
    typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="Cluster, as http://host:8265; not needed for a RUN."),
]
Retry = Annotated[bool, typer.Option("--retry", help="Also try again what failed, or could not be read.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait until the cluster has checked the job; 0 for not at all.")]


def submit(job: Job, address: Address, retry: Retry = False, wait: Wait = 600.0, as_json: AsJson = False) -> None:
    """Check a job, send it to a Ray cluster, and wait until the cluster has checked it too."""
    from jobs.spec import load_spec
    from jobs.submit import cluster_faults

    faults: list[str] = []
    try:
        spec = load_spec(job)
    except SpecError as error:
        faults += error.faults
    if there := cluster_faults(address):
        raise (SpecError if faults else JobError)([*faults, *there])
    if faults:
        raise SpecError(faults)
    _send(spec, address, retry=retry, wait=wait, as_json=as_json)


def resume(
    job: JobOrRun,
    address: Address,
    retry: Retry = False,
    wait: Wait = 600.0,
    as_json: AsJson = False,
    endpoint: Endpoint = None,
) -> None:
    """Send a job again to the same run: only what is missing is done. Name the RUN where the cluster forgot the job."""
    from jobs.rundir import planned_spec
    from jobs.submit import cluster_faults, spec_of, status

    if there := cluster_faults(address):
        raise JobError(there)
    if _is_run(job):
        spec = planned_spec(job, endpoint)
    else:
        known = status(job, address)
        if not known.over:
            raise JobError(f"{job} is {known.state.lower()}: there is nothing to resume")
        spec = spec_of(job, address) or planned_spec(str(known.run), known.endpoint)
    _send(spec, address, retry=retry, wait=wait, as_json=as_json)


def _send(spec: JobSpec, address: str, *, retry: bool, wait: float, as_json: bool) -> None:
    from jobs.submit import checked
    from jobs.submit import submit as send

    job = send(spec, address, retry=retry)
    if not as_json:
        say(f"Submitted {job}\nRun       {spec.output.uri}")
    known = checked(job, address, wait) if wait > 0 else None
    if as_json:
        print_json({"id": job, "run": spec.output.uri, "state": None if known is None else known.state})
        return
    if known is None and wait > 0:
        say(f"The cluster has not checked the job after {wait:.0f} s; its logs will say how that ends.")
    say("\nNext:")
    for verb in ("status", "logs -f", "stop"):
        say(f"  {me()} {verb} {job} --address {address}")
    say(f"  {me()} status {spec.output.uri}")


def status(job: JobOrRun, address: MaybeAddress = None, as_json: AsJson = False, endpoint: Endpoint = None) -> None:
    """How a job or a run stands: done, failed, left, rate, time left. Of a RUN also when the cluster is gone."""
    from jobs.standing import standing

    if _is_run(job):
        found = standing(job, endpoint)
        if as_json:
            print_json(found.describe())
        else:
            _print_standing(found)
        return
    if address is None:
        raise SpecError(f"{job} is an id: name its cluster with --address, or ask for its run's folder instead")
    from jobs.submit import status as ask_cluster

    known = ask_cluster(job, address)
    run, unseen = None, None
    if known.run is not None:
        try:
            run = standing(known.run, known.endpoint or endpoint)
        except JobError as error:
            # Not planned yet, or a folder that only the cluster can see.
            unseen = error.faults[0]
    if as_json:
        about = {"id": known.id, "state": known.state, "message": known.message, "run": known.run}
        print_json(({"photographs": [], "unseen": unseen} if run is None else run.describe()) | about)
        return
    say(f"{known.id}  {known.state}" + (f"  {known.message}" if known.message else ""))
    if run is not None:
        _print_standing(run)
    elif known.run is not None:
        say(f"Run       {known.run}\n          {unseen}")


def list_jobs(address: Address, as_json: AsJson = False) -> None:
    """Albumen's jobs on a cluster, the latest first."""
    from jobs.submit import listed

    found = listed(address)
    if as_json:
        print_json([_job_row(job) for job in found])
        return
    if not found:
        say(f"The cluster at {address} knows no job of Albumen.")
    for job in found:
        say(f"{job.id}  {job.state:<9}  {_moment(job.started)}  {job.collection or ''}  {job.run}")


def logs(
    job_id: JobId,
    address: Address,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job ends.")] = False,
) -> None:
    """What a submitted job printed."""
    from jobs.submit import logs as read

    for text in read(job_id, address, follow=follow):
        sys.stdout.write(text)
        sys.stdout.flush()


def stop(job_id: JobId, address: Address, as_json: AsJson = False) -> None:
    """Stop a submitted job: photographs in flight are finished where that is soon, the rest is left for `resume`."""
    from jobs.submit import stop as ask_to_stop

    job = ask_to_stop(job_id, address)
    if as_json:
        print_json({"id": job.id, "state": job.state})
        return
    say(f"{job.id}  {job.state}")
    if job.over:
        say(f"\nNext:\n  {me()} resume {job_id} --address {address}")


def _is_run(text: str) -> bool:
    return "/" in text or Path(text, "run.json").is_file()


def _job_row(job: Submitted) -> dict[str, Any]:
    return {
        "id": job.id,
        "state": job.state,
        "message": job.message,
        "collection": job.collection,
        "run": job.run,
        "started": _moment(job.started),
        "ended": _moment(job.ended),
    }


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def _print_standing(found: Standing) -> None:
    from jobs.progress import clock

    say(f"Run       {found.run}  {found.collection}")
    say(
        f"Done      {found.done:,} of {found.photographs:,}, {found.failed:,} of them refused or failed; {found.left:,} left"
    )
    if found.per_second:
        left = "" if found.seconds_left is None else f", {clock(found.seconds_left)} left"
        say(f"Rate      {found.per_second * 3600:,.0f} an hour{left}")
    say(f"Driver    {_driver_text(found)}")
    for row in found.outcomes:
        say(f"{row['status']:<9} {row['photographs']:,}  {row['reason']}".rstrip())
    for row in found.stages:
        rate = row["seconds_per_megapixel"]
        each = "" if rate is None else f", {rate:g} s a megapixel"
        say(
            f"{row['stage']:<9} {row['done']:,} done, {row['ended']:,} ended there, {row['mean_seconds']:g} s each{each}"
        )


def _driver_text(found: Standing) -> str:
    driver = found.driver
    if driver is None:
        return "nobody"
    heard = f"{driver.heard:%Y-%m-%d %H:%M:%S} UTC"
    if driver.state == "working":
        return f"`{driver.purpose}` of {driver.who} is at work, last heard of {heard}"
    if driver.state == "lost":
        return f"lost: `{driver.purpose}` of {driver.who} was last heard of {heard}"
    return f"nobody; `{driver.purpose}` of {driver.who} ended {heard}"
