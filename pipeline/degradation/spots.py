"""Spots: dust, dirt, flakes and drops, mould, foxing, and what lay on the scanner's glass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.damage.kinds import Kind
from pipeline.degradation.draw import Patch, Sketch, rough_loop, value_noise
from pipeline.degradation.lines import hair
from pipeline.degradation.marks import Colour, Ground, How, Mark, bare_paper, dark, uneven
from pipeline.degradation.settings import Effect
from pipeline.degradation.shapes import Placing, PolygonShape

_SPOT = Kind.SPOT
# Mould: dry and white, grey, black, brown.
_MOULDS: tuple[Colour, ...] = ((0.78, 0.78, 0.72), (0.38, 0.38, 0.34), (0.15, 0.14, 0.11), (0.36, 0.28, 0.18))


def dust(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Many specks: most white from dust on the negative, some dark."""
    return _specks(ground, effect, rng, "dust", ground.white)


def _specks(ground: Ground, effect: Effect, rng: np.random.Generator, name: str, white: float) -> list[Mark]:
    light, black = Sketch(ground.size), Sketch(ground.size)
    real = False
    size = float(rng.uniform(0.7, 1.3)) * ground.scale
    # On one print dust is mostly of one kind: it came at one time.
    mostly = white if rng.random() < 0.3 else float(rng.random() < white)
    for _ in range(ground.pieces(effect.count, rng)):
        radius = min(6.0, 0.55 + float(rng.exponential(0.6))) * size
        picked = ground.shape(rng, ("polygon-dust", "polygon-dirt"))
        if picked is not None and isinstance(picked[1], PolygonShape):
            scale = 2 * radius / picked[1].longest
            placing = Placing(ground.point(rng), scale, float(rng.uniform(0, 2 * np.pi)), bool(rng.random() < 0.5))
            outline = picked[1].placed(placing)
            real = True
        else:
            outline = rough_loop(rng, ground.point(rng), radius, int(rng.integers(8, 13)), 0.35)
        sketch = light if rng.random() < mostly else black
        sketch.fill(outline, float(rng.uniform(0.35, 1.0)) * min(1.0, effect.strength))
    soft = float(rng.uniform(0.15, 0.55))
    return [
        Mark(_SPOT, name, light.patch().softened(soft), bare_paper(ground, rng), real=real),
        Mark(_SPOT, name, black.patch().softened(soft), dark(rng), real=real),
    ]


