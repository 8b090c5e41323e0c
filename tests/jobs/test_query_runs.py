"""Questions to many runs, to parts under loose commits, to buckets, and to older rows: always the rows that count."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import lease
from jobs.query import QUESTIONS, Records, open_run, open_runs
from jobs.query.places import find_runs
from jobs.rundir import Plan
from jobs.spec import JobSpec
from pipeline import provenance
from pipeline.errors import JobError, Status, StoreError
from pipeline.provenance import Compactor, Stamp, commit, live, seals
from pipeline.record import Event, Record
from pipeline.storage import Store

COUNT = "SELECT run, count(*) AS n FROM photographs GROUP BY run ORDER BY run"
RUN_JSON = {
    "run_id": "r" * 16,
    "recipe_id": "c" * 64,
    "collection": "x",
    "layout": 3,
    "manifest": 0,
    "models": [],
    "spec": {"collection": {"source": "/scans", "endpoint": None}},
    "software": {"albumen": "0"},
}


def bare_run(folder: Path) -> str:
    """A run of which only the provenance is of interest."""
    (folder / "manifest").mkdir(parents=True)
    index = {"version": 0, "photographs": 0, "known_bytes": 0, "refused": 0, "ignored": {}, "parts": []}
    (folder / "manifest/index-00000000.json").write_text(json.dumps(index))
    (folder / "run.json").write_text(json.dumps(RUN_JSON))
    return str(folder)


def record(number: int, note: str = "", status: Status = Status.RESTORED) -> Record:
    event = Event("repair", "1", "applied", None, "{}", (), "a", "b", 0.5, 1.0, "cpu", None, "{}")
    return Record(number, f"item{number}", f"/scans/{number}", status=status, detail=note, events=(event,))


def write(run: str, term: int, *numbers: int, status: Status = Status.RESTORED) -> None:
    stamp = Stamp("r" * 16, "c" * 64, "albumen 0", term)
    commit(Store(), run, stamp, [record(number, f"term {term}", status) for number in numbers])


def take(run: str, term: int) -> None:
    Store().create(f"{run}/lease/{term:08d}.json", b"{}")


def rows(run: str, sql: str) -> list[dict[str, Any]]:
    with open_run(run) as records:
        found: list[dict[str, Any]] = records.ask(sql).to_pylist()
        return found


def seal(plan: Plan) -> None:
    with lease.hold(Store(), plan.run, "run") as held:
        Compactor(Store(), plan.run, held.term).compact()


def test_a_superseded_row_is_never_seen(tmp_path: Path) -> None:
    run = bare_run(tmp_path / "run")
    write(run, 1, *range(6), status=Status.FAILED)
    Compactor(Store(), run, 1).compact()
    take(run, 2)
    write(run, 2, 1, 4)
    counted = "SELECT count(*) AS n FROM photographs WHERE status = 'failed'"
    assert rows(run, counted) == [{"n": 4}]
    # Also where the question asks for it in every way that could be pushed below the view.
    for which in ("item_id = 'item4'", "item_no = 4", "source_uri = '/scans/4'", "detail = 'term 1' AND item_no = 4"):
        found = rows(run, f"SELECT status, term FROM photographs WHERE {which}")
        assert found == ([] if "detail" in which else [{"status": "restored", "term": 2}]), which
    assert rows(run, "SELECT count(*) AS n FROM events")[0]["n"] == 6


def test_a_loose_row_of_an_earlier_term_is_not_seen(tmp_path: Path) -> None:
    """Of a worker that was overtaken: its commit came after the new driver's, and before its seal."""
    run = bare_run(tmp_path / "run")
    take(run, 1)
    take(run, 2)
    write(run, 2, 0, 1)
    compactor = Compactor(Store(), run, 2)
    compactor._absorb([entry.uri for entry in Store().list(f"{run}/provenance/terms")])
    stamp = Stamp("r" * 16, "c" * 64, "albumen 0", 1)
    table = pa.Table.from_pylist(
        provenance.commit.__globals__["_rows"](stamp, [record(0, "term 1")]), provenance.PROVENANCE
    )
    place = Path(run, "provenance/terms/00000001")
    place.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, place / "late.parquet")
    assert rows(run, "SELECT item_no, term FROM photographs ORDER BY 1") == [
        {"item_no": 0, "term": 2},
        {"item_no": 1, "term": 2},
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.sampled_from(["commit", "seal", "take"]), st.sets(st.integers(0, 8), min_size=1)), max_size=8)
)
def test_any_history_is_seen_as_the_reader_sees_it(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[str, set[int]]]
) -> None:
    monkeypatch.setattr(seals, "PART_ROWS", 3)
    run = bare_run(tmp_path_factory.mktemp("any") / "run")
    take(run, 1)
    term = 1
    for what, numbers in steps:
        if what == "take":
            term += 1
            take(run, term)
        elif what == "seal":
            Compactor(Store(), run, term).compact()
        else:
            write(run, term, *sorted(numbers))
    expected = live(Store(), run, ["item_no", "term", "detail"]).to_pylist()
    assert rows(run, "SELECT item_no, term, detail FROM photographs ORDER BY item_no") == expected


