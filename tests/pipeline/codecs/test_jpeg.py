"""JPEG's segments: density, extended XMP, profiles and IPTC over 64 KB, previews, and coding that is refused."""

from __future__ import annotations

import io
import struct
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, IptcImagePlugin

from pipeline.codecs import decode, encode, jpeg_xmp
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Container, Photograph

LIMIT = 10**6


@pytest.fixture
def picture(rng: np.random.Generator) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (20, 31, 3), dtype=np.uint8)


def resolution(x: float, y: float, unit: int = 2) -> Image.Exif:
    exif = Image.Exif()
    exif[0x011A], exif[0x011B], exif[0x0128], exif[0x010F] = x, y, unit, "Leitz"
    return exif


def without_density(data: bytes) -> bytes:
    """JFIF's unit 0: the two numbers are a shape of pixels, no resolution."""
    at = data.index(b"JFIF\0") + 7
    return data[:at] + b"\0\0\1\0\1" + data[at + 5 :]


def test_without_a_density_exif_says_the_resolution(kit: SimpleNamespace, picture: NDArray[np.uint8]) -> None:
    data = without_density(kit.by_pillow(picture, "JPEG", exif=resolution(600.0, 300.0)))
    assert decode(data, "item", LIMIT).container.dpi == (600.0, 300.0)


def test_exif_in_centimetres(kit: SimpleNamespace, picture: NDArray[np.uint8]) -> None:
    data = without_density(kit.by_pillow(picture, "JPEG", exif=resolution(100.0, 100.0, 3)))
    assert decode(data, "item", LIMIT).container.dpi == pytest.approx((254.0, 254.0))


def test_nothing_known_is_nothing_said(kit: SimpleNamespace, picture: NDArray[np.uint8]) -> None:
    data = without_density(kit.by_pillow(picture, "JPEG"))
    assert decode(data, "item", LIMIT).container.dpi is None


def test_density_in_centimetres(kit: SimpleNamespace, picture: NDArray[np.uint8]) -> None:
    data = kit.by_pillow(picture, "JPEG", dpi=(118, 118))
    at = data.index(b"JFIF\0") + 7
    assert decode(data[:at] + b"\2" + data[at + 1 :], "item", LIMIT).container.dpi == pytest.approx((299.72, 299.72))


def test_a_density_that_disagrees_with_exif_counts(kit: SimpleNamespace, picture: NDArray[np.uint8]) -> None:
    data = kit.by_pillow(picture, "JPEG", dpi=(300, 300), exif=resolution(72.0, 72.0))
    assert decode(data, "item", LIMIT).container.dpi == (300.0, 300.0)


def test_the_delivered_exif_says_the_delivered_resolution(kit: SimpleNamespace, picture: NDArray[np.uint8]) -> None:
    before = decode(kit.by_pillow(picture, "JPEG", dpi=(300, 300), exif=resolution(300.0, 300.0)), "item", LIMIT)
    enlarged = Photograph("item", picture, Container("JPEG", exif=before.container.exif, dpi=(1200.0, 1200.0)))
    for output in ("jpeg", "png", "webp"):
        image = Image.open(io.BytesIO(encode(enlarged, output)))
        assert float(image.getexif()[0x011A]) == 1200.0


def large_packet(kit: SimpleNamespace) -> bytes:
    history = b"".join(b"<rdf:li>step %d of a long edit, noted in full</rdf:li>" % number for number in range(4000))
    more = (
        b'<xmpMM:History xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"><rdf:Seq>'
        + history
        + b"</rdf:Seq></xmpMM:History>"
    )
    return kit.XMP.replace(b"<dc:creator>", more + b"<dc:creator>")


def test_xmp_over_64_kilobytes_goes_into_extended_xmp(kit: SimpleNamespace, picture: NDArray[np.uint8]) -> None:
    packet = large_packet(kit)
    assert len(packet) > 200_000
    data = encode(Photograph("item", picture, Container("PNG", xmp=packet)), "jpeg")
    assert data.count(jpeg_xmp.EXTENDED) >= 3
    again = decode(data, "item", LIMIT).container.xmp
    assert kit.properties_of(again) == kit.properties_of(packet)
    # Readers that know no extended XMP find what is small in the main packet, and the note.
    main = Image.open(io.BytesIO(data)).info["xmp"]
    assert b"Lotte Jacobi" in main
    assert b"HasExtendedXMP" in main
    assert again is not None
    assert b"HasExtendedXMP" not in again


