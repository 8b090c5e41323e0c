"""Spot damage: dust, dirt, single spots, mould, foxing, and what lay on the scanner's glass."""

from __future__ import annotations

import numpy as np

from pipeline.damage.kinds import Kind
from pipeline.degradation.draw import Patch, Sketch, rough_loop, value_noise
from pipeline.degradation.lines import hair
from pipeline.degradation.marks import Colour, Ground, How, Mark, bare_paper, dark, uneven
from pipeline.degradation.settings import Effect
from pipeline.degradation.shapes import Placing, PolygonShape

_SPOT = Kind.SPOT


def dust(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Many specks: most white from dust on the negative, some dark."""
    return _specks(ground, rng, ground.pieces(effect.count, rng), effect.strength, "dust", ground.white)


def _specks(
    ground: Ground, rng: np.random.Generator, number: int, strength: float, name: str, white: float
) -> list[Mark]:
    sketches = {True: Sketch(ground.size), False: Sketch(ground.size)}
    real: dict[bool, bool] = {True: False, False: False}
    size = rng.uniform(0.7, 1.3) * ground.scale
    # On one print dust is mostly of one kind: it came at one time.
    mostly = white if rng.random() < 0.3 else float(rng.random() < white)
    for _ in range(number):
        light = bool(rng.random() < mostly)
        radius = float(min(7.0, 0.55 + rng.exponential(0.7))) * size
        shape = ground.shape(rng, ("polygon-dust", "polygon-dirt"))
        if isinstance(shape, PolygonShape):
            placing = Placing(
                ground.point(rng), 2 * radius / shape.longest, rng.uniform(0, 2 * np.pi), rng.random() < 0.5
            )
            outline = shape.placed(placing)
            real[light] = True
        else:
            outline = rough_loop(rng, ground.point(rng), radius, int(rng.integers(6, 11)), 0.35)
        sketches[light].fill(outline, float(rng.uniform(0.35, 1.0)) * min(1.0, strength))
    soft = rng.uniform(0.1, 0.5)
    return [
        Mark(_SPOT, name, sketches[light].patch().softened(soft), colour, real=real[light])
        for light, colour in ((True, bare_paper(ground, rng)), (False, dark(rng)))
    ]


def dirt(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Fields of small particles, dense in places."""
    marks = []
    for _ in range(int(rng.integers(effect.count[0], effect.count[1] + 1))):
        light = rng.random() < ground.white * 0.7
        colour = bare_paper(ground, rng) if light else dark(rng)
        real = ground.shape(rng, ("dirt", "sprinkles", "spots"))
        if real is not None:
            patch = ground.placed(real, rng, ground.short * rng.uniform(0.4, 1.2))
        else:
            patch = _sprinkled(ground, rng)
        patch = uneven(patch.softened(rng.uniform(0.1, 0.5)), value_noise(rng, patch.alpha.shape, 12), 0.25)
        marks.append(
            Mark(_SPOT, "dirt", patch.times(rng.uniform(0.4, 1.0) * effect.strength), colour, real=real is not None)
        )
    return marks


def _sprinkled(ground: Ground, rng: np.random.Generator) -> Patch:
    centre, reach = np.asarray(ground.point(rng)), ground.short * rng.uniform(0.08, 0.3)
    sketch = Sketch(ground.size, np.array([centre - 2.5 * reach, centre + 2.5 * reach], np.float32))
    for _ in range(int(rng.integers(15, 90))):
        radius = float(min(4.0, 0.4 + rng.exponential(0.4))) * ground.scale
        place = centre + rng.normal(0, reach, 2)
        sketch.fill(rough_loop(rng, place.tolist(), radius, 7, 0.4), float(rng.uniform(0.3, 1.0)))
    return sketch.patch()


def spots(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Single larger spots: flakes of emulsion gone, drops of ink, dirt stuck on."""
    marks = []
    for _ in range(ground.pieces(effect.count, rng)):
        light = rng.random() < 0.6
        radius = float(np.clip(rng.lognormal(1.1, 0.5), 1.5, 11)) * ground.scale
        real = ground.shape(rng, ("dots", "smut"))
        if real is not None:
            patch = ground.placed(real, rng, 2 * radius)
        else:
            outline = rough_loop(rng, ground.point(rng), radius, int(rng.integers(12, 28)), rng.uniform(0.1, 0.35))
            sketch = Sketch(ground.size, outline)
            sketch.fill(outline)
            patch = sketch.patch()
        patch = uneven(
            patch.softened(rng.uniform(0.2, 0.8)), value_noise(rng, patch.alpha.shape, 3 * ground.scale, 2), 0.65
        )
        if light and rng.random() < 0.5:
            marks.append(_lip(patch, rng, effect))
        colour = bare_paper(ground, rng) if light else dark(rng)
        marks.append(
            Mark(_SPOT, "spots", patch.times(rng.uniform(0.6, 1.0) * effect.strength), colour, real=real is not None)
        )
    return marks


def _lip(patch: Patch, rng: np.random.Generator, effect: Effect) -> Mark:
    """The shadow of a broken edge of emulsion, on one side of where it is gone."""
    y, x = (int(v) for v in rng.choice([-1, 1], 2))
    moved = np.roll(patch.alpha, (y, x), axis=(0, 1))
    return Mark(
        _SPOT, "spots", Patch(patch.top, patch.left, moved).times(rng.uniform(0.3, 0.7) * effect.strength), dark(rng)
    )


def mould(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Colonies: blotches with a dense middle and threads outwards, and specks around; pale, grey or dark."""
    marks = []
    colour = _mould_colour(rng)
    for _ in range(ground.pieces(effect.count, rng)):
        radius = float(np.clip(rng.lognormal(1.9, 0.5), 3, 26)) * ground.scale
        outline = rough_loop(rng, ground.point(rng), 2.2 * radius, 24, 0.1)
        frame = Sketch(ground.size, outline)
        if frame.empty:
            continue
        frame.fill(outline)
        patch = frame.patch()
        near = patch.softened(0.5 * radius).alpha
        grain = value_noise(rng, patch.alpha.shape, max(2.5, 0.5 * radius), 4)
        alpha = np.clip((near * 1.5 - 0.75 + 0.55 * grain) * 2.5, 0, 1) * patch.alpha
        grown = Patch(patch.top, patch.left, alpha.astype(np.float32))
        marks.append(Mark(_SPOT, "mould", grown.times(rng.uniform(0.3, 0.85) * effect.strength), colour))
    return marks


def _mould_colour(rng: np.random.Generator) -> Colour:
    red, green, blue = ((0.80, 0.80, 0.74), (0.35, 0.35, 0.31), (0.13, 0.12, 0.09), (0.36, 0.28, 0.18))[
        int(rng.integers(4))
    ]
    return red, green, blue


def foxing(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Small rust-brown spots with soft edges, through which the picture shows."""
    marks = []
    for _ in range(ground.pieces(effect.count, rng)):
        radius = float(np.clip(rng.lognormal(0.9, 0.5), 1.2, 9)) * ground.scale
        outline = rough_loop(rng, ground.point(rng), radius, 14, 0.3)
        sketch = Sketch(ground.size, outline, 2 + radius)
        sketch.fill(outline)
        patch = sketch.patch().softened(0.35 * radius)
        brown = (rng.uniform(0.6, 0.8), rng.uniform(0.38, 0.55), rng.uniform(0.15, 0.35))
        marks.append(Mark(_SPOT, "foxing", patch.times(rng.uniform(0.35, 0.9) * effect.strength), brown, How.FILTER))
    return marks


def glass(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Dust and fibres on the scanner's glass: pale grey, lit by its lamp, and a little out of focus."""
    marks = _specks(ground, rng, ground.pieces(effect.count, rng), effect.strength, "glass", 0.8)
    if rng.random() < 0.3:
        marks.append(hair(ground, effect, rng, "glass"))
    pale = float(rng.uniform(0.75, 0.95))
    return [
        Mark(m.kind, m.effect, m.patch, (pale, pale, pale) if min(m.colour) > 0.4 else m.colour, m.how, m.real)
        for m in marks
    ]
