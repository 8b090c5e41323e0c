"""TIFF in, through tifffile: 1 to 16 bits, grey, palette, RGB, CMYK and Lab, alpha, and all that describes a scan."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from pipeline.codecs import exif, ifd, iptc
from pipeline.codecs.cms import cmyk_to_rgb, lab_to_rgb
from pipeline.codecs.icc import romm
from pipeline.codecs.ifd import Field, Layout
from pipeline.codecs.metadata import clean_xmp
from pipeline.codecs.samples import assemble, check_size, depth_note, divide_by_alpha, to_full_range
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Container, Photograph, Pixels

ICC, XMP, IPTC, PHOTOSHOP = 34675, 700, 33723, 34377
_SUBFILE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _COMPRESSION, _SUB_IFDS, _DNG = 254, 256, 257, 262, 259, 330, 50706
_WHITE_POINT, _INK_SET = 318, 332
_COLOURS = ("MINISWHITE", "MINISBLACK", "RGB", "PALETTE", "YCBCR", "SEPARATED", "CIELAB", "ICCLAB")
_DEPTHS = {"PALETTE": (1, 2, 4, 8, 16), "SEPARATED": (8, 16), "CIELAB": (8, 16), "ICCLAB": (8, 16), "YCBCR": (8,)}
# What only cameras write: colour filter arrays, linear raw, and the compressions of Sony, Nikon and Pentax.
_RAW_PHOTOMETRIC, _RAW_COMPRESSION = (32803, 34892), (32767, 32769, 34713, 65535)
# Strips are read so many bytes at a time; tifffile's default keeps a quarter of a gigabyte.
_READ_BYTES = 4 << 20
_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_D50 = (0.3457, 0.3585)


def is_tiff(data: bytes) -> bool:
    return data[:4] in _MAGIC


def decode(data: bytes, item_id: str, max_pixels: int) -> Photograph:
    """The first page. Raises ItemError: unsupported for camera raw files, floats and other than photographic samples."""
    layout, start = ifd.header(data)
    tags, _ = ifd.read(data, start, layout)
    _refuse_raw(data, tags, layout)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        _check(page, tags, layout)
        check_size(page.imagewidth, page.imagelength, max_pixels)
        _check_segments(page, len(data))
        samples = _samples(page)
        photometric, bits = page.photometric.name, page.bitspersample
    icc, conversion = _bytes(tags, ICC), depth_note(bits)
    if photometric == "SEPARATED":
        samples, conversion = cmyk_to_rgb(samples, icc)
        icc = romm()
    elif photometric in ("CIELAB", "ICCLAB"):
        samples, conversion = lab_to_rgb(samples, photometric)
        icc = romm()
    xmp, turn = clean_xmp(_bytes(tags, XMP))
    orientation = tags[exif.ORIENTATION].first(layout) if exif.ORIENTATION in tags else turn
    container = Container(
        format="TIFF",
        icc=icc,
        exif=exif.from_tiff(data, start, layout),
        xmp=xmp,
        iptc=iptc.records(_bytes(tags, IPTC)) or iptc.from_resources(_bytes(tags, PHOTOSHOP)),
        dpi=exif.resolution_of(tags, layout),
        pages=_pages(data),
        conversion=conversion,
    )
    return assemble(item_id, samples, container, orientation)


def _bytes(tags: dict[int, Field], code: int) -> bytes | None:
    """A tag's value where its type is one of opaque bytes; IPTC is sometimes said to be 32-bit numbers, and is not."""
    tag = tags.get(code)
    return tag.data if tag is not None and tag.kind in (ifd.BYTE, ifd.ASCII, ifd.LONG, ifd.UNDEFINED) else None


def _refuse_raw(data: bytes, tags: dict[int, Field], layout: Layout) -> None:
    """A camera's raw file is a TIFF, but its sensor data want developing; its preview is not the photograph."""
    kind = "DNG" if _DNG in tags else "CR2" if data[8:10] == b"CR" else None
    directories = [tags]
    for offset in (tags[_SUB_IFDS].integers(layout) if _SUB_IFDS in tags else ())[:16]:
        try:
            directories.append(ifd.read(data, offset, layout, (_PHOTOMETRIC, _COMPRESSION))[0])
        except ValueError:
            continue
    for fields in directories:
        values = [fields[code].first(layout) if code in fields else 0 for code in (_PHOTOMETRIC, _COMPRESSION)]
        if values[0] in _RAW_PHOTOMETRIC or values[1] in _RAW_COMPRESSION:
            kind = kind or "camera raw"
    if kind is not None:
        raise ItemError(
            Reason.UNSUPPORTED, f"{kind} file: sensor data have to be developed first, for instance into 16-bit TIFF"
        )


