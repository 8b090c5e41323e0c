from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000

from pipeline import colour_space
from pipeline.colour_space import (
    Grey,
    Shaper,
    Stored,
    Table,
    bands,
    decode_srgb,
    encode_srgb,
    in_srgb,
    open_profile,
    profile_finding,
    space_of,
    visible,
)
from pipeline.photograph import Container, Photograph, as_unit, to_depth

Profiles = dict[str, bytes]
WIDE = ("adobe", "p3", "prophoto", "eci", "scanner")


def lab(stored: NDArray[np.uint16], icc: bytes) -> NDArray[np.float64]:
    """CIE Lab by littlecms alone, from the stored values."""
    found = imagecodecs.cms_transform(
        as_unit(stored), icc, imagecodecs.cms_profile("lab4"), colorspace="rgb", outcolorspace="lab", intent=1
    )
    return np.asarray(found, np.float64)


def of(pixels: NDArray[np.uint8] | NDArray[np.uint16], icc: bytes | None) -> Photograph:
    return Photograph("item", pixels, Container("TIFF", icc=icc))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adobe", Shaper), ("p3", Shaper), ("prophoto", Shaper), ("eci", Shaper), ("scanner", Table), ("srgb", Stored)],
)
def test_profiles_are_told_apart(profiles: Profiles, name: str, kind: type) -> None:
    space = open_profile(profiles[name], 3)
    assert type(space) is kind
    assert space.fault is None


@pytest.mark.parametrize("name", ["grey", "grey-table"])
def test_grey_profiles_are_curves(profiles: Profiles, name: str) -> None:
    space = open_profile(profiles[name], 1)
    assert isinstance(space, Grey)
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    assert np.array_equal(to_depth(space.from_srgb(space.to_srgb(ramp), ramp), ramp.dtype)[64:], ramp[64:])


def test_without_a_profile_and_with_srgb_pixels_are_as_they_are(profiles: Profiles, vivid: NDArray[np.uint16]) -> None:
    for icc in (None, profiles["srgb"], bytes(imagecodecs.cms_profile("srgb"))):
        photograph = of(vivid, icc)
        assert space_of(photograph).as_stored
        assert visible(photograph) is vivid
        assert np.array_equal(in_srgb(vivid, space_of(photograph)), as_unit(vivid))


@pytest.mark.parametrize("name", WIDE)
def test_srgb_floats_are_what_littlecms_says(profiles: Profiles, vivid: NDArray[np.uint16], name: str) -> None:
    """Through Lab, which knows no gamut: the colour of the floats is the colour that the profile gives the pixels."""
    srgb = in_srgb(vivid, open_profile(profiles[name], 3))
    linear = imagecodecs.cms_profile(
        "rgb", whitepoint=(0.3127, 0.3290, 1.0), primaries=[0.64, 0.33, 1, 0.30, 0.60, 1, 0.15, 0.06, 1], gamma=1.0
    )
    found = imagecodecs.cms_transform(
        decode_srgb(srgb), linear, imagecodecs.cms_profile("lab4"), colorspace="rgb", outcolorspace="lab", intent=1
    )
    assert deltaE_ciede2000(lab(vivid, profiles[name]), np.asarray(found, np.float64)).max() < 0.05


@pytest.mark.parametrize("name", WIDE)
def test_wide_colours_survive_the_way_there_and_back(profiles: Profiles, vivid: NDArray[np.uint16], name: str) -> None:
    space = open_profile(profiles[name], 3)
    srgb = in_srgb(vivid, space)
    outside = ((srgb < -0.02) | (srgb > 1.02)).any(axis=2)
    assert outside.mean() > 0.05
    # From a neighbour's values, as a stage that moved pixels would have it.
    near = np.roll(vivid, 1, axis=1)
    back = to_depth(space.from_srgb(srgb, near), vivid.dtype)
    difference = deltaE_ciede2000(lab(vivid, profiles[name]), lab(back, profiles[name]))
    assert difference.mean() < 0.02
    assert difference[outside].max() < 0.5


@pytest.mark.parametrize("name", ["scanner"])
def test_what_nobody_moved_stays_where_it_was(profiles: Profiles, vivid: NDArray[np.uint16], name: str) -> None:
    space = open_profile(profiles[name], 3)
    assert np.array_equal(to_depth(space.from_srgb(in_srgb(vivid, space), vivid), vivid.dtype), vivid)


@pytest.mark.parametrize("name", WIDE)
def test_equal_channels_have_a_curve_of_their_own(profiles: Profiles, name: str) -> None:
    space = open_profile(profiles[name], 3)
    ramp = np.linspace(2000, 65535, 512).astype(np.uint16).reshape(16, 32, 1)
    grey = space.to_srgb(ramp)
    assert grey.shape == (16, 32, 1)
    assert (np.diff(grey.ravel()) > 0).all()
    assert np.abs(to_depth(space.from_srgb(grey, ramp), ramp.dtype).astype(int) - ramp).max() <= 1


