"""What holds for every format alike: depth, orientation, refusals, damage."""

from __future__ import annotations

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from pipeline.codecs import decode, encode
from pipeline.errors import ItemError, Reason, Status
from pipeline.photograph import Container, Photograph

LIMIT = 10**7
XMP_TURNED = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


@pytest.fixture
def picture(rng: np.random.Generator) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (20, 31, 3), dtype=np.uint8)


@pytest.fixture
def deep(rng: np.random.Generator) -> NDArray[np.uint16]:
    return rng.integers(0, 65536, (20, 31, 3), dtype=np.uint16)


def by_pillow(pixels: NDArray[np.uint8], file_format: str, **options: object) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, file_format, **options)  # type: ignore[arg-type]
    return target.getvalue()


def by_tifffile(samples: NDArray[np.generic], **options: object) -> bytes:
    target = io.BytesIO()
    tifffile.imwrite(target, samples, **options)  # type: ignore[arg-type]
    return target.getvalue()


def of(pixels: NDArray[np.uint8] | NDArray[np.uint16], **container: object) -> Photograph:
    return Photograph("item", pixels, Container("PNG", **container))  # type: ignore[arg-type]


def turned(orientation: int, **tags: str) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    if "make" in tags:
        exif[0x010F] = tags["make"]
    return exif


def refusal(data: bytes, limit: int = LIMIT) -> Reason:
    with pytest.raises(ItemError) as caught:
        decode(data, "item", limit)
    assert caught.value.detail
    return caught.value.reason


def attempt(data: bytes, limit: int = LIMIT) -> Photograph | Reason:
    """The photograph, or why there is none. Any other error than an ItemError fails the test."""
    try:
        return decode(data, "item", limit)
    except ItemError as error:
        return error.reason


