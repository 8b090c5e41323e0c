"""Stains: liquids that dried on the print. The picture shows through; the edge is darker than the inside (a tide line)."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.damage.kinds import Kind
from pipeline.degradation.draw import Patch, Plane, Sketch, rough_loop, value_noise
from pipeline.degradation.marks import Colour, Ground, How, Mark
from pipeline.degradation.settings import Effect

# What tea, rust, ink, oil and plain water leave of white light; pale ones bleach instead.
_FILTERS: tuple[Colour, ...] = (
    (0.80, 0.64, 0.42),
    (0.72, 0.50, 0.30),
    (0.55, 0.58, 0.72),
    (0.82, 0.76, 0.55),
    (0.74, 0.70, 0.64),
)


# Deeper inside than this, in pixels, no edge is near; OpenCV says infinity where there is none.
_FAR = np.float32(1e4)


def stains(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Splashes, drops and tide marks from an edge; most darken and colour, some bleach."""
    marks = []
    for _ in range(int(rng.integers(effect.count[0], effect.count[1] + 1))):
        base, real = _base(ground, rng)
        if base.alpha.size == 0 or not base.alpha.any():
            continue
        patch = Patch(base.top, base.left, _dried(base.alpha, ground, rng)).times(
            rng.uniform(0.35, 1.0) * effect.strength
        )
        if rng.random() < 0.2:
            pale = float(rng.uniform(0.75, 0.95))
            marks.append(Mark(Kind.STAIN, "stains", patch.times(0.5), (pale, pale * 0.97, pale * 0.9), How.OVER, real))
        else:
            colour = _FILTERS[int(rng.integers(len(_FILTERS)))]
            marks.append(Mark(Kind.STAIN, "stains", patch, colour, How.FILTER, real))
    return marks


def _base(ground: Ground, rng: np.random.Generator) -> tuple[Patch, bool]:
    """Where the liquid was, as an area with a sharp edge."""
    picked = ground.shape(rng, ("stain",))
    if picked is not None:
        return ground.placed(picked[1], rng, ground.short * float(rng.uniform(0.25, 1.1))), True
    if rng.random() < 0.3:
        return _tide(ground, rng), False
    radius = ground.short * rng.uniform(0.08, 0.4)
    outline = rough_loop(rng, ground.point(rng), radius, 48, rng.uniform(0.1, 0.35))
    sketch = Sketch(ground.size, outline, 6)
    sketch.fill(_rounded(outline))
    return sketch.patch(), False


def _rounded(outline: Plane) -> Plane:
    """A closed outline, smoothed: surface tension has no corners."""
    before, after = np.roll(outline, 1, axis=0), np.roll(outline, -1, axis=0)
    return ((before + 2 * outline + after) / 4).astype(np.float32)


def _tide(ground: Ground, rng: np.random.Generator) -> Patch:
    """Water that rose from one edge of the print."""
    height, width = ground.size
    side = int(rng.integers(4))
    long, deep = (width, height) if side % 2 == 0 else (height, width)
    reach = deep * rng.uniform(0.08, 0.45)
    line = reach + value_noise(rng, (1, long), max(8.0, long / 4), 3)[0] * reach * 0.35
    rows = np.arange(deep, dtype=np.float32)[:, None]
    wet = np.clip(line[None, :] - rows, 0, 1).astype(np.float32)
    return Patch(0, 0, np.ascontiguousarray(np.rot90(wet, side)))


def _dried(base: Plane, ground: Ground, rng: np.random.Generator) -> Plane:
    """Opacity of a dried stain: pigment was carried to the edge (Deegan et al., Nature 389, 1997), unevenly."""
    # A border of nothing only where the stain really ends, so that a stain cut by the picture's edge has none there.
    depth = np.minimum(cv2.distanceTransform((base > 0.5).astype(np.uint8), cv2.DIST_L2, 3), _FAR)
    width = rng.uniform(1.2, 3.5) * ground.scale
    rim = np.exp(-((depth - width) ** 2) / (2 * (0.6 * width) ** 2)) * rng.uniform(0.2, 1.0)
    if rng.random() < 0.35:
        second = width * rng.uniform(4, 9)
        rim += np.exp(-((depth - second) ** 2) / (2 * (0.8 * width) ** 2)) * rng.uniform(0.1, 0.4)
    inside = 0.25 + 0.5 * np.exp(-depth / (rng.uniform(4, 14) * width))
    patchy = 1 + 0.45 * value_noise(rng, base.shape, 18 * ground.scale, 3)
    alpha = base * (inside + rim * (1 + 0.6 * value_noise(rng, base.shape, 30 * ground.scale))) * patchy
    soft = rng.uniform(0.4, 2.5) * ground.scale
    blurred: Plane = cv2.GaussianBlur(alpha.astype(np.float32), (0, 0), soft, borderType=cv2.BORDER_REPLICATE)
    return np.clip(blurred, 0, 1)
