"""Questions to a run's provenance, in SQL. Reads Parquet through Arrow, so that nothing is downloaded for it."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from jobs import manifest, rundir
from pipeline import provenance
from pipeline.errors import SpecError
from pipeline.record import MANIFEST
from pipeline.storage import Store, StoreOptions, canonical

VIEWS = {
    "events": """
        SELECT item_no, item_id, event_no, event.* FROM (
            SELECT item_no, item_id, unnest(events) AS event, generate_subscripts(events, 1) AS event_no FROM photographs)""",
    # Masks are pictures: who wants them asks `photographs`.
    "faces": """
        SELECT * EXCLUDE mask FROM (
            SELECT item_no, item_id, face_no, face.* FROM (
                SELECT item_no, item_id, unnest(faces) AS face, generate_subscripts(faces, 1) AS face_no FROM photographs))""",
    # Whichever stage looked, and whichever repaired.
    "damage": """
        SELECT item_no, item_id, kind, fraction, confidence, coalesce(repaired, 0) AS repaired, left_because FROM (
            SELECT item_no, item_id, kind,
                   max(CAST(json_extract_string(findings, '$.damage.' || kind || '.fraction') AS DOUBLE)) AS fraction,
                   max(CAST(json_extract_string(findings, '$.damage.' || kind || '.confidence') AS DOUBLE)) AS confidence,
                   max(CAST(json_extract_string(findings, '$.repaired.' || kind) AS DOUBLE)) AS repaired,
                   max(json_extract_string(findings, '$.left.' || kind || '.reason')) AS left_because
            FROM events, (VALUES ('line'), ('spot'), ('stain'), ('missing')) AS kinds(kind) GROUP BY ALL)
        WHERE fraction > 0""",
}

STATUS = """
    SELECT status, coalesce(reason, '') AS reason, count(*) AS photographs FROM photographs GROUP BY ALL ORDER BY 1, 2"""
STAGES = """
    SELECT stage, count(*) FILTER (outcome = 'applied') AS applied, count(*) FILTER (outcome = 'skipped') AS skipped,
           count(*) FILTER (outcome IN ('refused', 'failed')) AS ended, round(sum(seconds), 2) AS seconds,
           round(avg(changed_fraction), 4) AS mean_changed
    FROM events GROUP BY stage ORDER BY min(event_no), stage"""
MODELS = """
    SELECT model.id AS model, model.licence AS licence, count(DISTINCT item_id) AS photographs
    FROM (SELECT item_id, unnest(models) AS model FROM events) GROUP BY ALL ORDER BY 1"""


def open_run(run: str, endpoint: str | None = None) -> duckdb.DuckDBPyConnection:
    """A connection with `photographs`, `events`, `faces`, `damage` and `manifest`. Raises JobError where `run` is no run."""
    place = canonical(run)
    rundir.load(place, endpoint)
    store = Store(StoreOptions(endpoint))
    connection = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    connection.register("photographs", provenance.live(store, place))
    parts = list(manifest.parts(store, place))
    connection.register("manifest", pa.concat_tables(parts) if parts else MANIFEST.empty_table())
    for name, query in VIEWS.items():
        connection.execute(f"CREATE VIEW {name} AS {query}")
    return connection


def ask(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """The answer as a table. Raises SpecError with DuckDB's own words for a question it cannot answer."""
    try:
        relation = connection.sql(sql)
        answer: pa.Table = pa.table({}) if relation is None else relation.to_arrow_table()
    except duckdb.Error as error:
        raise SpecError(
            f"query: {str(error).strip()}", hint="Views: photographs, events, faces, damage, manifest."
        ) from error
    return answer
