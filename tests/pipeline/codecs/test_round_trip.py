"""Any array goes through any format bit for bit, with all that it carries, or is refused by type."""

from __future__ import annotations

from types import SimpleNamespace
from typing import get_args

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.codecs import ENCODERS, SUFFIXES, FileFormat, decode, encode
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Container, Photograph

LIMIT = 10**6
LOSSLESS = sorted(set(ENCODERS) - {"jpeg"})
GREY = imagecodecs.cms_profile("gray", gamma=2.2)
COLOUR = imagecodecs.cms_profile("srgb")
DATASET = st.tuples(st.integers(1, 9), st.integers(0, 255), st.binary(max_size=300)).map(
    lambda d: bytes((0x1C, d[0], d[1])) + len(d[2]).to_bytes(2) + d[2]
)
SETTINGS = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@st.composite
def photographs(draw: st.DrawFn) -> Photograph:
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    dtype = draw(st.sampled_from(["uint8", "uint16"]))
    channels = draw(st.sampled_from([1, 3]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    samples = rng.integers(0, np.iinfo(dtype).max, (height, width, channels + 1), dtype=dtype, endpoint=True)
    return Photograph(
        "item",
        samples[..., :channels].copy(),
        Container(
            format="TIFF",
            icc=draw(st.sampled_from([None, GREY if channels == 1 else COLOUR])),
            xmp=draw(st.none() | st.text(min_size=1, max_size=200).map(str.encode)),
            iptc=draw(st.none() | st.lists(DATASET, min_size=1, max_size=4).map(b"".join)),
            dpi=draw(st.none() | st.tuples(*[st.floats(1, 20000)] * 2)),
        ),
        alpha=samples[..., channels].copy() if draw(st.booleans()) else None,
    )


def fits(photograph: Photograph, output: str) -> bool:
    """What docs/formats.md promises."""
    deep, alpha = photograph.peak != 255, photograph.alpha is not None
    grey_profile = photograph.pixels.shape[2] == 1 and photograph.container.icc is not None
    return not {
        "jpeg": deep or alpha,
        "webp": deep or grey_profile,
        "avif": deep,
    }.get(output, False)


@pytest.mark.parametrize("output", LOSSLESS)
@SETTINGS
@given(photograph=photographs())
def test_every_bit_comes_back(output: str, photograph: Photograph) -> None:
    if not fits(photograph, output):
        with pytest.raises(ItemError, match="choose") as caught:
            encode(photograph, output)
        assert caught.value.reason is Reason.UNSUPPORTED
        return
    again = decode(encode(photograph, output), "item", LIMIT)
    expected = photograph.pixels
    if output == "webp" and expected.shape[2] == 1:
        expected = np.repeat(expected, 3, axis=2)
    assert again.pixels.dtype == photograph.pixels.dtype
    assert np.array_equal(again.pixels, expected)
    assert (again.alpha is None) == (photograph.alpha is None)
    assert photograph.alpha is None or np.array_equal(again.alpha, photograph.alpha)
    before, after = photograph.container, again.container
    assert (after.icc, after.xmp) == (before.icc, before.xmp)
    assert after.iptc == (before.iptc if output not in ("webp", "avif") else None)
    near = {"png": {"abs": 0.02, "rel": 1e-6}, "jp2": {"rel": 5e-5}}.get(output, {"rel": 1e-6})
    assert after.dpi == (None if before.dpi is None else pytest.approx(before.dpi, **near))


@SETTINGS
@given(photograph=photographs())
def test_jpeg_takes_what_it_can_hold_and_refuses_the_rest(photograph: Photograph) -> None:
    if not fits(photograph, "jpeg"):
        with pytest.raises(ItemError, match="choose") as caught:
            encode(photograph, "jpeg")
        assert caught.value.reason is Reason.UNSUPPORTED
        return
    again = decode(encode(photograph, "jpeg", 100), "item", LIMIT)
    before, after = photograph.container, again.container
    assert again.pixels.shape == photograph.pixels.shape
    assert (after.icc, after.xmp, after.iptc) == (before.icc, before.xmp, before.iptc)
    assert after.dpi == (None if before.dpi is None else pytest.approx(before.dpi, abs=0.51))


@pytest.mark.parametrize("output", sorted(ENCODERS))
@settings(SETTINGS, max_examples=12)
@given(photograph=photographs())
def test_the_same_photograph_gives_the_same_bytes(output: str, photograph: Photograph) -> None:
    if fits(photograph, output):
        twin = Photograph("other", photograph.pixels.copy(), photograph.container, photograph.alpha)
        assert encode(photograph, output) == encode(twin, output)


@pytest.mark.parametrize("output", sorted(ENCODERS))
@pytest.mark.parametrize("damage", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*" + b"\xff" * 40])
def test_broken_exif_stops_no_delivery(output: str, damage: bytes) -> None:
    pixels = np.zeros((3, 4, 3), np.uint8)
    photograph = Photograph("item", pixels, Container("PNG", exif=damage or None))
    assert decode(encode(photograph, output), "item", LIMIT).container.exif is None


@pytest.mark.parametrize("output", ["tiff", "png", "jp2", "webp", "avif", "jpeg"])
def test_all_metadata_come_back(output: str, kit: SimpleNamespace, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (20, 31, 3), dtype=np.uint8)
    held = Container("TIFF", icc=kit.ICC, exif=kit.EXIF, xmp=kit.XMP, iptc=kit.IPTC, dpi=(300.0, 150.0))
    again = decode(encode(Photograph("item", pixels, held), output), "item", LIMIT).container
    assert (again.icc, again.xmp) == (kit.ICC, kit.XMP)
    assert again.iptc == (None if output in ("webp", "avif") else kit.IPTC)
    assert kit.tags_of(again.exif) == kit.tags_of(kit.EXIF)
    if output in ("png", "jp2", "jpeg"):
        assert again.exif == kit.EXIF
    assert again.dpi == pytest.approx((300.0, 150.0), abs=0.013)


@pytest.mark.parametrize("output", ["webp", "avif"])
def test_lossy_of_a_quality_is_smaller(output: str, kit: SimpleNamespace, rng: np.random.Generator) -> None:
    y, x = np.mgrid[0:80, 0:90]
    pixels = (np.stack([x, y, x + y], axis=2) + rng.integers(0, 20, (80, 90, 3))).astype(np.uint8)
    for whole in (pixels, pixels[..., :1].copy()):
        photograph = Photograph("item", whole, Container("TIFF", xmp=kit.XMP))
        lossless, lossy = encode(photograph, output), encode(photograph, output, 50)
        assert len(lossy) < len(lossless) * 0.7
        again = decode(lossy, "item", LIMIT)
        assert again.container.xmp == kit.XMP
        assert np.abs(again.pixels.astype(int) - whole).mean() < 8


def test_every_format_has_a_suffix() -> None:
    assert set(SUFFIXES) == set(ENCODERS) == set(get_args(FileFormat))
