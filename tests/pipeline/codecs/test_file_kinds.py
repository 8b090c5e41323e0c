"""What real encoders write goes in, and comes out of every lossless format the same: pixels, profile, metadata."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import cv2
import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.codecs import decode, encode
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Photograph

DATA = Path(__file__).parent / "data"
LIMIT = 10**7
LOSSLESS = ("tiff", "jp2", "png", "webp", "avif")
HEIGHT, WIDTH = 40, 56


@dataclass(frozen=True)
class Kind:
    """A file, the samples that its encoder was given (none where the file is lossy), and what it was made to carry."""

    data: bytes
    samples: NDArray[np.unsignedinteger] | None
    carried: frozenset[str] = field(default_factory=frozenset)
    dpi: tuple[float, float] | None = None
    profile: bytes | None = None


def _smooth() -> NDArray[np.float64]:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([x / WIDTH, y / HEIGHT, (x + y) / (WIDTH + HEIGHT)], axis=2)


def shallow(channels: int = 3) -> NDArray[np.uint8]:
    noise = np.random.default_rng(channels).integers(0, 12, (HEIGHT, WIDTH, 4))
    colours = np.dstack([_smooth(), _smooth()[..., :1]]) * 240
    whole = (colours + noise).astype(np.uint8)
    return whole[..., 0] if channels == 1 else np.ascontiguousarray(whole[..., :channels])


def deep(channels: int = 3) -> NDArray[np.uint16]:
    noise = np.random.default_rng(channels).integers(0, 240, (*shallow(channels).shape,))
    return (shallow(channels).astype(np.uint16) * 240 + noise).astype(np.uint16)


# TIFF ------------------------------------------------------------------------------------------------------------


def tiff(samples: NDArray[np.unsignedinteger], lossy: bool = False, **options: object) -> Callable[..., Kind]:
    """By tifffile, with everything that it can write beside the pixels."""

    def make(kit: SimpleNamespace) -> Kind:
        grey = samples.ndim == 2 or samples.shape[2] == 2
        profile = kit.GREY_ICC if grey else kit.ICC
        settings: dict[str, object] = {
            "photometric": "minisblack" if grey else "rgb",
            "planarconfig": "contig" if samples.ndim == 3 else None,
            "extrasamples": ["unassalpha"] if samples.ndim == 3 and samples.shape[2] in (2, 4) else None,
            "iccprofile": profile,
            "resolution": (300, 150),
            "resolutionunit": "INCH",
            "extratags": [
                (700, "B", len(kit.XMP), kit.XMP, True),
                (33723, "B", len(kit.IPTC), kit.IPTC, True),
                (271, "s", 6, "Leitz", True),
            ],
        }
        data = kit.by_tifffile(samples, **{**settings, **options})
        carried = frozenset({"icc", "xmp", "iptc", "make"})
        return Kind(data, None if lossy else samples, carried, (300.0, 150.0), profile)

    return make


def planar(samples: NDArray[np.unsignedinteger], **options: object) -> Callable[..., Kind]:
    def make(kit: SimpleNamespace) -> Kind:
        data = kit.by_tifffile(np.moveaxis(samples, 2, 0).copy(), photometric="rgb", planarconfig="separate", **options)
        return Kind(data, samples)

    return make


def tiff_by_pillow(mode: str, **options: object) -> Callable[..., Kind]:
    """With Pillow's own EXIF directory in it."""

    def make(kit: SimpleNamespace) -> Kind:
        image = Image.fromarray(shallow(1)).convert(mode) if mode in ("1", "L") else Image.fromarray(shallow())
        image = image.quantize(64) if mode == "P" else image
        held = Image.Exif()
        held.load(b"Exif\0\0" + kit.EXIF)
        # libtiff, which Pillow needs to compress, takes no EXIF directory from it.
        described = {} if "compression" in options else {"exif": held}
        data = kit.by_pillow(image, "TIFF", dpi=(600, 600), **described, **options)
        lossy = options.get("compression") == "jpeg"
        expected = np.asarray(image.convert("RGB" if mode == "P" else "L" if mode == "1" else mode))
        carried = frozenset({"make", "camera"} if described else ())
        return Kind(data, None if lossy else expected, carried, (600.0, 600.0))

    return make


