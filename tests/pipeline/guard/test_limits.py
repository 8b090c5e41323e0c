from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageCms

from pipeline.guard.limits import Limits, icc_fault

SOUND = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_a_sound_profile_has_no_fault() -> None:
    assert icc_fault(SOUND) is None
    assert icc_fault(SOUND + b"padding") is None


@pytest.mark.parametrize(
    "profile",
    [
        b"",
        b"garbage" * 100,
        SOUND[:100],
        SOUND[:-1],
        SOUND[:128] + struct.pack(">I", 2**32 - 1) + SOUND[132:],
        SOUND[:136] + struct.pack(">II", 2**32 - 1, 2**32 - 1) + SOUND[144:],
    ],
)
def test_what_is_no_profile_is_called_so(profile: bytes) -> None:
    assert icc_fault(profile)


@given(st.binary(max_size=300))
def test_no_bytes_raise(noise: bytes) -> None:
    icc_fault(noise)
    icc_fault(SOUND[:128] + noise)


def test_a_small_file_gets_little_time_whatever_it_promises() -> None:
    limits = Limits()
    assert limits.allowed_seconds(2_000, 200_000_000) < 16
    assert limits.allowed_seconds(800_000_000, 200_000_000) == 215
    assert limits.allowed_seconds(800_000_000, 0) == limits.seconds <= 20


def test_memory_follows_file_and_pixels() -> None:
    limits = Limits()
    assert limits.allowed_memory(0, 0) == limits.memory
    assert limits.allowed_memory(1000, 10) == limits.memory + 3000 + 400
