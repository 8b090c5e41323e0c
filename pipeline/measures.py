"""Numbers that describe a photograph before anything is done to it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.colour_space import Floats, bands, decode_srgb, space_of
from pipeline.photograph import LUMA, Analysis, Photograph, Pixels, Tone, as_unit, is_neutral, luma

Plane = NDArray[np.float32]

# Immerkaer's operator: the difference of two Laplacians, blind to constant and linear image structure.
_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
# Colour statistics are taken on a copy of at most this many pixels: they do not change with resolution.
_LAB_PIXELS = 1 << 20
# Below this 99th percentile of C*ab a photograph has no colour that an eye would notice.
_NEUTRAL_CHROMA = 2.5
# Standard deviation of a* b* around their line over L*, below which all colour lies along one hue.
_TONED_SPREAD = 3.0
# Linear sRGB to CIE XYZ (IEC 61966-2-1), divided by the white point D65.
_XYZ = np.array([[0.412391, 0.357584, 0.180481], [0.212639, 0.715169, 0.072192], [0.019331, 0.119195, 0.950532]])
_XYZ_TO_WHITE = (_XYZ / _XYZ.sum(axis=1, keepdims=True)).T.astype(np.float32)


def noise_sigma(grey: Plane) -> float:
    """Standard deviation of the noise, in the unit of `grey`. Immerkaer, CVIU 64(2), 1996, with a median in place of
    the mean, so that edges do not count as noise."""
    if min(grey.shape) < 3:
        return 0.0
    response = cv2.filter2D(grey, cv2.CV_32F, _NOISE_KERNEL)[1:-1, 1:-1]
    # The kernel's weights have norm 6; 0.6745 turns a median of absolute values into a standard deviation.
    return float(np.median(np.abs(response)) / (6.0 * 0.6745))


def sharpness(grey: Plane) -> float:
    """Variance of the Laplacian, in the squared unit of `grey`. Pech-Pacheco et al., ICPR 2000."""
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def lab(pixels: Pixels) -> NDArray[np.float32]:
    """CIE 1976 L*a*b* (D65, sRGB assumed), H x W x 3 float32; L* in 0..100."""
    unit = as_unit(pixels)
    if unit.shape[2] == 1:
        unit = np.repeat(unit, 3, axis=2)
    converted: NDArray[np.float32] = cv2.cvtColor(unit, cv2.COLOR_RGB2LAB)
    return converted


def lab_of_srgb(srgb: Floats) -> NDArray[np.float32]:
    """CIE 1976 L*a*b* (D65) of extended sRGB, H x W x 1|3: also of colours outside the gamut, which OpenCV would cut off."""
    linear = decode_srgb(np.repeat(srgb, 3, axis=2) if srgb.shape[2] == 1 else srgb)
    ratio = np.maximum(linear @ _XYZ_TO_WHITE, 0)
    bent = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * np.float32((29 / 6) ** 2 / 3) + np.float32(4 / 29))
    x, y, z = bent[..., 0], bent[..., 1], bent[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=2)


def luma_of(photograph: Photograph) -> Plane:
    """Rec. 601 luma of the photograph in sRGB, H x W float32, 0..1. Needs no float copy of the whole."""
    space, pixels = space_of(photograph), photograph.pixels
    result = np.empty(pixels.shape[:2], np.float32)
    for rows in bands(pixels):
        band = pixels[rows]
        if space.as_stored:
            result[rows] = luma(band)
        else:
            srgb = space.to_srgb(band)
            result[rows] = np.clip(srgb[..., 0] if srgb.shape[2] == 1 else srgb @ LUMA, 0, 1)
    return result


def tone_of_photograph(photograph: Photograph) -> Tone:
    """As analysed, or measured now where nobody did."""
    if photograph.analysis is not None:
        return Tone(photograph.analysis.tone)
    return tone_of(photograph.pixels, _colours(photograph))


def _colours(photograph: Photograph) -> NDArray[np.float32]:
    space, sample = space_of(photograph), _bounded(photograph.pixels)
    return lab(sample) if space.as_stored else lab_of_srgb(space.to_srgb(sample))


def tone_of(pixels: Pixels, colours: NDArray[np.float32]) -> Tone:
    """Neutral: exactly grey. Toned: no colour to speak of, or all of it along one line over lightness."""
    if is_neutral(pixels):
        return Tone.NEUTRAL
    chroma = np.hypot(colours[..., 1], colours[..., 2])
    if np.percentile(chroma, 99) < _NEUTRAL_CHROMA:
        return Tone.TONED
    light = colours[..., 0].ravel()
    basis = np.stack([np.ones_like(light), light, light * light], axis=1) / np.array([1, 100, 10000], np.float32)
    spread = 0.0
    for axis in (1, 2):
        plane = colours[..., axis].ravel()
        solution, *_ = np.linalg.lstsq(basis, plane, rcond=None)
        spread = max(spread, float((plane - basis @ solution).std()))
    return Tone.TONED if spread < _TONED_SPREAD else Tone.COLOURED


def analyse(photograph: Photograph, face_count: int | None) -> Analysis:
    """All measures of one photograph, in sRGB. Needs `photograph.damage`."""
    grey = luma_of(photograph)
    grey *= np.float32(255)
    colours = _colours(photograph)
    low, high = np.percentile(grey, (1, 99))
    damage = photograph.damage
    return Analysis(
        megapixels=grey.size / 1e6,
        noise_sigma=noise_sigma(grey),
        sharpness=sharpness(grey),
        luma_mean=float(grey.mean()),
        luma_p01=float(low),
        luma_p99=float(high),
        clipped_low=float((grey <= 0.5).mean()),
        clipped_high=float((grey >= 254.5).mean()),
        cast_a=float(colours[..., 1].mean()),
        cast_b=float(colours[..., 2].mean()),
        chroma_p99=float(np.percentile(np.hypot(colours[..., 1], colours[..., 2]), 99)),
        damage_fraction=0.0 if damage is None else np.count_nonzero(damage) / damage.size,
        tone=str(tone_of(photograph.pixels, colours)),
        face_count=face_count,
    )


def _bounded(pixels: Pixels) -> Pixels:
    step = int(np.ceil(np.sqrt(pixels.shape[0] * pixels.shape[1] / _LAB_PIXELS)))
    return pixels[::step, ::step]
