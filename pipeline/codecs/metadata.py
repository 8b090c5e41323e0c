"""Orientation, XMP and resolution: what has to be true of the pixels as they are delivered."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from pipeline.photograph import Container, Pixels

_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation\s*(?:=\s*["']|>)\s*)([1-8])(?=\s*["'<])""")
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


def clean_xmp(xmp: bytes | None) -> tuple[bytes | None, int]:
    """The packet, saying that nothing is left to be turned; and the orientation that it asked for, else 0."""
    if not xmp:
        return None, 0
    found = _XMP_ORIENTATION.search(xmp)
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp), int(found[2]) if found else 0


def sane_dpi(container: Container, most: float, least: float = 0.02) -> tuple[float, float] | None:
    """The resolution where a format can hold it: a false one would be worse than none."""
    dpi = container.dpi
    return dpi if dpi is not None and all(least <= value <= most for value in dpi) else None
