"""The command line. Heavy imports wait until a command needs them.

Exit codes: 0 every photograph restored (or no fault found), 1 the run cannot go on (or faults were found), 2 wrong usage or
a wrong job spec, 3 finished with refused or failed photographs, 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli_cluster import list_jobs, logs, resume, status, stop, submit
from jobs.cli_degrade import degrade
from jobs.cli_models import models_app
from jobs.cli_package import package
from jobs.cli_plan import calibrate, plan
from jobs.cli_query import query
from jobs.cli_trust import replay, verify
from jobs.cli_upkeep import gc, update
from jobs.console import AsJson, Job, me, print_json, print_table, say
from jobs.ending import STOPPED
from pipeline.errors import JobError, SpecError

if TYPE_CHECKING:
    from jobs.ending import Ending
    from jobs.forecast import Foreseen
    from jobs.run import Summary
    from jobs.rundir import Plan
    from jobs.spec import JobSpec
    from pipeline.tally import Counts

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(models_app, name="models")
app.command()(plan)
app.command()(calibrate)
app.command()(query)
app.command()(verify)
app.command()(replay)
app.command()(package)
app.command()(update)
app.command()(gc)
app.command()(degrade)
app.command()(submit)
app.command()(status)
app.command()(logs)
app.command()(stop)
app.command("list")(list_jobs)
app.command()(resume)


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


def _run(spec: JobSpec, *, quiet: bool, retry: bool = False) -> tuple[Plan, Summary]:
    from jobs.ending import ending
    from jobs.preflight import on_cluster

    with ending() as end:
        try:
            with on_cluster(spec, lambda text: say(text, err=True)):
                return _worked(spec, end, quiet=quiet, retry=retry)
        except KeyboardInterrupt:
            pass
        except JobError as error:
            if not end.asked or error.faults != (STOPPED,):
                raise
    say("\nStopped. Run the same command again to go on.", err=True)
    raise typer.Exit(130)


def _worked(spec: JobSpec, end: Ending, *, quiet: bool, retry: bool) -> tuple[Plan, Summary]:
    from jobs.forecast import said
    from jobs.graph import said as pools_said
    from jobs.progress import Progress
    from jobs.run import execute
    from jobs.rundir import prepare

    planned = prepare(spec)
    if not quiet:
        say(f"{planned.photographs:,} photographs from {spec.collection.source}", err=True)

    def announce(foreseen: Foreseen) -> None:
        if not quiet:
            for line in (
                *pools_said(foreseen.layout),
                *(said(foreseen.forecast) if foreseen.forecast is not None else ()),
            ):
                say(line, err=True)

    stages = ("ingest", *(stage.name for stage in planned.recipe.stages), "deliver")
    with Progress(stages, quiet=quiet) as progress:

        def watch(counts: Counts, total: int) -> tuple[str, ...]:
            progress.watch(counts, total)
            return end.faults

        return planned, execute(planned, watch, retry=retry, announce=announce)


def _write_sheet(run: str, path: Path) -> str | None:
    from jobs.sheet import contact_sheet

    data = contact_sheet(run)
    if data is None:
        return None
    path.write_bytes(data)
    return str(path)


def _print_summary(summary: Summary, endpoint: str | None = None) -> None:
    from jobs.forecast import compared
    from jobs.progress import clock
    from jobs.query import STAGES, open_run
    from jobs.query import STATUS as BY_STATUS

    with open_run(summary.run, endpoint) as records:
        print_table("Photographs", records.ask(BY_STATUS))
        print_table("Stages", records.ask(STAGES))
    if summary.worked_on:
        say(f"{summary.worked_on} photographs worked on in {clock(summary.seconds)}.")
        if summary.foreseen is not None:
            say(compared(summary.foreseen, summary.seconds))
    else:
        say(f"Nothing was missing: the {summary.photographs:,} photographs listed when it was planned are done.")


def main() -> None:
    """Run the command line; a user's mistake ends in one message and a code, never in a traceback."""
    try:
        app()
    except JobError as error:
        typer.echo(f"albumen: {error}", err=True)
        sys.exit(2 if isinstance(error, SpecError) else 1)
