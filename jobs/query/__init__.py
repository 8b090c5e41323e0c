"""Questions to the provenance of one run or many, in SQL (docs/query.md).

from jobs.query import ask, open_run, open_runs

with open_runs(["s3://archive/restored"]) as records:
    table = records.ask("SELECT run, count(*) AS n FROM photographs GROUP BY run")   # a pyarrow.Table
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from jobs.query.questions import MODELS, QUESTIONS, STAGES, STATUS, Question
from jobs.query.records import Records

__all__ = ["MODELS", "QUESTIONS", "STAGES", "STATUS", "Question", "Records", "ask", "open_run", "open_runs"]


def open_run(run: str, endpoint: str | None = None) -> Records:
    """One run, or those below a folder. Raises JobError where `run` is none and holds none."""
    return Records([run], endpoint)


def open_runs(places: Sequence[str], endpoint: str | None = None) -> Records:
    """Runs, and folders or prefixes below which runs lie. endpoint: S3 service, where AWS_ENDPOINT_URL does not name it.

    Raises JobError with every place that holds no run.
    """
    return Records(places, endpoint)


def ask(records: Records, sql: str) -> pa.Table:
    """The answer as a table. Raises SpecError with DuckDB's own words for a question it cannot answer."""
    return records.ask(sql)
