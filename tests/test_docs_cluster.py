"""What the page on clusters says is what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from jobs.cli import app
from pipeline.metrics import METRICS, lines_of
from pipeline.record import Record

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
FILES = sorted(path for path in (ROOT / "cluster").rglob("*") if path.suffix in {".yaml", ".service", ".md"})


def commands() -> list[str]:
    """Every call of our own program in the page and in the comments of the files it names."""
    blocks = "\n".join(re.findall(r"```\n(.*?)```", PAGE, re.S))
    texts = [blocks, *(path.read_text(encoding="utf-8") for path in FILES)]
    found = [match for text in texts for match in re.findall(r"^#?\s*(?:\S+=\S+ )*albumen ([a-z].*)$", text, re.M)]
    return sorted({re.split(r"\s+#", line)[0].strip() for line in found})


def test_there_are_commands() -> None:
    assert {line.split()[0] for line in commands()} >= {"submit", "status", "logs", "list", "stop", "resume"}


@pytest.mark.parametrize("line", commands())
def test_every_command_is_one_that_the_program_takes(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsed as the program parses it, and not carried out."""
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265")
    name, *words = shlex.split(line)
    known: Any = typer.main.get_command(app)
    assert known.commands[name].make_context(name, words).params


def test_every_file_that_is_named_is_there_and_every_file_is_named() -> None:
    named = set(re.findall(r"cluster/[\w./@-]+\.(?:yaml|service|json|sh)|cluster/image/Containerfile", PAGE))
    assert all((ROOT / name).is_file() for name in named)
    there = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "cluster").rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and path.name != "entrypoint.sh"
    }
    assert there == named


def test_the_table_of_metrics_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| (ray_albumen_\w+) \| (\w+) \| ([\w, ]+) \| (.+) \|$", PAGE, re.M)
    assert rows == [(metric.exported, metric.kind, ", ".join(metric.tags), metric.says) for metric in METRICS]


def test_every_member_of_a_line_of_the_log_is_named() -> None:
    [line] = lines_of([Record(0, "0" * 32, "/scans/a.png")], "f" * 16)
    for name in re.findall(r'"(\w+)": ', line):
        assert f"`{name}`" in PAGE, name
