"""Sound small files of every kind that decoders are asked to read, by real encoders. Each is where hostile files start."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from typing import Any

import imagecodecs
import numpy as np
import skimage.data
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'


def picture(depth: int = 8, channels: int = 3) -> NDArray[Any]:
    """40 x 48 of a real photograph."""
    pixels = skimage.data.astronaut()[0:40, 200:248]
    if channels == 1:
        pixels = pixels[..., 1]
    elif channels == 4:
        pixels = np.dstack([pixels, 255 - pixels[..., 0]])
    return np.ascontiguousarray(pixels if depth == 8 else pixels.astype(np.uint16) * 257)


def by_tifffile(samples: NDArray[Any], **options: Any) -> bytes:
    target = io.BytesIO()
    options.setdefault("photometric", "minisblack" if samples.ndim == 2 else "rgb")
    if samples.ndim == 3 and samples.shape[2] == 4 and options["photometric"] == "rgb":
        options.setdefault("extrasamples", ["unassalpha"])
    tifffile.imwrite(target, samples, metadata=None, **options)
    return target.getvalue()


def by_pillow(samples: NDArray[Any], file_format: str, **options: Any) -> bytes:
    return saved(Image.fromarray(samples), file_format, **options)


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, file_format, **options)
    return target.getvalue()


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = 6
    tags[0x010F] = "Leitz"
    tags[0x8769] = {0x9003: "1954:04:01 12:00:00"}
    return tags


@cache
def seeds() -> dict[str, bytes]:
    """Name to bytes, in a fixed order; every one of them small."""
    return dict([*_tiff(), *_raster(), *_jpeg2000()])


def _tiff() -> Iterator[tuple[str, bytes]]:
    rgb, deep, grey = picture(), picture(16), picture(8, 1)
    for compression in ("lzw", "zlib", "zstd", "jpeg", "packbits"):
        yield f"tiff-{compression}.tif", by_tifffile(rgb, compression=compression, rowsperstrip=8)
    yield (
        "tiff-plain.tif",
        by_tifffile(rgb, resolution=(300, 300), iccprofile=ICC, extratags=[(700, "B", 0, XMP, True)]),
    )
    yield "tiff-deep.tif", by_tifffile(deep, compression="zlib", predictor=True, rowsperstrip=8)
    yield "tiff-tiled.tif", by_tifffile(rgb, tile=(16, 16), compression="zlib")
    yield "tiff-planar.tif", by_tifffile(np.moveaxis(rgb, 2, 0), photometric="rgb", planarconfig="separate")
    yield "tiff-big.tif", by_tifffile(rgb, bigtiff=True)
    yield "tiff-motorola.tif", by_tifffile(deep, byteorder=">")
    yield "tiff-alpha.tif", by_tifffile(picture(16, 4))
    yield "tiff-premultiplied.tif", by_tifffile(picture(8, 4), extrasamples=["assocalpha"])
    yield "tiff-grey.tif", by_tifffile(grey)
    yield "tiff-white-is-zero.tif", by_tifffile(grey, photometric="miniswhite")
    palette = np.random.default_rng(0).integers(0, 65536, (3, 256), dtype=np.uint16)
    yield "tiff-palette.tif", by_tifffile(grey, photometric="palette", colormap=palette)
    yield "tiff-float.tif", by_tifffile(grey.astype(np.float32) / 255)
    yield "tiff-cmyk.tif", by_tifffile(picture(8, 4), photometric="separated")
    yield "tiff-pages.tif", _pages([rgb, grey, deep])
    yield "tiff-fax.tif", saved(Image.fromarray(grey).convert("1"), "TIFF", compression="group4")
    yield (
        "tiff-turned.tif",
        by_tifffile(rgb, extratags=[(0x0112, "H", 1, 6, True), (0x013B, "s", 0, "Lotte Jacobi", True)]),
    )


def _pages(pages: list[NDArray[Any]]) -> bytes:
    target = io.BytesIO()
    with tifffile.TiffWriter(target) as writer:
        for page in pages:
            writer.write(page, photometric="minisblack" if page.ndim == 2 else "rgb", metadata=None)
    return target.getvalue()


def _raster() -> Iterator[tuple[str, bytes]]:
    rgb, grey = picture(), picture(8, 1)
    image = Image.fromarray(rgb)
    yield "jpeg.jpg", by_pillow(rgb, "JPEG", exif=exif(), icc_profile=ICC, xmp=XMP, dpi=(300, 300))
    yield "jpeg-progressive.jpg", by_pillow(rgb, "JPEG", progressive=True, quality=60)
    yield "jpeg-grey.jpg", by_pillow(grey, "JPEG")
    yield "jpeg-cmyk.jpg", saved(image.convert("CMYK"), "JPEG")
    yield "png.png", by_pillow(rgb, "PNG", exif=exif(), icc_profile=ICC, dpi=(300, 300))
    yield "png-deep.png", bytes(imagecodecs.png_encode(picture(16)))
    yield "png-alpha.png", by_pillow(picture(8, 4), "PNG")
    yield "png-palette.png", saved(image.quantize(16), "PNG", transparency=3)
    yield "png-one-bit.png", saved(image.convert("1"), "PNG")
    yield "webp.webp", by_pillow(rgb, "WEBP", exif=exif(), icc_profile=ICC)
    yield "webp-lossless.webp", by_pillow(picture(8, 4), "WEBP", lossless=True)
    frames = [Image.fromarray(np.roll(rgb, step, axis=1)) for step in range(3)]
    yield "webp-moving.webp", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    yield "gif.gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    yield "bmp.bmp", by_pillow(rgb, "BMP")
    yield "bmp-palette.bmp", saved(image.quantize(256), "BMP")
    yield "pnm.ppm", by_pillow(rgb, "PPM")
    yield "pnm-deep.pgm", b"P5\n48 40\n65535\n" + picture(16, 1).astype(">u2").tobytes()
    yield "avif.avif", by_pillow(rgb, "AVIF", exif=exif(), icc_profile=ICC, quality=50)


def _jpeg2000() -> Iterator[tuple[str, bytes]]:
    yield "jpeg2000.jp2", by_pillow(picture(), "JPEG2000")
    yield "jpeg2000-deep.jp2", bytes(imagecodecs.jpeg2k_encode(picture(16), level=0, reversible=True))
    yield "jpeg2000-grey.j2k", bytes(imagecodecs.jpeg2k_encode(picture(8, 1), level=60, codecformat="j2k"))
