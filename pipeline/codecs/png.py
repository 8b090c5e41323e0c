"""PNG in and out: libpng codes the pixels, the chunks around them are read and written here (PNG, third edition)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import imagecodecs
import numpy as np

from pipeline.codecs import exif, iptc
from pipeline.codecs.icc import SRGB_CURVE, Chromaticities, Curve, from_code_points, rgb_profile
from pipeline.codecs.metadata import clean_xmp, sane_dpi
from pipeline.codecs.samples import assemble, check_size, depth_note, joined
from pipeline.photograph import Container, Photograph

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP = b"XML:com.adobe.xmp"
_RAW = b"Raw profile type "
# What decides pixels; anything else is kept away from the decoder, so that damaged metadata refuse no photograph.
_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
# Inflated metadata end here: a bomb is no profile.
_MOST = 64 * 2**20
_INCH = 0.0254
# Of zlib: 1 to 5 % larger than at its usual 6, in a quarter to a third of the time (8 bits).
_LEVEL = 4
_SRGB_CHRM = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def decode(data: bytes, item_id: str, max_pixels: int) -> Photograph:
    """All colour types and depths, interlaced or not; 1 to 4 bits are spread over 8, transparency becomes alpha."""
    chunks = list(_chunks(data))
    if not chunks or chunks[0].kind != b"IHDR" or chunks[0].size < 13:
        raise OSError("no PNG header")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, chunks[0].start + 8)
    check_size(width, height, max_pixels)
    found, texts = _metadata(data, chunks)
    samples = imagecodecs.png_decode(_lean(data, chunks))
    cleaned = exif.clean(found.get(b"eXIf") or _raw_profile(texts, b"exif") or _raw_profile(texts, b"APP1"))
    xmp, turn = clean_xmp(texts.get(_XMP) or _raw_profile(texts, b"xmp"))
    orientation = cleaned.orientation or turn
    container = Container(
        format="PNG",
        icc=_profile(found, is_colour=colour not in (0, 4)),
        exif=cleaned.block,
        xmp=xmp,
        iptc=_iptc(_raw_profile(texts, b"iptc")),
        dpi=_resolution(found.get(b"pHYs"), cleaned.dpi),
        conversion=None if colour == 3 else depth_note(depth),
    )
    return assemble(item_id, samples, container, orientation)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """start: of its length. size: of its body."""

    kind: bytes
    start: int
    size: int


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """In order, up to IEND. Stops where the file does."""
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield _Chunk(kind, at, size)
        at += 12 + size
        if kind == b"IEND":
            return


def _lean(data: bytes, chunks: list[_Chunk]) -> bytes:
    """The file with nothing but what decides pixels in it."""
    if all(chunk.kind in _PIXELS for chunk in chunks):
        return data
    parts = [data[c.start : c.start + 12 + c.size] for c in chunks if c.kind in _PIXELS]
    return b"".join([SIGNATURE, *parts])


def _metadata(data: bytes, chunks: list[_Chunk]) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """The first chunk of each kind, and the texts by keyword; checked, since nothing else will."""
    found: dict[bytes, bytes] = {}
    texts: dict[bytes, bytes] = {}
    for chunk in chunks:
        if chunk.kind in _PIXELS or chunk.size > _MOST:
            continue
        body = data[chunk.start + 8 : chunk.start + 8 + chunk.size]
        checksum = struct.pack(">I", zlib.crc32(chunk.kind + body))
        if data[chunk.start + 8 + chunk.size : chunk.start + 12 + chunk.size] != checksum:
            continue
        if chunk.kind in (b"iTXt", b"zTXt", b"tEXt"):
            keyword, text = _text(chunk.kind, body)
            texts.setdefault(keyword, text)
        else:
            found.setdefault(chunk.kind, body)
    return found, texts


def _text(kind: bytes, body: bytes) -> tuple[bytes, bytes]:
    keyword, _, rest = body.partition(b"\0")
    if kind == b"tEXt":
        return keyword, rest
    if kind == b"zTXt":
        return keyword, _inflate(rest[1:])
    packed = rest[:1] == b"\1"
    text = rest[2:].split(b"\0", 2)[-1]
    return keyword, _inflate(text) if packed else text


def _inflate(packed: bytes) -> bytes:
    """Empty where it is damaged or too much."""
    engine = zlib.decompressobj()
    try:
        text = engine.decompress(packed, _MOST)
    except zlib.error:
        return b""
    return b"" if engine.unconsumed_tail else text


def _raw_profile(texts: dict[bytes, bytes], name: bytes) -> bytes | None:
    """ImageMagick's and ExifTool's way to keep what PNG has no chunk for: name, length and hexadecimal digits as text."""
    lines = texts.get(_RAW + name, b"").split(b"\n", 3)
    if len(lines) < 4:
        return None
    try:
        return bytes.fromhex(lines[3].decode("ascii")) or None
    except ValueError:
        return None


def _iptc(raw: bytes | None) -> bytes | None:
    """The profile is Photoshop's resources by custom, and bare records now and then."""
    return iptc.from_resources(raw) or iptc.records(raw)


