"""JPEG 2000 in and out: OpenJPEG codes the codestream, the boxes around it are read and written here.

Sources: ISO/IEC 15444-1, annexes A (codestream) and I (boxes); Adobe's XMP part 3 and ExifTool for the UUIDs.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import imagecodecs
import numpy as np
from PIL import Image

from pipeline.codecs import exif, iptc
from pipeline.codecs.cms import cmyk_to_rgb
from pipeline.codecs.icc import colour_space, romm
from pipeline.codecs.metadata import clean_xmp, sane_dpi
from pipeline.codecs.samples import (
    assemble,
    check_size,
    depth_note,
    divide_by_alpha,
    joined,
    no_pillow_limit,
    three_axes,
    to_full_range,
)
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Container, Photograph, Pixels

_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
# SOC and SIZ, which open every codestream (A.4.1, A.5.1).
_CODESTREAM = b"\xff\x4f\xff\x51"
_UUIDS = {
    "xmp": bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC"),
    "exif": b"JpgTiffExif->JP2",
    "iptc": bytes.fromhex("33C7A4D2B81D4723A0BAF1A3E097AD38"),
}
_SRGB, _GREY, _SYCC, _CMYK = 16, 17, 18, 12
_PALETTE = (b"ihdr", b"bpcc", b"pclr", b"cmap", b"cdef")
_METRE = Fraction(254, 10_000)
# Six levels of resolution, as access copies have them; OpenJPEG takes fewer for what is too small to be halved so often.
_LEVELS = 6


@dataclass(frozen=True, slots=True)
class _Component:
    bits: int
    signed: bool
    subsampled: bool


def is_jp2(data: bytes) -> bool:
    return data.startswith((_SIGNATURE, _CODESTREAM))


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Type, and where the content starts and ends, of each box between `start` and `end` (I.4)."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1 and start + 16 <= end:
            [size] = struct.unpack_from(">Q", data, start + 8)
            head = 16
        size = end - start if size == 0 else size
        if size < head:
            return
        yield kind, start + head, min(start + size, end)
        start += size


def decode(data: bytes, item_id: str, max_pixels: int) -> Photograph:
    """JP2 files and bare codestreams, 1 to 16 bits; sYCC in 8 bits; palettes; CMYK through its profile."""
    found = _read(data)
    at = data.find(_CODESTREAM) if data.startswith(_SIGNATURE) else 0
    if at < 0:
        raise OSError("no codestream")
    width, height, components = _components(data, at)
    check_size(width, height, max_pixels)
    colour = int.from_bytes(found.get(b"enum", b""))
    _check(components, found, colour)
    bits = found[b"pclr"][3] % 128 + 1 if len(found.get(b"pclr", b"")) > 3 else components[0].bits
    icc, conversion = found.get(b"icc"), depth_note(bits)
    samples = _samples(data, colour, bits)
    if colour == _CMYK or colour_space(icc) == "CMYK":
        samples, conversion = cmyk_to_rgb(samples, icc)
        icc = romm()
    elif _is_premultiplied(found) and samples.shape[2] in (2, 4):
        samples = divide_by_alpha(samples)
    cleaned = exif.clean(found.get(b"exif"))
    xmp, turn = clean_xmp(found.get(b"xmp"))
    orientation = cleaned.orientation or turn
    container = Container(
        format="JPEG2000",
        icc=icc,
        exif=cleaned.block,
        xmp=xmp,
        iptc=iptc.records(found.get(b"iptc")),
        dpi=_resolution(found, cleaned.dpi),
        conversion=conversion,
    )
    return assemble(item_id, samples, container, orientation)


def _read(data: bytes) -> dict[bytes, bytes]:
    """The boxes that matter, the first of each kind, under their types; metadata under names of their own."""
    found: dict[bytes, bytes] = {}
    if not data.startswith(_SIGNATURE):
        return found
    for kind, start, end in boxes(data):
        if kind == b"uuid":
            name = next((name for name, uuid in _UUIDS.items() if data[start : start + 16] == uuid), None)
            if name is not None:
                found.setdefault(name.encode(), data[start + 16 : end])
        elif kind == b"jp2h":
            for inner, first, last in boxes(data, start, end):
                if inner == b"colr":
                    _read_colour(data[first:last], found)
                elif inner == b"res ":
                    found |= {deep: data[a:b] for deep, a, b in boxes(data, first, last)}
                else:
                    found.setdefault(inner, data[first:last])
    return found


def _read_colour(body: bytes, found: dict[bytes, bytes]) -> None:
    """Only the first that is understood counts (I.5.3.3): 1 enumerated, 2 and 3 a profile."""
    if b"enum" in found or b"icc" in found or len(body) < 4:
        return
    if body[0] == 1 and len(body) >= 7:
        found[b"enum"] = body[3:7]
    elif body[0] in (2, 3):
        found[b"icc"] = body[3:]


def _components(data: bytes, at: int) -> tuple[int, int, list[_Component]]:
    """Width, height and components of a codestream's SIZ segment."""
    x, y, left, top = struct.unpack_from(">IIII", data, at + 8)
    [number] = struct.unpack_from(">H", data, at + 40)
    if len(data) < at + 42 + 3 * number or not number:
        raise OSError("the codestream's header ends too soon")
    triples = [data[at + 42 + 3 * i : at + 45 + 3 * i] for i in range(number)]
    return x - left, y - top, [_Component((s & 127) + 1, bool(s & 128), (dx, dy) != (1, 1)) for s, dx, dy in triples]


