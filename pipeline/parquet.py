"""Parquet read in the calling thread.

Arrow's own readers of data sets leave threads that let go of what they read a moment after it was handed over. Where that is
an object of Python's and Python ends in that moment, the process ends with an abort, and a run that is whole with a wrong code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def read_parquet(source: Any, columns: Sequence[str] | None = None) -> pa.Table:
    """source: an open file or a pyarrow buffer reader. columns: None for all; those that are not there are left out.

    Checksums of pages are verified. Raises OSError, pa.ArrowInvalid for a damaged file.
    """
    file = pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=False)
    there = file.schema_arrow.names
    wanted = None if columns is None else [name for name in columns if name in there]
    return file.read(columns=wanted, use_threads=False)
