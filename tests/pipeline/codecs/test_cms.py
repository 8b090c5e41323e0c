"""CMYK and Lab become RGB through their definitions, or are refused."""

from __future__ import annotations

import io
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
import skimage.color
from numpy.typing import NDArray
from PIL import Image, ImageCms

from pipeline.codecs import decode, encode
from pipeline.codecs.icc import PRIMARIES, SRGB_CURVE, colour_space, from_code_points, rgb_profile, romm
from pipeline.errors import ItemError, Reason

LIMIT = 10**6


@pytest.fixture
def inks(rng: np.random.Generator) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (20, 31, 4), dtype=np.uint8)


def lab_of(pixels: NDArray[np.uint16], profile: bytes | None) -> NDArray[np.float64]:
    """What a colour-managed viewer would see: through the embedded profile to sRGB, then CIE Lab."""
    assert profile is not None
    srgb = imagecodecs.cms_profile("srgb")
    seen = imagecodecs.cms_transform(
        pixels, profile, srgb, colorspace="rgb", outcolorspace="rgb", outdtype=np.float32, intent=1
    )
    return skimage.color.rgb2lab(np.clip(seen, 0, 1))


def by_littlecms(inks: NDArray[np.uint8], press: bytes) -> NDArray[np.float64]:
    """The same print by another way: Pillow's littlecms, straight to 8-bit sRGB."""
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(press)), ImageCms.createProfile("sRGB"), "CMYK", "RGB", 1
    )
    return skimage.color.rgb2lab(np.asarray(ImageCms.applyTransform(Image.fromarray(inks, "CMYK"), transform)))


def check(found: NDArray[np.uint16], profile: bytes | None, inks: NDArray[np.uint8], press: bytes, most: float) -> None:
    difference = np.abs(lab_of(found, profile) - by_littlecms(inks, press)).mean()
    assert difference < most


def test_cmyk_tiff_becomes_wide_rgb(kit: SimpleNamespace, inks: NDArray[np.uint8], press: bytes) -> None:
    found = decode(kit.by_tifffile(inks, photometric="separated", iccprofile=press), "item", LIMIT)
    assert (found.pixels.shape, found.pixels.dtype, found.container.icc) == ((20, 31, 3), np.uint16, romm())
    assert found.container.conversion is not None
    assert "CMYK to 16-bit ROMM RGB" in found.container.conversion
    assert "nothing clipped" in found.container.conversion
    check(found.pixels, found.container.icc, inks, press, 1.0)


def test_alpha_beside_inks_is_kept(kit: SimpleNamespace, inks: NDArray[np.uint8], press: bytes) -> None:
    alpha = inks[::-1, :, 0].copy()
    five = np.dstack([inks, alpha])
    data = kit.by_tifffile(five, photometric="separated", iccprofile=press, extrasamples=["unassalpha"])
    found = decode(data, "item", LIMIT)
    assert np.array_equal(found.alpha, alpha.astype(np.uint16) * 257)
    plain = decode(kit.by_tifffile(inks, photometric="separated", iccprofile=press), "item", LIMIT)
    assert np.array_equal(found.pixels, plain.pixels)


def test_sixteen_bit_cmyk_tiff_is_the_same_print(kit: SimpleNamespace, inks: NDArray[np.uint8], press: bytes) -> None:
    shallow = decode(kit.by_tifffile(inks, photometric="separated", iccprofile=press), "item", LIMIT).pixels
    wide = kit.by_tifffile(inks.astype(np.uint16) * 257, photometric="separated", iccprofile=press)
    assert np.abs(decode(wide, "item", LIMIT).pixels.astype(int) - shallow).max() < 200


def test_cmyk_jpeg_of_adobe_is_turned_round(kit: SimpleNamespace, press: bytes) -> None:
    inks = np.full((32, 32, 4), (200, 30, 60, 10), np.uint8)
    data = kit.by_pillow(Image.fromarray(inks, "CMYK"), "JPEG", icc_profile=press, quality=100)
    assert b"Adobe" in data
    found = decode(data, "item", LIMIT)
    check(found.pixels, found.container.icc, inks, press, 1.5)


def test_cmyk_jpeg_without_the_marker_is_not(kit: SimpleNamespace, press: bytes) -> None:
    inks = np.full((32, 32, 4), (200, 30, 60, 10), np.uint8)
    data = kit.by_pillow(Image.fromarray(255 - inks, "CMYK"), "JPEG", icc_profile=press, quality=100)
    at = data.index(b"\xff\xee")
    bare = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4]) :]
    found = decode(bare, "item", LIMIT)
    check(found.pixels, found.container.icc, inks, press, 1.5)


