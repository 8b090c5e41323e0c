"""TIFF in and out through tifffile: 8 and 16 bits, grey, palette and RGB, alpha, profile, XMP, descriptive tags."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL.Image import Exif

from pipeline.codecs.metadata import (
    DESCRIPTIVE,
    ORIENTATION,
    exif_bytes,
    sane_dpi,
    turned_dpi,
    upright,
    upright_xmp,
)
from pipeline.codecs.raster import assemble, check_size, joined
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Container, Photograph, Pixels

_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_ICC, _XMP = 34675, 700
_PHOTOMETRIC = ("MINISWHITE", "MINISBLACK", "RGB", "PALETTE", "YCBCR")
_PER_INCH = {2: 1.0, 3: 2.54}
_DPI_LIMIT = 1e6


def is_tiff(data: bytes) -> bool:
    return data[:4] in _MAGIC


def decode(data: bytes, item_id: str, max_pixels: int) -> Photograph:
    """The first page. What is not a full-size greyscale, palette or RGB image of 1, 8 or 16 bits is refused."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        _check(page)
        check_size(page.imagewidth, page.imagelength, max_pixels)
        # Decoders of compressed strips fill in what is missing, so that a cut file would pass for a whole one.
        if any(start + size > len(data) for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)):
            raise ItemError(Reason.TRUNCATED, "the image data end before the last strip or tile does")
        orientation = _tag(page, ORIENTATION, 1)
        container = Container(
            format="TIFF",
            icc=_tag(page, _ICC, None),
            exif=_described(page),
            xmp=upright_xmp(_tag(page, _XMP, None)),
            dpi=turned_dpi(_dpi(page), orientation),
        )
        samples = _samples(page)
    return assemble(item_id, upright(samples, orientation), container)


def _check(page: Any) -> None:
    photometric = getattr(page.photometric, "name", str(page.photometric))
    jpeg = getattr(page.compression, "name", "") in ("JPEG", "OJPEG")
    for fault, what in (
        (bool(page.subfiletype & 1), "whose first page is a reduced copy of another (a raw file's thumbnail)"),
        (photometric not in _PHOTOMETRIC or (photometric == "YCBCR" and not jpeg), f"with {photometric} samples"),
        (page.bitspersample not in (1, 8, 16), f"with {page.bitspersample} bits a sample"),
        (page.sampleformat not in (None, 1), "with samples that are no whole numbers"),
        (page.imagedepth > 1, "with a third dimension"),
        (page.samplesperpixel > 4, f"with {page.samplesperpixel} samples a pixel"),
    ):
        if fault:
            raise ItemError(Reason.UNSUPPORTED, f"TIFF {what}")


def _samples(page: Any) -> Pixels:
    samples: NDArray[Any] = page.asarray()
    if page.planarconfig == 2 and samples.ndim == 3:
        samples = np.moveaxis(samples, 0, 2)
    if page.bitspersample == 1:
        samples = samples.astype(np.uint8) * np.uint8(255)
    photometric = page.photometric.name
    if photometric == "PALETTE":
        # A colour map always has 16 bits; the high bytes are the colours of an 8-bit image.
        samples = np.moveaxis((page.colormap >> 8).astype(np.uint8)[:, samples], 0, 2)
    elif photometric == "MINISWHITE":
        samples = np.iinfo(samples.dtype).max - samples
    if 1 in page.extrasamples:
        samples = _divide_by_alpha(samples)
    return samples


def _divide_by_alpha(samples: NDArray[Any]) -> NDArray[Any]:
    """Associated alpha (TIFF 6.0, ExtraSamples 1) means that colours were multiplied by it."""
    peak = np.iinfo(samples.dtype).max
    alpha = samples[..., -1:].astype(np.float64)
    colours = np.rint(samples[..., :-1] * (peak / np.maximum(alpha, 1)))
    return np.concatenate([np.minimum(colours, peak).astype(samples.dtype), samples[..., -1:]], axis=2)


def _tag(page: Any, code: int, default: Any) -> Any:
    tag = page.tags.get(code)
    return default if tag is None else tag.value


def _dpi(page: Any) -> tuple[float, float] | None:
    factor = _PER_INCH.get(int(_tag(page, 296, 2)))
    pair = [_tag(page, code, (0, 1)) for code in (282, 283)]
    if factor is None or any(not bottom or not top for top, bottom in pair):
        return None
    return (pair[0][0] / pair[0][1] * factor, pair[1][0] / pair[1][1] * factor)


def _described(page: Any) -> bytes | None:
    exif = Exif()
    for code in DESCRIPTIVE:
        value = _tag(page, code, None)
        if isinstance(value, str) and value:
            exif[code] = value
    return exif_bytes(exif)


def encode(photograph: Photograph, _quality: int) -> bytes:
    container, samples = photograph.container, joined(photograph)
    dpi = sane_dpi(container, _DPI_LIMIT)
    target = io.BytesIO()
    tifffile.imwrite(
        target,
        samples,
        photometric="rgb" if photograph.pixels.shape[2] == 3 else "minisblack",
        extrasamples=None if photograph.alpha is None else ["unassalpha"],
        planarconfig="contig" if samples.ndim == 3 else None,
        compression="zlib",
        predictor=True,
        rowsperstrip=64,
        iccprofile=container.icc,
        resolution=dpi,
        resolutionunit="INCH" if dpi else None,
        software="Albumen",
        metadata=None,
        extratags=_extra_tags(container),
    )
    return target.getvalue()


def _extra_tags(container: Container) -> list[tuple[int, str, int, bytes, bool]]:
    tags = []
    if container.xmp is not None:
        tags.append((_XMP, "B", len(container.xmp), container.xmp, True))
    if container.exif is not None:
        exif = Exif()
        exif.load(b"Exif\x00\x00" + container.exif)
        for code in DESCRIPTIVE:
            if isinstance(value := exif.get(code), str) and value:
                text = value.encode("utf-8", "replace") + b"\x00"
                tags.append((code, "s", len(text), text, True))
    return tags
