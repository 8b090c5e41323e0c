"""Parquet is read in the calling thread, and no other outlives the reading."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.parquet import read_parquet

TABLE = pa.table({"a": list(range(5000)), "b": ["x" * (n % 7) for n in range(5000)], "c": [[n] for n in range(5000)]})
# Prints how many threads reading has added to the process, and leaves at once: with Arrow's own threads about, the
# interpreter's usual end has been seen to abort.
COUNT = """
import os, sys
import pyarrow as pa
import pyarrow.parquet as pq
from pipeline.parquet import read_parquet

before = len(os.listdir("/proc/self/task"))
for _ in range(3):
    with open(sys.argv[1], "rb") as file:
        {how}
print(len(os.listdir("/proc/self/task")) - before, flush=True)
os._exit(0)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pq.write_table(TABLE, tmp_path / "t.parquet", row_group_size=500, write_page_checksum=True)
    return tmp_path / "t.parquet"


def added(path: Path, how: str) -> int:
    ran = subprocess.run(
        [sys.executable, "-c", COUNT.format(how=how), str(path)], capture_output=True, text=True, check=True
    )
    return int(ran.stdout)


def test_reading_leaves_no_thread(path: Path) -> None:
    # What would have been noticed: Arrow's reader of data sets has threads of its own.
    assert added(path, "pq.read_table(file)") > 0
    assert added(path, "read_parquet(file)") == 0


def test_columns_that_are_there_come_and_others_do_not(path: Path) -> None:
    data = path.read_bytes()
    assert read_parquet(pa.BufferReader(data)).equals(TABLE)
    assert read_parquet(pa.BufferReader(data), ["c", "a", "z"]).equals(TABLE.select(["c", "a"]))


def test_a_flipped_bit_is_found(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    with pytest.raises((OSError, pa.ArrowInvalid)):
        read_parquet(pa.BufferReader(bytes(data)))
