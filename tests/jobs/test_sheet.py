"""The contact sheet: photographs before and after, side by side."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from jobs.rundir import Plan, prepare
from jobs.sheet import contact_sheet
from jobs.spec import JobSpec
from pipeline import provenance
from pipeline.errors import Status
from pipeline.record import from_manifest
from pipeline.storage import Store

Picture = Callable[..., bytes]
Restored = Callable[[dict[str, tuple[bytes, bytes]]], str]


@pytest.fixture
def restored(make_spec: Callable[..., JobSpec], tmp_path: Path, pending: Callable[..., pa.Table]) -> Restored:
    """Makes a run whose photographs, name to source and output, were all restored."""

    def make(pictures: dict[str, tuple[bytes, bytes]]) -> str:
        (tmp_path / "scans").mkdir()
        for name, (source, _) in pictures.items():
            (tmp_path / "scans" / name).write_bytes(source)
        plan, store = prepare(make_spec()), Store()
        records = []
        for record, name in zip(from_manifest(pending(plan)), sorted(pictures), strict=True):
            uri = f"{plan.run}/images/{record.item_id[:2]}/{record.item_id}.png"
            store.put(uri, pictures[name][1])
            records.append(replace(record, status=Status.RESTORED, output_uri=uri, output_sha256="0" * 64))
        provenance.commit(store, plan.run, plan.stamp(2), records)
        return plan.run

    return make


def flat(value: int, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> bytes:
    target = io.BytesIO()
    Image.new(mode, size, (value,) * 3 if mode == "RGB" else value).save(target, "PNG")
    return target.getvalue()


def look(data: bytes | None) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    assert data is not None
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"))


def test_before_is_left_and_after_is_right(restored: Restored) -> None:
    sheet = look(contact_sheet(restored({"a.png": (flat(10), flat(200))})))
    assert sheet.shape == (366, 688, 3)
    assert sheet[40:340, 20:320].min() == sheet[40:340, 20:320].max() == 10
    assert sheet[40:340, 350:650].min() == sheet[40:340, 350:650].max() == 200


def test_more_than_two_photographs_stand_in_two_columns(restored: Restored) -> None:
    pictures = {f"{name}.png": (flat(10 + number), flat(200 + number)) for number, name in enumerate("abc")}
    sheet = look(contact_sheet(restored(pictures)))
    assert sheet.shape == (720, 1364, 3)
    assert [int(sheet[100, x, 0]) for x in (100, 450, 800, 1150)] == [10, 200, 11, 201]
    assert [int(sheet[500, x, 0]) for x in (100, 450)] == [12, 202]


def test_a_limit_on_how_many(restored: Restored) -> None:
    run = restored({f"{name}.png": (flat(10), flat(200)) for name in "abcd"})
    assert look(contact_sheet(run, most=1)).shape == (366, 688, 3)


def test_a_wide_photograph_keeps_its_proportions(restored: Restored) -> None:
    sheet = look(contact_sheet(restored({"a.png": (flat(10, (64, 16)), flat(200, (640, 160)))})))
    assert (sheet[34 : 34 + 80, 12 : 12 + 320] == 10).all()
    assert (sheet[34 + 81, 12 : 12 + 320] > 200).all()


def test_grey_and_sixteen_bits_are_shown(restored: Restored, scan: Picture) -> None:
    grey = flat(77, mode="L")
    target = io.BytesIO()
    Image.fromarray(np.full((32, 32), 0x8012, np.uint16)).save(target, "PNG")
    sheet = look(contact_sheet(restored({"a.png": (grey, target.getvalue())})))
    assert sheet[100, 100].tolist() == [77, 77, 77]
    assert sheet[100, 450].tolist() == [0x80, 0x80, 0x80]


def test_only_restored_photographs_are_shown(finished: Plan) -> None:
    assert look(contact_sheet(finished.run)).shape == (720, 688, 3)


def test_a_photograph_whose_files_are_gone_is_passed_over(restored: Restored, tmp_path: Path) -> None:
    run = restored({"a.png": (flat(10), flat(200)), "b.png": (flat(20), flat(210))})
    (tmp_path / "scans/a.png").unlink()
    sheet = look(contact_sheet(run))
    assert sheet.shape == (366, 688, 3)
    assert int(sheet[100, 100, 0]) == 20


def test_a_file_that_is_no_image_is_passed_over(restored: Restored, tmp_path: Path) -> None:
    run = restored({"a.png": (flat(10), flat(200)), "b.png": (flat(20), flat(210))})
    (tmp_path / "scans/a.png").write_bytes(b"no image")
    assert int(look(contact_sheet(run))[100, 100, 0]) == 20


def test_names_of_any_script_are_no_fault(restored: Restored) -> None:
    assert look(contact_sheet(restored({"写真 Ж ä 🙂.png": (flat(10), flat(200))}))).shape == (366, 688, 3)


def test_without_restored_photographs_there_is_no_sheet(make_spec: Callable[..., JobSpec], scans: Path) -> None:
    assert contact_sheet(prepare(make_spec()).run) is None