def dirt(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Fields of small particles, dense in places."""
    marks = []
    for _ in range(int(rng.integers(effect.count[0], effect.count[1] + 1))):
        colour = bare_paper(ground, rng) if rng.random() < 0.7 * ground.white else dark(rng)
        picked = ground.shape(rng, ("dirt", "sprinkles", "spots"))
        # The particles of a traced field are some pixels wide; smaller fields than the picture keep them small.
        long = ground.short * float(rng.uniform(0.25, 0.8)) if picked is None or picked[0] != "spots" else ground.short
        patch = _sprinkled(ground, rng) if picked is None else ground.placed(picked[1], rng, long)
        patch = uneven(patch.softened(float(rng.uniform(0.1, 0.4))), value_noise(rng, patch.alpha.shape, 12), 0.1)
        patch = patch.times(float(rng.uniform(0.3, 0.9)) * effect.strength)
        marks.append(Mark(_SPOT, "dirt", patch, colour, real=picked is not None))
    return marks


def _sprinkled(ground: Ground, rng: np.random.Generator) -> Patch:
    centre, reach = np.asarray(ground.point(rng)), ground.short * float(rng.uniform(0.08, 0.3))
    sketch = Sketch(ground.size, np.array([centre - 2.5 * reach, centre + 2.5 * reach], np.float32))
    for _ in range(int(rng.integers(15, 90))):
        radius = min(3.5, 0.4 + float(rng.exponential(0.4))) * ground.scale
        place = centre + rng.normal(0, reach, 2)
        sketch.fill(rough_loop(rng, place.tolist(), radius, 7, 0.4), float(rng.uniform(0.3, 1.0)))
    return sketch.patch()


def spots(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Single larger spots: flakes of emulsion gone, drops of ink, dirt stuck on."""
    marks = []
    for _ in range(ground.pieces(effect.count, rng)):
        light = rng.random() < 0.6
        radius = float(np.clip(rng.lognormal(0.9, 0.5), 1.5, 9)) * ground.scale
        picked = ground.shape(rng, ("dots", "smut"))
        if picked is None:
            outline = rough_loop(
                rng, ground.point(rng), radius, int(rng.integers(16, 30)), float(rng.uniform(0.1, 0.35))
            )
            sketch = Sketch(ground.size, outline)
            sketch.fill(outline)
            patch = sketch.patch()
        else:
            patch = ground.placed(picked[1], rng, 2 * radius)
        patch = patch.softened(float(rng.uniform(0.2, 0.8)))
        patch = uneven(patch, value_noise(rng, patch.alpha.shape, 3 * ground.scale, 2), 0.65)
        if light and rng.random() < 0.5:
            marks.append(_lip(patch, rng, effect))
        colour = bare_paper(ground, rng) if light else dark(rng)
        opacity = float(rng.uniform(0.6, 1.0)) * effect.strength
        marks.append(Mark(_SPOT, "spots", patch.times(opacity), colour, real=picked is not None))
    return marks


def _lip(patch: Patch, rng: np.random.Generator, effect: Effect) -> Mark:
    """The shadow of a broken edge of emulsion, on one side of where it is gone."""
    y, x = (int(v) for v in rng.choice([-1, 1], 2))
    moved = Patch(patch.top, patch.left, np.roll(patch.alpha, (y, x), axis=(0, 1)))
    return Mark(_SPOT, "spots", moved.times(float(rng.uniform(0.3, 0.7)) * effect.strength), dark(rng))


def mould(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Colonies: blotches, dense in the middle and broken up outwards, of one colour on one print."""
    marks = []
    colour = _MOULDS[int(rng.integers(len(_MOULDS)))]
    # What is dark is seen through.
    how = How.OVER if colour[0] > 0.5 else How.FILTER
    for _ in range(ground.pieces(effect.count, rng)):
        radius = float(np.clip(rng.lognormal(1.6, 0.6), 2.5, 22)) * ground.scale
        outline = rough_loop(rng, ground.point(rng), 2.4 * radius, 24, 0.1)
        frame = Sketch(ground.size, outline, radius)
        frame.fill(outline)
        patch = frame.patch()
        if patch.alpha.size == 0:
            continue
        near = patch.softened(0.8 * radius).alpha
        broken = value_noise(rng, patch.alpha.shape, max(2.5, 0.5 * radius), 4)
        alpha = np.clip((1.3 * near - 0.85 + 0.6 * broken) * 1.8, 0, 1).astype(np.float32)
        colony = Patch(patch.top, patch.left, alpha).softened(0.4)
        marks.append(Mark(_SPOT, "mould", colony.times(float(rng.uniform(0.25, 0.8)) * effect.strength), colour, how))
    return marks


def foxing(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Small rust-brown spots with soft edges, through which the picture shows."""
    marks = []
    for _ in range(ground.pieces(effect.count, rng)):
        radius = float(np.clip(rng.lognormal(0.9, 0.5), 1.2, 9)) * ground.scale
        outline = rough_loop(rng, ground.point(rng), radius, 14, 0.3)
        sketch = Sketch(ground.size, outline, 2 + radius)
        sketch.fill(outline)
        patch = sketch.patch().softened(0.35 * radius).times(float(rng.uniform(0.35, 0.9)) * effect.strength)
        brown = (float(rng.uniform(0.6, 0.8)), float(rng.uniform(0.38, 0.55)), float(rng.uniform(0.15, 0.35)))
        marks.append(Mark(_SPOT, "foxing", patch, brown, How.FILTER))
    return marks


def glass(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Dust and fibres on the scanner's glass: pale grey, lit by its lamp, or in shadow."""
    marks = _specks(ground, effect, rng, "glass", 0.8)
    if rng.random() < 0.3:
        marks.append(hair(ground, effect, rng, "glass"))
    pale = float(rng.uniform(0.75, 0.95))
    return [replace(mark, colour=(pale, pale, pale)) if min(mark.colour) > 0.4 else mark for mark in marks]
