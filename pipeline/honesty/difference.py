"""How far colours are apart as an eye sees them: CIEDE2000 of whole photographs, on copies of bounded size."""

from __future__ import annotations

import numpy as np

from pipeline.colour_space import ColourSpace, Floats, bands, space_of
from pipeline.honesty.proof import means, step_for
from pipeline.measures import lab_of_srgb
from pipeline.photograph import Photograph, to_depth, widened

# A stage's input and output are compared on copies of at most about this many pixels.
EVENT_PIXELS = 1 << 19


def lab_of(samples: Floats, space: ColourSpace) -> Floats:
    """CIE 1976 L*a*b* (D65), h x w x 3, of samples 0..1 in the photograph's own encoding, h x w x 1|3."""
    stored = to_depth(samples, np.dtype(np.uint16))
    result = np.empty((*samples.shape[:2], 3), np.float32)
    for rows in bands(stored):
        result[rows] = lab_of_srgb(space.to_srgb(stored[rows]))
    return result


def delta_e(one: Floats, other: Floats) -> Floats:
    """CIEDE2000 (CIE 142-2001; Sharma, Wu and Dalal, Color Research and Application 30(1), 2005) of L*a*b*, h x w float32.

    Exactly 0 where both are equal, and computed nowhere else.
    """
    # Imported here: it takes a while, and many photographs pass unchanged.
    from skimage.color import deltaE_ciede2000

    result = np.zeros(one.shape[:2], np.float32)
    for rows in bands(one):
        differs = np.any(one[rows] != other[rows], axis=2)
        if differs.any():
            found = deltaE_ciede2000(one[rows][differs], other[rows][differs])  # type: ignore[no-untyped-call]
            result[rows][differs] = found
    return result


def stage_difference(before: Photograph, after: Photograph) -> tuple[float, float] | None:
    """Mean and maximum of CIEDE2000 between what a stage was given and what it gave back, the larger averaged down to the
    smaller, both on at most about half a megapixel. None where one is no whole multiple of the other. Alpha is left out."""
    ratio = after.width // before.width
    if ratio < 1 or (after.width, after.height) != (before.width * ratio, before.height * ratio):
        return None
    step = step_for(before.height, before.width, EVENT_PIXELS)
    one = lab_of(means(before.pixels, step), space_of(before))
    other = lab_of(means(after.pixels, step * ratio), space_of(after))
    found = delta_e(one, other)
    return float(found.mean(dtype=np.float64)), float(found.max())


def changed_fraction(before: Photograph, after: Photograph) -> float | None:
    """Share of the pixels that differ, 0..1; 8 bits in 16 are no change. None where the size changed. Alpha is left out."""
    if before.pixels.shape != after.pixels.shape:
        return None
    changed = 0
    # In bands: comparing large scans whole would take as much memory again.
    for rows in bands(before.pixels):
        one, other = before.pixels[rows], after.pixels[rows]
        if one.dtype != other.dtype:
            one, other = widened(one), widened(other)
        changed += int(np.any(one != other, axis=2).sum())
    return changed / (before.height * before.width)