def bomb() -> bytes:
    """A PNG whose header promises 60,000 x 60,000 pixels and whose body holds none of them."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_tiff_holds_no_date(picture: NDArray[np.uint8]) -> None:
    with tifffile.TiffFile(io.BytesIO(encode(of(picture), "tiff"))) as file:
        assert "DateTime" not in file.pages.first.tags


def test_jpeg_does_not_subsample_colour(picture: NDArray[np.uint8]) -> None:
    image = Image.open(io.BytesIO(encode(of(picture), "jpeg")))
    assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_deep_colour_tiff_stays_deep(deep: NDArray[np.uint16], compression: str | None) -> None:
    found = decode(by_tifffile(deep, photometric="rgb", compression=compression), "item", LIMIT).pixels
    assert found.dtype == np.uint16
    assert np.array_equal(found, deep)


def test_deep_colour_png_stays_deep(deep: NDArray[np.uint16]) -> None:
    found = decode(imagecodecs.png_encode(deep), "item", LIMIT).pixels
    assert found.dtype == np.uint16
    assert np.array_equal(found, deep)


def test_deep_grey_tiff_stays_deep(deep: NDArray[np.uint16]) -> None:
    found = decode(by_tifffile(deep[..., 0], photometric="minisblack"), "item", LIMIT).pixels
    assert found.dtype == np.uint16
    assert np.array_equal(found[..., 0], deep[..., 0])


def test_deep_grey_jpeg2000_stays_deep(deep: NDArray[np.uint16]) -> None:
    found = decode(imagecodecs.jpeg2k_encode(deep[..., 0], level=0, reversible=True), "item", LIMIT).pixels
    assert np.array_equal(found[..., 0], deep[..., 0])


def test_deep_colour_jpeg2000_stays_deep(deep: NDArray[np.uint16]) -> None:
    found = decode(imagecodecs.jpeg2k_encode(deep, level=0, reversible=True), "item", LIMIT).pixels
    assert np.array_equal(found, deep)


def test_deep_ppm_is_not_narrowed(deep: NDArray[np.uint16]) -> None:
    found = attempt(b"P6\n31 20\n65535\n" + deep.astype(">u2").tobytes())
    assert found is Reason.UNSUPPORTED or (isinstance(found, Photograph) and np.array_equal(found.pixels, deep))


def test_white_is_zero_in_eight_bits_is_turned_round(picture: NDArray[np.uint8]) -> None:
    found = decode(by_tifffile(picture[..., 0], photometric="miniswhite"), "item", LIMIT).pixels
    assert np.array_equal(found[..., 0], 255 - picture[..., 0])


def test_white_is_zero_in_sixteen_bits_is_turned_round(deep: NDArray[np.uint16]) -> None:
    found = decode(by_tifffile(deep[..., 0], photometric="miniswhite"), "item", LIMIT).pixels
    assert np.array_equal(found[..., 0], 65535 - deep[..., 0])


def test_twelve_bits_fill_the_range_or_are_refused() -> None:
    ramp = np.linspace(0, 4095, 64 * 8).astype(np.uint16).reshape(8, 64)
    found = attempt(by_tifffile(ramp, photometric="minisblack", bitspersample=12))
    assert found is Reason.UNSUPPORTED or (isinstance(found, Photograph) and found.pixels.max() > 65000)


def test_premultiplied_alpha_is_taken_back_in_both_depths() -> None:
    half = np.full((8, 9, 4), 128, np.uint8)
    shallow = decode(by_tifffile(half, photometric="rgb", extrasamples=["assocalpha"]), "item", LIMIT)
    twin = decode(by_tifffile(half.astype(np.uint16) * 257, photometric="rgb", extrasamples=["assocalpha"]), "i", LIMIT)
    assert np.array_equal(shallow.pixels.astype(int) * 257, twin.pixels)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour_becomes_alpha(mode: str) -> None:
    image = Image.new(mode, (4, 3), 0 if mode == "L" else (0, 0, 0))
    image.putpixel((1, 1), 255 if mode == "L" else (255, 255, 255))
    target = io.BytesIO()
    image.save(target, "PNG", transparency=0 if mode == "L" else (0, 0, 0))
    found = decode(target.getvalue(), "item", LIMIT)
    assert found.alpha is not None
    assert found.alpha[1, 1] == 255
    assert found.alpha[0, 0] == 0


def test_a_transparent_palette_becomes_alpha() -> None:
    image = Image.new("P", (4, 3), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 1), 1)
    target = io.BytesIO()
    image.save(target, "PNG", transparency=0)
    found = decode(target.getvalue(), "item", LIMIT)
    assert found.alpha is not None
    assert (found.alpha[1, 1], found.alpha[0, 0]) == (255, 0)
    assert tuple(found.pixels[1, 1]) == (200, 100, 50)


def test_one_bit_becomes_black_and_white() -> None:
    image = Image.new("1", (9, 5), 0)
    image.putpixel((2, 3), 1)
    target = io.BytesIO()
    image.save(target, "PNG")
    found = decode(target.getvalue(), "item", LIMIT).pixels
    assert found.shape == (5, 9, 1)
    assert (found[3, 2, 0], int(found.sum())) == (255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_is_applied_once(picture: NDArray[np.uint8], file_format: str, orientation: int) -> None:
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = by_pillow(picture, file_format, exif=turned(orientation), **options)
    reference = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    found = decode(data, "item", LIMIT)
    assert np.array_equal(found.pixels, reference)
    again = decode(encode(found, "png"), "item", LIMIT)
    assert np.array_equal(again.pixels, reference)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_sixteen_bits(picture: NDArray[np.uint8], orientation: int) -> None:
    twin = by_pillow(picture, "PNG", exif=turned(orientation))
    reference = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(twin)))).astype(np.uint16) * 257
    wide = picture.astype(np.uint16) * 257
    tiff = by_tifffile(wide, photometric="rgb", extratags=[(0x0112, "H", 1, orientation, True)])
    png = encode(of(wide, exif=turned(orientation).tobytes().removeprefix(b"Exif\x00\x00")), "png")
    assert np.array_equal(decode(tiff, "item", LIMIT).pixels, reference)
    assert np.array_equal(decode(png, "item", LIMIT).pixels, reference)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_orientation_beside_other_tags_is_applied(
    picture: NDArray[np.uint8], file_format: str, orientation: int
) -> None:
    data = by_pillow(picture, file_format, exif=turned(orientation, make="Leitz"))
    reference = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    found = decode(data, "item", LIMIT).pixels
    assert found.shape == reference.shape
    assert np.array_equal(found, reference)


@pytest.mark.parametrize("file_format", ["png", "tiff", "jpeg"])
def test_orientation_in_xmp_is_not_applied_again(picture: NDArray[np.uint8], file_format: str) -> None:
    found = decode(by_pillow(picture, "JPEG", xmp=XMP_TURNED), "item", LIMIT)
    assert found.pixels.shape == (31, 20, 3)
    delivered = Image.open(io.BytesIO(encode(found, file_format)))
    assert ImageOps.exif_transpose(delivered).size == (20, 31)


def test_a_turned_scan_swaps_its_resolutions(picture: NDArray[np.uint8]) -> None:
    data = by_pillow(picture, "JPEG", exif=turned(6), dpi=(300, 600))
    assert decode(data, "item", LIMIT).container.dpi == (600.0, 300.0)


@pytest.mark.parametrize("file_format", ["png", "tiff", "jpeg"])
def test_profile_and_resolution_are_kept(picture: NDArray[np.uint8], file_format: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = decode(by_pillow(picture, "TIFF", icc_profile=profile, dpi=(600, 600)), "item", LIMIT)
    delivered = Image.open(io.BytesIO(encode(found, file_format)))
    assert delivered.info["icc_profile"] == profile
    assert tuple(float(d) for d in delivered.info["dpi"]) == pytest.approx((600, 600), abs=0.02)


@pytest.mark.parametrize("file_format", ["png", "jpeg"])
def test_camera_data_are_kept(picture: NDArray[np.uint8], file_format: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Leitz"
    exif[0x8769] = {0x9003: "1954:04:01 12:00:00"}
    found = decode(by_pillow(picture, "JPEG", exif=exif), "item", LIMIT)
    kept = Image.open(io.BytesIO(encode(found, file_format))).getexif()
    assert kept[0x010F] == "Leitz"
    assert kept.get_ifd(0x8769)[0x9003] == "1954:04:01 12:00:00"


@pytest.mark.parametrize("data", [b"", b"Dear archive,\n" * 40, b"\xff\xd8", b"\x89PNG\r\n\x1a\n"], ids=len)
def test_what_is_no_image_says_so(data: bytes) -> None:
    assert refusal(data) is Reason.NOT_AN_IMAGE


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_truncated_jpeg_says_so(real_photo: NDArray[np.uint8], kept: float) -> None:
    data = by_pillow(real_photo[:200, :200], "JPEG")
    assert refusal(data[: int(len(data) * kept)]) is Reason.TRUNCATED


def test_a_truncated_png_says_so(picture: NDArray[np.uint8], deep: NDArray[np.uint16]) -> None:
    for data in (by_pillow(picture, "PNG"), imagecodecs.png_encode(deep)):
        assert refusal(data[: len(data) // 2]) is Reason.TRUNCATED


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_truncated_tiff_says_so(deep: NDArray[np.uint16], depth: int, compression: str | None) -> None:
    samples = deep if depth == 16 else (deep >> 8).astype(np.uint8)
    data = by_tifffile(samples, photometric="rgb", compression=compression)
    assert refusal(data[: len(data) // 2]) is Reason.TRUNCATED


def test_a_truncated_deep_jpeg2000_says_so(deep: NDArray[np.uint16]) -> None:
    data = imagecodecs.jpeg2k_encode(deep[..., 0], level=0, reversible=True)
    assert refusal(data[: len(data) // 2]) is Reason.TRUNCATED


@pytest.mark.parametrize("dtype", ["float32", "uint32", "int16"])
def test_other_samples_are_unsupported(dtype: str) -> None:
    assert refusal(by_tifffile(np.zeros((9, 9), dtype), photometric="minisblack")) is Reason.UNSUPPORTED


def test_a_bomb_is_refused_by_its_header() -> None:
    assert refusal(bomb(), 200_000_000) is Reason.TOO_LARGE


def test_the_limit_itself_is_allowed(picture: NDArray[np.uint8]) -> None:
    data = by_pillow(picture, "PNG")
    assert decode(data, "item", 20 * 31).pixels.shape == picture.shape
    assert refusal(data, 20 * 31 - 1) is Reason.TOO_LARGE


def test_pillows_own_limit_is_left_as_it_was(picture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    assert decode(by_pillow(picture, "PNG"), "item", LIMIT).width == 31
    assert Image.MAX_IMAGE_PIXELS == 5


def test_a_thumbnail_is_not_taken_for_the_scan(picture: NDArray[np.uint8]) -> None:
    assert refusal(by_tifffile(picture, photometric="rgb", subfiletype=1)) is Reason.UNSUPPORTED


def test_strips_of_no_rows_are_refused(deep: NDArray[np.uint16]) -> None:
    data = by_tifffile(deep, photometric="rgb", byteorder="<", compression="zlib")
    found = struct.pack("<HHII", 278, 4, 1, 20)
    assert data.count(found) == 1
    assert refusal(data.replace(found, struct.pack("<HHII", 278, 4, 1, 0))) is Reason.TRUNCATED


@pytest.mark.parametrize(
    "tag", [(700, "H", 4, (1, 2, 3, 4), True), (700, "s", 4, "<x/>", True)], ids=["short", "ascii"]
)
def test_xmp_of_an_odd_type_is_read_or_refused(picture: NDArray[np.uint8], tag: tuple[object, ...]) -> None:
    found = attempt(by_tifffile(picture, photometric="rgb", extratags=[tag]))
    assert isinstance(found, Reason) or found.container.xmp is None or isinstance(found.container.xmp, bytes)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    kept=st.floats(0.05, 1.0),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
)
def test_a_damaged_jpeg_is_read_or_refused(seed: int, kept: float, flips: list[tuple[float, int]]) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 31, 3), dtype=np.uint8)
    damaged = bytearray(by_pillow(pixels, "JPEG", exif=turned(6), dpi=(300, 300)))
    for place, value in flips:
        damaged[int(place * (len(damaged) - 1))] = value
    found = attempt(bytes(damaged[: int(len(damaged) * kept)]), 10**5)
    assert found.status is Status.REFUSED if isinstance(found, Reason) else found.pixels.dtype == np.uint8


def test_jpeg_does_not_lie_about_resolution(picture: NDArray[np.uint8]) -> None:
    again = decode(encode(of(picture, dpi=(80000.0, 80000.0)), "jpeg"), "item", LIMIT)
    assert again.container.dpi in (None, (80000.0, 80000.0), (65535.0, 65535.0))


@pytest.mark.parametrize("file_format", ["png", "tiff"])
def test_an_absurd_resolution_does_not_stop_delivery(picture: NDArray[np.uint8], file_format: str) -> None:
    again = decode(encode(of(picture, dpi=(1.6e10, 1.6e10)), file_format), "item", LIMIT)
    assert np.array_equal(again.pixels, picture)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_cut_tiff_of_one_jpeg_strip_is_no_whole_one(rng: np.random.Generator, share: float) -> None:
    picture = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = by_tifffile(picture, photometric="rgb", compression="jpeg", rowsperstrip=64)
    assert refusal(data[: int(len(data) * share)]) is Reason.TRUNCATED


def test_a_tiff_of_many_samples_is_refused_before_it_is_decoded() -> None:
    data = by_tifffile(np.zeros((8, 8, 9), np.uint8), photometric="minisblack", planarconfig="contig")
    assert refusal(data) is Reason.UNSUPPORTED


def test_heif_without_its_boxes_is_broken() -> None:
    assert refusal(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00heicmif1") is Reason.TRUNCATED


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"8BPS\0\1", "Photoshop"),
        (b"%PDF-1.7", "PDF"),
        (b"\xff\x0a\0\0", "JPEG XL"),
        (b"IIRO\x08\0", "Olympus"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "raw"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isommp41", "film"),
    ],
)
def test_what_is_known_and_not_read_is_named(head: bytes, what: str) -> None:
    with pytest.raises(ItemError, match=what) as caught:
        decode(head + bytes(64), "item", LIMIT)
    assert caught.value.reason is Reason.UNSUPPORTED
