"""JPEG in and out: Pillow decodes and encodes the pixels, the segments around them are read and written here.

Sources: ITU-T T.81 (markers), T.871 (JFIF), CIPA DC-008 (EXIF), ICC.1:2010 annex B.4, XMP part 3, Adobe TN 5116 (APP14).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from pipeline.codecs import exif, iptc, jpeg_xmp
from pipeline.codecs.cms import cmyk_to_rgb
from pipeline.codecs.icc import romm
from pipeline.codecs.metadata import clean_xmp, sane_dpi
from pipeline.codecs.samples import assemble, check_size, joined, no_pillow_limit
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Container, Photograph, Pixels

SIGNATURE = b"\xff\xd8\xff"
_EXIF, _ICC, _PHOTOSHOP = b"Exif\x00\x00", b"ICC_PROFILE\x00", b"Photoshop 3.0\x00"
_SEGMENT = 65_533
_PER_INCH = {1: 1.0, 2: 2.54}
_FRAMES = {
    0xC3: "lossless coding",
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical coding"),
    **dict.fromkeys((0xC9, 0xCA), "arithmetic coding"),
    0xCB: "lossless arithmetic coding",
    0xF7: "JPEG-LS coding",
}


@dataclass(slots=True)
class _Segments:
    """What the segments before the first scan say."""

    frame: int = 0
    precision: int = 0
    height: int = 0
    width: int = 0
    adobe: bool = False
    density: tuple[float, float] | None = None
    exif: bytes | None = None
    xmp: list[bytes] = field(default_factory=list)
    extended: list[bytes] = field(default_factory=list)
    icc: dict[int, bytes] = field(default_factory=dict)
    icc_count: int = 0
    photoshop: list[bytes] = field(default_factory=list)

    def profile(self) -> bytes | None:
        whole = self.icc_count and sorted(self.icc) == list(range(1, self.icc_count + 1))
        return b"".join(self.icc[number] for number in sorted(self.icc)) if whole else None


def decode(data: bytes, item_id: str, max_pixels: int) -> Photograph:
    """8-bit baseline, extended and progressive JPEG. CMYK and YCCK become RGB through their profile."""
    found = _read(data)
    if found.frame in _FRAMES or found.precision not in (0, 8):
        what = _FRAMES.get(found.frame) or f"{found.precision} bits a sample"
        raise ItemError(Reason.UNSUPPORTED, f"JPEG with {what}; convert it to TIFF or JPEG 2000 first")
    check_size(found.width, found.height, max_pixels)
    icc, conversion = found.profile(), None
    samples = _pixels(data)
    if samples.ndim == 3 and samples.shape[2] == 4:
        # Pillow turns all CMYK round, as Adobe stores it; without Adobe's marker ink is stored as it is.
        samples, conversion = cmyk_to_rgb(samples if found.adobe else 255 - samples, icc)
        icc = romm()
    cleaned = exif.clean(found.exif)
    xmp, turn = clean_xmp(jpeg_xmp.join(found.xmp, found.extended))
    orientation = cleaned.orientation or turn
    container = Container(
        format="JPEG",
        icc=icc,
        exif=cleaned.block,
        xmp=xmp,
        iptc=iptc.from_resources(b"".join(found.photoshop)),
        dpi=_resolution(found.density, cleaned.dpi),
        conversion=conversion,
    )
    return assemble(item_id, samples, container, orientation)


def _pixels(data: bytes) -> Pixels:
    with no_pillow_limit():
        image = Image.open(io.BytesIO(data), formats=("JPEG", "MPO"))
        if image.mode not in ("L", "RGB", "CMYK"):
            raise ItemError(Reason.UNSUPPORTED, f"JPEG with {image.mode} samples")
        return np.array(image)


def _resolution(density: tuple[float, float] | None, stated: tuple[float, float] | None) -> tuple[float, float] | None:
    """JFIF counts whole pixels; where EXIF says the same more finely, EXIF is right. Without either, nothing is known."""
    if density is None or stated is None:
        return density or stated
    return stated if all(abs(a - b) < 1.3 for a, b in zip(density, stated, strict=True)) else density


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and payload of each segment up to the first scan. Stops quietly where the structure ends."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        if marker in (0xD9, 0xDA):
            return
        [size] = struct.unpack_from(">H", data, at + 2)
        yield marker, data[at + 4 : at + 2 + size]
        at += 2 + max(size, 2)


def _read(data: bytes) -> _Segments:
    found = _Segments()
    for marker, body in _segments(data):
        if marker in _FRAMES or marker in (0xC0, 0xC1, 0xC2):
            if len(body) >= 6:
                found.frame = marker
                found.precision, found.height, found.width = struct.unpack_from(">BHH", body)
        elif marker == 0xE0 and body[:5] == b"JFIF\x00" and len(body) >= 12:
            unit, x, y = struct.unpack_from(">BHH", body, 7)
            factor = _PER_INCH.get(unit)
            found.density = (x * factor, y * factor) if factor and x and y else None
        elif marker == 0xE1:
            _read_app1(body, found)
        elif marker == 0xE2 and body.startswith(_ICC) and len(body) > 14:
            found.icc.setdefault(body[12], body[14:])
            found.icc_count = body[13]
        elif marker == 0xED and body.startswith(_PHOTOSHOP):
            found.photoshop.append(body[len(_PHOTOSHOP) :])
        elif marker == 0xEE and body[:5] == b"Adobe":
            found.adobe = True
    return found


def _read_app1(body: bytes, found: _Segments) -> None:
    if body.startswith(_EXIF):
        found.exif = found.exif or body[len(_EXIF) :]
    elif body.startswith(jpeg_xmp.STANDARD):
        found.xmp.append(body[len(jpeg_xmp.STANDARD) :])
    elif body.startswith(jpeg_xmp.EXTENDED):
        found.extended.append(body[len(jpeg_xmp.EXTENDED) :])


def encode(photograph: Photograph, quality: int | None) -> bytes:
    """Baseline JPEG of `quality` (95 where none is said), chroma not subsampled. Raises ItemError: unsupported."""
    for present, what in (
        (photograph.peak != 255, "16-bit samples"),
        (photograph.alpha is not None, "an alpha channel"),
        (max(photograph.width, photograph.height) > 65_500, "a side of this length"),
    ):
        if present:
            raise ItemError(Reason.UNSUPPORTED, f"JPEG cannot hold {what}; choose [output] format tiff, png or jp2")
    segments = _metadata(photograph)
    options: dict[str, Any] = {"quality": 95 if quality is None else quality, "subsampling": 0, "optimize": True}
    if (dpi := sane_dpi(photograph.container, 65_535, 0.5)) is not None:
        options["dpi"] = tuple(max(1, round(value)) for value in dpi)
    target = io.BytesIO()
    Image.fromarray(joined(photograph)).save(target, "JPEG", **options)
    data = target.getvalue()
    # Behind JFIF's segment, which has to be the first.
    [size] = struct.unpack_from(">H", data, 4)
    return data[: 4 + size] + segments + data[4 + size :]


def _metadata(photograph: Photograph) -> bytes:
    container = photograph.container
    bodies: list[tuple[int, bytes]] = []
    block = exif.truthful(container.exif, photograph.width, photograph.height, container.dpi)
    if block is not None:
        if len(block) > _SEGMENT - len(_EXIF):
            raise ItemError(
                Reason.UNSUPPORTED, "JPEG cannot hold EXIF of this length; choose [output] format tiff, png or jp2"
            )
        bodies.append((0xE1, _EXIF + block))
    if container.xmp is not None:
        main, pieces = jpeg_xmp.split(container.xmp)
        bodies.append((0xE1, jpeg_xmp.STANDARD + main))
        bodies += [(0xE1, jpeg_xmp.EXTENDED + piece) for piece in pieces]
    if container.iptc is not None:
        resources, room = iptc.to_resources(container.iptc), _SEGMENT - len(_PHOTOSHOP)
        bodies += [(0xED, _PHOTOSHOP + resources[at : at + room]) for at in range(0, len(resources), room)]
    bodies += [(0xE2, body) for body in _icc_bodies(container.icc)]
    return b"".join(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in bodies)


def _icc_bodies(icc: bytes | None) -> list[bytes]:
    room = _SEGMENT - len(_ICC) - 2
    pieces = [] if icc is None else [icc[at : at + room] for at in range(0, len(icc), room)]
    if len(pieces) > 255:
        raise ItemError(Reason.UNSUPPORTED, "JPEG cannot hold a profile of this length; choose tiff, png or jp2")
    return [_ICC + bytes((number, len(pieces))) + piece for number, piece in enumerate(pieces, start=1)]
