"""`albumen verify` and `albumen replay`: is what lies in a run what its record says, and does the same come out again?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.choices import Depth
from jobs.console import AsJson, Endpoint, Run, say
from pipeline.errors import SpecError

Items = Annotated[list[str], typer.Argument(help="Item ids, beginnings of them, or source URIs.", metavar="ITEM...")]


def verify(
    run: Run,
    quick: Annotated[bool, typer.Option("--quick", help="Open no image: files are there and have their size.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Hash the originals as well, and everything in the run that has a digest.")
    ] = False,
    sources: Annotated[bool, typer.Option("--sources", help="Hash the originals again as well.")] = False,
    as_json: AsJson = False,
    endpoint: Endpoint = None,
) -> None:
    """Hash every output again and hold manifest, provenance and files against each other."""
    from jobs.verify import as_json as report_json
    from jobs.verify import as_text
    from jobs.verify import verify as check

    if quick and (full or sources):
        raise SpecError("verify: --quick opens no file, so that it goes with neither --full nor --sources")
    depth = Depth.QUICK if quick else Depth.FULL if full else Depth.USUAL
    report = check(run, endpoint, sources=sources, depth=depth)
    say(report_json(report) if as_json else "\n".join(as_text(report, depth)))
    raise typer.Exit(1 if report.faults else 0)


def replay(
    run: Run,
    items: Items,
    output: Annotated[Path | None, typer.Option(help="Keep what is derived in this folder.")] = None,
    as_json: AsJson = False,
    endpoint: Endpoint = None,
) -> None:
    """Derive photographs again from their records, and prove that they are equal or say what differs. Writes nothing."""
    from jobs.replay import as_json as report_json
    from jobs.replay import replay as derive

    done = []
    for one in derive(run, items, endpoint, output=output):
        done.append(one)
        if as_json:
            continue
        words = f"{one.events} events and the bytes are the same" if one.equal else "it is not the same"
        say(f"{'equal' if one.equal else 'differs':<8} {one.item_id} {one.source_uri}: {words}")
        for difference in (*one.causes, *one.results):
            say(f"         {difference}")
        if one.kept is not None:
            say(f"         kept as {one.kept}")
    if as_json:
        say(report_json(done))
    raise typer.Exit(0 if all(one.equal for one in done) else 1)