def test_extended_xmp_that_is_damaged_is_left_out(kit: SimpleNamespace, picture: NDArray[np.uint8]) -> None:
    data = bytearray(encode(Photograph("item", picture, Container("PNG", xmp=large_packet(kit))), "jpeg"))
    data[data.rindex(jpeg_xmp.EXTENDED) + 2000] ^= 1
    found = decode(bytes(data), "item", LIMIT)
    assert np.array_equal(found.pixels.shape, picture.shape)
    assert found.container.xmp is not None
    assert b"Lotte Jacobi" in found.container.xmp
    assert b"History" not in found.container.xmp


def test_long_text_that_is_no_xml_is_refused_by_type(picture: NDArray[np.uint8]) -> None:
    with pytest.raises(ItemError, match="choose") as caught:
        encode(Photograph("item", picture, Container("PNG", xmp=b"x" * 70_000)), "jpeg")
    assert caught.value.reason is Reason.UNSUPPORTED


def test_exif_over_64_kilobytes_is_refused_by_type(kit: SimpleNamespace, picture: NDArray[np.uint8]) -> None:
    with pytest.raises(ItemError, match="EXIF") as caught:
        encode(Photograph("item", picture, Container("PNG", exif=kit.EXIF + bytes(70_000))), "jpeg")
    assert caught.value.reason is Reason.UNSUPPORTED


def test_profiles_and_iptc_over_64_kilobytes(kit: SimpleNamespace, picture: NDArray[np.uint8]) -> None:
    profile = kit.ICC + bytes(range(256)) * 700
    records = b"".join(b"\x1c\x02\x78" + (30_000).to_bytes(2) + bytes([n]) * 30_000 for n in range(5))
    data = encode(Photograph("item", picture, Container("PNG", icc=profile, iptc=records)), "jpeg")
    found = decode(data, "item", LIMIT).container
    assert (found.icc, found.iptc) == (profile, records)
    assert Image.open(io.BytesIO(data)).info["icc_profile"] == profile


def test_pillow_reads_the_iptc_records(kit: SimpleNamespace, picture: NDArray[np.uint8]) -> None:
    image = Image.open(io.BytesIO(encode(Photograph("item", picture, Container("PNG", iptc=kit.IPTC)), "jpeg")))
    assert IptcImagePlugin.getiptcinfo(image)[2, 80] == b"Lotte Jacobi"  # type: ignore[index]


def test_a_preview_is_not_kept(kit: SimpleNamespace, picture: NDArray[np.uint8]) -> None:
    """It would show the photograph unrestored, and turned twice."""
    preview = kit.by_pillow(picture[:8, :8].copy(), "JPEG")
    block = bytearray(kit.EXIF)
    at = len(block)
    entries = [(0x0103, 3, 6 << 16), (0x0201, 4, at + 2 + 36 + 4), (0x0202, 4, len(preview))]
    block += struct.pack(">H", 3) + b"".join(struct.pack(">HHII", code, kind, 1, v) for code, kind, v in entries)
    block += bytes(4) + preview
    [count] = struct.unpack_from(">H", block, 8)
    struct.pack_into(">I", block, 10 + 12 * count, at)
    found = decode(kit.by_pillow(picture, "JPEG", exif=b"Exif\0\0" + bytes(block)), "item", LIMIT)
    assert found.container.exif == kit.EXIF


@pytest.mark.parametrize(
    "options", [{"bitspersample": 12}, {"lossless": True}, {"lossless": True, "bitspersample": 16}]
)
def test_other_coding_is_refused(options: dict[str, object]) -> None:
    dtype = np.uint16 if "bitspersample" in options else np.uint8
    data = imagecodecs.jpeg_encode(np.full((16, 16), 200, dtype), **options)
    with pytest.raises(ItemError, match="first") as caught:
        decode(bytes(data), "item", LIMIT)
    assert caught.value.reason is Reason.UNSUPPORTED


@pytest.mark.parametrize(("marker", "what"), [(0xC9, "arithmetic"), (0xCA, "arithmetic"), (0xC5, "hierarchical")])
def test_rare_coding_is_named(kit: SimpleNamespace, picture: NDArray[np.uint8], marker: int, what: str) -> None:
    data = kit.by_pillow(picture, "JPEG").replace(b"\xff\xc0", bytes((0xFF, marker)), 1)
    with pytest.raises(ItemError, match=what):
        decode(data, "item", LIMIT)


def test_jpeg_ls_is_refused(picture: NDArray[np.uint8]) -> None:
    with pytest.raises(ItemError, match="JPEG-LS"):
        decode(bytes(imagecodecs.jpegls_encode(picture)), "item", LIMIT)
