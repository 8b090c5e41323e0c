"""Colour spaces: what a photograph's numbers mean, as its ICC profile says, and the way to sRGB floats and back.

Networks and measures know sRGB. A photograph without a profile, with an sRGB profile or with one that cannot be honoured is
used as it is stored. Others are converted to extended sRGB: float32, transfer function of IEC 61966-2-1 mirrored about zero
(as scRGB and CSS Color 4 have it), where colours outside the sRGB gamut lie below 0 or above 1 instead of being cut off.

littlecms reads each profile once and answers for a set of probes. Profiles made of three curves and a matrix are applied
from those answers with array arithmetic, and inverted exactly; others (look-up tables) are evaluated by littlecms, and
inverted by Newton's method from where the pixel was, because scanner profiles have no table for the way back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.photograph import Photograph, Pixels, as_unit, to_depth

Floats = NDArray[np.float32]

# Conversions work on bands of about this many pixels, so that no float copy of a large scan is ever made.
BAND = 1 << 19
_LARGEST_PROFILE = 16 << 20
_SPACES = {1: b"GRAY", 3: b"RGB "}
_NAMES = {b"GRAY": "grey", b"RGB ": "RGB", b"CMYK": "CMYK", b"Lab ": "Lab"}
# Input, display, output and colour-space profiles; device links, abstract and named colours describe no photograph.
_CLASSES = (b"scnr", b"mntr", b"prtr", b"spac")
_RELATIVE_COLORIMETRIC = 1
_SAMPLES = 1 << 16
# Closer to sRGB than one step of 8 bits everywhere: not worth touching a pixel for.
_SAME = 1.0 / 255
# How far three curves and a matrix may be from what littlecms says, in linear light.
_SHAPER_ERROR = 2e-4
_STEPS = 12
_CLOSE = np.float32(1e-9)
# Samples of a curve that may share one value without the profile meaning it.
_STEP_LENGTH = 64
_SLOPE_STEP = np.float32(1 / 128)
_DAMPING = np.float32(1e-5)
# Rec. ITU-R BT.709: linear sRGB to luminance.
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)


class ColourSpace(Protocol):
    """The way from stored samples to extended sRGB and back.

    as_stored: nothing is converted. fault: why a profile that is there is not honoured.
    """

    @property
    def as_stored(self) -> bool: ...
    @property
    def fault(self) -> str | None: ...

    def to_srgb(self, samples: Pixels) -> Floats:
        """H x W x 1|3, 8 or 16 bits, to float32 of the same shape. One channel means equal stored red, green and blue."""
        ...

    def from_srgb(self, srgb: Floats, near: Pixels) -> Floats:
        """Extended sRGB to stored values, 0..1, clipped to the profile's gamut. near: the pixels it came from."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """Pixels as they are: sRGB, or what is taken for it."""

    fault: str | None = None
    as_stored: bool = True

    def to_srgb(self, samples: Pixels) -> Floats:
        return as_unit(samples)

    def from_srgb(self, srgb: Floats, near: Pixels) -> Floats:
        return np.clip(srgb, 0.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A rising function of one stored channel, known at every 16-bit value."""

    table: Floats

    def __call__(self, samples: Pixels) -> Floats:
        values: Floats = self.table[
            samples.astype(np.uint16) * np.uint16(257) if samples.dtype == np.uint8 else samples
        ]
        return values

    def inverse(self, values: Floats) -> Floats:
        grid = np.linspace(0.0, 1.0, _SAMPLES)
        return np.interp(values, self.table, grid).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Grey:
    """A grey profile, or the neutral axis of another. curve: stored to sRGB."""

    curve: Curve
    as_stored: bool = False
    fault: str | None = None

    def to_srgb(self, samples: Pixels) -> Floats:
        return self.curve(samples)

    def from_srgb(self, srgb: Floats, near: Pixels) -> Floats:
        return self.curve.inverse(srgb)


@dataclass(frozen=True, slots=True, eq=False)
class Shaper:
    """Three curves to linear light and a 3 x 3 matrix to linear sRGB (ICC.1:2022, F.3). axis: its equal channels."""

    curves: tuple[Curve, Curve, Curve]
    matrix: Floats
    axis: Grey
    as_stored: bool = False
    fault: str | None = None

    def to_srgb(self, samples: Pixels) -> Floats:
        if samples.shape[2] == 1:
            return self.axis.to_srgb(samples)
        light = np.stack([curve(samples[..., c]) for c, curve in enumerate(self.curves)], axis=2)
        return encode_srgb(light @ self.matrix)

    def from_srgb(self, srgb: Floats, near: Pixels) -> Floats:
        if srgb.shape[2] == 1:
            return self.axis.from_srgb(srgb, near)
        light = decode_srgb(srgb) @ np.linalg.inv(self.matrix)
        return np.stack([curve.inverse(light[..., c]) for c, curve in enumerate(self.curves)], axis=2)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A profile with look-up tables. axis: its equal channels."""

    icc: bytes
    axis: Grey
    as_stored: bool = False
    fault: str | None = None

    def to_srgb(self, samples: Pixels) -> Floats:
        return self.axis.to_srgb(samples) if samples.shape[2] == 1 else encode_srgb(self._light(as_unit(samples)))

    def _light(self, unit: Floats) -> Floats:
        return _linear_srgb(self.icc, np.ascontiguousarray(unit))

    def from_srgb(self, srgb: Floats, near: Pixels) -> Floats:
        """Damped Gauss-Newton (Levenberg, 1944) for each pixel; with shorter steps where a whole one leads away."""
        if srgb.shape[2] == 1:
            return self.axis.from_srgb(srgb, near)
        # Steps are found in linear light, which profiles bend less; what is close is judged as the eye would.
        best, wanted = as_unit(near), decode_srgb(srgb)
        light = self._light(best)
        least = np.square(srgb - encode_srgb(light)).sum(axis=2)
        reach = np.ones_like(least)
        for _ in range(_STEPS):
            if least.max() < _CLOSE:
                break
            slopes = self._slopes(best, light)
            step = _newton_step(slopes, wanted - light)
            stuck = ((best <= 0) & (step < 0)) | ((best >= 1) & (step > 0))
            if stuck.any():
                # At the edge of what can be stored, the other channels have to go on alone.
                step = _newton_step(np.where(stuck[..., None, :], 0, slopes), wanted - light)
            point = np.clip(best + step * reach[..., None], 0.0, 1.0)
            found = self._light(point)
            error = np.square(srgb - encode_srgb(found)).sum(axis=2)
            closer = error < least
            reach = np.where(closer, np.float32(1), reach * np.float32(0.4))
            best, light = (np.where(closer[..., None], new, old) for new, old in ((point, best), (found, light)))
            least = np.minimum(error, least)
        return best

    def _slopes(self, point: Floats, light: Floats) -> Floats:
        """d light / d stored by differences, H x W x 3 (of light) x 3 (of stored)."""
        slopes = np.empty((*point.shape, 3), np.float32)
        for channel in range(3):
            moved = point.copy()
            step = np.where(point[..., channel] > 0.5, -_SLOPE_STEP, _SLOPE_STEP)
            moved[..., channel] += step
            slopes[..., channel] = (self._light(moved) - light) / step[..., None]
        return slopes


def _newton_step(slopes: Floats, error: Floats) -> Floats:
    turned = slopes.swapaxes(-1, -2)
    normal = turned @ slopes
    size = np.trace(normal, axis1=-2, axis2=-1)[..., None, None]
    normal = normal + (_DAMPING * size + np.float32(1e-12)) * np.eye(3, dtype=np.float32)
    step: Floats = np.linalg.solve(normal, turned @ error[..., None])[..., 0]
    return step


def encode_srgb(linear: Floats) -> Floats:
    """Linear light to sRGB (IEC 61966-2-1), mirrored about zero."""
    size = np.abs(linear)
    curved = np.float32(1.055) * size ** np.float32(1 / 2.4) - np.float32(0.055)
    return np.copysign(np.where(size <= 0.0031308, size * np.float32(12.92), curved), linear)


def decode_srgb(encoded: Floats) -> Floats:
    """The inverse of encode_srgb."""
    size = np.abs(encoded)
    curved = ((size + np.float32(0.055)) / np.float32(1.055)) ** np.float32(2.4)
    return np.copysign(np.where(size <= 0.04045, size / np.float32(12.92), curved), encoded)


def space_of(photograph: Photograph) -> ColourSpace:
    """The space of a photograph's pixels. Never fails: a profile that cannot be honoured gives `Stored` with a fault."""
    icc = photograph.container.icc
    return Stored() if icc is None else open_profile(icc, int(photograph.pixels.shape[2]))


@lru_cache(maxsize=8)
def open_profile(icc: bytes, channels: int) -> ColourSpace:
    """The space that a profile describes for 1 (grey) or 3 (RGB) channels."""
    fault = _fault(icc, channels)
    if fault is not None:
        return Stored(fault)
    # Imported here: only photographs with a profile need littlecms.
    import imagecodecs

    try:
        return _opened(icc, channels)
    except (imagecodecs.CmsError, ValueError, np.linalg.LinAlgError) as error:
        return Stored(f"the ICC profile cannot be used: {error}")


def _fault(icc: bytes, channels: int) -> str | None:
    if len(icc) > _LARGEST_PROFILE:
        return f"the ICC profile of {len(icc):,} bytes is larger than any honest one"
    if len(icc) < 132 or icc[36:40] != b"acsp":
        return "the ICC profile is broken: it has no header"
    if icc[12:16] not in _CLASSES:
        return f"the ICC profile is of class {icc[12:16].decode('latin-1')!r}, which describes no photograph"
    if icc[16:20] != _SPACES[channels]:
        given, wanted = (_NAMES.get(name, repr(name)) for name in (icc[16:20], _SPACES[channels]))
        return f"the ICC profile is for {given} and the photograph is {wanted}"
    return None


def _opened(icc: bytes, channels: int) -> ColourSpace:
    ramp = np.linspace(0.0, 1.0, _SAMPLES, dtype=np.float32)[None]
    if channels == 1:
        axis = _axis(_linear_srgb(icc, ramp[..., None]))
        return Stored() if np.abs(axis.curve.table - ramp[0]).max() <= _SAME else axis
    steps = np.linspace(0.0, 1.0, 9, dtype=np.float32)
    lattice = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(1, -1, 3)
    light = _linear_srgb(icc, lattice)
    if np.abs(encode_srgb(light) - lattice).max() <= _SAME:
        return Stored()
    axis = _axis(_linear_srgb(icc, np.repeat(ramp[..., None], 3, axis=2)))
    shaper = _shaper(icc, ramp, axis)
    if shaper is not None:
        curves = [np.interp(lattice[..., c], ramp[0], shaper.curves[c].table) for c in range(3)]
        modelled = np.stack(curves, axis=2).astype(np.float32) @ shaper.matrix
        if np.abs(modelled - light).max() <= _SHAPER_ERROR:
            return shaper
    return Table(icc, axis)


def _shaper(icc: bytes, ramp: Floats, axis: Grey) -> Shaper | None:
    """What the profile would be if it were three curves and a matrix: each channel alone shows its curve and its column."""
    curves, columns = [], []
    for channel in range(3):
        alone = np.zeros((1, _SAMPLES, 3), np.float32)
        alone[..., channel] = ramp
        light = _linear_srgb(icc, alone)[0].astype(np.float64)
        column = light[-1]
        strength = float(column @ column)
        if strength < 1e-6:
            return None
        table = light @ column / strength
        if np.diff(table).min() < -1e-6:
            return None
        curves.append(Curve(_without_steps(np.maximum.accumulate(table))))
        columns.append(column)
    matrix = np.array(columns, np.float32)
    return Shaper((curves[0], curves[1], curves[2]), matrix, axis) if abs(np.linalg.det(matrix)) > 1e-4 else None


def _axis(linear: Floats) -> Grey:
    """linear: 1 x 65536 x 3, what the profile says of a ramp of equal channels."""
    table = encode_srgb(linear[0] @ _LUMINANCE)
    rising = np.maximum.accumulate(table)
    if rising[-1] - rising[0] < 0.5 or (rising - table).max() > _SAME:
        raise ValueError("its greys do not rise from black to white")
    return Grey(Curve(_without_steps(rising)))


def _without_steps(rising: NDArray[Any]) -> Floats:
    """littlecms answers for curves that are tables in steps of 16 bits, several samples long in the shadows: a line through
    their middles, which has an inverse. Longer flats are the profile's own and stay."""
    _, first, length = np.unique(rising, return_index=True, return_counts=True)
    last = first + length - 1
    short = length <= _STEP_LENGTH
    knots = np.concatenate([(first + last)[short] / 2, first[~short], last[~short], [0, len(rising) - 1]])
    knots = np.unique(knots)
    values = rising[np.floor(knots).astype(np.int64)]
    smooth: Floats = np.interp(np.arange(len(rising)), knots, values).astype(np.float32)
    return smooth


def _linear_srgb(icc: bytes, unit: Floats) -> Floats:
    """littlecms: stored values 0..1, H x W x 1|3, to linear sRGB, H x W x 3, unbounded. Relative colorimetric."""
    import imagecodecs

    grey = unit.shape[2] == 1
    answer: Floats = imagecodecs.cms_transform(
        unit[..., 0] if grey else unit,
        icc,
        _linear_profile(),
        colorspace="gray" if grey else "rgb",
        outcolorspace="rgb",
        outdtype="float32",
        intent=_RELATIVE_COLORIMETRIC,
    )
    if not np.isfinite(answer).all():
        raise ValueError("it gives values that are no numbers")
    return answer


@cache
def _linear_profile() -> bytes:
    """sRGB's primaries with linear light."""
    import imagecodecs

    profile: bytes = imagecodecs.cms_profile(
        "rgb",
        whitepoint=(0.3127, 0.3290, 1.0),
        primaries=[0.64, 0.33, 1.0, 0.30, 0.60, 1.0, 0.15, 0.06, 1.0],
        gamma=1.0,
    )
    return profile


def bands(pixels: NDArray[Any], size: int = BAND) -> Iterator[slice]:
    """Slices of rows that together cover `pixels`, each of about `size` pixels."""
    height, width = pixels.shape[:2]
    rows = max(1, size // max(1, width))
    for top in range(0, height, rows):
        yield slice(top, min(height, top + rows))


def in_srgb(pixels: Pixels, space: ColourSpace) -> Floats:
    """All pixels in extended sRGB: 4 bytes a sample. For what is going to be floats in any case."""
    result = np.empty(pixels.shape, np.float32)
    for rows in bands(pixels):
        result[rows] = space.to_srgb(pixels[rows])
    return result


def visible(photograph: Photograph) -> Pixels:
    """The pixels in sRGB, cut to its gamut, for networks that know nothing else.

    The photograph's own array where it is sRGB already; else 16 bits.
    """
    space, pixels = space_of(photograph), photograph.pixels
    if space.as_stored:
        return pixels
    result = np.empty(pixels.shape, np.uint16)
    for rows in bands(pixels):
        result[rows] = to_depth(space.to_srgb(pixels[rows]), result.dtype)
    return result


def as_srgb(photograph: Photograph) -> Floats:
    """H x W x 3 float32 sRGB, 0..1. Colours outside sRGB are cut off; alpha is left out."""
    srgb = np.clip(space_of(photograph).to_srgb(photograph.pixels), 0, 1)
    return np.ascontiguousarray(np.repeat(srgb, 3, axis=2) if srgb.shape[2] == 1 else srgb, np.float32)


def profile_finding(photograph: Photograph) -> str | None:
    """What the record says of the profile: None without one."""
    if photograph.container.icc is None:
        return None
    space = space_of(photograph)
    if space.fault is not None:
        return f"not honoured, pixels taken as they are: {space.fault}"
    return "sRGB: pixels taken as they are" if space.as_stored else "honoured: converted for measures and networks"
