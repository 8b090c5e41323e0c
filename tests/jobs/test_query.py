"""Questions to a run's provenance."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.query import MODELS, STAGES, STATUS, ask, open_run
from jobs.rundir import Plan, prepare
from jobs.spec import JobSpec
from pipeline.errors import JobError, SpecError, StoreError

Sql = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def sql(finished: Plan) -> Sql:
    """Asks the finished run."""
    connection = open_run(finished.run)

    def answer(text: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = ask(connection, text).to_pylist()
        return rows

    return answer


def test_photographs_holds_one_row_for_each(sql: Sql) -> None:
    found = sql("SELECT parse_filename(source_uri) AS name, status, reason FROM photographs ORDER BY item_no")
    assert [tuple(row.values()) for row in found] == [
        ("a.png", "restored", None),
        ("b.png", "restored", None),
        ("c.png", "refused", "truncated"),
        ("d.png", "failed", "stage-failed"),
    ]


def test_events_come_in_their_order(sql: Sql) -> None:
    found = sql("SELECT event_no, stage, outcome FROM events WHERE item_no = 0 ORDER BY event_no")
    assert [tuple(row.values()) for row in found] == [
        (1, "ingest", "applied"),
        (2, "repair", "applied"),
        (3, "colour", "skipped"),
        (4, "deliver", "applied"),
    ]


def test_events_of_refused_photographs_are_there_too(sql: Sql) -> None:
    found = sql("SELECT item_no, stage, outcome, reason FROM events WHERE outcome IN ('refused', 'failed') ORDER BY 1")
    assert [tuple(row.values()) for row in found] == [
        (2, "ingest", "refused", "truncated"),
        (3, "ingest", "failed", "stage-failed"),
    ]


def test_faces_has_a_row_for_each_face(sql: Sql) -> None:
    found = sql("SELECT item_no, face_no, box, score, strength, model_id FROM faces ORDER BY item_no, face_no")
    assert [(row["item_no"], row["face_no"]) for row in found] == [(0, 1), (1, 1), (1, 2)]
    assert found[2]["box"] == [1.0, 2.0, 9.0, 12.0]
    assert (found[2]["score"], found[2]["strength"], found[2]["model_id"]) == (0.75, 0.5, "gfpgan-v1.4")


def test_faces_say_what_became_of_them(sql: Sql) -> None:
    (row,) = sql("SELECT * FROM faces WHERE item_no = 0")
    assert (row["decision"], row["reason"], row["mask_kind"], row["size"]) == ("restored", None, "parsenet", 10.0)
    assert (row["detector"], row["model_sha256"]) == ("yunet-2023mar", "e" * 64)
    assert (row["identity_model"], row["identity"], row["displacement"]) == ("sface-2021dec", 0.875, 0.0625)
    assert (row["skin_drift"], row["eye_drift"], row["glasses"]) == (None, None, None)
    assert "mask" not in row
    assert sql("SELECT faces[1].mask AS mask FROM photographs WHERE item_no = 0") == [{"mask": b"png"}]


def test_damage_has_a_row_for_each_kind_on_each_photograph(sql: Sql) -> None:
    assert sql("SELECT * EXCLUDE (run, item_id) FROM damage ORDER BY item_no, kind") == [
        {"item_no": 0, "kind": "line", "fraction": 0.0625, "confidence": 0.9, "repaired": 0.0625, "left_because": None},
        {
            "item_no": 0,
            "kind": "stain",
            "fraction": 0.02,
            "confidence": None,
            "repaired": 0.0,
            "left_because": "there is no method for stains",
        },
    ]


def test_manifest_is_what_was_planned(sql: Sql) -> None:
    assert sql("SELECT count(*) AS n, max(item_no) AS last FROM manifest") == [{"n": 4, "last": 3}]


def test_views_can_be_joined(sql: Sql) -> None:
    text = """
        SELECT m.item_no, count(*) AS n FROM manifest m JOIN photographs p USING (item_id) JOIN events e USING (item_id)
        GROUP BY ALL ORDER BY 1"""
    assert [row["n"] for row in sql(text)] == [4, 4, 1, 1]


def test_masks_can_be_asked_for(sql: Sql, finished: Plan) -> None:
    (found,) = sql("SELECT item_no, mask_uri, mask_sha256 FROM photographs WHERE mask_uri IS NOT NULL")
    assert found["item_no"] == 0
    assert hashlib.sha256(Path(found["mask_uri"]).read_bytes()).hexdigest() == found["mask_sha256"]


def test_measurements_can_be_asked_for(sql: Sql) -> None:
    found = sql("SELECT analysis.face_count AS n FROM photographs WHERE analysis.noise_sigma > 0.1 ORDER BY item_no")
    assert [row["n"] for row in found] == [1, 2]


def test_times_can_be_asked_for(sql: Sql) -> None:
    (row,) = sql("SELECT count(DISTINCT date_trunc('hour', committed_at)) AS hours FROM photographs")
    assert row["hours"] in (1, 2)


def test_descriptions_can_be_asked_for(make_spec: Callable[..., JobSpec], scans: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("source_uri,title\nscans/a.png,Köln\nscans/b.png,\n", encoding="utf-8")
    connection = open_run(prepare(make_spec(collection={"source": "list.csv"})).run)
    found = ask(connection, "SELECT description->>'title' AS title FROM manifest ORDER BY item_no").to_pylist()
    assert found == [{"title": "Köln"}, {"title": None}]


def test_the_summary_counts_by_status_and_reason(sql: Sql) -> None:
    assert sql(STATUS) == [
        {"status": "failed", "reason": "stage-failed", "photographs": 1},
        {"status": "refused", "reason": "truncated", "photographs": 1},
        {"status": "restored", "reason": "", "photographs": 2},
    ]


def test_the_summary_counts_by_stage(sql: Sql) -> None:
    found = {row.pop("stage"): row for row in sql(STAGES)}
    assert list(found) == ["ingest", "repair", "colour", "deliver"]
    assert found["ingest"] == {"applied": 2, "skipped": 0, "ended": 2, "seconds": 2.0, "mean_changed": 0.25}
    assert found["colour"] == {"applied": 0, "skipped": 2, "ended": 0, "seconds": 1.0, "mean_changed": 0.25}


def test_the_summary_counts_by_model(sql: Sql) -> None:
    assert sql(MODELS) == [{"model": "gfpgan-v1.4", "licence": "Apache-2.0", "photographs": 2}]


def test_a_run_that_only_was_planned_answers_with_nothing(make_spec: Callable[..., JobSpec], scans: Path) -> None:
    connection = open_run(prepare(make_spec()).run)
    for text in ("SELECT * FROM photographs", "SELECT * FROM events", "SELECT * FROM faces", STATUS, STAGES, MODELS):
        assert ask(connection, text).num_rows == 0
    assert ask(connection, "SELECT * FROM manifest").num_rows == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT nothing FROM photographs", "nothing"),
        ("SELECT * FROM photos", "photos"),
        ("SELECT source_uri::INT FROM photographs", "Conversion"),
        ("SELECT * FROM read_csv('/no/such/file.csv')", "No files found"),
        ("SELECT * FROM photographs WHERE item_no = ?", "parameters"),
    ],
)
def test_a_question_that_cannot_be_answered(sql: Sql, text: str, said: str) -> None:
    with pytest.raises(SpecError, match=f"^query: (.|\n)*{said}") as caught:
        sql(text)
    assert caught.value.hint == "Views: photographs, events, faces, damage, honesty, manifest, runs."


def test_no_question_is_no_answer(sql: Sql) -> None:
    assert sql("") == []
    assert sql("-- nothing but a remark") == []


def test_the_record_cannot_be_changed_by_a_question(sql: Sql, finished: Plan) -> None:
    with pytest.raises(SpecError):
        sql("DELETE FROM photographs")
    before = [(path, path.read_bytes()) for path in sorted(Path(finished.run).rglob("*")) if path.is_file()]
    sql("CREATE TABLE mine AS SELECT * FROM photographs")
    assert [(path, path.read_bytes()) for path in sorted(Path(finished.run).rglob("*")) if path.is_file()] == before


@pytest.mark.parametrize("setting", ["autoinstall_known_extensions", "autoload_known_extensions"])
def test_duckdb_may_not_fetch_extensions_by_itself(sql: Sql, setting: str) -> None:
    assert sql(f"SELECT current_setting('{setting}') AS x") == [{"x": False}]


@pytest.mark.parametrize(
    "text",
    ["SELECT * FROM 's3://bucket/x.parquet'", "SELECT st_point(1, 2)", "SELECT * FROM 'https://localhost/x.csv'"],
)
def test_an_extension_that_is_not_there_is_not_looked_for(
    finished: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    connection = open_run(finished.run)
    with pytest.raises(SpecError) as caught:
        ask(connection, text)
    assert "download" not in str(caught.value).lower()
    assert list((tmp_path / "home").iterdir()) == []


def test_no_extension_is_loaded_for_the_views(sql: Sql) -> None:
    sql("SELECT * FROM events")
    found = sql("SELECT extension_name FROM duckdb_extensions() WHERE loaded AND install_mode <> 'STATICALLY_LINKED'")
    assert found == []


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="is no run of Albumen"):
        open_run(str(tmp_path))


def test_a_place_of_an_unknown_scheme() -> None:
    with pytest.raises(StoreError, match="foo://bucket/run"):
        open_run("foo://bucket/run")


def test_a_relative_name_of_a_run(finished: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(finished.run).parent)
    assert ask(open_run("./run/"), "SELECT * FROM photographs").num_rows == 4


def test_a_run_that_was_moved_still_answers(finished: Plan, tmp_path: Path) -> None:
    Path(finished.run).rename(tmp_path / "moved")
    assert ask(open_run(str(tmp_path / "moved")), "SELECT * FROM faces").num_rows == 3
