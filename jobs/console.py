"""What commands print: sentences, tables, JSON."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.table import lines_of

if TYPE_CHECKING:
    import pyarrow as pa

Job = Annotated[Path, typer.Argument(help="Job spec, a TOML file.", metavar="JOB.toml")]
Run = Annotated[str, typer.Argument(help="A run's folder or s3:// prefix.", metavar="RUN")]
Endpoint = Annotated[str | None, typer.Option(help="S3 service, where AWS_ENDPOINT_URL does not name it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, for machines.")]

_WIDTH = 100
# Columns that are not shown and are named nevertheless.
_NAMED = 6


def me() -> str:
    """How to call this program again from this shell: by its name where the shell finds it, else as it was called."""
    called = sys.argv[0]
    return called if Path(called).name == "albumen" and shutil.which("albumen") is None else "albumen"


def print_table(title: str | None, table: pa.Table, headings: Mapping[str, str] | None = None) -> None:
    """No wider than the terminal, or than 100 columns where there is none. headings: as `lines_of` takes them."""
    lines, left_out = lines_of(table, shutil.get_terminal_size((_WIDTH, 24)).columns, headings)
    left_out = [name for name in table.column_names if headings is not None and name not in headings] + left_out
    say("\n".join((*([] if title is None else [typer.style(title, bold=True)]), *lines, "")))
    if left_out:
        more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        say(f"Not shown: {', '.join(left_out[:_NAMED])}{more}. --json has every column whole.\n")


def print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def say(text: str, *, err: bool = False) -> None:
    typer.echo(text, err=err)
