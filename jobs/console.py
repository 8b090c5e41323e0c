"""What commands print: sentences, tables, JSON."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pyarrow as pa

Job = Annotated[Path, typer.Argument(help="Job spec, a TOML file.", metavar="JOB.toml")]
Run = Annotated[str, typer.Argument(help="A run's folder or s3:// prefix.", metavar="RUN")]
Endpoint = Annotated[str | None, typer.Option(help="S3 service, where AWS_ENDPOINT_URL does not name it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, for machines.")]


def me() -> str:
    """How to call this program again from this shell: by its name where the shell finds it, else as it was called."""
    called = sys.argv[0]
    return called if Path(called).name == "albumen" and shutil.which("albumen") is None else "albumen"


def print_table(title: str | None, table: pa.Table) -> None:
    shown = Table(title=title, title_justify="left", title_style="bold", box=None)
    for name in table.column_names:
        shown.add_column(Text(name), overflow="fold")
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        shown.add_row(*(Text("" if value is None else str(value)) for value in row))
    Console().print(shown)
    say("")


def print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def say(text: str, *, err: bool = False) -> None:
    typer.echo(text, err=err)