def few_bits(bits: int, photometric: str = "minisblack") -> Callable[..., Kind]:
    """Grey of fewer or more bits than a byte, packed by imagecodecs."""

    def make(kit: SimpleNamespace) -> Kind:
        white = 2**bits - 1
        stored = (_smooth()[..., 0] * white).round().astype(np.uint8 if bits <= 8 else np.uint16)
        if bits in (12, 14, 10):
            data = kit.by_tifffile(stored, photometric=photometric, bitspersample=bits)
        else:
            data = _packed_tiff(stored, bits, photometric)
        peak = 255 if bits < 8 else 65535
        spread = np.rint(stored.astype(np.float64) * peak / white).astype(np.uint8 if bits < 8 else np.uint16)
        return Kind(data, peak - spread if photometric == "miniswhite" else spread)

    return make


def _packed_tiff(stored: NDArray[np.unsignedinteger], bits: int, photometric: str) -> bytes:
    """A minimal TIFF of one strip: no encoder here writes two or four bits."""
    strip = bytes(imagecodecs.packints_encode(stored, bits, runlen=stored.shape[1]))
    entries = [
        (256, 3, 1, stored.shape[1]),
        (257, 3, 1, stored.shape[0]),
        (258, 3, 1, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 0 if photometric == "miniswhite" else 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 3, 1, stored.shape[0]),
        (279, 4, 1, len(strip)),
    ]
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    padding = len(strip) % 2
    return b"II*\0" + struct.pack("<I", 8 + len(strip) + padding) + strip + bytes(padding) + body


def palette_of_sixteen_bits(kit: SimpleNamespace) -> Kind:
    rng = np.random.default_rng(5)
    colours = rng.integers(0, 65536, (3, 256), dtype=np.uint16)
    indices = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    return Kind(kit.by_tifffile(indices, photometric="palette", colormap=colours), colours.T[indices])


def two_pages(kit: SimpleNamespace) -> Kind:
    return Kind(kit.by_tifffile(np.stack([shallow(), shallow()[::-1]]), photometric="rgb"), shallow())


def photoshop_resources(kit: SimpleNamespace) -> Kind:
    """IPTC only inside tag 34377, behind another resource with a name."""
    block = b"8BIM" + struct.pack(">H", 0x03ED) + b"\x05named" + struct.pack(">I", 3) + b"abc\0"
    block += b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(kit.IPTC)) + kit.IPTC + bytes(len(kit.IPTC) % 2)
    data = kit.by_tifffile(shallow(), photometric="rgb", extratags=[(34377, "B", len(block), block, True)])
    return Kind(data, shallow(), frozenset({"iptc"}))


# JPEG ------------------------------------------------------------------------------------------------------------


def jpeg(channels: int, **options: object) -> Callable[..., Kind]:
    def make(kit: SimpleNamespace) -> Kind:
        app13 = b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(kit.IPTC)) + kit.IPTC + b"\0" * 1
        segment = b"\xff\xed" + struct.pack(">H", len(app13) + 2) + app13
        settings: dict[str, object] = {
            "exif": b"Exif\0\0" + kit.EXIF,
            "xmp": kit.XMP,
            "icc_profile": kit.GREY_ICC if channels == 1 else kit.ICC,
            "dpi": (300, 150),
            "extra": segment,
        }
        data = kit.by_pillow(shallow(channels), "JPEG", **{**settings, **options})
        carried = frozenset({"icc", "xmp", "iptc", "camera", "make"})
        return Kind(data, None, carried, (300.0, 150.0), kit.GREY_ICC if channels == 1 else kit.ICC)

    return make


def jpeg_by_imagecodecs(**options: object) -> Callable[..., Kind]:
    return lambda _: Kind(bytes(imagecodecs.jpeg8_encode(shallow(), level=90, **options)), None)


def by_opencv(suffix: str, samples: NDArray[np.unsignedinteger], lossy: bool = False) -> Callable[..., Kind]:
    def make(_: SimpleNamespace) -> Kind:
        bgr = samples if samples.ndim == 2 else samples[..., [2, 1, 0, 3][: samples.shape[2]]]
        done, data = cv2.imencode(suffix, bgr)
        assert done
        return Kind(data.tobytes(), None if lossy else samples)

    return make


# PNG -------------------------------------------------------------------------------------------------------------


