"""`albumen models`: the catalogue, downloads, and digests."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from jobs.console import AsJson, print_json, say
from pipeline.errors import JobError
from pipeline.models.catalogue import CARDS
from pipeline.models.licences import commercial_use
from pipeline.models.store import ModelSource, ModelStore, default_cache

models_app = typer.Typer(no_args_is_help=True, help="List, fetch and check models.")


@models_app.command("list")
def models_list(as_json: AsJson = False) -> None:
    """The catalogue, and what is installed."""
    store = ModelStore()
    if as_json:
        rows = [
            {name: getattr(card, name) for name in ("id", "task", "file", "bytes", "sha256", "url", "licence", "scale")}
            | {"commercial_use": str(commercial_use(card.licence)), "installed": store.installed(card.id)}
            for card in CARDS
        ]
        print_json(rows)
        return
    table = Table(box=None)
    for column in ("model", "task", "MB", "licence", "commercial use", "installed"):
        table.add_column(column, justify="right" if column == "MB" else "left", overflow="fold")
    for card in CARDS:
        here = "in a package" if card.embedded else "yes"
        table.add_row(
            card.id,
            card.task,
            f"{(card.bytes or 0) / 1e6:.1f}",
            card.licence,
            str(commercial_use(card.licence)),
            here if store.installed(card.id) else "",
        )
    Console().print(table)
    say(f"\nCache: {default_cache()}")


@models_app.command("fetch")
def models_fetch(
    ids: Annotated[list[str], typer.Argument(help="Models of the catalogue.", metavar="ID...")],
    mirror: Annotated[str | None, typer.Option(help="Folder or URI to fetch from instead of the publisher.")] = None,
    as_json: AsJson = False,
) -> None:
    """Download models into the cache; goes on where an earlier try stopped."""
    from rich.progress import Progress

    store = ModelStore(ModelSource(str(default_cache()), mirror))
    cards = [store.card(model_id) for model_id in ids]
    with Progress(console=Console(stderr=True, quiet=as_json)) as bars:
        for card in cards:
            task = bars.add_task(card.id, total=card.bytes)
            store.ensure(card.id, public=True, progress=partial(_advance, bars, task))
    if as_json:
        print_json({card.id: str(store.path(card.id)) for card in cards})
        return
    for card in cards:
        say(f"{card.id}  {store.path(card.id)}")


def _advance(bars: Any, task: Any, done: int, _total: int) -> None:
    bars.update(task, completed=done)


@models_app.command("check")
def models_check(as_json: AsJson = False) -> None:
    """Hash every installed model."""
    store = ModelStore()
    faults: dict[str, str] = {}
    installed = [card for card in CARDS if store.installed(card.id)]
    for card in installed:
        try:
            store.verify(card.id)
        except JobError as error:
            faults[card.id] = error.faults[0]
    if as_json:
        print_json({"checked": [card.id for card in installed], "faults": faults})
    else:
        for card in installed:
            say(f"{card.id:<28} {faults.get(card.id, 'right')}")
    raise typer.Exit(1 if faults else 0)
