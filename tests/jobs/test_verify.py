"""Verify: one fault of every kind, each found, all reported together."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import lease
from jobs.choices import Changed
from jobs.rundir import Plan, prepare
from jobs.spec import JobSpec
from jobs.update import update
from jobs.verify import Report, as_json, verify
from pipeline import provenance
from pipeline.errors import ItemError, JobError, Reason, Status
from pipeline.provenance import Compactor
from pipeline.record import Event, Record, from_manifest
from pipeline.storage import Store

Change = Callable[..., None]


def kinds(report: Report) -> list[str]:
    return [fault.kind for fault in report.faults]


def commits(plan: Plan) -> list[Path]:
    return sorted(Path(plan.run, "provenance/terms").rglob("*.parquet"))


def manifest_part(plan: Plan) -> Path:
    (part,) = Path(plan.run, "manifest").glob("*.parquet")
    return part


def reindex(plan: Plan, **facts: Any) -> None:
    """Writes the manifest's index anew, as a hand that tampers with it would: the part's digest and other facts."""
    part, path = manifest_part(plan), Path(plan.run, "manifest/index-00000000.json")
    digest = hashlib.sha256(part.read_bytes()).hexdigest()
    index = json.loads(path.read_text())
    index["parts"][0]["sha256"] = digest
    path.write_text(json.dumps(index | facts))


def images(plan: Plan) -> list[Path]:
    return sorted(Path(plan.run, "images").rglob("*.png"))


def flip(path: Path, position: int = -20) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.fixture
def change(finished: Plan) -> Change:
    """Rewrites the provenance row of one photograph, as a hand that tampers with it would."""

    def rewrite(number: int, alter: Callable[[dict[str, Any]], None]) -> None:
        for path in commits(finished):
            rows = pq.read_table(path).to_pylist()
            for row in rows:
                if row["item_no"] == number:
                    alter(row)
            pq.write_table(pa.Table.from_pylist(rows, provenance.PROVENANCE), path)

    return rewrite


def test_a_sound_run_has_no_fault(finished: Plan) -> None:
    assert verify(finished.run) == Report(photographs=4, outputs=2, masks=1, maps=4, sources=0, faults=())


def test_a_sound_run_has_no_fault_in_its_sources(finished: Plan) -> None:
    assert verify(finished.run, sources=True) == Report(photographs=4, outputs=2, masks=1, maps=4, sources=4, faults=())


def test_a_run_that_was_moved_still_verifies(finished: Plan, tmp_path: Path) -> None:
    shutil.move(finished.run, tmp_path / "elsewhere")
    assert verify(str(tmp_path / "elsewhere"), sources=True).faults == ()


def test_a_relative_name_of_a_run(finished: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(finished.run).parent)
    assert verify("run").faults == ()


def test_verify_writes_nothing(finished: Plan) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(finished.run).rglob("*")}
    verify(finished.run, sources=True)
    assert {path: path.stat().st_mtime_ns for path in Path(finished.run).rglob("*")} == before


def test_a_photograph_without_a_row_is_missing(finished: Plan) -> None:
    (lone,) = [p for p in commits(finished) if pq.read_metadata(p).num_rows == 1]
    name = pq.read_table(lone)["item_id"][0].as_py()
    lone.unlink()
    (fault,) = verify(finished.run).faults
    assert (fault.kind, fault.place) == ("missing", name)


def test_a_run_that_only_was_planned_misses_everything(make_spec: Callable[..., JobSpec], scans: Path) -> None:
    report = verify(prepare(make_spec()).run)
    assert kinds(report) == ["missing"] * 4
    assert (report.photographs, report.outputs) == (4, 0)


def test_a_row_without_a_photograph_is_unknown(finished: Plan) -> None:
    stranger = Record(17, "f" * 32, "/x.png", status=Status.REFUSED, reason="truncated", detail="half")
    provenance.commit(Store(), finished.run, finished.stamp(2), [stranger])
    (fault,) = verify(finished.run).faults
    assert (fault.kind, fault.place) == ("unknown", "17")


def test_an_output_that_is_gone_is_lost(finished: Plan) -> None:
    gone = images(finished)[0]
    gone.unlink()
    (fault,) = verify(finished.run).faults
    assert (fault.kind, fault.place) == ("lost", str(gone))
    assert ".png is not there" in fault.message


def test_one_flipped_bit_in_an_output_is_found(finished: Plan) -> None:
    hit = images(finished)[1]
    flip(hit)
    (fault,) = verify(finished.run).faults
    assert (fault.kind, fault.place) == ("altered", str(hit))


def test_outputs_that_changed_places_are_both_found(finished: Plan) -> None:
    one, two = images(finished)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert kinds(verify(finished.run)) == ["altered", "altered"]


def test_an_output_that_is_a_folder_is_unreadable(finished: Plan) -> None:
    hit = images(finished)[0]
    hit.unlink()
    hit.mkdir()
    assert kinds(verify(finished.run)) == ["unreadable"]


@pytest.mark.parametrize("name", ["zz/stranger.png", "notes.txt"])
def test_a_file_that_nothing_explains(finished: Plan, name: str) -> None:
    stranger = Path(finished.run, "images", name)
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_bytes(b"x")
    (fault,) = verify(finished.run).faults
    assert (fault.kind, fault.place) == ("unexplained", str(stranger))


def test_an_output_of_a_refused_photograph_is_unexplained(finished: Plan, change: Change) -> None:
    change(1, lambda row: row.update(status="refused", reason="truncated"))
    fault, *maps = verify(finished.run).faults
    assert [(one.kind, Path(one.place).parts[-3]) for one in maps] == [
        ("unexplained", "edits"),
        ("unexplained", "invented"),
    ]
    assert fault.kind == "unexplained"


def mask_of(plan: Plan) -> Path:
    (path,) = Path(plan.run, "masks").rglob("*.png")
    return path


@pytest.mark.parametrize("position", [0, 20, 60, -1])
def test_one_flipped_bit_in_a_mask_is_found(finished: Plan, position: int) -> None:
    flip(mask_of(finished), position)
    (fault,) = verify(finished.run).faults
    assert (fault.kind, fault.place) == ("altered", str(mask_of(finished)))


def test_a_mask_that_is_gone_is_lost(finished: Plan) -> None:
    gone = mask_of(finished)
    gone.unlink()
    (fault,) = verify(finished.run).faults
    assert (fault.kind, fault.place) == ("lost", str(gone))
    assert fault.message.startswith("the mask of ")


@pytest.mark.parametrize("name", ["zz/stranger.png", "notes.txt"])
def test_a_mask_that_nothing_explains(finished: Plan, name: str) -> None:
    stranger = Path(finished.run, "masks", name)
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_bytes(b"x")
    (fault,) = verify(finished.run).faults
    assert (fault.kind, fault.place) == ("unexplained", str(stranger))


def test_a_mask_that_its_row_does_not_name_is_unexplained(finished: Plan, change: Change) -> None:
    change(0, lambda row: row.update(mask_uri=None, mask_sha256=None))
    report = verify(finished.run)
    assert (kinds(report), report.masks) == (["unexplained"], 0)


def test_rows_of_before_there_were_masks_are_read(finished: Plan) -> None:
    for path in commits(finished):
        pq.write_table(pq.read_table(path).drop_columns(["mask_uri", "mask_sha256"]), path)
    mask_of(finished).unlink()
    assert verify(finished.run) == Report(photographs=4, outputs=2, masks=0, maps=4, sources=0, faults=())


def test_a_manifest_that_lost_a_row(finished: Plan) -> None:
    part = manifest_part(finished)
    pq.write_table(pq.read_table(part).slice(0, 3), part)
    reindex(finished)
    report = verify(finished.run)
    assert kinds(report) == ["manifest", "unknown"]
    assert report.faults[0].message == "3 rows; its index says 4"


def test_a_manifest_that_is_gone(finished: Plan) -> None:
    shutil.rmtree(Path(finished.run, "manifest"))
    try:
        found = kinds(verify(finished.run))
    except JobError:
        return
    assert "manifest" in found


def test_an_index_that_says_another_number(finished: Plan) -> None:
    reindex(finished, photographs=5)
    assert kinds(verify(finished.run)) == ["manifest"]


def test_a_chain_that_does_not_start_from_the_source(finished: Plan, change: Change) -> None:
    change(0, lambda row: row["events"][0].update(input_sha256="0" * 64))
    (fault,) = verify(finished.run).faults
    assert (fault.kind, fault.message) == ("chain", "the first event does not start from the source file")


def test_a_chain_that_is_broken_inside(finished: Plan, change: Change) -> None:
    change(1, lambda row: row["events"][2].update(input_sha256="0" * 64))
    (fault,) = verify(finished.run).faults
    assert (fault.kind, fault.message) == ("chain", "colour was given other pixels than repair let go")


def test_a_chain_that_lost_an_event(finished: Plan, change: Change) -> None:
    change(1, lambda row: row["events"].pop(1))
    (fault,) = verify(finished.run).faults
    assert fault.message == "colour was given other pixels than ingest let go"


@pytest.mark.parametrize("alter", [lambda row: row["events"].pop(), lambda row: row["events"].clear()])
def test_a_chain_that_does_not_reach_the_output(
    finished: Plan, change: Change, alter: Callable[[dict[str, Any]], None]
) -> None:
    change(0, alter)
    (fault,) = verify(finished.run).faults
    assert (fault.kind, fault.message) == ("chain", "the last event does not lead to the delivered file")


def test_a_changed_source_is_found_when_asked_for(finished: Plan, scans: Path) -> None:
    flip(scans / "c.png")
    assert verify(finished.run).faults == ()
    (fault,) = verify(finished.run, sources=True).faults
    assert (fault.kind, fault.place) == ("source", str(scans / "c.png"))
    assert "has changed since" in fault.message


def test_a_missing_source_is_found_when_asked_for(finished: Plan, scans: Path) -> None:
    (scans / "a.png").unlink()
    (fault,) = verify(finished.run, sources=True).faults
    assert (fault.kind, fault.place) == ("source", str(scans / "a.png"))
    assert "cannot be read" in fault.message


def test_every_fault_is_reported_at_once(finished: Plan, change: Change, scans: Path) -> None:
    change(1, lambda row: row["events"][1].update(output_sha256="0" * 64))
    flip(scans / "d.png")
    one, two = images(finished)
    one.unlink()
    flip(two)
    Path(finished.run, "images", "stranger.tif").touch()
    stranger = Record(17, "f" * 32, "/x.png", status=Status.REFUSED, reason="truncated")
    provenance.commit(Store(), finished.run, finished.stamp(2), [stranger])
    found = kinds(verify(finished.run, sources=True))
    assert sorted(found) == ["altered", "chain", "lost", "source", "unexplained", "unknown"]


def test_a_photograph_committed_twice_is_no_fault(finished: Plan) -> None:
    known = provenance.live(Store(), finished.run).to_pylist()[3]
    facts = {name: known[name] for name in ("item_no", "item_id", "source_uri", "source_sha256", "reason", "detail")}
    again = Record(**facts, status=Status.FAILED, events=tuple(Event(**event) for event in known["events"]))
    other = replace(again, item_no=2, item_id=provenance.live(Store(), finished.run)["item_id"][2].as_py())
    provenance.commit(Store(), finished.run, finished.stamp(2), [again, other])
    assert len(commits(finished)) == 3
    assert verify(finished.run).faults == ()


@pytest.mark.parametrize("folder", ["provenance", "manifest"])
def test_a_damaged_record_is_reported(finished: Plan, folder: str) -> None:
    path = next(Path(finished.run, folder).rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-5])
    try:
        found = [fault.place for fault in verify(finished.run).faults]
    except JobError as error:
        found = list(error.faults)
    assert any(path.name in text for text in found)


def test_a_manifest_whose_rows_were_exchanged_is_found(finished: Plan) -> None:
    part = manifest_part(finished)
    rows = pq.read_table(part).to_pylist()
    rows[0]["item_id"], rows[0]["source_uri"] = "0" * 32, "/somewhere/else.png"
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(part)), part)
    reindex(finished)
    (fault,) = verify(finished.run).faults
    assert fault.message == "manifest and provenance name different photographs under one number"


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="is no run of Albumen"):
        verify(str(tmp_path))


def test_the_report_as_json(finished: Plan) -> None:
    flip(images(finished)[0])
    report = verify(finished.run)
    (fault,) = report.faults
    assert json.loads(as_json(report)) == {
        "photographs": 4,
        "outputs": 2,
        "masks": 1,
        "maps": 4,
        "sources": 0,
        "faults": [{"kind": "altered", "place": fault.place, "message": fault.message}],
    }


@pytest.fixture
def sealed(finished: Plan) -> Plan:
    """The finished run as a driver leaves it: one part under a seal."""
    with lease.hold(Store(), finished.run, "run") as held:
        Compactor(Store(), finished.run, held.term).compact()
    return finished


def test_a_sealed_run_has_no_fault(sealed: Plan) -> None:
    assert commits(sealed) == []
    assert verify(sealed.run, sources=True) == Report(photographs=4, outputs=2, masks=1, maps=4, sources=4, faults=())


def test_a_part_that_is_gone_is_damage(sealed: Plan) -> None:
    [part] = Path(sealed.run, "provenance/parts").iterdir()
    part.unlink()
    images(sealed)[0].unlink()
    report = verify(sealed.run)
    # Nobody can say which photographs it held: what is missing, and what nothing explains, is not guessed.
    assert [(fault.kind, fault.place) for fault in report.faults] == [("provenance", str(part))]
    assert report.faults[0].message == "the seal names it and it is not there"


def test_a_part_whose_bytes_are_others_is_found(sealed: Plan) -> None:
    """Altered by a hand that kept the rows plausible: only the digest in the seal tells."""
    [part] = Path(sealed.run, "provenance/parts").iterdir()
    rows = pq.read_table(part).to_pylist()
    rows[2]["detail"] = "nothing to see here"
    pq.write_table(pa.Table.from_pylist(rows, provenance.PROVENANCE), part)
    try:
        found = verify(sealed.run).faults
    except JobError:
        return
    assert found != ()


def test_a_version_that_was_superseded_is_not_hashed_against_the_new_original(
    finished: Plan, scans: Path, pending: Callable[..., pa.Table]
) -> None:
    (scans / "c.png").write_bytes(b"another original in its place")
    update(finished.spec, Changed.APPEND)
    plan = prepare(finished.spec)
    with lease.hold(Store(), plan.run, "run") as held:
        source = hashlib.sha256(b"another original in its place").hexdigest()
        [record] = from_manifest(pending(plan))
        ended = replace(record, source_sha256=source).ended(ItemError(Reason.NOT_AN_IMAGE, "no image"))
        provenance.commit(Store(), plan.run, plan.stamp(held.term), [ended])
    report = verify(plan.run, sources=True)
    assert (report.photographs, report.sources, report.faults) == (5, 4, ())
    flip(scans / "c.png")
    (fault,) = verify(plan.run, sources=True).faults
    assert fault.kind == "source"
