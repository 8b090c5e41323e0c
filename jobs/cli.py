"""The command line. Heavy imports wait until a command needs them.

Exit codes: 0 every photograph restored (or no fault found), 1 the run cannot go on (or faults were found), 2 wrong usage or
a wrong job spec, 3 finished with refused or failed photographs, 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli_degrade import degrade
from jobs.cli_models import models_app
from jobs.cli_query import query
from jobs.cli_trust import replay, verify
from jobs.cli_upkeep import gc, update
from jobs.console import AsJson, Job, me, print_json, print_table, say
from pipeline.errors import JobError, SpecError

if TYPE_CHECKING:
    from jobs.run import Summary
    from jobs.rundir import Plan
    from jobs.spec import JobSpec

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(models_app, name="models")
app.command()(query)
app.command()(verify)
app.command()(replay)
app.command()(update)
app.command()(gc)
app.command()(degrade)

JobId = Annotated[str, typer.Argument(help="Id that `submit` printed.", metavar="ID")]
Address = Annotated[str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="Cluster, as http://host:8265.")]


@app.callback()
def _albumen() -> None:
    """Restores photograph collections at archive scale."""


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where scans and results go.")] = Path("albumen-demo"),
    as_json: AsJson = False,
) -> None:
    """Restore a small real collection with the default recipe, on this machine."""
    from jobs.demo import MARK, collect, demo_spec

    output = output.resolve()
    if output.exists() and not output.is_dir():
        raise JobError(f"{output} is no folder; choose another with --output")
    if output.exists() and any(output.iterdir()) and not (output / MARK).exists():
        raise JobError(f"{output} is not empty and holds no demo; choose another folder with --output")
    if not (output / "run" / "run.json").exists():
        output.mkdir(parents=True, exist_ok=True)
        (output / MARK).touch()
        collect(output / "scans")
    try:
        plan, summary = _run(demo_spec(output), quiet=as_json)
    except JobError as error:
        raise type(error)(error.faults, hint="Choose another folder with --output for a new demo.") from error
    sheet = _write_sheet(plan.run, output / "before-after.png")
    if as_json:
        from jobs.run import describe

        print_json(describe(summary) | {"sheet": sheet})
        return
    _print_summary(summary)
    say(f"\nScans     {output / 'scans'}\nResults   {plan.run}/images")
    if sheet:
        say(f"Look at   {sheet}")
    # One file of the demo is broken on purpose: a typed refusal is what should come of it.
    say(f"\nNext:\n  {me()} query {plan.run}\n  {me()} verify {plan.run} --sources\n  {me()} models list")


@app.command()
def plan(job: Job, as_json: AsJson = False) -> None:
    """Freeze the manifest and print counts, bytes, models and pools. Reads no photograph."""
    from jobs.graph import stage_groups
    from jobs.rundir import prepare
    from jobs.spec import load_spec
    from pipeline.models.licences import commercial_use

    planned = prepare(load_spec(job))
    groups = stage_groups(planned)
    if as_json:
        print_json(
            {
                "run": planned.run,
                "run_id": planned.run_id,
                "recipe_id": planned.recipe_id,
                "photographs": planned.photographs,
                "bytes": planned.index.known_bytes,
                "refused": planned.index.refused,
                "ignored": planned.index.ignored,
                "models": [
                    {
                        "id": m.id,
                        "required": m.required,
                        "sha256": m.sha256,
                        "licence": m.licence,
                        "commercial_use": str(commercial_use(m.licence)),
                    }
                    for m in planned.models
                ],
                "pools": ["+".join(names) for names, _ in groups],
            }
        )
        return
    ignored = ", ".join(f"{count} {suffix}" for suffix, count in planned.index.ignored.items())
    say(f"Run       {planned.run}  ({'new' if planned.new else 'planned before'})")
    say(f"Recipe    {planned.recipe_id[:16]}  policy {planned.recipe.policy.name}")
    say(f"Source    {planned.photographs:,} photographs, {planned.index.known_bytes / 1e6:,.1f} MB")
    if planned.index.refused:
        say(f"Refused   {planned.index.refused:,} entries while listing (duplicates, unreadable folders)")
    if ignored:
        say(f"Left out  {ignored}")
    for use in planned.models:
        state = "ready" if use.sha256 else "not installed: its stage does without and records it"
        say(f"Model     {use.id}  {use.licence}  {state}")
    for names, heavy in groups:
        say(f"Pool      {' + '.join(names)}{'  (holds a model)' if heavy else ''}")
    say(f"\nNext:\n  {me()} run {job}")


@app.command()
def run(
    job: Job,
    retry: Annotated[bool, typer.Option("--retry", help="Also try again what failed, or could not be read.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start a job, or go on with it: only what is missing is done."""
    from jobs.spec import load_spec

    planned, summary = _run(load_spec(job), quiet=as_json, retry=retry)
    if as_json:
        from jobs.run import describe

        print_json(describe(summary))
    else:
        endpoint = planned.spec.output.endpoint
        _print_summary(summary, endpoint)
        option = "" if endpoint is None else f" --endpoint {endpoint}"
        say(f"\nNext:\n  {me()} query {planned.run}{option}\n  {me()} verify {planned.run}{option}")
    raise typer.Exit(summary.exit_code)