def _pages(data: bytes) -> int:
    """Pages of the main chain that are no reduced copies and no masks. A chain that breaks ends there."""
    layout, _ = ifd.header(data)
    number, last = 0, (0, 0)
    try:
        for fields in ifd.chain(data, (_SUBFILE, _WIDTH, _HEIGHT)):
            kind, width, height = (
                fields[code].first(layout) if code in fields else 0 for code in (_SUBFILE, _WIDTH, _HEIGHT)
            )
            # Some writers of pyramids do not mark the halved copies as such.
            halved = all(abs(2 * now - before) <= 2 for now, before in zip((width, height), last, strict=True))
            last = (width, height)
            if not kind & 0b101 and not (number and halved):
                number += 1
    except ValueError:
        pass
    return max(number, 1)


def _check(page: Any, tags: dict[int, Field], layout: Layout) -> None:
    photometric = getattr(page.photometric, "name", str(page.photometric))
    jpeg = getattr(page.compression, "name", "") in ("JPEG", "OJPEG")
    bits, inks = page.bitspersample, tags.get(_INK_SET)
    depths = _DEPTHS.get(photometric, range(1, 17))
    white = tags[_WHITE_POINT].ratios(layout) if _WHITE_POINT in tags else _D50
    off_white = len(white) != 2 or any(abs(a - b) > 0.002 for a, b in zip(white, _D50, strict=True))
    most = 5 if photometric == "SEPARATED" else 4
    for fault, what in (
        (bool(page.subfiletype & 1), "whose first page is a reduced copy of another (a raw file's thumbnail)"),
        (photometric not in _COLOURS or (photometric == "YCBCR" and not jpeg), f"with {photometric} samples"),
        (page.sampleformat == 3, "with floating-point samples, which have no agreed white; convert it to 16 bits"),
        (page.sampleformat not in (None, 1, 3) and "LAB" not in photometric, "with signed or complex samples"),
        (bits not in depths, f"with {bits} bits a sample"),
        (page.imagedepth > 1, "with a third dimension"),
        (page.samplesperpixel > most, f"with {page.samplesperpixel} samples a pixel"),
        (photometric == "SEPARATED" and page.samplesperpixel < 4, "with fewer inks than four"),
        (photometric == "SEPARATED" and inks is not None and inks.first(layout) != 1, "with other inks than CMYK"),
        ("LAB" in photometric and page.samplesperpixel < 3, "with Lab of fewer than three samples"),
        ("LAB" in photometric and off_white, "with Lab under another white than D50"),
    ):
        if fault:
            raise ItemError(Reason.UNSUPPORTED, f"TIFF {what}")


def _check_segments(page: Any, length: int) -> None:
    """Decoders fill in what is missing, so that a cut file would pass for a whole one."""
    places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if any(start + size > length for start, size in places):
        raise ItemError(Reason.TRUNCATED, "the image data end before the last strip or tile does")
    if len(places) < math.prod(page.chunked) or any(not start or not size for start, size in places):
        raise ItemError(Reason.TRUNCATED, "a strip or tile of the image is missing")


def _samples(page: Any) -> Pixels:
    samples: NDArray[Any] = page.asarray(maxworkers=1, buffersize=_READ_BYTES)
    samples = samples.astype(np.uint8) if samples.dtype == bool else samples
    samples = samples.reshape(page.shaped[1:] if page.planarconfig == 1 else page.shaped)
    # Normalised by tifffile: (separate samples,) depth, length, width, contiguous samples.
    samples = np.moveaxis(samples[:, 0, :, :, 0], 0, 2) if page.planarconfig == 2 else samples[0]
    photometric = page.photometric.name
    if photometric == "PALETTE":
        return _from_palette(page.colormap, samples[..., 0])
    samples = to_full_range(samples, 2**page.bitspersample - 1) if "LAB" not in photometric else samples
    if photometric == "MINISWHITE":
        samples = np.concatenate([np.iinfo(samples.dtype).max - samples[..., :1], samples[..., 1:]], axis=2)
    if 1 in page.extrasamples:
        samples = divide_by_alpha(samples)
    return samples


def _from_palette(colormap: NDArray[np.uint16], indices: NDArray[Any]) -> Pixels:
    """A colour map always has 16 bits; colours of 8 bits are stored in the high byte, some with a copy in the low one."""
    high, low = colormap >> 8, colormap & 255
    shallow = not low.any() or np.array_equal(low, high)
    colours = high.astype(np.uint8) if shallow else colormap
    return np.ascontiguousarray(colours.T[indices])
