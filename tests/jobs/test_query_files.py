"""What DuckDB's threads read when they share a file of a store."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

from jobs.query.files import PartFiles

DATA = bytes(range(256)) * 4


class Meeting(io.BytesIO):
    """Stands still before every read until another thread has come as far."""

    def __init__(self, data: bytes, meet: Callable[[], object]) -> None:
        super().__init__(data)
        self.meet = meet

    def read(self, count: int | None = -1) -> bytes:
        self.meet()
        return super().read(count)


class OneFile:
    """A store that counts how often its file is opened."""

    def __init__(self, meet: Callable[[], object]) -> None:
        self.meet = meet
        self.opened: list[io.BytesIO] = []

    def open(self, uri: str) -> io.BytesIO:
        self.opened.append(Meeting(DATA, self.meet))
        return self.opened[-1]


def shared_handle(meet: Callable[[], object]) -> tuple[Any, OneFile]:
    store, files = OneFile(meet), PartFiles()
    return files.open(files.add(store, "s3://run/part.parquet")), store  # type: ignore[arg-type]


def test_two_threads_that_share_a_handle_get_the_bytes_that_each_asked_for() -> None:
    """Both have sought before either reads, and both read at once."""
    together = threading.Barrier(2, timeout=20)
    handle, store = shared_handle(together.wait)
    found: dict[int, bytes] = {}

    def look(place: int) -> None:
        handle.seek(place)
        together.wait()
        found[place] = handle.read(8)

    threads = [threading.Thread(target=look, args=(place,)) for place in (16, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {place: DATA[place : place + 8] for place in (16, 200)}
    assert len(store.opened) == 2
    handle.close()
    assert all(file.closed for file in store.opened)


def test_one_thread_opens_a_file_once_and_goes_on_where_it_was() -> None:
    handle, store = shared_handle(lambda: None)
    assert [handle.read(4), handle.read(4), handle.tell()] == [DATA[:4], DATA[4:8], 8]
    handle.seek(4, io.SEEK_CUR)
    assert handle.read(4) == DATA[12:16]
    handle.seek(-4, io.SEEK_END)
    assert handle.read(9) == DATA[-4:]
    assert handle.read(9) == b""
    # Its size was asked of a file of its own.
    assert len(store.opened) == 2
