"""`albumen query` on the command line: questions by name, forms of answers, and one clear message for each mistake."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import cli_query
from jobs.query import QUESTIONS, open_run
from jobs.rundir import Plan

Call = Callable[..., tuple[int, str, str]]
NAMED = sorted(QUESTIONS)


@pytest.mark.parametrize("name", NAMED)
def test_a_question_by_name_is_the_sql_that_it_shows(albumen: Call, finished: Plan, name: str) -> None:
    code, sql, err = albumen("query", finished.run, f"--{name}", "--show-sql", "--limit", "3")
    assert (code, err) == (0, "")
    code, out, err = albumen("query", finished.run, f"--{name}", "--limit", "3", "--as", "json")
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(albumen("query", finished.run, sql, "--json")[1])
    assert json.loads(out)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("runs", [1, 2])
def test_the_table_of_every_question_fits_a_terminal(
    albumen: Call, finished: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, runs: int
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    places = [finished.run, str(shutil.copytree(finished.run, tmp_path / "another"))][:runs]
    code, out, _ = albumen("query", *places, f"--{name}")
    with open_run(finished.run) as records:
        answer = records.ask(QUESTIONS[name].text(50))
    lines, _, note = out.rstrip("\n").partition("\n\n")
    assert code == 0
    assert max(map(len, lines.splitlines())) <= 100
    assert len(lines.splitlines()) == 1 + answer.num_rows * (1 if "run" not in answer.column_names else runs)
    question = QUESTIONS[name]
    headings = question.headings([c for c in answer.column_names if runs > 1 or c != "run"])
    assert " ".join(lines.splitlines()[0].split()) == " ".join(headings.values())
    left_out = [column for column in answer.column_names if column in question.hidden]
    assert note == (f"Not shown: {', '.join(left_out)}. --json has every column whole." if left_out else "")


def test_a_question_hides_and_shortens_columns_that_it_has() -> None:
    for question in QUESTIONS.values():
        assert all(f"AS {name}" in question.sql or f"{name}," in question.sql for name in question.hidden)
        assert all(f"AS {name}" in question.sql or name in question.sql for name in question.short)
        assert all(len(short) < len(name) for name, short in question.short.items())


def test_every_question_has_an_option() -> None:
    options = set(cli_query.query.__annotations__)
    assert {name.replace("-", "_") for name in QUESTIONS} <= options


def test_the_answer_as_csv(albumen: Call, finished: Plan) -> None:
    sql = "SELECT item_no, detail, models FROM events JOIN photographs USING (run, item_no) WHERE stage = 'repair'"
    code, out, _ = albumen("query", finished.run, f"{sql} ORDER BY 1", "--as", "csv")
    rows = list(csv.reader(io.StringIO(out)))
    assert (code, rows[0], len(rows)) == (0, ["item_no", "detail", "models"], 3)
    assert rows[1][:2] == ["0", ""]
    assert json.loads(rows[1][2])[0]["id"] == "gfpgan-v1.4"


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_the_answer_in_a_file(albumen: Call, finished: Plan, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"answer.{suffix}"
    code, out, err = albumen("query", finished.run, "--failed", "--output", target)
    assert (code, out, err) == (0, "", f"2 rows in {target}\n")
    with open_run(finished.run) as records:
        expected = records.ask(QUESTIONS["failed"].text(50))
    if suffix == "parquet":
        assert pq.read_table(target).equals(expected)
    elif suffix == "json":
        assert json.loads(target.read_text()) == expected.to_pylist()
    else:
        assert [row["item_id"] for row in csv.DictReader(target.open())] == expected["item_id"].to_pylist()


def test_pictures_of_the_answer(albumen: Call, finished: Plan, tmp_path: Path) -> None:
    for name, form in (("sheet.jpg", "JPEG"), ("sheet.png", "PNG")):
        code, _, err = albumen("query", finished.run, "--changed-most", "--sheet", tmp_path / name)
        assert (code, err) == (0, f"Look at {tmp_path / name}\n")
        with Image.open(tmp_path / name) as picture:
            assert picture.format == form
            assert picture.width > 600
    sql = "SELECT output_uri FROM photographs WHERE item_no = 1"
    assert albumen("query", finished.run, sql, "--sheet", tmp_path / "one.png")[0] == 0


def test_pictures_of_a_run_that_was_moved(albumen: Call, finished: Plan, tmp_path: Path) -> None:
    Path(finished.run).rename(tmp_path / "moved")
    assert albumen("query", tmp_path / "moved", "--changed-most", "--sheet", tmp_path / "s.png")[0] == 0


def test_bars_of_a_column(albumen: Call, finished: Plan) -> None:
    code, out, _ = albumen("query", finished.run, "SELECT seconds FROM events", "--histogram", "seconds")
    lines = out.splitlines()
    assert (code, len(lines)) == (0, 21)
    assert lines[0] == "seconds: 10 values, mean 0.5, median 0.5"
    assert sum(int(line.split("..")[1].split()[1]) for line in lines[1:]) == 10
    code, out, _ = albumen("query", finished.run, "SELECT 1.5 AS x WHERE false", "--histogram", "x")
    assert (code, out) == (0, "x: no value\n")


def test_an_empty_answer_says_so(albumen: Call, finished: Plan) -> None:
    assert albumen("query", finished.run, "SELECT 1 AS x WHERE false") == (0, "No row answers that.\n", "")
    code, out, _ = albumen("query", finished.run, "SELECT 1 AS x WHERE false", "--json")
    assert (code, json.loads(out)) == (0, [])
    assert albumen("query", finished.run, "SELECT 1 AS x WHERE false", "--as", "csv")[1] == "x\n"


def test_many_runs(albumen: Call, finished: Plan, tmp_path: Path) -> None:
    other = shutil.copytree(finished.run, tmp_path / "archive" / "other")
    sql = "SELECT run, count(*) AS n FROM photographs GROUP BY run ORDER BY run"
    code, out, _ = albumen("query", finished.run, tmp_path / "archive", sql, "--json")
    assert (code, json.loads(out)) == (0, [{"run": str(place), "n": 4} for place in sorted([str(other), finished.run])])
    code, out, _ = albumen("query", finished.run, tmp_path / "archive")
    assert (code, out.splitlines()[0]) == (0, "2 runs")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--failed", "--cost"), "one question at a time"),
        (("--failed", "SELECT 1 AS x"), "one question at a time"),
        (("--output", "x.csv"), "--output needs a question"),
        (("--as", "csv"), "--as csv needs a question"),
        (("--show-sql",), "--show-sql needs a question"),
        (("--failed", "--as", "parquet"), "Parquet is not printed"),
        (("--failed", "--output", "answer.txt"), "what should answer.txt be?"),
        (("--failed", "--sheet", "answer.gif"), "neither"),
        (("--cost", "--sheet", "answer.png"), "neither item_id nor output_uri"),
        (("SELECT 1 AS x", "--histogram", "y"), "the answer has no column 'y'; it has x"),
        (("SELECT 'a' AS x", "--histogram", "x"), "a histogram needs numbers"),
        (("SELECT 1 AS x, 2 AS x", "--json"), "two columns of the answer are called 'x'"),
        (("SELECT unheard FROM photographs",), 'Referenced column "unheard" not found'),
        (("SELECT * FROM photos",), "photos does not exist"),
        (("SELEKT * FROM photographs",), "syntax error"),
    ],
)
def test_a_mistake_is_one_message_and_code_2(
    albumen: Call,
    finished: Plan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = albumen("query", finished.run, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("albumen: query: ")


def test_a_question_without_a_run(albumen: Call) -> None:
    code, _, err = albumen("query", "SELECT * FROM photographs")
    assert (code, err) == (2, "albumen: query: name the run to ask, and then the question\n")


def test_a_file_that_cannot_be_written(albumen: Call, finished: Plan, tmp_path: Path) -> None:
    code, _, err = albumen("query", finished.run, "--failed", "--output", tmp_path / "no" / "x.csv")
    assert (code, "cannot be written" in err) == (1, True)
