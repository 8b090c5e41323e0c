"""Files to photographs and back, in the photograph's own depth, with profile and metadata."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.Image import Exif

from pipeline.errors import ItemError, Reason
from pipeline.photograph import Container, Photograph, Pixels

SUFFIXES: Mapping[str, str] = MappingProxyType({"tiff": ".tif", "png": ".png", "jpeg": ".jpg"})
READABLE = frozenset(
    {
        ".tif",
        ".tiff",
        ".jpg",
        ".jpeg",
        ".png",
        ".webp",
        ".bmp",
        ".gif",
        ".ppm",
        ".pgm",
        ".jp2",
        ".heic",
        ".avif",
        ".dng",
    }
)
_ORIENTATION = 0x0112
_XMP_TIFF_TAG = 700
_PLAIN_MODES = {"L", "RGB", "RGBA", "LA"}
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def decode(data: bytes, item_id: str, max_pixels: int) -> Photograph:
    """The photograph in `data`. Raises ItemError: not-an-image, truncated, too-large or unsupported."""
    with _quiet_pillow():
        try:
            return _decode_pillow(data, item_id, max_pixels)
        except UnidentifiedImageError as error:
            raise ItemError(Reason.NOT_AN_IMAGE, "the bytes are in no image format that is known here") from error
        except (OSError, EOFError, SyntaxError, struct.error, zlib.error) as error:
            raise ItemError(Reason.TRUNCATED, f"the image data are broken or end too soon: {error}") from error
        except (ValueError, LookupError, ArithmeticError, RuntimeError, tifffile.TiffFileError) as error:
            raise ItemError(Reason.TRUNCATED, f"the image data contradict themselves: {error}") from error


def _decode_pillow(data: bytes, item_id: str, max_pixels: int) -> Photograph:
    image = Image.open(io.BytesIO(data))
    if image.width * image.height > max_pixels:
        raise ItemError(
            Reason.TOO_LARGE,
            f"{image.width} x {image.height} pixels are over the limit of {max_pixels / 1e6:g} megapixels",
        )
    container = _container(image)
    if image.format == "TIFF":
        _check_tiff(data)
    samples = _samples(image, data)
    samples = _orient(samples, image.getexif().get(_ORIENTATION, 1))
    colours = 1 if samples.shape[2] <= 2 else 3
    alpha = np.ascontiguousarray(samples[..., colours]) if samples.shape[2] > colours else None
    return Photograph(item_id, np.ascontiguousarray(samples[..., :colours]), container, alpha)


def _check_tiff(data: bytes) -> None:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        if page.photometric is not None and page.photometric.name in (
            "SEPARATED",
            "CIELAB",
            "ICCLAB",
            "CFA",
            "LINEAR_RAW",
        ):
            raise ItemError(Reason.UNSUPPORTED, f"TIFF with {page.photometric.name} samples")


def _samples(image: Image.Image, data: bytes) -> Pixels:
    """H x W x 1..4 of 8 or 16 bits. Pillow narrows 16-bit colour to 8, so such files go to the codec itself."""
    if image.format == "PNG" and data[24:25] == b"\x10":
        return _three_axes(imagecodecs.png_decode(data))
    if image.format == "TIFF" and image.mode not in _PLAIN_MODES | {"P", "1"}:
        return _three_axes(tifffile.imread(io.BytesIO(data), key=0))
    if image.format == "TIFF":
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            if page.bitspersample == 16:
                return _three_axes(page.asarray())
    if image.format == "JPEG2000" and image.mode not in _PLAIN_MODES:
        return _three_axes(imagecodecs.jpeg2k_decode(data))
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    if image.mode in ("I;16", "I;16B", "I;16L"):
        return _three_axes(np.asarray(image).astype(np.uint16))
    if image.mode not in _PLAIN_MODES:
        raise ItemError(Reason.UNSUPPORTED, f"{image.format} with {image.mode} samples")
    return _three_axes(np.array(image))


def _three_axes(samples: NDArray[Any]) -> Pixels:
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.ndim != 3 or samples.shape[2] > 4 or samples.dtype.name not in ("uint8", "uint16"):
        raise ItemError(Reason.UNSUPPORTED, f"samples of shape {samples.shape} and type {samples.dtype}")
    return samples


def _orient(samples: Pixels, orientation: int) -> Pixels:
    """Upright pixels (EXIF 2.32, tag 274). Values outside 1..8 mean nothing and change nothing."""
    turns: Mapping[int, Callable[[Pixels], Pixels]] = {
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: p.swapaxes(0, 1)[:, ::-1],
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: p.swapaxes(0, 1)[::-1],
    }
    return turns[orientation](samples) if orientation in turns else samples


def _container(image: Image.Image) -> Container:
    exif = image.getexif()
    transposed = exif.get(_ORIENTATION, 1) in (5, 6, 7, 8)
    dpi = image.info.get("dpi")
    pair = (float(dpi[0]), float(dpi[1])) if dpi and all(float(d) > 0 for d in dpi) else None
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    return Container(
        format=image.format or "unknown",
        icc=image.info.get("icc_profile") or None,
        exif=_exif_bytes(exif) if image.format != "TIFF" else None,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp,
        dpi=(pair[1], pair[0]) if pair and transposed else pair,
    )


def _exif_bytes(exif: Exif) -> bytes | None:
    kept = {tag: value for tag, value in exif.items() if tag != _ORIENTATION}
    if not kept:
        return None
    if _ORIENTATION in exif:
        del exif[_ORIENTATION]
    return exif.tobytes().removeprefix(b"Exif\x00\x00")


def encode(photograph: Photograph, file_format: str, jpeg_quality: int = 95) -> bytes:
    """The photograph as a file; the same photograph gives the same bytes. Raises ItemError: unsupported."""
    return ENCODERS[file_format](photograph, jpeg_quality)


def _joined(photograph: Photograph) -> Pixels:
    if photograph.alpha is None:
        return photograph.pixels
    return np.concatenate([photograph.pixels, photograph.alpha[..., None]], axis=2)


def _encode_tiff(photograph: Photograph, _quality: int) -> bytes:
    container, samples = photograph.container, _joined(photograph)
    extra = []
    if container.xmp is not None:
        extra.append((_XMP_TIFF_TAG, "B", len(container.xmp), container.xmp, True))
    target = io.BytesIO()
    tifffile.imwrite(
        target,
        samples if samples.shape[2] > 1 else samples[..., 0],
        photometric="rgb" if photograph.pixels.shape[2] == 3 else "minisblack",
        extrasamples=None if photograph.alpha is None else ["unassalpha"],
        planarconfig="contig" if samples.shape[2] > 1 else None,
        compression="zlib",
        predictor=True,
        rowsperstrip=64,
        iccprofile=container.icc,
        resolution=container.dpi,
        resolutionunit="INCH" if container.dpi else None,
        software="Albumen",
        metadata=None,
        extratags=extra,
    )
    return target.getvalue()


def _encode_png(photograph: Photograph, _quality: int) -> bytes:
    samples = _joined(photograph)
    plain = samples if samples.shape[2] > 1 else samples[..., 0]
    return _add_png_chunks(bytes(imagecodecs.png_encode(np.ascontiguousarray(plain), level=6)), photograph.container)


def _add_png_chunks(data: bytes, container: Container) -> bytes:
    """Profile, resolution, XMP and EXIF behind the header, as PNG (third edition) orders them."""
    chunks = []
    if container.icc is not None:
        chunks.append((b"iCCP", b"ICC\x00\x00" + zlib.compress(container.icc, 9)))
    if container.dpi is not None:
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(d / 0.0254) for d in container.dpi), 1)))
    if container.xmp is not None:
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + container.xmp))
    if container.exif is not None:
        chunks.append((b"eXIf", container.exif))
    header = len(_PNG_SIGNATURE) + 25
    packed = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return data[:header] + packed + data[header:]


def _encode_jpeg(photograph: Photograph, quality: int) -> bytes:
    if photograph.peak != 255 or photograph.alpha is not None:
        kind = "16-bit samples" if photograph.peak != 255 else "an alpha channel"
        raise ItemError(Reason.UNSUPPORTED, f"JPEG cannot hold {kind}; choose [output] format tiff or png")
    container, pixels = photograph.container, photograph.pixels
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
    options: dict[str, Any] = {"quality": quality, "subsampling": 0, "optimize": True}
    if container.icc is not None:
        options["icc_profile"] = container.icc
    if container.exif is not None:
        options["exif"] = b"Exif\x00\x00" + container.exif
    if container.xmp is not None:
        options["xmp"] = container.xmp
    if container.dpi is not None:
        options["dpi"] = tuple(round(d) for d in container.dpi)
    target = io.BytesIO()
    image.save(target, "JPEG", **options)
    return target.getvalue()


ENCODERS: Mapping[str, Callable[[Photograph, int], bytes]] = MappingProxyType(
    {"tiff": _encode_tiff, "png": _encode_png, "jpeg": _encode_jpeg}
)


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Pillow's own bomb limit is a global of 179 megapixels; ours is checked on the header, before any pixel."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
