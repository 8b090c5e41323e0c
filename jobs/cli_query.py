"""`albumen query`: the provenance of runs, by question."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.choices import Form
from jobs.console import AsJson, Endpoint, me, print_json, print_table, say
from pipeline.errors import JobError, SpecError

if TYPE_CHECKING:
    import pyarrow as pa

    from jobs.query import Question

Words = Annotated[
    list[str],
    typer.Argument(
        help="Runs, or folders and prefixes below which runs lie; last, if you like, SQL over photographs, events, faces, "
        "damage, honesty, manifest, runs.",
        metavar="RUN... [SQL]",
    ),
]


def _flag(text: str) -> Any:
    return typer.Option(help=text)


def query(
    words: Words,
    failed: Annotated[bool, _flag("Photographs that were not restored, and why.")] = False,
    by_model: Annotated[bool, _flag("What each model did.")] = False,
    slowest: Annotated[bool, _flag("Photographs that took longest.")] = False,
    low_identity: Annotated[bool, _flag("Restored faces least like the scan's.")] = False,
    changed_most: Annotated[bool, _flag("Photographs that were changed most.")] = False,
    riskiest: Annotated[bool, _flag("Photographs that a person should look at first.")] = False,
    licences: Annotated[bool, _flag("Every model's licence, and what it touched.")] = False,
    cost: Annotated[bool, _flag("Hours of work by stage and device.")] = False,
    damage: Annotated[bool, _flag("Damage by kind, found and repaired.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Rows of a ready-made list.")] = 50,
    show_sql: Annotated[bool, typer.Option("--show-sql", help="Print the question's SQL and ask nothing.")] = False,
    form: Annotated[Form, typer.Option("--as", help="How the answer is printed or written.")] = Form.TABLE,
    output: Annotated[Path | None, typer.Option(help="Write the answer to a file.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Photographs of the answer before and after: a .jpg or .png.")
    ] = None,
    histogram: Annotated[str | None, typer.Option(help="Show a numeric column of the answer as bars.")] = None,
    as_json: AsJson = False,
    endpoint: Endpoint = None,
) -> None:
    """Ask the provenance of runs, in SQL or by a question's name; a summary without either."""
    from jobs.query import QUESTIONS, open_runs
    from jobs.query.show import encoded
    from jobs.query.show import histogram as bars
    from jobs.query.show import sheet as pictures

    form = Form.JSON if as_json else form
    asked = {
        "failed": failed,
        "by-model": by_model,
        "slowest": slowest,
        "low-identity": low_identity,
        "changed-most": changed_most,
        "riskiest": riskiest,
        "licences": licences,
        "cost": cost,
        "damage": damage,
    }
    names = [name for name, wanted in asked.items() if wanted]
    places, sql = _parted(words)
    if len(names) + (sql is not None) > 1:
        raise SpecError("query: one question at a time: SQL, or the name of one")
    if names:
        sql = QUESTIONS[names[0]].text(limit)
    _check(sql, form, output, sheet, histogram, show_sql=show_sql)
    if show_sql:
        say(str(sql))
        return
    with open_runs(places, endpoint) as records:
        if sql is None:
            _summary(records, words, as_json=form is Form.JSON)
            return
        answer = records.ask(sql)
        drawn = None if sheet is None else pictures(records, answer, str(sheet), endpoint)
    lines = None if histogram is None else bars(answer, histogram)
    if output is not None:
        form = _form_of(output) if form is Form.TABLE else form
        _write(output, encoded(answer, form))
        say(f"{answer.num_rows:,} rows in {output}", err=True)
    if sheet is not None and drawn is not None:
        _write(sheet, drawn)
        say(f"Look at {sheet}", err=True)
    if lines is not None:
        say("\n".join(lines))
    if output is None and sheet is None and lines is None:
        if form is not Form.TABLE:
            sys.stdout.write(encoded(answer, form).decode())
        else:
            _show(answer, QUESTIONS[names[0]] if names else None, len(records.runs))


def _parted(words: list[str]) -> tuple[list[str], str | None]:
    """Runs, and the SQL behind them. A last word with a blank in it is SQL, unless there is a place of that name."""
    *before, last = words
    is_place = "://" in last.split()[0] if last.split() else False
    if any(sign.isspace() for sign in last) and not is_place and not os.path.exists(last):
        if not before:
            raise SpecError("query: name the run to ask, and then the question")
        return before, last
    return words, None


def _check(
    sql: str | None, form: Form, output: Path | None, sheet: Path | None, histogram: str | None, *, show_sql: bool
) -> None:
    faults = []
    if sql is None:
        faults = [
            f"query: {name} needs a question: SQL, or the name of one"
            for name, given in (
                ("--show-sql", show_sql),
                ("--output", output is not None),
                ("--sheet", sheet is not None),
                ("--histogram", histogram is not None),
                (f"--as {form}", form in (Form.CSV, Form.PARQUET)),
            )
            if given
        ]
    elif form is Form.PARQUET and output is None and not show_sql:
        faults = ["query: Parquet is not printed; name a file with --output"]
    if faults:
        raise SpecError(faults)


def _form_of(output: Path) -> Form:
    suffix = output.suffix.lower().removeprefix(".")
    if suffix not in (Form.CSV, Form.JSON, Form.PARQUET):
        raise SpecError(f"query: what should {output} be? Choose with --as csv, json or parquet")
    return Form(suffix)


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise JobError(f"{path} cannot be written: {error.strerror}") from error


def _show(answer: pa.Table, question: Question | None, runs: int) -> None:
    if not answer.num_rows:
        say("No row answers that." if answer.num_columns else "That was no question.")
    elif question is None:
        print_table(None, answer)
    else:
        # Of one run, the run is the same in every row.
        shown = [name for name in answer.column_names if runs > 1 or name != "run"]
        print_table(None, answer.select(shown), question.headings(shown))


def _summary(records: Any, words: list[str], *, as_json: bool) -> None:
    from jobs.query import MODELS, STAGES, STATUS

    answers = {"photographs": records.ask(STATUS), "stages": records.ask(STAGES), "models": records.ask(MODELS)}
    if as_json:
        print_json({name: table.to_pylist() for name, table in answers.items()})
        return
    if len(records.runs) > 1:
        say(f"{len(records.runs):,} runs\n")
    for name, table in answers.items():
        print_table(name.capitalize(), table)
    example = "SELECT source_uri, reason, detail FROM photographs WHERE status <> 'restored'"
    say(f'Ask more:  {me()} query {" ".join(words)} "{example}"')
