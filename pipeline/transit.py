"""How a photograph's row travels from one pool of workers to the next: a head of a few kilobytes, and its large arrays as
they lie in memory, which nobody copies.

The head is pickled (protocol 5, PEP 574). It comes from a worker of the same run, whose software was compared before it opened
anything; Ray hands over everything else in the same way.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.damage.kinds import Kinds
from pipeline.record import Record

# Arrays that travel by themselves: pixels, transparency, what the scan is held against. What is smaller, or one too many
# (the patches of many faces), goes into the head, by a copy.
_PLANES = 6
_LEAST = 64 << 10
ROW = pa.schema(
    [
        pa.field("item_no", pa.int64(), nullable=False),
        pa.field("head", pa.large_binary(), nullable=False),
        *((f"plane_{number}", pa.large_binary()) for number in range(_PLANES)),
    ]
)


def pack(records: Iterable[Record]) -> pa.Table:
    """Records as a table of ROW, one chunk a record. What a stage found for its event has gone into the event, and stays."""
    return pa.Table.from_batches([_packed(replace(record, findings={})) for record in records], schema=ROW)


def unpack(table: pa.Table) -> list[Record]:
    """The records of a table of ROW. Large arrays are read-only views of the table's memory."""
    return [_unpacked(table.slice(number, 1)) for number in range(table.num_rows)]


def _packed(record: Record) -> pa.RecordBatch:
    photograph, damage = record.photograph, None
    if photograph is not None and photograph.damage is not None:
        # Codes are the same over long runs: 200 megapixels of them pack to some 2 MB in a fifth of a second.
        damage = _codec().compress(np.ascontiguousarray(photograph.damage).reshape(-1), asbytes=True)
        record = replace(record, photograph=replace(photograph, damage=None))
    planes: list[pa.Buffer] = []

    def stays(buffer: pickle.PickleBuffer) -> bool:
        bytes_ = buffer.raw()
        if bytes_.nbytes < _LEAST or len(planes) == _PLANES:
            return True
        planes.append(pa.py_buffer(bytes_))
        return False

    head = pickle.dumps((record, damage), protocol=5, buffer_callback=stays)
    columns = [pa.array([record.item_no], pa.int64()), _binary(pa.py_buffer(head)), *map(_binary, planes)]
    columns += [pa.nulls(1, pa.large_binary())] * (len(ROW) - len(columns))
    return pa.RecordBatch.from_arrays(columns, schema=ROW)


def _unpacked(row: pa.Table) -> Record:
    planes = [plane for number in range(_PLANES) if (plane := _buffer(row[f"plane_{number}"])) is not None]
    data = _buffer(row["head"])
    assert data is not None
    head: tuple[Record, bytes | None] = pickle.loads(data, buffers=planes)  # noqa: S301 - of a worker of this run
    record, damage = head
    if record.photograph is None or damage is None:
        return record
    photograph = record.photograph
    return replace(record, photograph=replace(photograph, damage=_codes(damage, photograph.height, photograph.width)))


def _codec() -> Any:
    return pa.Codec("zstd", compression_level=1)


def _codes(packed: bytes, height: int, width: int) -> Kinds:
    return np.frombuffer(_codec().decompress(packed, height * width), np.uint8).reshape(height, width)


def _binary(buffer: pa.Buffer) -> pa.Array:
    """One large_binary value over the buffer's own memory."""
    offsets = pa.py_buffer(np.array([0, buffer.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, buffer])


def _buffer(column: pa.ChunkedArray) -> pa.Buffer | None:
    """The one value of a column, where it lies: an Arrow scalar would copy it."""
    chunk = next(chunk for chunk in column.chunks if len(chunk))
    if chunk.null_count:
        return None
    _, offsets, data = chunk.buffers()
    start, end = (int(place) for place in np.frombuffer(offsets, np.int64, 2, 8 * chunk.offset))
    return data.slice(start, end - start)