def broken(profiles: Profiles) -> dict[str, tuple[bytes, int]]:
    adobe = profiles["adobe"]
    cut = adobe[:300]
    return {
        "garbage": (b"garbage" * 40, 3),
        "empty": (b"", 3),
        "cut": (cut, 3),
        "header alone": (adobe[:132], 3),
        "CMYK in RGB": (adobe[:16] + b"CMYK" + adobe[20:], 3),
        "grey in RGB": (profiles["grey"], 3),
        "RGB in grey": (adobe, 1),
        "link": (adobe[:12] + b"link" + adobe[16:], 3),
        "curves gone": (adobe.replace(b"rTRC", b"xTRC"), 3),
        "colours gone": (adobe.replace(b"rXYZ", b"xXYZ"), 3),
        "zeros inside": (adobe[:132] + bytes(len(adobe) - 132), 3),
        "huge": (adobe + bytes(17 << 20), 3),
    }


def test_a_broken_profile_fails_no_photograph(profiles: Profiles, vivid: NDArray[np.uint16]) -> None:
    for name, (icc, channels) in broken(profiles).items():
        photograph = of(np.ascontiguousarray(vivid[..., :channels]), icc)
        space = space_of(photograph)
        assert space.as_stored, name
        assert space.fault, name
        assert (profile_finding(photograph) or "").startswith("not honoured, pixels taken as they are: "), name


@settings(max_examples=40, deadline=None, derandomize=True)
@given(at=st.integers(0, 599), value=st.integers(0, 255), more=st.integers(0, 599), other=st.integers(0, 255))
def test_a_profile_with_wrong_bytes_is_read_or_left(
    profiles: Profiles, at: int, value: int, more: int, other: int
) -> None:
    icc = bytearray(profiles["adobe"])
    icc[at % len(icc)], icc[more % len(icc)] = value, other
    space = open_profile(bytes(icc), 3)
    pixels = np.arange(48, dtype=np.uint16).reshape(4, 4, 3) * 1300
    answer = space.to_srgb(pixels)
    assert np.isfinite(answer).all()
    assert np.isfinite(space.from_srgb(answer, pixels)).all()


def test_the_record_says_what_became_of_a_profile(profiles: Profiles, vivid: NDArray[np.uint16]) -> None:
    assert profile_finding(of(vivid, None)) is None
    assert profile_finding(of(vivid, profiles["srgb"])) == "sRGB: pixels taken as they are"
    assert profile_finding(of(vivid, profiles["adobe"])) == "honoured: converted for measures and networks"


@pytest.mark.parametrize("name", WIDE)
def test_bands_change_nothing(
    profiles: Profiles, vivid: NDArray[np.uint16], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = open_profile(profiles[name], 3)
    whole = space.to_srgb(vivid)
    monkeypatch.setattr(colour_space, "BAND", 1000)
    assert np.array_equal(in_srgb(vivid, space), whole)
    shown = visible(of(vivid, profiles[name]))
    assert np.array_equal(shown, to_depth(whole, np.dtype(np.uint16)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (7, 100)])
def test_bands_cover_every_row_once(shape: tuple[int, int]) -> None:
    seen = np.zeros(shape, int)
    for rows in bands(seen, 300):
        assert rows.stop > rows.start
        seen[rows] += 1
    assert (seen == 1).all()


def test_opened_profiles_are_kept_and_bounded(profiles: Profiles) -> None:
    open_profile.cache_clear()
    first = open_profile(profiles["adobe"], 3)
    assert open_profile(bytes(bytearray(profiles["adobe"])), 3) is first
    for index in range(20):
        open_profile(b"x" * index, 3)
    assert open_profile.cache_info().currsize == open_profile.cache_info().maxsize == 8


@settings(max_examples=200, deadline=None, derandomize=True)
@given(value=st.floats(-3, 3, width=32))
def test_extended_srgb_is_odd_and_has_an_inverse(value: float) -> None:
    one = np.array([value], np.float32)
    assert encode_srgb(-one)[0] == -encode_srgb(one)[0]
    assert decode_srgb(encode_srgb(one))[0] == pytest.approx(value, rel=1e-4, abs=1e-6)


def test_extended_srgb_is_the_standards_inside() -> None:
    """IEC 61966-2-1: half of full code is 21.4 % of full light."""
    assert decode_srgb(np.array([0.0, 0.04045, 0.5, 1.0], np.float32)) == pytest.approx(
        [0, 0.0031308, 0.2140411, 1.0], abs=1e-6
    )


def test_depth_makes_no_difference(profiles: Profiles, real_photo: NDArray[np.uint8]) -> None:
    crop = np.ascontiguousarray(real_photo[:60, :60])
    for name in WIDE:
        space = open_profile(profiles[name], 3)
        assert np.abs(space.to_srgb(crop) - space.to_srgb(crop.astype(np.uint16) * 257)).max() < 1e-6
