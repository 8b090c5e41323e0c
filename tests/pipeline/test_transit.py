from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ItemError, Reason
from pipeline.honesty.proof import proof_of
from pipeline.photograph import Face
from pipeline.record import Record
from pipeline.transit import ROW, pack, unpack
from tests.pipeline.strategies import a_record, assert_same_photograph, over_the_wire, records, same


@pytest.mark.parametrize("way", ["as it is", "over the wire", "in one chunk"])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(before=st.lists(records(), max_size=3))
def test_unpack_gives_back_what_was_packed(way: str, before: list[Record]) -> None:
    table = pack(before)
    assert table.schema == ROW
    if way == "over the wire":
        table = over_the_wire(table)
    elif way == "in one chunk":
        table = table.combine_chunks()
    after = unpack(table)
    assert after == before  # every column; photographs are left out of the comparison
    for mine, theirs in zip(before, after, strict=True):
        assert (mine.photograph is None) == (theirs.photograph is None)
        if mine.photograph is not None and theirs.photograph is not None:
            assert_same_photograph(mine.photograph, theirs.photograph)


def test_pixels_are_packed_without_a_copy() -> None:
    pixels = np.arange(300 * 400 * 3, dtype=np.uint16).reshape(300, 400, 3)
    buffer = pack([a_record(pixels)])["plane_0"].chunk(0).buffers()[2]
    assert buffer.address == pixels.ctypes.data
    assert buffer.size == pixels.nbytes


def test_pixels_are_unpacked_without_a_copy() -> None:
    table = over_the_wire(pack([a_record(np.full((300, 400, 1), 7, np.uint8))]))
    photograph = unpack(table)[0].photograph
    assert photograph is not None
    assert photograph.pixels.ctypes.data == table["plane_0"].chunk(0).buffers()[2].address
    assert not photograph.pixels.flags.writeable


def test_sparse_damage_travels_light() -> None:
    """Lines on 12 megapixels; as bits they would take 1.5 MB."""
    drawn = np.zeros((3000, 4000), np.uint8)
    for number in range(20):
        cv2.line(drawn, (number * 190, 0), (3999 - number * 150, 2999), 1 + number % 2, 3)
    record = a_record(np.zeros((3000, 4000, 1), np.uint8))
    assert record.photograph is not None
    table = pack([replace(record, photograph=replace(record.photograph, damage=drawn))])
    assert len(table["head"][0].as_buffer()) < 200_000
    after = unpack(over_the_wire(table))[0].photograph
    assert after is not None
    assert same(after.damage, drawn)


def test_one_chunk_a_record() -> None:
    table = pack([a_record(np.zeros((2, 2, 1), np.uint8))] * 3)
    assert [len(chunk) for chunk in table["head"].chunks] == [1, 1, 1]


def test_an_array_that_is_two_things_travels_once() -> None:
    """The proof of a small scan is the scan."""
    record = a_record(np.full((300, 400, 1), 7, np.uint8))
    assert record.photograph is not None
    table = pack([replace(record, photograph=replace(record.photograph, proof=proof_of(record.photograph)))])
    assert table.nbytes < 1.2 * record.photograph.pixels.nbytes
    after = unpack(over_the_wire(table))[0].photograph
    assert after is not None
    assert after.proof is not None
    assert after.proof.is_whole()
    assert after.proof.samples.ctypes.data == after.pixels.ctypes.data


def test_more_patches_than_columns_travel() -> None:
    face = Face((0.0, 0.0, 9.0, 9.0), (0.0,) * 10, 0.9)
    faces = tuple(replace(face, patch=np.full((512, 512, 3), number, np.uint16)) for number in range(9))
    record = a_record(np.full((300, 400, 1), 7, np.uint8))
    assert record.photograph is not None
    sent = pack([replace(record, photograph=replace(record.photograph, faces=faces))])
    after = unpack(over_the_wire(sent))[0].photograph
    assert after is not None
    assert [int(found.patch[0, 0, 0]) for found in after.faces if found.patch is not None] == list(range(9))


def test_what_a_stage_found_stays_behind() -> None:
    record = replace(a_record(np.zeros((2, 2, 1), np.uint8)), findings={"seconds": 1})
    assert unpack(pack([record]))[0].findings == {}


@pytest.mark.parametrize("reason", list(Reason))
def test_an_ended_record_travels(reason: Reason) -> None:
    record = a_record(np.zeros((2, 2, 1), np.uint8)).ended(ItemError(reason, "why"))
    [after] = unpack(over_the_wire(pack([record])))
    assert after == record
    assert after.status is record.status


def test_no_records_make_an_empty_table() -> None:
    assert pack([]).num_rows == 0
    assert pack([]).schema == ROW
    assert unpack(pack([])) == []