def test_ycck_jpeg_is_read(press: bytes) -> None:
    inks = np.full((32, 32, 4), (200, 30, 60, 10), np.uint8)
    coded = bytes(imagecodecs.jpeg8_encode(255 - inks, level=100, colorspace="CMYK", outcolorspace="YCCK"))
    at = coded.index(b"\xff\xee") if b"\xff\xee" in coded else 2
    size = len(press) + 16
    segment = b"\xff\xe2" + size.to_bytes(2) + b"ICC_PROFILE\0\1\1" + press
    found = decode(coded[:at] + segment + coded[at:], "item", LIMIT)
    check(found.pixels, found.container.icc, inks, press, 2.0)


@pytest.mark.parametrize("kind", ["tiff", "jpeg", "jp2"])
def test_cmyk_without_a_profile_is_refused(kit: SimpleNamespace, inks: NDArray[np.uint8], kind: str) -> None:
    data = {
        "tiff": lambda: kit.by_tifffile(inks, photometric="separated"),
        "jpeg": lambda: kit.by_pillow(Image.fromarray(inks, "CMYK"), "JPEG", icc_profile=kit.ICC),
        "jp2": lambda: bytes(imagecodecs.jpeg2k_encode(inks, level=0, codecformat="jp2", colorspace="CMYK")),
    }[kind]()
    with pytest.raises(ItemError, match="CMYK") as caught:
        decode(data, "item", LIMIT)
    assert caught.value.reason is Reason.UNSUPPORTED


def test_a_broken_cmyk_profile_is_refused(kit: SimpleNamespace, inks: NDArray[np.uint8], press: bytes) -> None:
    broken = press[:200] + bytes(len(press) - 200)
    with pytest.raises(ItemError, match="profile cannot be used") as caught:
        decode(kit.by_tifffile(inks, photometric="separated", iccprofile=broken), "item", LIMIT)
    assert caught.value.reason is Reason.UNSUPPORTED


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("photometric", ["cielab", "icclab"])
def test_lab_keeps_its_colours(kit: SimpleNamespace, rng: np.random.Generator, photometric: str, depth: int) -> None:
    lab = np.dstack([rng.uniform(40, 75, (20, 31)), rng.uniform(-25, 25, (20, 31)), rng.uniform(-25, 25, (20, 31))])
    wide = 256 if depth == 16 else 1
    if photometric == "icclab":
        white = 65280 if depth == 16 else 255
        coded = np.dstack([lab[..., 0] * white / 100, (lab[..., 1:] + 128) * wide])
    else:
        coded = np.dstack([lab[..., 0] * (65535 if depth == 16 else 255) / 100, lab[..., 1:] * wide])
    stored = np.rint(coded).astype(np.int64).astype(np.uint8 if depth == 8 else np.uint16)
    found = decode(kit.by_tifffile(stored, photometric=photometric), "item", LIMIT)
    assert found.container.icc == romm()
    linear = np.where(found.pixels < 2048, found.pixels / 65535 / 16, (found.pixels / 65535) ** 1.8)
    # ISO 22028-2's own matrix, ROMM to XYZ under D50.
    xyz = linear @ np.array([[0.7977, 0.1352, 0.0313], [0.2880, 0.7119, 0.0001], [0.0, 0.0, 0.8249]]).T
    back = skimage.color.xyz2lab(xyz, illuminant="D50")
    assert np.abs(back - lab).max() < (0.9 if depth == 8 else 0.15)


def test_lab_of_another_white_is_refused(kit: SimpleNamespace) -> None:
    white = (318, "2I", 2, (3127, 10000, 3290, 10000), True)
    with pytest.raises(ItemError, match="white") as caught:
        decode(kit.by_tifffile(np.zeros((9, 9, 3), np.uint8), photometric="cielab", extratags=[white]), "item", LIMIT)
    assert caught.value.reason is Reason.UNSUPPORTED


def test_converted_photographs_are_the_same_bytes_every_time(
    kit: SimpleNamespace, inks: NDArray[np.uint8], press: bytes
) -> None:
    data = kit.by_tifffile(inks, photometric="separated", iccprofile=press)
    assert encode(decode(data, "item", LIMIT), "tiff") == encode(decode(data, "item", LIMIT), "tiff")


@pytest.mark.parametrize("profile", [romm(), from_code_points(12, 13), from_code_points(9, 1)])
def test_made_profiles_are_good_profiles(profile: bytes | None) -> None:
    assert profile is not None
    imagecodecs.cms_profile_validate(profile)
    assert colour_space(profile) == "RGB"
    assert ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).startswith("Albumen")


def test_a_made_srgb_profile_is_srgb(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
    mine = rgb_profile("sRGB", PRIMARIES[1][1], SRGB_CURVE)
    seen = imagecodecs.cms_transform(
        pixels, mine, imagecodecs.cms_profile("srgb"), colorspace="rgb", outcolorspace="rgb", outdtype=np.uint16
    )
    assert np.abs(seen.astype(int) - pixels.astype(int) * 257).max() <= 2
