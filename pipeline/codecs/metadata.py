"""Orientation, EXIF, XMP and resolution: what has to be true of the pixels as they are delivered."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType

from PIL.Image import Exif

from pipeline.photograph import Container, Pixels

ORIENTATION = 0x0112
# Tags of a TIFF's first directory that describe the photograph and not the file's structure.
DESCRIPTIVE: Mapping[int, str] = MappingProxyType(
    {
        0x010E: "ImageDescription",
        0x010F: "Make",
        0x0110: "Model",
        0x0132: "DateTime",
        0x013B: "Artist",
        0x8298: "Copyright",
    }
)
_XMP_ORIENTATION = re.compile(rb'(tiff:Orientation(?:="|>))[2-8]')
_TURNS: Mapping[int, Callable[[Pixels], Pixels]] = MappingProxyType(
    {
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: p.swapaxes(0, 1)[:, ::-1],
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: p.swapaxes(0, 1)[::-1],
    }
)


def upright(samples: Pixels, orientation: int) -> Pixels:
    """Pixels turned as EXIF 2.32 (tag 274) asks. Values outside 1..8 mean nothing and change nothing."""
    return _TURNS[orientation](samples) if orientation in _TURNS else samples


def turned_dpi(dpi: tuple[float, float] | None, orientation: int) -> tuple[float, float] | None:
    return (dpi[1], dpi[0]) if dpi is not None and orientation in (5, 6, 7, 8) else dpi


def upright_xmp(xmp: object) -> bytes | None:
    """The packet, saying that nothing is left to be turned. Anything but text and bytes is no packet."""
    if isinstance(xmp, str):
        xmp = xmp.encode()
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp) if isinstance(xmp, bytes) and xmp else None


def exif_bytes(exif: Exif) -> bytes | None:
    """TIFF-structured EXIF without orientation, or None where nothing else is in it or nothing can be made of it.

    Changes `exif`.
    """
    if ORIENTATION in exif:
        del exif[ORIENTATION]
    try:
        return exif.tobytes().removeprefix(b"Exif\x00\x00") if len(exif) else None
    except (struct.error, TypeError, ValueError, LookupError, OverflowError):
        # Damaged metadata are no reason to refuse a sound photograph.
        return None


def sane_dpi(container: Container, most: float) -> tuple[float, float] | None:
    """The resolution where a format can hold it: a false one would be worse than none."""
    dpi = container.dpi
    return dpi if dpi is not None and all(0 < value <= most for value in dpi) else None
