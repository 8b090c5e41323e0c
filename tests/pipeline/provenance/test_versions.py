"""Rows that older versions of the schema have written stay readable, beside new ones and through a compaction."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.honesty.row import Honesty, Measures
from pipeline.photograph import Decision, Face, Likeness
from pipeline.provenance import PROVENANCE, Compactor, commit, live
from pipeline.provenance.schema import numbered, terms_folder
from pipeline.record import SCHEMA_VERSION
from pipeline.storage import Store
from tests.pipeline.rows import honesty_from

Make = Callable[..., Any]
DATA = Path(__file__).parent / "data"
OLD = DATA / "version-2.parquet"
ADDED = {"size", "detector", "model_sha256", "decision", "reason", "identity", "glasses", "mask_kind", "mask"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run in which version 2 committed two photographs, the first with two faces."""
    folder = Path(terms_folder(str(tmp_path))) / numbered(1)
    folder.mkdir(parents=True)
    shutil.copy(OLD, folder)
    return tmp_path


def faces_of(run: Path) -> list[list[dict[str, Any]]]:
    return [row["faces"] for row in live(Store(), str(run), ["item_no", "faces"]).to_pylist()]


def test_the_old_file_is_what_it_says() -> None:
    table = pq.read_table(OLD)
    assert set(table["schema_version"].to_pylist()) == {2}
    assert not ADDED & {field.name for field in table.schema.field("faces").type.value_type}


def test_what_an_old_face_did_not_know_is_null(run: Path) -> None:
    [first, second], none = faces_of(run)
    assert first["box"] == [1.0, 2.0, 31.0, 42.0]
    assert (first["strength"], first["model_id"], second["model_id"]) == (0.5, "gfpgan-v1.4", None)
    assert {first[name] for name in ADDED} == {None}
    assert none == []
    assert live(Store(), str(run)).schema.equals(PROVENANCE)


def test_old_and_new_rows_lie_side_by_side_and_survive_a_compaction(
    run: Path, restored: Make, stamp: Make, take: Make
) -> None:
    take(2)
    face = Face((0.0, 0.0, 20.0, 30.0), (1.0,) * 10, 0.5, decision=Decision.REFUSED, reason="identity")
    face = replace(face, likeness=Likeness("mobilefacenet", 0.25), mask_kind="parsenet", mask=b"png")
    commit(Store(), str(run), stamp(2), [replace(restored(2), faces=(face,))])
    before = live(Store(), str(run))
    assert before["schema_version"].to_pylist() == [2, 2, SCHEMA_VERSION]
    Compactor(Store(), str(run), 2).compact()
    after = live(Store(), str(run))
    assert after.to_pylist() == before.to_pylist()
    [kept] = faces_of(run)[2]
    assert (kept["decision"], kept["reason"], kept["identity"], kept["size"]) == ("refused", "identity", 0.25, 30.0)
    assert (kept["identity_model"], kept["mask_kind"], kept["mask"]) == ("mobilefacenet", "parsenet", b"png")


@pytest.fixture
def third(tmp_path: Path) -> Path:
    """A run in which version 3 committed two photographs with masks, the first with a face."""
    folder = Path(terms_folder(str(tmp_path))) / numbered(1)
    folder.mkdir(parents=True)
    shutil.copy(DATA / "version-3.parquet", folder)
    return tmp_path


def test_what_version_3_did_not_measure_is_null(third: Path) -> None:
    assert set(pq.read_table(DATA / "version-3.parquet")["schema_version"].to_pylist()) == {3}
    rows = live(Store(), str(third)).to_pylist()
    assert len(rows) == 2
    for row in rows:
        assert (row["mask_sha256"], row["schema_version"]) == ("d" * 64, 3)
        assert [row[name] for name in ("honesty", "edits_uri", "edits_sha256", "invented_uri", "invented_sha256")] == [
            None
        ] * 5
        [event] = row["events"]
        assert (event["changed_fraction"], event["de00_mean"], event["de00_max"]) == (0.5, None, None)
    assert rows[0]["faces"][0]["identity"] == 0.875


def test_measured_rows_lie_beside_those_of_version_3_and_survive_a_compaction(
    third: Path, restored: Make, stamp: Make, take: Make
) -> None:
    take(2)
    values: dict[str, Any] = dict.fromkeys((field.name for field in fields(Measures)), 0.25)
    honesty = Honesty(Measures(**(values | {"step": 3, "seam": None})), 0.75)
    record = replace(
        restored(2), honesty=honesty, edits_uri="/e", edits_sha256="1", invented_uri="/i", invented_sha256="2"
    )
    commit(Store(), str(third), stamp(2), [record])
    before = live(Store(), str(third))
    Compactor(Store(), str(third), 2).compact()
    after = live(Store(), str(third))
    assert after.to_pylist() == before.to_pylist()
    *_, last = after.to_pylist()
    assert after["honesty"].null_count == 2
    assert honesty_from(last["honesty"]) == honesty
    assert (last["edits_sha256"], last["invented_sha256"], last["schema_version"]) == ("1", "2", SCHEMA_VERSION)


def test_a_cast_of_nested_structs_fills_what_is_missing() -> None:
    """What reading old rows rests on, and pyarrow has not always done."""
    old = pa.array([[{"x": 1}], None, []], pa.list_(pa.struct([("x", pa.int8())])))
    new = old.cast(pa.list_(pa.struct([("x", pa.int8()), ("y", pa.string())])))
    assert new.to_pylist() == [[{"x": 1, "y": None}], None, []]
