"""A seekable reader of an object, for libraries that read files by parts."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BLOCK = 4 << 20


class ObjectReader(io.RawIOBase):
    """size: of the object, bytes. get_range: the bytes from the first to the last number, both included, or OSError."""

    def __init__(self, size: int, get_range: Callable[[int, int], bytes]) -> None:
        self._size = size
        self._get_range = get_range
        self._place = 0

    def buffered(self) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(self, _BLOCK))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._size - self._place)
        if wanted <= 0:
            return 0
        view[:wanted] = self._get_range(self._place, self._place + wanted - 1)
        self._place += wanted
        return wanted