def _profile(found: dict[bytes, bytes], *, is_colour: bool) -> bytes | None:
    """iCCP; else what the colour chunks say, made a profile where they say something else than sRGB."""
    if b"iCCP" in found:
        return _inflate(found[b"iCCP"].partition(b"\0")[2][1:]) or None
    if not is_colour or b"sRGB" in found:
        return None
    if len(found.get(b"cICP", b"")) == 4:
        return from_code_points(*found[b"cICP"][:2])
    gamma = struct.unpack(">I", found[b"gAMA"])[0] if len(found.get(b"gAMA", b"")) == 4 else 45455
    chrm = struct.unpack(">8I", found[b"cHRM"]) if len(found.get(b"cHRM", b"")) == 32 else _SRGB_CHRM
    is_srgb = all(abs(a - b) <= 100 for a, b in zip(chrm, _SRGB_CHRM, strict=True))
    if (is_srgb and abs(gamma - 45455) <= 100) or not 10_000 <= gamma <= 1_000_000 or 0 in chrm[1::2]:
        return None
    white, *rgb = [(x / 1e5, y / 1e5) for x, y in zip(chrm[::2], chrm[1::2], strict=True)]
    points: Chromaticities = (rgb[0], rgb[1], rgb[2], white)
    curve = SRGB_CURVE if abs(gamma - 45455) <= 100 else Curve(1e5 / gamma)
    return rgb_profile(f"PNG gamma {gamma}, chromaticities {chrm}", points, curve)


def _resolution(phys: bytes | None, stated: tuple[float, float] | None) -> tuple[float, float] | None:
    """PNG counts whole pixels a metre; where EXIF says the same more finely, EXIF is right."""
    if phys is None or len(phys) != 9 or phys[8] != 1:
        return stated
    x, y, _ = struct.unpack(">IIB", phys)
    if not x or not y:
        return stated
    if stated is not None and (round(stated[0] / _INCH), round(stated[1] / _INCH)) == (x, y):
        return stated
    return (x * _INCH, y * _INCH)


def encode(photograph: Photograph, _quality: int | None) -> bytes:
    """8 or 16 bits, grey or RGB, with or without alpha; everything that a photograph carries."""
    data = bytes(imagecodecs.png_encode(np.ascontiguousarray(joined(photograph)), level=_LEVEL))
    header = len(SIGNATURE) + 25
    chunks = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in _bodies(photograph)
    )
    return data[:header] + chunks + data[header:]


def _bodies(photograph: Photograph) -> Iterator[tuple[bytes, bytes]]:
    """Profile, resolution, XMP, IPTC and EXIF, in the order that PNG asks for: before any pixel."""
    container = photograph.container
    if container.icc is not None:
        yield b"iCCP", b"ICC\0\0" + zlib.compress(container.icc, 9)
    if (dpi := sane_dpi(container, (2**31 - 1) * _INCH)) is not None:
        yield b"pHYs", struct.pack(">IIB", *(max(1, round(value / _INCH)) for value in dpi), 1)
    if container.xmp is not None:
        yield b"iTXt", _XMP + b"\0\0\0\0\0" + container.xmp
    if container.iptc is not None:
        resources = iptc.to_resources(container.iptc)
        digits = resources.hex()
        lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
        text = f"\niptc\n{len(resources):8d}\n{lines}\n".encode("ascii")
        yield b"zTXt", _RAW + b"iptc\0\0" + zlib.compress(text, 9)
    block = exif.truthful(container.exif, photograph.width, photograph.height, container.dpi)
    if block is not None:
        yield b"eXIf", block
