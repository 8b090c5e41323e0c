"""AVIF out: libavif codes the pixels, and the items that describe them are added to its file (ISO/IEC 23008-12)."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
from PIL import Image

from pipeline.codecs import exif
from pipeline.codecs.jp2 import boxes
from pipeline.codecs.metadata import sane_dpi
from pipeline.codecs.samples import joined
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Photograph

_MOST_SIDE = 65_535
_SPEED = 6


def encode(photograph: Photograph, quality: int | None) -> bytes:
    """Lossless, or lossy of `quality`, never subsampled. Raises ItemError: unsupported."""
    for present, what in (
        (photograph.peak != 255, "16-bit samples (12 bits at most)"),
        (max(photograph.width, photograph.height) > _MOST_SIDE, f"a side over {_MOST_SIDE:,} pixels"),
    ):
        if present:
            raise ItemError(Reason.UNSUPPORTED, f"AVIF cannot hold {what}; choose [output] format tiff, png or jp2")
    container = photograph.container
    dpi = sane_dpi(container, 1e6)
    block = exif.truthful(container.exif, photograph.width, photograph.height, dpi, carries_dpi=False)
    items = [(b"Exif\0", b"\0\0\0\0" + block)] if block is not None else []
    if container.xmp is not None:
        items.append((b"mime\0application/rdf+xml\0", container.xmp))
    return _described(_coded(photograph, quality), container.icc, items)


def _coded(photograph: Photograph, quality: int | None) -> bytes:
    samples = np.ascontiguousarray(joined(photograph))
    grey = photograph.pixels.shape[2] == 1
    if grey and quality is not None:
        # imagecodecs codes grey without loss whatever the quality.
        target = io.BytesIO()
        image = Image.fromarray(samples)
        image.save(target, "AVIF", quality=quality, subsampling="4:0:0", speed=_SPEED, max_threads=1)
        return target.getvalue()
    return bytes(
        imagecodecs.avif_encode(
            samples,
            level=imagecodecs.AVIF.QUALITY.LOSSLESS if quality is None else min(quality, 99),
            pixelformat="yuv400" if grey else "yuv444",
            speed=_SPEED,
            numthreads=1,
        )
    )


def _full(kind: bytes, version: int, flags: int, body: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags) + body)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind) + body


def _described(data: bytes, icc: bytes | None, items: list[tuple[bytes, bytes]]) -> bytes:
    """libavif's file with a profile and further items. items: type (and MIME type) as `infe` spells them, and payload."""
    if icc is None and not items:
        return data
    places = {kind: (start, end) for kind, start, end in boxes(data)}
    head, meta = places[b"ftyp"], places[b"meta"]
    if len(places) != 3 or meta[0] - 8 != head[1]:
        raise ValueError("libavif laid its boxes out in a way that is not known here")
    payload = b"".join(body for _, body in items)
    inner = [(kind, data[a:b]) for kind, a, b in boxes(data, meta[0] + 4, meta[1])]
    size = len(_meta(inner, icc, items, 0, 0))
    moved = size - (meta[1] - meta[0] + 8)
    built = _meta(inner, icc, items, moved, len(data) + moved + 8)
    return data[: head[1]] + built + data[meta[1] :] + (_box(b"mdat", payload) if items else b"")


def _meta(
    inner: list[tuple[bytes, bytes]], icc: bytes | None, items: list[tuple[bytes, bytes]], moved: int, start: int
) -> bytes:
    """The `meta` box anew. moved: how far all data go towards the end. start: of the new items' payloads in the file."""
    known = struct.unpack_from(">H", dict(inner)[b"iinf"], 4)[0]
    numbers = range(known + 1, known + 1 + len(items))
    parts = []
    for kind, body in inner:
        if kind == b"iloc":
            parts.append(
                _locations(body, moved, start, [(n, len(item[1])) for n, item in zip(numbers, items, strict=True)])
            )
        elif kind == b"iinf":
            entries = [
                _full(b"infe", 2, 0, struct.pack(">HH", n, 0) + item[0][:4] + b"\0" + _mime(item[0]))
                for n, item in zip(numbers, items, strict=True)
            ]
            parts.append(_full(b"iinf", 0, 0, struct.pack(">H", known + len(items)) + body[6:] + b"".join(entries)))
        elif kind == b"iprp":
            parts.append(_box(b"iprp", _with_profile(body, icc)))
        elif kind != b"iref":
            parts.append(_box(kind, body))
    about = b"".join(_box(b"cdsc", struct.pack(">HHH", number, 1, 1)) for number in numbers)
    former = dict(inner).get(b"iref", b"\0\0\0\0")[4:]
    if former or about:
        parts.append(_full(b"iref", 0, 0, former + about))
    return _full(b"meta", 0, 0, b"".join(parts))


def _mime(spelled: bytes) -> bytes:
    return spelled[5:]


def _locations(iloc: bytes, moved: int, start: int, items: list[tuple[int, int]]) -> bytes:
    """libavif's locations (version 0, 32-bit offsets and lengths, one extent an item), moved, and those of more items."""
    if iloc[:6] != b"\0\0\0\0\x44\x00":
        raise ValueError("libavif located its items in a way that is not known here")
    entry = struct.Struct(">HHHII")
    entries = [entry.unpack_from(iloc, at) for at in range(8, len(iloc), entry.size)]
    located = [(number, ref, count, at + moved, size) for number, ref, count, at, size in entries]
    for number, size in items:
        located.append((number, 0, 1, start, size))
        start += size
    return _box(b"iloc", iloc[:6] + struct.pack(">H", len(located)) + b"".join(entry.pack(*one) for one in located))


def _with_profile(iprp: bytes, icc: bytes | None) -> bytes:
    """The properties with the profile among them, associated with the first item, which is the image."""
    inner = {kind: iprp[a:b] for kind, a, b in boxes(iprp)}
    ipco, ipma = inner[b"ipco"], inner[b"ipma"]
    if icc is None:
        return iprp
    index = sum(1 for _ in boxes(ipco)) + 1
    number, count = struct.unpack_from(">HB", ipma, 8)
    if number != 1 or ipma[:4] != b"\0\0\0\0":
        raise ValueError("libavif associated its properties in a way that is not known here")
    end = 11 + count
    ipma = ipma[:8] + struct.pack(">HB", 1, count + 1) + ipma[11:end] + bytes((index,)) + ipma[end:]
    return _box(b"ipco", ipco + _box(b"colr", b"prof" + icc)) + _box(b"ipma", ipma)
