"""IPTC-IIM records, and the Photoshop image resources that JPEG, PNG and old TIFF wrap around them.

Sources: IPTC-NAA Information Interchange Model 4.2; Adobe Photoshop file formats, image resource blocks.
"""

from __future__ import annotations

import struct

_MARKER = 0x1C
_SIGNATURES = (b"8BIM", b"MeSa", b"AgHg", b"PHUT", b"DCSR")
_RECORDS = 0x0404


def records(raw: bytes | None) -> bytes | None:
    """The datasets that `raw` starts with, without padding behind them; None where it starts with none."""
    if raw is None:
        return None
    at = 0
    while at + 5 <= len(raw) and raw[at] == _MARKER:
        [size] = struct.unpack_from(">H", raw, at + 3)
        head = 5
        if size & 0x8000:
            digits = size & 0x7FFF
            size = int.from_bytes(raw[at + 5 : at + 5 + digits])
            head += digits
        if at + head + size > len(raw):
            break
        at += head + size
    return raw[:at] or None


def from_resources(raw: bytes | None) -> bytes | None:
    """The IPTC records among Photoshop's image resources."""
    at = 0
    while raw is not None and at + 8 <= len(raw) and raw[at : at + 4] in _SIGNATURES:
        [number] = struct.unpack_from(">H", raw, at + 4)
        name = raw[at + 6] + 1
        start = at + 6 + name + name % 2
        if start + 4 > len(raw):
            return None
        [size] = struct.unpack_from(">I", raw, start)
        if number == _RECORDS and raw[at : at + 4] == b"8BIM":
            return records(raw[start + 4 : start + 4 + size])
        at = start + 4 + size + size % 2
    return None


def to_resources(iptc: bytes) -> bytes:
    """One image resource that holds the records."""
    return b"8BIM" + struct.pack(">HHI", _RECORDS, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