def _check(components: list[_Component], found: dict[bytes, bytes], colour: int) -> None:
    most = 5 if colour == _CMYK or colour_space(found.get(b"icc")) == "CMYK" else 4
    subsampled = any(part.subsampled for part in components)
    odd = b"enum" in found and colour not in (_SRGB, _GREY, _SYCC, _CMYK)
    sycc = colour == _SYCC
    for fault, what in (
        (any(part.signed for part in components), "signed samples"),
        (len({part.bits for part in components}) > 1, "samples of different depths"),
        (components[0].bits > 16, f"{components[0].bits} bits a sample"),
        (len(components) > most, f"{len(components)} components"),
        (subsampled and not sycc, "components of different sizes"),
        (sycc and (components[0].bits != 8 or len(components) != 3), "sYCC of other than three times 8 bits"),
        (odd, f"enumerated colour space {colour}"),
        (_alpha_elsewhere(found, len(components)), "an opacity channel that is not the last"),
    ):
        if fault:
            raise ItemError(Reason.UNSUPPORTED, f"JPEG 2000 with {what}")


def _definitions(found: dict[bytes, bytes]) -> list[tuple[int, int, int]]:
    """Channel, type (0 colour, 1 opacity, 2 premultiplied opacity) and association of the cdef box (I.5.3.6)."""
    body = found.get(b"cdef", b"")[2:]
    return [struct.unpack_from(">HHH", body, at) for at in range(0, len(body) - 5, 6)]


def _alpha_elsewhere(found: dict[bytes, bytes], components: int) -> bool:
    last = components - 1 if b"pclr" not in found else (found[b"pclr"][2:3] or b"\0")[0] - 1
    return any(kind in (1, 2) and channel != last for channel, kind, _ in _definitions(found))


def _is_premultiplied(found: dict[bytes, bytes]) -> bool:
    return any(kind == 2 for _, kind, _ in _definitions(found))


def _samples(data: bytes, colour: int, bits: int) -> Pixels:
    if colour == _SYCC:
        # OpenJPEG leaves the conversion to its callers; Pillow has it, subsampled chroma included.
        with no_pillow_limit():
            return np.array(Image.open(io.BytesIO(data), formats=("JPEG2000",)).convert("RGB"))
    samples = three_axes(imagecodecs.jpeg2k_decode(_without_profile(data), numthreads=1))
    return to_full_range(samples, 2**bits - 1)


def _without_profile(data: bytes) -> bytes:
    """The codestream alone; with a palette, the file under an enumerated colour space. The decoder would apply a profile,
    which is not its business: stored samples are what the photograph is."""
    if not data.startswith(_SIGNATURE):
        return data
    parts = []
    for kind, start, end in boxes(data):
        if kind == b"jp2h":
            header = [(inner, data[a:b]) for inner, a, b in boxes(data, start, end)]
            if not any(inner == b"pclr" for inner, _ in header):
                return next((data[a:b] for inner, a, b in boxes(data) if inner == b"jp2c"), b"")
            kept = b"".join(_box(inner, body) for inner, body in header if inner in _PALETTE)
            parts.append(_box(kind, kept + _box(b"colr", b"\x01\x00\x00" + struct.pack(">I", _SRGB))))
        elif kind in (b"jP  ", b"ftyp", b"jp2c"):
            parts.append(_box(kind, data[start:end]))
    return b"".join(parts)


