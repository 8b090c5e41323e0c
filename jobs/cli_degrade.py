"""`albumen degrade`: paired benchmark sets with known damage."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from jobs.console import AsJson, print_json, say


def degrade(
    source: Annotated[str, typer.Argument(help="Folder of clean photographs.", metavar="CLEAN_FOLDER")],
    output: Annotated[Path, typer.Option(help="Folder of the set; must be empty or not there.")],
    shapes: Annotated[
        Path | None, typer.Option(help="Folder of real shapes of damage; without, all are drawn.")
    ] = None,
    part: Annotated[int, typer.Option(min=0, help="Which part of the shapes, from 0: to keep some for tests.")] = 0,
    parts: Annotated[int, typer.Option(min=1, help="How many disjoint parts the shapes are in.")] = 1,
    count: Annotated[int, typer.Option(min=1, max=1000, help="Pairs of each photograph.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other damage.")] = 0,
    preset: Annotated[
        str, typer.Option(help="How much of what: print, heavy, light, damage-only, ageing-only.")
    ] = "print",
    as_json: AsJson = False,
) -> None:
    """Age and damage clean photographs, and keep the truth: pairs to measure restoration with."""
    from rich.console import Console
    from rich.progress import Progress

    from jobs.degrade import Order, make_set

    order = Order(source, output, preset, seed, count, shapes, part, parts)
    with Progress(console=Console(stderr=True, quiet=as_json), transient=True) as bars:
        task = bars.add_task("photographs", total=None)
        made = make_set(order, lambda done, total: bars.update(task, completed=done, total=total))
    if as_json:
        print_json({"output": str(output), **asdict(made)})
    else:
        for line in made.refused:
            say(f"{line['reason']:<18} {line['source']}: {line['detail']}")
        ignored = ", ".join(f"{count} {suffix}" for suffix, count in made.ignored.items())
        say(f"Pairs     {made.pairs:,} of {made.photographs:,} photographs")
        if made.refused:
            say(f"Refused   {len(made.refused):,} files")
        if ignored:
            say(f"Left out  {ignored}")
        say(f"\nLook at   {output / 'damaged'}\nTruth     {output / 'kinds'}, {output / 'pairs.jsonl'}")
    raise typer.Exit(3 if made.refused else 0)