def test_many_runs_are_told_apart(finished: Plan, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    one = shutil.copytree(finished.run, folder / "boxes" / "one")
    two = shutil.copytree(finished.run, folder / "two")
    (folder / "boxes" / "notes.txt").touch()
    with open_runs([str(folder)]) as records:
        assert records.runs == [str(one), str(two)]
        assert records.ask(COUNT).to_pylist() == [{"run": str(one), "n": 4}, {"run": str(two), "n": 4}]
        assert records.ask("SELECT run, run_id, photographs FROM runs ORDER BY run").to_pylist() == [
            {"run": str(place), "run_id": finished.run_id, "photographs": 4} for place in (one, two)
        ]
        for view, n in (("events", 20), ("faces", 6), ("damage", 4), ("manifest", 8)):
            assert records.ask(f"SELECT count(*) AS n, count(DISTINCT run) AS r FROM {view}").to_pylist() == [
                {"n": n, "r": 2}
            ]
        joined = (
            "SELECT count(*) AS n FROM manifest JOIN photographs USING (run, item_id) JOIN events USING (run, item_id)"
        )
        assert records.ask(joined).to_pylist() == [{"n": 20}]
    with open_runs([str(two), str(one), str(two)]) as records:
        assert records.runs == [str(two), str(one)]


def test_runs_are_found_without_a_look_at_their_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b/c", "b/d", "e-1", "e"):
        run = Path(bare_run(tmp_path / name))
        (run / "images/00").mkdir(parents=True)
        for number in range(30):
            (run / f"images/00/{number}.png").touch()
    listed = []
    real = Store.list

    def counting(self: Store, root: str, after: str | None = None) -> Any:
        for entry in real(self, root, after):
            listed.append(entry.key)
            yield entry

    monkeypatch.setattr(Store, "list", counting)
    assert find_runs([str(tmp_path)]) == [str(tmp_path / name) for name in ("a", "b/c", "b/d", "e-1", "e")]
    assert len(listed) <= 12


def test_every_place_without_a_run_is_named(tmp_path: Path, finished: Plan) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(JobError) as caught:
        open_runs([str(tmp_path / "empty"), finished.run, str(tmp_path / "nowhere")])
    assert [fault.split(" ")[0] for fault in caught.value.faults] == [
        str(tmp_path / "empty"),
        str(tmp_path / "nowhere"),
    ]


@pytest.mark.parametrize("name", ["run [1]", "run*", "it's", "a=b", "run?", "{x}"])
def test_a_run_may_be_called_anything(finished: Plan, tmp_path: Path, name: str) -> None:
    seal(finished)
    place = tmp_path / "odd" / name
    place.parent.mkdir()
    Path(finished.run).rename(place)
    assert rows(str(place), COUNT) == [{"run": str(place), "n": 4}]
    assert "a" not in rows(str(place), "SELECT * FROM photographs LIMIT 1")[0]
    assert rows(str(place), "SELECT count(*) AS n FROM manifest") == [{"n": 4}]


def test_a_run_that_is_compacted_between_two_questions(finished: Plan) -> None:
    with open_run(finished.run) as records:
        seal(finished)
        before = records.ask("SELECT * FROM photographs ORDER BY item_no").to_pylist()
    with open_run(finished.run) as records:
        old = Path(finished.run, "provenance/parts")
        rewritten = replace(record(0, "again"), item_id=before[0]["item_id"], source_uri=before[0]["source_uri"])
        with lease.hold(Store(), finished.run, "run") as held:
            provenance.commit(Store(), finished.run, finished.stamp(held.term), [rewritten])
            Compactor(Store(), finished.run, held.term).compact()
        assert len(list(old.iterdir())) == 1
        found = records.ask("SELECT item_no, detail FROM photographs ORDER BY item_no").to_pylist()
    assert found[0]["detail"] == "again"
    assert len(found) == 4


def test_a_part_that_is_damaged_is_the_stores_fault_and_not_the_questions(finished: Plan) -> None:
    seal(finished)
    [part] = Path(finished.run, "provenance/parts").iterdir()
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(StoreError, match=part.name):
        rows(finished.run, "SELECT * FROM photographs")


def test_rows_of_older_versions_are_asked_together_with_new_ones(finished: Plan) -> None:
    """A part that an older version wrote lacks columns, and members of structs."""
    seal(finished)
    [part] = Path(finished.run, "provenance/parts").iterdir()
    table = pq.read_table(part).drop_columns(["mask_uri", "mask_sha256"])
    faces = [[{"score": face["score"]} for face in faces] for faces in table["faces"].to_pylist()]
    kind = pa.list_(pa.struct([("score", pa.float32())]))
    table = table.set_column(table.column_names.index("faces"), "faces", pa.array(faces, kind))
    pq.write_table(table, part)
    with open_run(finished.run) as records:
        assert records.ask("SELECT count(*) AS n FROM photographs WHERE mask_uri IS NULL").to_pylist() == [{"n": 4}]
        found = records.ask("SELECT score, strength FROM faces").to_pylist()
    assert found == [{"score": 0.75, "strength": None}] * 3


@pytest.fixture
def bucket(s3: str, request: pytest.FixtureRequest) -> str:
    s3fs.S3FileSystem(endpoint_url=s3, use_listings_cache=False).mkdir("questions")
    return "questions"


QUESTIONS_ASKED = [
    "SELECT * EXCLUDE run FROM photographs ORDER BY item_no",
    "SELECT * EXCLUDE run FROM events ORDER BY item_no, event_no",
    "SELECT * EXCLUDE run FROM faces ORDER BY item_no, face_no",
    "SELECT * EXCLUDE run FROM damage ORDER BY item_no, kind",
    "SELECT * EXCLUDE run FROM manifest ORDER BY item_no",
    "SELECT * EXCLUDE run FROM runs",
    "SELECT status, count(*) AS n FROM photographs WHERE source_format = 'PNG' GROUP BY 1 ORDER BY 1",
]


def test_a_bucket_gives_the_same_answers_as_a_folder(bucket: str, finished: Plan) -> None:
    """Parts and loose commits, and a row that was replaced."""
    seal(finished)
    known = live(Store(), finished.run).to_pylist()[3]
    again = replace(record(3, "again"), item_id=known["item_id"], source_uri=known["source_uri"])
    with lease.hold(Store(), finished.run, "run") as held:
        provenance.commit(Store(), finished.run, finished.stamp(held.term), [again])
    store = Store()
    for name in ("first", "more/second"):
        for path in Path(finished.run).rglob("*"):
            if path.is_file():
                store.put(f"s3://{bucket}/{name}/{path.relative_to(finished.run)}", path.read_bytes())
    with open_run(finished.run) as here, open_run(f"s3://{bucket}/first") as there:
        for sql in QUESTIONS_ASKED:
            one, other = here.ask(sql), there.ask(sql)
            assert one.num_rows
            assert one.equals(other), sql
        for name in sorted(QUESTIONS):
            one, other = (records.ask(QUESTIONS[name].text(9)).to_pylist() for records in (here, there))
            assert [row | {"run": None} for row in one] == [row | {"run": None} for row in other], name
    with open_runs([f"s3://{bucket}"]) as both:
        assert both.ask(COUNT).to_pylist() == [
            {"run": f"s3://{bucket}/first", "n": 4},
            {"run": f"s3://{bucket}/more/second", "n": 4},
        ]


LEFT_OPEN = """
import sys
from jobs.query import open_run
records = open_run(sys.argv[1])
print(records.ask("SELECT item_id FROM photographs LIMIT 1").num_rows)
"""


@pytest.mark.parametrize("name", ["run", "run [1]"])
def test_a_process_that_leaves_a_question_open_ends_well(finished: Plan, name: str) -> None:
    seal(finished)
    place = Path(finished.run).rename(Path(finished.run).with_name(name))
    ran = subprocess.run([sys.executable, "-c", LEFT_OPEN, str(place)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "1\n", "")


def test_parts_can_be_asked_for_one_photograph_without_reading_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seals, "PART_ROWS", 50)
    run = bare_run(tmp_path / "run")
    take(run, 1)
    write(run, 1, *range(400))
    Compactor(Store(), run, 1).compact()
    with open_run(run) as records:
        plan = records.ask("EXPLAIN ANALYZE SELECT * FROM events WHERE item_id = 'item217'")["explain_value"][0].as_py()
        assert records.ask("SELECT count(*) AS n FROM events WHERE item_id = 'item217'").to_pylist() == [{"n": 1}]
    assert "Row Groups Scanned: 1 / 8" in plan


def test_memory_is_bounded_by_what_was_asked_for(finished: Plan) -> None:
    with Records([finished.run], memory="200MB") as records:
        found = records.ask("SELECT current_setting('memory_limit') AS m").to_pylist()
        assert found == [{"m": "190.7 MiB"}]
        big = "SELECT count(*) AS n FROM (SELECT DISTINCT range || 'x' AS x FROM range(3000000))"
        assert records.ask(big).to_pylist() == [{"n": 3_000_000}]


def test_every_ready_made_question_can_be_asked(finished: Plan, make_spec: Callable[..., JobSpec]) -> None:
    with open_run(finished.run) as records:
        for name, question in QUESTIONS.items():
            answer = records.ask(question.text(5))
            assert answer.num_columns, name
            assert answer.num_rows, name


def test_what_the_questions_say(finished: Plan) -> None:
    with open_run(finished.run) as records:

        def ask(name: str) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = records.ask(QUESTIONS[name].text(3)).to_pylist()
            return found

        assert [(row["status"], row["reason"]) for row in ask("failed")] == [
            ("failed", "stage-failed"),
            ("refused", "truncated"),
        ]
        assert [(row["seconds"], row["of_which"]) for row in ask("slowest")] == [(2.0, 0.5), (2.0, 0.5), (0.5, 0.5)]
        assert [(row["changed"], row["by_stage"]) for row in ask("changed-most")] == [
            (0.25, "repair"),
            (0.25, "repair"),
        ]
        assert [(row["stage"], row["photographs"]) for row in ask("cost")] == [
            ("ingest", 4),
            ("repair", 2),
            ("colour", 2),
            ("deliver", 2),
        ]
        assert [(row["face_no"], row["identity"]) for row in ask("low-identity")] == [
            (1, 0.875),
            (1, 0.875),
            (2, 0.875),
        ]
        assert [(row["risk"], row["residual_peak"], row["unsupported_peak"]) for row in ask("riskiest")] == [
            (0.75, 0.5, None),
            (0.25, 0.5, None),
        ]
        [model] = ask("by-model")
        assert (model["model"], model["photographs"], model["seconds"]) == ("gfpgan-v1.4", 2, 1.0)
        assert [(row["kind"], row["photographs"], row["left_on"]) for row in ask("damage")] == [
            ("line", 1, 0),
            ("stain", 1, 1),
        ]
        # Two models were planned, of which one is not installed; another touched photographs.
        assert sorted((row["model"], row["licence"], row["photographs"]) for row in ask("licences")) == [
            ("albumen-damage", "Apache-2.0", 0),
            ("gfpgan-v1.4", "Apache-2.0", 2),
            ("retinaface-resnet50", "MIT", 0),
        ]
