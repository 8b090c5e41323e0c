"""HEIF and AVIF in: libheif (decoder only) for the first, libavif for the second; boxes are read in `bmff`."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np

from pipeline.codecs import bmff, exif
from pipeline.codecs.icc import from_code_points
from pipeline.codecs.metadata import clean_xmp
from pipeline.codecs.samples import assemble, check_size, depth_note, divide_by_alpha, three_axes, to_full_range
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Container, Photograph

_HEVC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_AVIF = (b"avif", b"avis")
_EITHER = (b"mif1", b"msf1", b"miaf", b"mif2")
_HIGH_DYNAMIC_RANGE = (16, 18)


def is_iso_media(data: bytes) -> bool:
    return data[4:8] == b"ftyp"


def _brands(data: bytes) -> list[bytes]:
    size = min(int.from_bytes(data[:4]), len(data), 1024)
    return [data[8:12], *(data[at : at + 4] for at in range(16, size - 3, 4))]


def decode(data: bytes, item_id: str, max_pixels: int) -> Photograph:
    """The primary image, 8 to 12 bits, spread over 16 where deeper than 8. Raises ItemError: unsupported."""
    brands = _brands(data)
    if not set(brands) & {*_HEVC, *_AVIF, *_EITHER}:
        raise ItemError(Reason.UNSUPPORTED, f"an ISO media file of brand {brands[0]!r} (a film or a camera's raw file)")
    meta = bmff.read(data)
    check_size(*meta.size(), max_pixels)
    points = meta.code_points()
    if meta.profile() is None and points is not None and points[1] in _HIGH_DYNAMIC_RANGE:
        raise ItemError(Reason.UNSUPPORTED, "high dynamic range (PQ or HLG); convert it to standard range first")
    avif = bool(set(brands) & set(_AVIF))
    samples, bits, pages = (_avif if avif else _heif)(data, meta, max_pixels)
    cleaned = exif.clean(meta.exif(data))
    container = Container(
        format="AVIF" if avif else "HEIF",
        icc=meta.profile() or (None if points is None else from_code_points(*points)),
        exif=cleaned.block,
        xmp=clean_xmp(meta.xmp(data))[0],
        dpi=cleaned.dpi,
        pages=pages,
        conversion=depth_note(bits),
    )
    # libheif turns the image itself; EXIF's orientation only repeats what the boxes say (23008-12, 6.5.10).
    return assemble(item_id, to_full_range(samples, 2**bits - 1), container, meta.orientation(), is_upright=not avif)


def _avif(data: bytes, meta: bmff.Meta, max_pixels: int) -> tuple[Any, int, int]:
    if meta.first(b"clap") is not None:
        raise ItemError(Reason.UNSUPPORTED, "AVIF with a clean aperture; crop it first")
    samples = three_axes(imagecodecs.avif_decode(bmff.pixels_only(data), index=0, numthreads=1))
    check_size(samples.shape[1], samples.shape[0], max_pixels)
    bits = 8 if samples.dtype == np.uint8 else _av1_bits(meta)
    return samples, bits, 1


def _av1_bits(meta: bmff.Meta) -> int:
    """From `pixi`, else from the codec's configuration (AV1 in ISOBMFF, 2.3.3)."""
    pixi, av1c = meta.first(b"pixi"), meta.first(b"av1C")
    if pixi is not None and len(pixi) > 5:
        return pixi[5]
    if av1c is not None and len(av1c) > 2:
        return 12 if av1c[2] & 0x20 else 10
    raise ValueError("AVIF that does not say how many bits a sample has")


def _heif(data: bytes, _meta: bmff.Meta, max_pixels: int) -> tuple[Any, int, int]:
    # Loading libheif costs time, and few collections hold such files.
    import pi_heif

    file = pi_heif.open_heif(bmff.pixels_only(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
    image = file[file.primary_index]
    check_size(image.size[0], image.size[1], max_pixels)
    # A copy: the array would only borrow memory that goes with the file.
    samples = three_axes(np.array(image))
    bits = int(image.info["bit_depth"])
    if samples.dtype == np.uint8:
        bits = 8
    return divide_by_alpha(samples) if image.premultiplied_alpha else samples, bits, len(file)
