"""Missing areas: corners torn off, edges eaten, holes. What lies behind the print shows, and torn fibre around it."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.damage.kinds import Kind
from pipeline.degradation.draw import Patch, Plane, Sketch, rough_loop, value_noise
from pipeline.degradation.marks import Colour, Ground, Mark, bare_paper
from pipeline.degradation.settings import Effect

# What lies behind a print: the scanner's white or black lid, grey card, album paper.
_BEHIND: tuple[Colour, ...] = (
    (0.96, 0.96, 0.95),
    (0.03, 0.03, 0.03),
    (0.45, 0.45, 0.45),
    (0.42, 0.33, 0.24),
    (1.0, 1.0, 1.0),
)
_FAR = np.float32(1e4)


def behind(rng: np.random.Generator) -> Colour:
    """The colour behind a print; one for all that is missing of it."""
    return _BEHIND[int(rng.integers(len(_BEHIND)))]


def corners(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Corners torn or cut off, or rounded by wear."""
    marks = []
    height, width = ground.size
    number = min(4, int(rng.integers(effect.count[0], effect.count[1] + 1)))
    rounded = rng.random() < 0.3
    for corner in rng.permutation(4)[:number]:
        right, low = corner % 2 == 1, corner >= 2
        a, b = ground.short * rng.uniform(0.04, 0.3, 2) * (0.6 if rounded else 1.0)
        turn = np.linspace(0, np.pi / 2, 40)
        if rounded:
            x, y = a * (1 - np.sin(turn)), b * (1 - np.cos(turn))
        else:
            x, y = a * np.linspace(1, 0, 40), b * np.linspace(0, 1, 40)
        cut = np.stack([np.r_[x, -9.0, -9.0, x[0]], np.r_[y, y[-1], -9.0, -9.0]], axis=1)
        cut = np.where((True, False), np.where(right, width - cut, cut), np.where(low, height - cut, cut))
        marks += _gone(ground, effect, rng, cut.astype(np.float32), "corners")
    return marks


def edges(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """A strip along one edge, torn or eaten unevenly."""
    marks = []
    height, width = ground.size
    for side in rng.permutation(4)[: min(4, int(rng.integers(effect.count[0], effect.count[1] + 1)))]:
        long, deep = (width, height) if side % 2 == 0 else (height, width)
        along = np.linspace(-4, long + 4, max(8, min(200, long // 4)))
        reach = ground.short * rng.uniform(0.01, 0.07)
        line = reach * (1 + 0.8 * value_noise(rng, (1, len(along)), max(4.0, len(along) / 5), 4)[0])
        outline = np.vstack([np.stack([along, line], axis=1), [(long + 9, -9.0), (-9.0, -9.0)]])
        if side >= 2:
            outline[:, 1] = deep - outline[:, 1]
        if side % 2 == 1:
            outline = outline[:, ::-1]
        marks += _gone(ground, effect, rng, np.ascontiguousarray(outline, np.float32), "edges")
    return marks


def holes(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Holes of pins, worms and punches, and pieces broken out."""
    marks = []
    for _ in range(int(rng.integers(effect.count[0], effect.count[1] + 1))):
        radius = float(np.clip(rng.lognormal(1.7, 0.7), 2.0, 0.16 * ground.short + 2)) * ground.scale
        outline = rough_loop(rng, ground.point(rng), radius, int(rng.integers(14, 50)), rng.uniform(0.02, 0.35))
        marks += _gone(ground, effect, rng, outline, "holes")
    return marks


def _gone(ground: Ground, effect: Effect, rng: np.random.Generator, outline: Plane, name: str) -> list[Mark]:
    """What is behind, within an outline roughened by noise; torn fibre around it; the print's shadow inside."""
    wide = rng.uniform(0.6, 3.5) * ground.scale
    sketch = Sketch(ground.size, outline, 6 * ground.scale + 4)
    sketch.fill(outline)
    drawn = sketch.patch()
    if drawn.alpha.size == 0:
        return []
    # Where there is no edge, OpenCV says that it is infinitely far.
    inside = np.minimum(cv2.distanceTransform((drawn.alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 5), _FAR)
    outside = np.minimum(cv2.distanceTransform((drawn.alpha <= 0.5).astype(np.uint8), cv2.DIST_L2, 5), _FAR)
    rough = value_noise(rng, drawn.alpha.shape, 10 * ground.scale, 4) * rng.uniform(0.3, 2.0) * ground.scale
    # Signed distance to the edge, in pixels; above 0 nothing is left.
    depth = inside - outside + rough
    fibre = depth + wide * np.clip(0.5 + value_noise(rng, drawn.alpha.shape, 14 * ground.scale, 3), 0, 2)
    torn = Patch(drawn.top, drawn.left, np.clip(fibre + 0.5, 0, 1).astype(np.float32))
    gone = Patch(drawn.top, drawn.left, np.clip(depth + 0.5, 0, 1).astype(np.float32))
    shade = gone.times(np.exp(-np.maximum(depth, 0) / (rng.uniform(1.0, 4.0) * ground.scale)) * rng.uniform(0.1, 0.6))
    rim = bare_paper(ground, rng)
    texture = value_noise(rng, drawn.alpha.shape, 2.0, 2)
    return [
        Mark(Kind.MISSING, name, torn, rim),
        Mark(Kind.MISSING, name, torn.times(np.clip(0.15 + 0.3 * texture, 0, 1)), (0.45, 0.42, 0.38)),
        Mark(Kind.MISSING, name, gone, ground.behind),
        Mark(Kind.MISSING, name, shade.times(min(1.0, effect.strength)), (0.0, 0.0, 0.0)),
    ]