def png(channels: int) -> Callable[..., Kind]:
    def make(kit: SimpleNamespace) -> Kind:
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", kit.XMP.decode())
        mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
        image = Image.fromarray(shallow(channels), mode) if channels != 2 else Image.fromarray(shallow(2), "LA")
        profile = kit.GREY_ICC if channels <= 2 else kit.ICC
        data = kit.by_pillow(
            image, "PNG", pnginfo=info, exif=b"Exif\0\0" + kit.EXIF, icc_profile=profile, dpi=(300, 300)
        )
        carried = frozenset({"icc", "xmp", "camera", "make"})
        return Kind(data, shallow(channels), carried, (299.9994, 299.9994), profile)

    return make


def deep_png(channels: int) -> Callable[..., Kind]:
    return lambda _: Kind(bytes(imagecodecs.png_encode(deep(channels))), deep(channels))


def low_png(bits: int, colour: int) -> Callable[..., Kind]:
    """Grey (0) or palette (3) of 1, 2 or 4 bits, packed by imagecodecs and wrapped here."""

    def make(_: SimpleNamespace) -> Kind:
        stored = (_smooth()[..., 0] * (2**bits - 1)).round().astype(np.uint8)
        rows = np.frombuffer(imagecodecs.packints_encode(stored, bits, runlen=WIDTH), np.uint8).reshape(HEIGHT, -1)
        filtered = np.concatenate([np.zeros((HEIGHT, 1), np.uint8), rows], axis=1).tobytes()
        colours = np.random.default_rng(1).integers(0, 256, (2**bits, 3), dtype=np.uint8)
        bodies = [(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colour, 0, 0, 0))]
        bodies += [(b"PLTE", colours.tobytes())] if colour == 3 else []
        bodies += [(b"IDAT", zlib.compress(filtered)), (b"IEND", b"")]
        data = b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in bodies
        )
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[0, 0], colours[stored[0, 0]]) or (
            colour == 0
        )
        return Kind(data, colours[stored] if colour == 3 else stored * np.uint8(255 // (2**bits - 1)))

    return make


def palette_png(kit: SimpleNamespace) -> Kind:
    image = Image.fromarray(shallow()).quantize(50)
    return Kind(kit.by_pillow(image, "PNG"), np.asarray(image.convert("RGB")))


def transparent_palette_png(kit: SimpleNamespace) -> Kind:
    image = Image.fromarray(shallow()).quantize(50)
    return Kind(kit.by_pillow(image, "PNG", transparency=3), np.asarray(_with(image, 3)))


def _with(image: Image.Image, transparent: int) -> NDArray[np.uint8]:
    alpha = np.where(np.asarray(image) == transparent, 0, 255).astype(np.uint8)
    return np.dstack([np.asarray(image.convert("RGB")), alpha])


# The rest --------------------------------------------------------------------------------------------------------


def webp(channels: int, lossless: bool, **more: object) -> Callable[..., Kind]:
    def make(kit: SimpleNamespace) -> Kind:
        data = kit.by_pillow(
            shallow(channels),
            "WEBP",
            lossless=lossless,
            exact=True,
            exif=b"Exif\0\0" + kit.EXIF,
            xmp=kit.XMP,
            icc_profile=kit.ICC,
            **more,
        )
        carried = frozenset({"icc", "xmp", "camera", "make"})
        return Kind(data, shallow(channels) if lossless else None, carried, None, kit.ICC)

    return make


def animated(file_format: str) -> Callable[..., Kind]:
    def make(kit: SimpleNamespace) -> Kind:
        frames = [Image.fromarray(shallow()), Image.fromarray(shallow()[::-1].copy())]
        if file_format == "GIF":
            frames = [frame.quantize(60) for frame in frames]
            expected = np.asarray(frames[0].convert("RGB"))
        else:
            expected = shallow()
        options = {"lossless": True} if file_format == "WEBP" else {}
        data = kit.by_pillow(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
        return Kind(data, expected)

    return make


def plain(file_format: str, image: Callable[[], Image.Image], mode: str) -> Callable[..., Kind]:
    def make(kit: SimpleNamespace) -> Kind:
        dpi = (508.0, 254.0) if file_format == "BMP" else None
        options = {} if dpi is None else {"dpi": dpi}
        return Kind(kit.by_pillow(image(), file_format, **options), np.asarray(image().convert(mode)), dpi=dpi)

    return make


def jpeg2000(samples: NDArray[np.unsignedinteger], codec: str = "jp2", **options: object) -> Callable[..., Kind]:
    def make(_: SimpleNamespace) -> Kind:
        data = imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, codecformat=codec, **options)
        return Kind(bytes(data), samples)

    return make


def jp2_by_pillow(kit: SimpleNamespace) -> Kind:
    return Kind(kit.by_pillow(shallow(), "JPEG2000", irreversible=False), shallow())


def twelve_bits(kit: SimpleNamespace) -> Kind:
    stored = deep() >> 4
    data = imagecodecs.jpeg2k_encode(stored, level=0, reversible=True, codecformat="jp2", bitspersample=12)
    return Kind(bytes(data), np.rint(stored.astype(np.float64) * 65535 / 4095).astype(np.uint16))


def avif_by_pillow(kit: SimpleNamespace) -> Kind:
    data = kit.by_pillow(shallow(), "AVIF", exif=b"Exif\0\0" + kit.EXIF, xmp=kit.XMP, icc_profile=kit.ICC)
    return Kind(data, None, frozenset({"icc", "xmp", "camera", "make"}), None, kit.ICC)


def avif_of(bits: int, channels: int) -> Callable[..., Kind]:
    def make(_: SimpleNamespace) -> Kind:
        if bits == 8:
            return Kind(bytes(imagecodecs.avif_encode(shallow(channels), level=100)), shallow(channels))
        stored = deep(channels) >> (16 - bits)
        data = imagecodecs.avif_encode(stored, level=100, bitspersample=bits)
        return Kind(bytes(data), np.rint(stored.astype(np.float64) * 65535 / (2**bits - 1)).astype(np.uint16))

    return make


def heif_base() -> NDArray[np.uint8]:
    """What the HEIF files in `data` hold: pillow-heif wrote them losslessly, since no decoder here can encode HEVC."""
    y, x = np.mgrid[0:48, 0:64]
    base = np.stack([x * 4, y * 5, (x + y) * 2], axis=2).astype(np.uint8)
    base[10:20, 10:30] = (200, 30, 30)
    return base


def heif(name: str) -> Callable[..., Kind]:
    def make(_: SimpleNamespace) -> Kind:
        base = heif_base()
        ramp = np.broadcast_to(np.arange(64) * 4, (48, 64)).astype(np.uint8)
        expected: dict[str, NDArray[np.unsignedinteger] | None] = {
            "alpha": np.dstack([base, ramp]),
            "turned": np.rot90(base, -1),
            "lossy": None,
            "grey": None,
            **{f"rgb{bits}": _spread((base.astype(np.uint16) << (bits - 8)) + add, bits) for bits, add in _HEIF_DEEP},
        }
        dpi = (300.0, 300.0) if name in ("rgb8", "turned") else None
        return Kind((DATA / f"{name}.heic").read_bytes(), expected.get(name, base), frozenset(), dpi)

    return make


_HEIF_DEEP = ((10, 3), (12, 11))


def _spread(stored: NDArray[np.uint16], bits: int) -> NDArray[np.uint16]:
    return np.rint(stored.astype(np.float64) * 65535 / (2**bits - 1)).astype(np.uint16)


KINDS: dict[str, Callable[..., Kind]] = {
    "tiff-8-grey": tiff(shallow(1)),
    "tiff-8-grey-alpha": tiff(shallow(2)),
    "tiff-8-rgb": tiff(shallow()),
    "tiff-8-rgba": tiff(shallow(4)),
    "tiff-16-grey": tiff(deep(1)),
    "tiff-16-grey-alpha": tiff(deep(2), compression="zlib"),
    "tiff-16-rgb": tiff(deep()),
    "tiff-16-rgba": tiff(deep(4)),
    "tiff-lzw": tiff(shallow(), compression="lzw", rowsperstrip=7),
    "tiff-lzw-predictor-16": tiff(deep(), compression="lzw", predictor=True, rowsperstrip=8),
    "tiff-deflate": tiff(shallow(), compression="zlib"),
    "tiff-deflate-predictor-16": tiff(deep(), compression="zlib", predictor=True),
    "tiff-zstd": tiff(deep(), compression="zstd"),
    "tiff-packbits": tiff(shallow(), compression="packbits"),
    "tiff-lzma": tiff(deep(), compression="lzma"),
    "tiff-jpeg2000": tiff(deep(), compression="jpeg2000"),
    "tiff-jpeg-ycbcr": tiff(shallow(), lossy=True, compression="jpeg"),
    "tiff-jpeg-grey": tiff(shallow(1), lossy=True, compression="jpeg", tile=(16, 16)),
    "tiff-tiled": tiff(shallow(), tile=(16, 32)),
    "tiff-tiled-deflate-16": tiff(deep(), tile=(32, 32), compression="zlib", predictor=True),
    "tiff-strip-of-one-row": tiff(deep(), rowsperstrip=1),
    "tiff-big-endian-8": tiff(shallow(), byteorder=">"),
    "tiff-big-endian-16": tiff(deep(), byteorder=">", compression="lzw"),
    "bigtiff": tiff(deep(), bigtiff=True),
    "bigtiff-big-endian-tiled": tiff(deep(), bigtiff=True, byteorder=">", tile=(16, 16)),
    "tiff-planar-8": planar(shallow()),
    "tiff-planar-16-deflate": planar(deep(), compression="zlib"),
    "tiff-planar-tiled": planar(deep(), tile=(16, 16)),
    "tiff-palette": tiff_by_pillow("P"),
    "tiff-palette-16": palette_of_sixteen_bits,
    "tiff-bilevel": tiff_by_pillow("1"),
    "tiff-group3": tiff_by_pillow("1", compression="group3"),
    "tiff-group4": tiff_by_pillow("1", compression="group4"),
    "tiff-pillow-lzw": tiff_by_pillow("RGB", compression="tiff_lzw"),
    "tiff-pillow-jpeg": tiff_by_pillow("RGB", compression="jpeg"),
    "tiff-pillow-grey": tiff_by_pillow("L"),
    "tiff-2-bits": few_bits(2),
    "tiff-4-bits-white-is-zero": few_bits(4, "miniswhite"),
    "tiff-12-bits": few_bits(12),
    "tiff-opencv-16": by_opencv(".tiff", deep()),
    "tiff-two-pages": two_pages,
    "tiff-photoshop-iptc": photoshop_resources,
    "jpeg-baseline": jpeg(3),
    "jpeg-progressive": jpeg(3, progressive=True, quality=60),
    "jpeg-grey": jpeg(1),
    "jpeg-444": jpeg(3, subsampling=0),
    "jpeg-restart-markers": jpeg(3, restart_marker_blocks=2),
    "jpeg-rgb-of-adobe": jpeg_by_imagecodecs(colorspace="RGB", outcolorspace="RGB"),
    "jpeg-opencv": by_opencv(".jpg", shallow(), lossy=True),
    "png-grey": png(1),
    "png-grey-alpha": png(2),
    "png-rgb": png(3),
    "png-rgba": png(4),
    "png-16-grey": deep_png(1),
    "png-16-grey-alpha": deep_png(2),
    "png-16-rgb": deep_png(3),
    "png-16-rgba": deep_png(4),
    "png-1-bit": low_png(1, 0),
    "png-2-bits": low_png(2, 0),
    "png-4-bits": low_png(4, 0),
    "png-palette-2-bits": low_png(2, 3),
    "png-palette": palette_png,
    "png-palette-transparent": transparent_palette_png,
    "png-opencv-16": by_opencv(".png", deep(4)),
    "webp-lossless": webp(3, lossless=True),
    "webp-lossless-alpha": webp(4, lossless=True),
    "webp-lossy": webp(3, lossless=False),
    "webp-animated": animated("WEBP"),
    "webp-opencv": by_opencv(".webp", shallow()),
    "gif": plain("GIF", lambda: Image.fromarray(shallow()).quantize(40), "RGB"),
    "gif-animated": animated("GIF"),
    "gif-grey": plain("GIF", lambda: Image.fromarray(shallow(1)), "RGB"),
    "bmp-rgb": plain("BMP", lambda: Image.fromarray(shallow()), "RGB"),
    "bmp-grey": plain("BMP", lambda: Image.fromarray(shallow(1)), "L"),
    "bmp-1-bit": plain("BMP", lambda: Image.fromarray(shallow(1)).convert("1"), "L"),
    "bmp-palette": plain("BMP", lambda: Image.fromarray(shallow()).quantize(40), "RGB"),
    "ppm": plain("PPM", lambda: Image.fromarray(shallow()), "RGB"),
    "pgm": plain("PPM", lambda: Image.fromarray(shallow(1)), "L"),
    "pbm": plain("PPM", lambda: Image.fromarray(shallow(1)).convert("1"), "L"),
    "ppm-16": by_opencv(".ppm", deep()),
    "pgm-16": by_opencv(".pgm", deep(1)),
    "jp2-8-rgb": jpeg2000(shallow()),
    "jp2-8-grey": jpeg2000(shallow(1)),
    "jp2-16-rgb": jpeg2000(deep()),
    "jp2-16-grey": jpeg2000(deep(1)),
    "jp2-16-rgba": jpeg2000(deep(4)),
    "jp2-12-bits": twelve_bits,
    "jp2-pillow": jp2_by_pillow,
    "j2k-16-rgb": jpeg2000(deep(), "j2k"),
    "j2k-8-grey": jpeg2000(shallow(1), "j2k"),
    "avif-8-rgb": avif_of(8, 3),
    "avif-8-rgba": avif_of(8, 4),
    "avif-8-grey": avif_of(8, 1),
    "avif-10-rgb": avif_of(10, 3),
    "avif-12-rgba": avif_of(12, 4),
    "avif-pillow": avif_by_pillow,
    "heif-8": heif("rgb8"),
    "heif-lossy": heif("lossy"),
    "heif-10": heif("rgb10"),
    "heif-12": heif("rgb12"),
    "heif-alpha": heif("alpha"),
    "heif-grey": heif("grey"),
    "heif-turned": heif("turned"),
    "heif-display-p3": heif("p3"),
    "heif-two-images": heif("two"),
}


def whole(photograph: Photograph) -> NDArray[np.unsignedinteger]:
    alpha = () if photograph.alpha is None else (photograph.alpha,)
    return np.dstack([photograph.pixels, *alpha])


def test_there_are_at_least_sixty() -> None:
    assert len(KINDS) >= 60


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_file_comes_in_as_it_is(name: str, kit: SimpleNamespace) -> None:
    kind = KINDS[name](kit)
    photograph = decode(kind.data, "item", LIMIT)
    if kind.samples is not None:
        expected = kind.samples if kind.samples.ndim == 3 else kind.samples[..., None]
        found = whole(photograph)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        assert np.array_equal(found, expected)
    container, tags = photograph.container, kit.tags_of(photograph.container.exif)
    # Pillow writes and reads BMP's samples a metre with a rounded inch.
    assert container.dpi == (None if kind.dpi is None else pytest.approx(kind.dpi, rel=2e-6))
    if "icc" in kind.carried:
        assert container.icc == kind.profile
    if "xmp" in kind.carried:
        assert container.xmp == kit.XMP
    if "iptc" in kind.carried:
        assert container.iptc == kit.IPTC
    if "make" in kind.carried:
        assert tags[0, 0x010F][2] == b"Leitz\0"
    if "camera" in kind.carried:
        wanted = kit.tags_of(kit.EXIF)
        same = {key for key, value in wanted.items() if tags.get(key, (0, 0, b""))[2:] == value[2:]}
        # Pillow, which wrote the TIFF, keeps values and not always their byte order; tifffile and the others keep all.
        assert same == set(wanted) or (container.format == "TIFF" and {k[1] for k in wanted} == {k[1] for k in tags})


@pytest.mark.parametrize("output", LOSSLESS)
@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_file_goes_out_as_it_came_in(name: str, output: str, kit: SimpleNamespace) -> None:
    kind = KINDS[name](kit)
    before = decode(kind.data, "item", LIMIT)
    grey_profile = before.pixels.shape[2] == 1 and before.container.icc is not None
    if output in ("webp", "avif") and (before.peak != 255 or (output == "webp" and grey_profile)):
        with pytest.raises(ItemError, match="choose") as caught:
            encode(before, output)
        assert caught.value.reason is Reason.UNSUPPORTED
        return
    after = decode(encode(before, output), "item", LIMIT)
    expected = whole(before)
    if output == "webp" and before.pixels.shape[2] == 1:
        expected = np.dstack([before.pixels] * 3 + ([] if before.alpha is None else [before.alpha]))
    assert np.array_equal(whole(after), expected)
    assert after.pixels.dtype == before.pixels.dtype
    assert after.container.icc == before.container.icc
    assert after.container.xmp == before.container.xmp
    assert kit.tags_of(after.container.exif) == kit.tags_of(before.container.exif)
    if output not in ("webp", "avif"):
        assert after.container.iptc == before.container.iptc
    dpi = before.container.dpi
    # PNG counts whole pixels a metre, JPEG 2000 has ratios of 16 bits; the others keep the number itself.
    unlike = {"png": 0.013, "jp2": 1e-6}.get(output, 0)
    assert after.container.dpi == (None if dpi is None else pytest.approx(dpi, abs=unlike))