def _resolution(found: dict[bytes, bytes], stated: tuple[float, float] | None) -> tuple[float, float] | None:
    """Capture resolution, else display resolution (I.5.3.7): samples a metre, vertical first."""
    body = found.get(b"resc") or found.get(b"resd")
    if body is None or len(body) < 10:
        return stated
    *parts, vertical, horizontal = struct.unpack(">HHHHbb", body[:10])
    if 0 in parts:
        return stated
    pair = (
        Fraction(parts[2], parts[3]) * Fraction(10) ** horizontal * _METRE,
        Fraction(parts[0], parts[1]) * Fraction(10) ** vertical * _METRE,
    )
    found_dpi = (float(pair[0]), float(pair[1]))
    # Ratios of 16 bits are coarse; where EXIF says the same more finely, EXIF is right.
    if stated is not None and all(abs(a / b - 1) < 5e-5 for a, b in zip(stated, found_dpi, strict=True)):
        return stated
    return found_dpi


def encode(photograph: Photograph, _quality: int | None) -> bytes:
    """Reversible 5-3 wavelet, 8 or 16 bits, grey or RGB, with or without alpha; everything that a photograph carries."""
    samples = np.ascontiguousarray(joined(photograph))
    coded = imagecodecs.jpeg2k_encode(
        samples, level=0, codecformat="jp2", reversible=True, resolutions=_LEVELS, numthreads=1
    )
    data = bytes(coded)
    parts = []
    for kind, start, end in boxes(data):
        body = data[start:end]
        if kind == b"jp2h":
            body = _header(photograph, data, start, end)
        if kind == b"jp2c":
            parts += [_box(b"uuid", _UUIDS[name] + value) for name, value in _carried(photograph)]
        parts.append(_box(kind, body))
    return b"".join(parts)


def _box(kind: bytes, body: bytes) -> bytes:
    size = len(body) + 8
    return struct.pack(">I4s", size, kind) + body if size < 2**32 else struct.pack(">I4sQ", 1, kind, size + 8) + body


def _header(photograph: Photograph, data: bytes, start: int, end: int) -> bytes:
    container = photograph.container
    colours = photograph.pixels.shape[2]
    parts = [_box(kind, data[a:b]) for kind, a, b in boxes(data, start, end) if kind in (b"ihdr", b"bpcc")]
    if container.icc is not None:
        parts.append(_box(b"colr", b"\x02\x00\x00" + container.icc))
    else:
        parts.append(_box(b"colr", b"\x01\x00\x00" + struct.pack(">I", _GREY if colours == 1 else _SRGB)))
    if photograph.alpha is not None:
        channels = [(number, 0, number + 1) for number in range(colours)] + [(colours, 1, 0)]
        parts.append(
            _box(b"cdef", struct.pack(">H", colours + 1) + b"".join(struct.pack(">HHH", *c) for c in channels))
        )
    if (dpi := sane_dpi(container, 1e6)) is not None:
        horizontal, vertical = _ratio(dpi[0]), _ratio(dpi[1])
        parts.append(
            _box(
                b"res ",
                _box(b"resc", struct.pack(">HHHHbb", *vertical[:2], *horizontal[:2], vertical[2], horizontal[2])),
            )
        )
    return b"".join(parts)


def _ratio(dpi: float) -> tuple[int, int, int]:
    """Numerator and denominator of 16 bits and a power of ten: the nearest that there is to the samples a metre."""
    wanted = Fraction(dpi).limit_denominator(10**6) / _METRE
    best: tuple[Fraction, tuple[int, int, int]] | None = None
    for power in range(-4, 9):
        scaled = wanted / Fraction(10) ** power
        if not Fraction(1, 65535) <= scaled <= 65535:
            continue
        near = scaled.limit_denominator(min(65535, max(1, int(65535 / max(scaled, Fraction(1))))))
        if not near or near.numerator > 65535:
            continue
        error = abs(near * Fraction(10) ** power - wanted)
        if best is None or error < best[0]:
            best = (error, (near.numerator, near.denominator, power))
    assert best is not None
    return best[1]


def _carried(photograph: Photograph) -> Iterator[tuple[str, bytes]]:
    container = photograph.container
    block = exif.truthful(container.exif, photograph.width, photograph.height, container.dpi)
    for name, value in (("exif", block), ("iptc", container.iptc), ("xmp", container.xmp)):
        if value is not None:
            yield name, value
