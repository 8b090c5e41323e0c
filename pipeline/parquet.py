"""Parquet written as provenance keeps it, and read in the calling thread.

Arrow's own readers of data sets leave threads that let go of what they read a moment after it was handed over. Where that is
an object of Python's and Python ends in that moment, the process ends with an abort, and a run that is whole with a wrong code.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.selfdigest import BLANK, PARQUET_KEY, PARQUET_MARK, with_digest

# Of a column that is looked up: one row group in a hundred is read in vain (Bloom, CACM 13(7), 1970).
_IN_VAIN = 0.01


def read_parquet(source: Any, columns: Sequence[str] | None = None) -> pa.Table:
    """source: an open file or a pyarrow buffer reader. columns: None for all; those that are not there are left out.

    Checksums of pages are verified. Raises OSError, pa.ArrowInvalid for a damaged file.
    """
    file = pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=False)
    there = file.schema_arrow.names
    wanted = None if columns is None else [name for name in columns if name in there]
    return file.read(columns=wanted, use_threads=False)


def parquet_bytes(table: pa.Table, *, group: int | None = None, looked_up: Sequence[str] = ()) -> bytes:
    """A Parquet file, Zstandard, with a checksum for every page.

    group: rows of a row group. looked_up: columns of distinct text that one value is asked of; each row group has a Bloom
    filter for them, by which a reader leaves it out.
    """
    target = io.BytesIO()
    rows = min(group or table.num_rows, table.num_rows)
    filters = {name: {"ndv": max(rows, 1), "fpp": _IN_VAIN} for name in looked_up}
    pq.write_table(
        table,
        target,
        compression="zstd",
        row_group_size=group,
        write_page_checksum=True,
        bloom_filter_options=filters or None,
    )
    return target.getvalue()


def parquet_with_digest(table: pa.Table) -> bytes:
    """One row group with a checksum for every page, and the file's own digest in its footer (`pipeline.selfdigest`).

    For one row or a few, which are soon gathered into a part: compression, dictionaries and statistics of some sixty columns of
    one value each take as much time as all the rest of a commit, and make it no smaller.
    """
    target = io.BytesIO()
    with pq.ParquetWriter(
        target, table.schema, compression="none", use_dictionary=False, write_statistics=False, write_page_checksum=True
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({PARQUET_KEY: BLANK})
    return with_digest(target.getvalue(), PARQUET_MARK)
