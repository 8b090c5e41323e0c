"""Commands before a run: what will be done and what it should take, and the measuring that says so."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.console import AsJson, Job, me, print_json, say
from pipeline.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs.calibration import Calibration
    from jobs.estimate import Forecast
    from jobs.forecast import Foreseen
    from jobs.rundir import Plan

Connect = Annotated[bool, typer.Option("--connect", help="Ask the job's cluster what it has, for pools and times.")]
Photographs = Annotated[
    int, typer.Option("--photographs", "-n", min=1, help="How many, spread over all sizes of files.")
]


def plan(job: Job, connect: Connect = False, as_json: AsJson = False) -> None:
    """Freeze the manifest and print counts, bytes, models, pools, and what the run should take. Reads no photograph."""
    from jobs.rundir import prepare
    from jobs.spec import load_spec

    planned = prepare(load_spec(job))
    foreseen, estimate = _look_ahead(planned, connect=connect)
    if as_json:
        print_json(_facts(planned, foreseen, estimate))
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
    _say_pools(planned, foreseen)
    _say_forecast(planned, estimate)
    say(f"\nNext:\n  {me()} run {job}")


def _look_ahead(planned: Plan, *, connect: bool) -> tuple[Foreseen | None, Forecast | None]:
    """On the cluster that was asked, or this machine where the job runs here; else without pools and without a time."""
    from cluster.connect import Resources
    from cluster.nodes import this_machine
    from jobs.forecast import calibration_of, estimated, foresee
    from pipeline.storage import Store

    store, cluster = Store(planned.spec.output_options), planned.spec.cluster
    if connect:
        with _connected(cluster.address, cluster.cpus) as resources:
            foreseen = foresee(planned, store, resources)
        return foreseen, foreseen.forecast
    if cluster.address is None:
        foreseen = foresee(planned, store, Resources(this_machine(cluster.cpus)))
        return foreseen, foreseen.forecast
    calibration = calibration_of(planned, store)
    return None, None if calibration is None else estimated(planned, store, calibration, None)


@contextmanager
def _connected(address: str | None, cpus: int | None) -> Iterator[Any]:
    from cluster import connect

    try:
        with connect.connect(address, cpus) as resources:
            yield resources
    except connect.ConnectError as error:
        raise JobError(str(error)) from error


def _say_pools(planned: Plan, foreseen: Foreseen | None) -> None:
    from jobs.graph import said, stage_groups

    if foreseen is not None:
        for line in said(foreseen.layout):
            say(line)
        return
    for names, heavy in stage_groups(planned):
        say(f"Pool      {'+'.join(names)}{'  (holds a model)' if heavy else ''}")
    say(f"Cluster   {planned.spec.cluster.address}; --connect asks it for the sizes of pools")


def _say_forecast(planned: Plan, estimate: Forecast | None) -> None:
    from jobs.forecast import said

    if estimate is None:
        say("Foreseen  nothing: the recipe was not calibrated for this run (albumen calibrate JOB.toml)")
        return
    for line in said(estimate):
        say(line)


def _facts(planned: Plan, foreseen: Foreseen | None, estimate: Forecast | None) -> dict[str, Any]:
    from jobs.estimate import describe
    from jobs.graph import stage_groups
    from pipeline.models.licences import commercial_use

    return {
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
        "pools": ["+".join(names) for names, _ in stage_groups(planned)],
        "layout": None if foreseen is None else asdict(foreseen.layout),
        "foreseen": None if estimate is None else describe(estimate),
    }


def calibrate(
    job: Job,
    photographs: Photographs = 12,
    origin: Annotated[
        str | None,
        typer.Option("--from", help="Take it from this run of the same recipe and measure nothing.", metavar="RUN"),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads that networks have, or had in that run; else as many as pools here get."),
    ] = None,
    output: Annotated[str | None, typer.Option(help="Where it is written; else where runs of the job look.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure on a slice of the collection, here and without Ray, what each stage takes. Pools and `plan` then go by that."""
    from jobs.calibration import save
    from jobs.forecast import place
    from jobs.rundir import prepare
    from jobs.spec import load_spec
    from pipeline.storage import Store, canonical

    planned = prepare(load_spec(job))
    found = _measured(planned, photographs, origin, threads, quiet=as_json)
    uri = place(planned) if output is None else canonical(output)
    try:
        save(Store(planned.spec.output_options), uri, found)
    except OSError as error:
        raise JobError(f"{uri} cannot be written: {error}") from error
    if as_json:
        print_json(_stages(found) | {"written": uri, "photographs": len(found.samples), "device": found.device})
        return
    say(f"\n{'stage':<10} seconds a megapixel (nine of ten between)")
    for name, values in _stages(found)["stages"].items():
        say(f"{name:<10} {values['median']:.3g}  ({values['low']:.3g} to {values['high']:.3g})")
    say(f"\nWritten   {uri}\n\nNext:\n  {me()} plan {job}")


def _measured(planned: Plan, photographs: int, origin: str | None, threads: int | None, *, quiet: bool) -> Calibration:
    from cluster.connect import Resources
    from cluster.nodes import this_machine
    from jobs.calibrate import default_device, measure_run, measure_slice
    from jobs.graph import lay_out
    from pipeline.stage import Device
    from pipeline.storage import Store

    if threads is None:
        layout = lay_out(planned, Resources(this_machine(planned.spec.cluster.cpus)))
        threads = max(pool.threads for pool in layout.pools)
    if origin is not None:
        return measure_run(origin, planned.recipe_id, Store(planned.spec.output_options), threads)

    def tell(text: str) -> None:
        if not quiet:
            say(text, err=True)

    return measure_slice(planned, photographs, Device(default_device(), threads), tell)


def _stages(found: Calibration) -> dict[str, Any]:
    names = dict.fromkeys(name for sample in found.samples for name in sample.seconds)
    spreads = {name: spread for name in names if (spread := found.seconds_per_megapixel(name)) is not None}
    output = found.output_per_megapixel()
    return {
        "stages": {name: asdict(spread) for name, spread in spreads.items()},
        "output_bytes_per_megapixel": None if output is None else asdict(output),
    }
