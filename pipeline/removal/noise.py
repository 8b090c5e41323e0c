"""Noise, calmed on areas without structure."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.colour_space import bands, space_of, visible
from pipeline.measures import luma_of
from pipeline.photograph import Mask, Photograph, Pixels, as_unit, is_neutral, to_depth


def denoise(photograph: Photograph, sigma: float, strength: float) -> tuple[Pixels, Mask]:
    """Calmer pixels on areas without structure, the same bits elsewhere; and those areas. In the photograph's depth.

    sigma: of the noise, luma 0..255. strength: 0..1, share of the calmed value.
    """
    slope = cv2.GaussianBlur(luma_of(photograph) * np.float32(255), (0, 0), 2.0)
    gradient = np.hypot(cv2.Sobel(slope, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(slope, cv2.CV_32F, 0, 1) / 8)
    calm: Mask = gradient < max(1.0, sigma * 0.5)
    shown, neutral = visible(photograph), is_neutral(photograph.pixels)
    source = np.ascontiguousarray(shown[..., :1] if neutral else shown)
    force = [float(0.8 * sigma * np.iinfo(source.dtype).max / 255)] * source.shape[2]
    smooth = cv2.fastNlMeansDenoising(
        source, h=force, templateWindowSize=5, searchWindowSize=15, normType=cv2.NORM_L1
    ).reshape(source.shape)
    space, result = space_of(photograph), photograph.pixels.copy()
    for rows in bands(result):
        change = (as_unit(smooth[rows]) - as_unit(source[rows])) * np.float32(strength)
        band, inside = result[rows], calm[rows]
        given = band[..., :1] if neutral else band
        # What lies outside sRGB's gamut stays where it was: only the change is added.
        calmed = to_depth(space.from_srgb(space.to_srgb(given) + change, given), result.dtype)
        band[inside] = np.broadcast_to(calmed, band.shape)[inside]
    return result, calm
