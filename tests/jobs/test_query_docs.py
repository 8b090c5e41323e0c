"""Every example of docs/query.md runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.query import QUESTIONS, open_run
from jobs.rundir import Plan
from pipeline import provenance
from pipeline.storage import Store

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "query.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if not kind for line in text.splitlines()]


def texts(kind: str) -> list[str]:
    return [text for found, text in BLOCKS if found == kind]


@pytest.mark.parametrize("sql", texts("sql"))
def test_sql(finished: Plan, sql: str) -> None:
    with open_run(finished.run) as records:
        assert records.ask(sql).num_rows


@pytest.mark.parametrize("code", texts("python"))
def test_python(finished: Plan, code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path(finished.run).rename(Path(finished.run).with_name("restored"))
    monkeypatch.chdir(Path(finished.run).parent)
    exec(compile(code, "docs/query.md", "exec"), {})  # noqa: S102 - the page's own words
    assert capsys.readouterr().out == "4\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(
    finished: Plan, albumen: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    item = provenance.live(Store(), finished.run, ["item_id"])["item_id"][2].as_py()
    Path(finished.run).rename(Path(finished.run).with_name("restored"))
    monkeypatch.chdir(Path(finished.run).parent)
    name, *words = shlex.split(command, comments=True)
    assert name == "albumen"
    code, _, err = albumen(*[item if word == "ITEM" else word for word in words])
    # The run was made by hand: what is derived from its originals is something else.
    assert code == (1 if "replay" in words else 0), err
    assert not err or "rows in" in err or "Look at" in err


def test_every_question_is_on_the_page() -> None:
    assert set(re.findall(r"^\| `--([a-z-]+)` \|", PAGE, re.MULTILINE)) == set(QUESTIONS)


def test_there_are_examples() -> None:
    assert len(texts("sql")) >= 3
    assert len(COMMANDS) >= 10
