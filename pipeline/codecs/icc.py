"""ICC profiles: what a header says, and RGB matrix profiles made from primaries and a curve (ICC.1:2010, version 4)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

D50 = np.array([0.9642, 1.0, 0.8249])
# Bradford cone response matrix (ICC.1:2010, annex E).
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_DESCRIPTION = "Albumen: {}"


@dataclass(frozen=True, slots=True)
class Curve:
    """y = (a x + b) ^ gamma from x >= d, else c x: parametric curve type 3 of ICC.1:2010, 10.16."""

    gamma: float
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0


SRGB_CURVE = Curve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
BT709_CURVE = Curve(1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
# ISO 22028-2: linear below 1/512 of the light.
ROMM_CURVE = Curve(1.8, 1.0, 0.0, 1 / 16, 1 / 32)
_D65 = (0.3127, 0.3290)
Chromaticities = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
ROMM: Chromaticities = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), (0.3457, 0.3585))
# Colour primaries and white by code point (ITU-T H.273, table 2).
PRIMARIES: dict[int, tuple[str, Chromaticities]] = {
    1: ("BT.709", ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65)),
    5: ("BT.601 625 lines", ((0.640, 0.330), (0.290, 0.600), (0.150, 0.060), _D65)),
    6: ("BT.601 525 lines", ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65)),
    9: ("BT.2020", ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65)),
    12: ("Display P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65)),
}
# Transfer characteristics by code point (ITU-T H.273, table 3); 16 and 18 are high dynamic range and not here.
CURVES: dict[int, Curve] = {
    **dict.fromkeys((1, 6, 14, 15), BT709_CURVE),
    4: Curve(2.2),
    5: Curve(2.8),
    8: Curve(1.0),
    13: SRGB_CURVE,
}


def colour_space(profile: bytes | None) -> str | None:
    """The data colour space of a profile (`RGB`, `GRAY`, `CMYK`, `Lab`), or None where it is none."""
    if profile is None or len(profile) < 132 or profile[36:40] != b"acsp":
        return None
    return profile[16:20].decode("ascii", "replace").strip()


@cache
def rgb_profile(name: str, chromaticities: Chromaticities, curve: Curve) -> bytes:
    """A matrix profile for RGB. chromaticities: x, y of red, green, blue and white. The same bytes every time."""
    columns = to_pcs(chromaticities)
    adapt = _adaptation(_xyz(chromaticities[3]))
    para = struct.pack(">4s4xHH", b"para", 3, 0) + b"".join(
        _fixed(value) for value in (curve.gamma, curve.a, curve.b, curve.c, curve.d)
    )
    tags = {
        b"desc": _text(_DESCRIPTION.format(name)),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": _xyz_tag(D50),
        b"chad": b"sf32\0\0\0\0" + b"".join(_fixed(value) for value in adapt.ravel()),
        **{kind: _xyz_tag(columns[:, i]) for i, kind in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), para),
    }
    return _profile(tags)


def to_pcs(chromaticities: Chromaticities) -> NDArray[np.float64]:
    """3 x 3: linear RGB to XYZ under D50, Bradford-adapted."""
    white = _xyz(chromaticities[3])
    primaries = np.stack([_xyz(point) for point in chromaticities[:3]], axis=1)
    return _adaptation(white) @ (primaries * np.linalg.solve(primaries, white))


def romm() -> bytes:
    """ROMM RGB (ISO 22028-2, known as ProPhoto): all colours of real surfaces lie inside, which needs 16 bits."""
    return rgb_profile("ROMM RGB (ISO 22028-2)", ROMM, ROMM_CURVE)


def from_code_points(primaries: int, transfer: int) -> bytes | None:
    """The profile that ITU-T H.273 code points stand for; None for sRGB's own, for unspecified and for unknown ones."""
    if primaries not in PRIMARIES or transfer not in CURVES or (primaries == 1 and transfer in (1, 6, 13, 14, 15)):
        return None
    name, chromaticities = PRIMARIES[primaries]
    return rgb_profile(f"H.273 primaries {primaries} ({name}), transfer {transfer}", chromaticities, CURVES[transfer])


def _xyz(point: tuple[float, float]) -> NDArray[np.float64]:
    x, y = point
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _adaptation(white: NDArray[np.float64]) -> NDArray[np.float64]:
    gain = (_BRADFORD @ D50) / (_BRADFORD @ white)
    return np.asarray(np.linalg.inv(_BRADFORD) @ np.diag(gain) @ _BRADFORD)


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(float(value) * 65536))


def _xyz_tag(value: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(_fixed(v) for v in value)


def _text(text: str) -> bytes:
    coded = text.encode("utf-16-be")
    return struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", len(coded), 28) + coded


def _profile(tags: dict[bytes, bytes]) -> bytes:
    places: dict[bytes, int] = {}
    body, start = b"", 128 + 4 + 12 * len(tags)
    for value in tags.values():
        if value not in places:
            places[value] = start + len(body)
            body += value + b"\0" * (-len(value) % 4)
    table = b"".join(struct.pack(">4sII", kind, places[value], len(value)) for kind, value in tags.items())
    head = struct.pack(
        ">I4sI4s4s4s6H4s4sI4s4sQI12s4s",
        *(start + len(body), b"\0\0\0\0", 0x04300000, b"mntr", b"RGB ", b"XYZ "),
        *(2026, 1, 1, 0, 0, 0, b"acsp", b"\0\0\0\0", 0, b"\0\0\0\0", b"\0\0\0\0", 0, 1),
        *(b"".join(_fixed(v) for v in D50), b"\0\0\0\0"),
    )
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
