"""The views' SQL. Every one has the column `run`, where the run lies, so that a question to one run is one to many."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

VIEWS = ("photographs", "events", "faces", "damage", "honesty", "manifest", "runs")

# Empty tables with every column: what no file has is null.
NO_PHOTOGRAPHS, NO_MANIFEST = "no_photographs", "no_manifest"

RUNS = pa.schema(
    [
        ("run", pa.string()),
        ("run_id", pa.string()),
        ("recipe_id", pa.string()),
        ("collection", pa.string()),
        ("source", pa.string()),
        ("photographs", pa.int64()),
        ("source_bytes", pa.int64()),
        ("stages", pa.list_(pa.string())),
        ("policy", pa.string()),
        (
            "models",
            pa.list_(
                pa.struct(
                    [
                        ("id", pa.string()),
                        ("sha256", pa.string()),
                        ("licence", pa.string()),
                        ("required", pa.bool_()),
                        ("commercial_use", pa.string()),
                    ]
                )
            ),
        ),
        ("software", pa.string()),
        ("packages", pa.string()),
        ("spec", pa.string()),
    ]
)

UNNESTED = {
    "events": """
        SELECT run, item_no, item_id, event_no, event.* FROM (
            SELECT run, item_no, item_id, unnest(events) AS event, generate_subscripts(events, 1) AS event_no
            FROM photographs)""",
    # Masks are pictures: who wants them asks `photographs`.
    "faces": """
        SELECT * EXCLUDE mask FROM (
            SELECT run, item_no, item_id, face_no, face.* FROM (
                SELECT run, item_no, item_id, unnest(faces) AS face, generate_subscripts(faces, 1) AS face_no
                FROM photographs))""",
    "honesty": """
        SELECT run, item_no, item_id, honesty.*, edits_uri, invented_uri FROM photographs WHERE honesty IS NOT NULL""",
    # Whichever stage looked, and whichever repaired.
    "damage": """
        SELECT run, item_no, item_id, kind, fraction, confidence, coalesce(repaired, 0) AS repaired, left_because FROM (
            SELECT run, item_no, item_id, kind,
                   max(CAST(json_extract_string(findings, '$.damage.' || kind || '.fraction') AS DOUBLE)) AS fraction,
                   max(CAST(json_extract_string(findings, '$.damage.' || kind || '.confidence') AS DOUBLE)) AS confidence,
                   max(CAST(json_extract_string(findings, '$.repaired.' || kind) AS DOUBLE)) AS repaired,
                   max(json_extract_string(findings, '$.left.' || kind || '.reason')) AS left_because
            FROM events, (VALUES ('line'), ('spot'), ('stain'), ('missing')) AS kinds(kind) GROUP BY ALL)
        WHERE fraction > 0""",
}


def photographs_of(number: int, place: str) -> str:
    """The live rows of one run: those of its parts that no loose commit replaces, and the loose ones."""
    return (
        f"SELECT {literal(place)} AS run, * FROM (SELECT * FROM loose_{number} UNION ALL BY NAME "
        f"SELECT p.* FROM parts_{number} AS p ANTI JOIN replaced_{number} AS r USING (item_no))"
    )


def manifest_of(number: int, place: str) -> str:
    return (
        f"SELECT {literal(place)} AS run, * FROM "
        f"(SELECT * FROM {NO_MANIFEST} UNION ALL BY NAME SELECT * FROM listed_{number})"
    )


def all_of(texts: Sequence[str]) -> str:
    return " UNION ALL BY NAME ".join(texts)


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
