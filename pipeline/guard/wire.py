"""What travels between a worker and its decoder: bytes in sealed memory without a name, and small JSON messages.

Memory files (memfd_create(2)) belong to whoever holds them open: the kernel frees them also when both sides were killed.
Seals keep the other side from shrinking what is mapped here, which would end a worker by SIGBUS.
"""

from __future__ import annotations

import fcntl
import json
import math
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Self

import numpy as np

from pipeline.photograph import DEPTHS, Container, Photograph

# One message; metadata are not in it but behind the pixels.
MESSAGE = 64 << 10
_CHUNK = 16 << 20
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_MADV_DONTNEED = 4


class WireError(Exception):
    """The other side sent what cannot be meant."""


class Shared:
    """Sealed bytes that another process can be given without a name and without a copy."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self.fd = _memory_file()
        try:
            _write_all(self.fd, memoryview(data))
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
        except OSError:
            os.close(self.fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def _memory_file() -> int:
    return os.memfd_create("albumen", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _write_all(fd: int, view: memoryview) -> None:
    for start in range(0, len(view), _CHUNK):
        part = view[start : start + _CHUNK]
        while part:
            part = part[os.write(fd, part) :]


def message(**content: Any) -> bytes:
    """Raises WireError where it would not fit."""
    data = json.dumps(content).encode()
    if len(data) > MESSAGE:
        raise WireError(f"a message of {len(data)} bytes")
    return data


def parse(data: bytes) -> dict[str, Any]:
    """Raises WireError for anything but a JSON object."""
    try:
        content = json.loads(data)
    except ValueError as error:
        raise WireError("a message that is no JSON") from error
    if not isinstance(content, dict):
        raise WireError("a message that is no JSON object")
    return content


def send_photograph(photograph: Photograph) -> tuple[dict[str, Any], int]:
    """A description and an open memory file: pixels, alpha, then metadata. Empties the photograph's arrays on the way, so
    that it never lies in memory twice: it must not be used afterwards."""
    container, facts, blobs = photograph.container, {}, {}
    for field in fields(container):
        value = getattr(container, field.name)
        if isinstance(value, bytes):
            blobs[field.name] = value
        else:
            facts[field.name] = value
    description: dict[str, Any] = {
        "shape": photograph.pixels.shape,
        "dtype": photograph.pixels.dtype.name,
        "alpha": photograph.alpha is not None,
        "facts": facts,
        "blobs": {name: len(value) for name, value in blobs.items()},
    }
    fd = _memory_file()
    _pour(fd, photograph.pixels)
    if photograph.alpha is not None:
        _pour(fd, np.ascontiguousarray(photograph.alpha))
    for value in blobs.values():
        _write_all(fd, memoryview(value))
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return description, fd


def _pour(fd: int, array: np.ndarray[Any, Any]) -> None:
    """Write an array, giving its pages back to the system as they are written."""
    view = array.data.cast("B")
    for start in range(0, len(view), _CHUNK):
        part = view[start : start + _CHUNK]
        _write_all(fd, part)
        if len(part) == _CHUNK and array.flags.writeable:
            _give_back(array.ctypes.data + start, _CHUNK)


def _give_back(address: int, size: int) -> None:
    import ctypes

    page = mmap.PAGESIZE
    first, last = -(-address // page) * page, (address + size) // page * page
    ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _MADV_DONTNEED)


def receive_photograph(item_id: str, description: Mapping[str, Any], fd: int, max_pixels: int) -> Photograph:
    """The photograph over the memory itself, read-only. Nothing that the other side says is believed unchecked.

    Raises WireError.
    """
    try:
        return _receive(item_id, description, fd, max_pixels)
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"a photograph that is none: {error}") from error


def _receive(item_id: str, description: Mapping[str, Any], fd: int, max_pixels: int) -> Photograph:
    if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
        raise WireError("memory that is not sealed")
    height, width, channels = (_whole(side) for side in description["shape"])
    if description["dtype"] not in DEPTHS or channels not in (1, 3) or not 0 < height * width <= max_pixels:
        raise WireError(f"pixels of shape {description['shape']} and type {description['dtype']!r}")
    dtype = np.dtype(description["dtype"])
    lengths = {name: _whole(length) for name, length in description["blobs"].items()}
    planes = channels + bool(description["alpha"])
    expected = height * width * planes * dtype.itemsize + sum(lengths.values())
    if os.fstat(fd).st_size != expected:
        raise WireError(f"{os.fstat(fd).st_size} bytes where {expected} were announced")
    memory = mmap.mmap(fd, expected, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=mmap.PROT_READ)
    area = height * width
    pixels = np.frombuffer(memory, dtype, area * channels).reshape(height, width, channels)
    start = pixels.nbytes
    alpha = None
    if description["alpha"]:
        alpha = np.frombuffer(memory, dtype, area, start).reshape(height, width)
        start += alpha.nbytes
    blobs = {}
    for name, length in lengths.items():
        blobs[name] = memory[start : start + length]
        start += length
    return Photograph(item_id, pixels, _container(description["facts"], blobs), alpha)


def _container(facts: Mapping[str, Any], blobs: Mapping[str, bytes]) -> Container:
    known = {field.name for field in fields(Container)}
    values: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in facts.items()}
    values |= blobs
    if not values.keys() <= known or not isinstance(values.get("format"), str):
        raise WireError(f"a container of {sorted(values)}")
    dpi = values.get("dpi")
    if dpi is not None:
        values["dpi"] = _resolution(dpi)
    return Container(**values)


def _resolution(dpi: Sequence[Any]) -> tuple[float, float] | None:
    across, down = (float(value) for value in dpi)
    return (across, down) if all(math.isfinite(value) and value > 0 for value in (across, down)) else None


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise WireError(f"{value!r} where a length was expected")
    return value