@app.command()
def submit(job: Job, address: Address, as_json: AsJson = False) -> None:
    """Send a job to a Ray cluster and return at once with its id."""
    from jobs.spec import load_spec
    from jobs.submit import submit as send

    spec = load_spec(job)
    job_id = send(spec, address)
    if as_json:
        print_json({"id": job_id, "run": spec.output.uri})
    else:
        say(f"Submitted {job_id}\nRun       {spec.output.uri}\n\nNext:")
        for verb in ("status", "logs -f", "stop"):
            say(f"  {me()} {verb} {job_id} --address {address}")


@app.command()
def status(job_id: JobId, address: Address, as_json: AsJson = False) -> None:
    """How a submitted job stands."""
    from jobs.query import STATUS, open_run
    from jobs.submit import status as ask_cluster

    job = ask_cluster(job_id, address)
    counts: list[dict[str, Any]] = []
    if job.run is not None:
        try:
            with open_run(job.run, job.endpoint) as records:
                counts = records.ask(STATUS).to_pylist()
        except JobError:
            # Not planned yet, or a folder that only the cluster can see.
            counts = []
    if as_json:
        print_json({"id": job.id, "state": job.state, "message": job.message, "run": job.run, "photographs": counts})
        return
    say(f"{job.id}  {job.state}" + (f"  {job.message}" if job.message else ""))
    if job.run:
        say(f"Run       {job.run}")
    for row in counts:
        say(f"{row['status']:<9} {row['photographs']:,}  {row['reason']}".rstrip())


@app.command()
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


@app.command()
def stop(job_id: JobId, address: Address, as_json: AsJson = False) -> None:
    """Stop a submitted job. Submitting it again goes on where it stopped."""
    from jobs.submit import stop as ask_to_stop

    job = ask_to_stop(job_id, address)
    if as_json:
        print_json({"id": job.id, "state": job.state})
    else:
        say(f"{job.id}  {job.state}")


def _run(spec: JobSpec, *, quiet: bool, retry: bool = False) -> tuple[Plan, Summary]:
    from jobs.progress import Progress
    from jobs.run import execute
    from jobs.rundir import prepare

    planned = prepare(spec)
    if not quiet:
        say(f"{planned.photographs:,} photographs from {spec.collection.source}", err=True)
    stages = ("ingest", *(stage.name for stage in planned.recipe.stages), "deliver")
    try:
        with _stopped_by_sigterm(), Progress(stages, quiet=quiet) as progress:
            return planned, execute(planned, progress.watch, retry=retry)
    except KeyboardInterrupt:
        say("\nStopped. Run the same command again to go on.", err=True)
        raise typer.Exit(130) from None


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """A cluster that stops a job asks this way; the lease is then released, and nobody has to wait for it to run out."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _write_sheet(run: str, path: Path) -> str | None:
    from jobs.sheet import contact_sheet

    data = contact_sheet(run)
    if data is None:
        return None
    path.write_bytes(data)
    return str(path)


def _print_summary(summary: Summary, endpoint: str | None = None) -> None:
    from jobs.progress import clock
    from jobs.query import STAGES, open_run
    from jobs.query import STATUS as BY_STATUS

    with open_run(summary.run, endpoint) as records:
        print_table("Photographs", records.ask(BY_STATUS))
        print_table("Stages", records.ask(STAGES))
    if summary.worked_on:
        say(f"{summary.worked_on} photographs worked on in {clock(summary.seconds)}.")
    else:
        say(f"Nothing was missing: the {summary.photographs:,} photographs listed when it was planned are done.")


def main() -> None:
    """Run the command line; a user's mistake ends in one message and a code, never in a traceback."""
    try:
        app()
    except JobError as error:
        typer.echo(f"albumen: {error}", err=True)
        sys.exit(2 if isinstance(error, SpecError) else 1)
