"""Stains: their density is estimated and taken away, so that the picture beneath stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from pipeline.colour_space import ColourSpace, Floats, bands, decode_srgb, encode_srgb, space_of
from pipeline.photograph import Mask, Photograph, Pixels, is_neutral, to_depth
from pipeline.removal.separation import REACH, Separation, separate

# Stains are looked at on grids of at most this many pixels, the outlines of stains on one of as many for the whole photograph.
_WORK = 1 << 19
_OUTLINES = 1 << 22
# Surroundings that the picture's own statistics are learnt from, in pixels of the working grid.
_BESIDE = 32
# Bays narrower than twice this, in pixels of the working grid, and holes of up to this part of a stain's area belong to it.
_BAY, _OPENING = 4, 0.1
# sRGB's transfer function is a power of v + 0.055: differences of ln(v + 0.055) times this are those of ln(light).
_OFFSET, _POWER = np.float32(0.055), np.float32(2.4)
_CLIPPED = (0.008, 0.996)
# Densities below this change no 16-bit sample by two steps.
_NOTHING = 2e-5
# Up to the first agreement or evidence a stain is left as it is; from the second on it is taken away whole.
_AGREEMENT, _EVIDENCE = (0.6, 0.85), (5.0, 12.0)
# The same for how much is not believed of a stain: density that it adds at most, and that it bleaches.
_THICK, _PALE = (1.5, 1.1), (0.6, 0.4)


@dataclass(frozen=True, slots=True, eq=False)
class Cleaned:
    """pixels: as the photograph's, in its depth. changed: H x W, outside of which not a bit differs. left: H x W, of the mask,
    stains that stay as they were. findings: JSON values."""

    pixels: Pixels
    changed: Mask
    left: Mask
    findings: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Stain:
    """One stain with its surroundings. window: rows and columns of the photograph. step: photograph's pixels to one of the
    grid's. mask, free, beside: on the grid; what is stained, where the stain may reach, and what has no stain at all."""

    window: tuple[slice, slice]
    step: int
    mask: Mask
    free: Mask
    beside: Mask


def remove_stains(photograph: Photograph, mask: Mask, gone: Mask | None = None) -> Cleaned:
    """The photograph without the stains of `mask`.

    mask: H x W, as a detector gives it: it may be some pixels (8, or 1 % of a large stain) too wide or too narrow.
    gone: H x W, where there is no picture at all; nothing is learnt there, nor changed.
    A stain is taken to add density (to multiply light), as dyes do, by an amount that changes little inside and as it likes at
    the outline. Where the sides of a stain contradict each other, less is taken away, and the findings say so.
    Neutral photographs stay exactly neutral; 16 bits stay 16; the photograph's own colour space is kept.
    """
    pixels, changed, left = photograph.pixels.copy(), np.zeros(mask.shape, np.bool_), mask.copy()
    space, neutral = space_of(photograph), is_neutral(photograph.pixels)
    strengths = []
    for stain in _stains(mask):
        source = photograph.pixels[stain.window]
        lost = None if gone is None else gone[stain.window]
        separation = _separated(source[..., :1] if neutral else source, space, stain, lost)
        strength = 0.0 if separation is None else _strength(separation)
        strengths.append(strength)
        if separation is not None and strength > 0:
            reach = _apply(
                pixels[stain.window], space, stain, separation.density * np.float32(strength), neutral=neutral
            )
            own = left[stain.window]
            changed[stain.window] |= reach
            own &= ~_spread(stain, own.shape)
    changed |= mask & ~left
    if gone is not None:
        np.copyto(pixels, photograph.pixels, where=gone[..., None])
        changed &= ~gone
    findings = {
        "stains": len(strengths),
        "stains_left": sum(strength == 0 for strength in strengths),
        "stains_lessened": sum(0 < strength < 1 for strength in strengths),
        "stain_fraction": float(changed.mean()),
    }
    return Cleaned(pixels, changed, left, findings)


def _stains(mask: Mask) -> Iterator[_Stain]:
    """Stains whose reaches touch are one."""
    if not mask.any():
        return
    height, width = mask.shape
    coarse = _step(height * width, _OUTLINES)
    small = _shrunk(mask, coarse) > 0
    near = 2 * -(-REACH // coarse) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (near, near))
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(cv2.dilate(small.astype(np.uint8), disc), connectivity=8)
    for label in range(1, count):
        left, top, across, down = (int(boxes[label, column]) * coarse for column in range(4))
        # What surrounds it counts in pixels of the working grid, whose step is not known before; once more is enough.
        step = _step(across * down, _WORK)
        step = _step((across + 2 * _BESIDE * step) * (down + 2 * _BESIDE * step), _WORK)
        around = (_BESIDE + REACH) * step
        window = (
            slice(max(0, top - around) // coarse * coarse, min(height, top + down + around)),
            slice(max(0, left - around) // coarse * coarse, min(width, left + across + around)),
        )
        stained = _shrunk(mask[window], step)
        rows, columns = (slice(side.start // coarse, -(-side.stop // coarse)) for side in window)
        own = _placed(labels[rows, columns] == label, coarse, step, stained.shape)
        own_mask = (stained > 0.5) & own
        if not own_mask.any():
            own_mask = (stained > 0) & own
        own_mask = _closed(own_mask)
        reach = cv2.dilate(
            own_mask.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * REACH + 1,) * 2)
        )
        spoilt = cv2.dilate((stained > 0).astype(np.uint8), np.ones((2 * REACH + 1,) * 2, np.uint8))
        yield _Stain(window, step, own_mask, reach.astype(bool), ~spoilt.astype(bool))


def _closed(mask: Mask) -> Mask:
    """Without holes and narrow bays: a stain's own outline is smooth, that of where it can be seen follows the picture."""
    pad = 2 * _BAY
    wide = np.pad(mask.astype(np.uint8), pad)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _BAY + 1, 2 * _BAY + 1))
    closed = cv2.morphologyEx(wide, cv2.MORPH_CLOSE, disc)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(1 - closed, connectivity=4)
    # Only wide openings are ground without a stain.
    small = boxes[:, cv2.CC_STAT_AREA] < _OPENING * mask.sum()
    small[labels[0, 0]] = False
    small[0] = count == 0
    filled: Mask = ((closed > 0) | small[labels])[pad:-pad, pad:-pad]
    return filled


def _separated(source: Pixels, space: ColourSpace, stain: _Stain, lost: Mask | None) -> Separation | None:
    """source: h x w x C, the stain's window of the photograph. lost: where there is no picture in it."""
    height, width = stain.mask.shape
    density = np.empty((height, width, source.shape[2]), np.float32)
    sound = np.empty((height, width), np.bool_)
    # Bands begin where cells of the grid do.
    deep = max(1, (1 << 19) // max(1, source.shape[1] * stain.step))
    for top in range(0, height, deep):
        srgb = space.to_srgb(source[top * stain.step : (top + deep) * stain.step])
        clipped = ((srgb < _CLIPPED[0]) | (srgb > _CLIPPED[1])).any(axis=2)
        rows = slice(top, top + deep)
        density[rows] = np.log(np.maximum(_shrunk(srgb, stain.step), 0) + _OFFSET)
        sound[rows] = _shrunk(clipped, stain.step) == 0
    if lost is not None:
        sound &= _shrunk(lost, stain.step) == 0
    # Clipped pixels spoil the differences to their neighbours, too.
    sound = cv2.erode(sound.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return separate(density, stain.mask, stain.free, stain.beside, sound)


def _strength(separation: Separation) -> float:
    """How much of a stain's density is taken away, 0..1."""
    grey = separation.density.mean(axis=2)
    judged = (
        (separation.agreement, _AGREEMENT),
        (separation.evidence, _EVIDENCE),
        (-float(np.percentile(grey, 0.1)), _THICK),
        (float(np.percentile(grey, 99.9)), _PALE),
    )
    shares = [min(max((value - nothing) / (whole - nothing), 0.0), 1.0) for value, (nothing, whole) in judged]
    return float(np.prod(shares))


def _apply(pixels: Pixels, space: ColourSpace, stain: _Stain, density: Floats, *, neutral: bool) -> Mask:
    """Takes the density away in place; answers where."""
    changed = np.zeros(pixels.shape[:2], np.bool_)
    for rows in bands(pixels):
        there = _on_rows(density, stain, rows, pixels.shape[1])
        where = (np.abs(there) > _NOTHING).any(axis=2)
        if not where.any():
            continue
        band = pixels[rows]
        given = band[..., :1] if neutral else band
        light = decode_srgb(space.to_srgb(given)) * np.exp(-_POWER * there)
        cleaned = to_depth(space.from_srgb(encode_srgb(light), given), pixels.dtype)
        band[where] = np.broadcast_to(cleaned, band.shape)[where]
        changed[rows] = where
    return changed


def _on_rows(density: Floats, stain: _Stain, rows: slice, width: int) -> Floats:
    """The density at these rows of the window in the photograph's own pixels; nothing beyond where the stain may reach."""
    step = stain.step
    if step == 1:
        return density[rows]
    down, across = np.arange(rows.start, rows.stop), np.arange(width)
    y, x = ((at.astype(np.float32) + np.float32(0.5)) / np.float32(step) - np.float32(0.5) for at in (down, across))
    smooth = cv2.remap(
        density,
        np.broadcast_to(x[None, :], (len(y), width)).copy(),
        np.broadcast_to(y[:, None], (len(y), width)).copy(),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    ).reshape(len(y), width, density.shape[2])
    inside = stain.free[np.ix_(down // step, across // step)]
    result: Floats = smooth * inside[..., None]
    return result


def _spread(stain: _Stain, shape: tuple[int, ...]) -> Mask:
    """Where a stain may reach, in the photograph's own pixels."""
    rows, columns = (np.arange(side) // stain.step for side in shape)
    reach: Mask = stain.free[np.ix_(rows, columns)]
    return reach


def _step(pixels: int, most: int) -> int:
    return max(1, int(np.ceil(np.sqrt(pixels / most))))


def _shrunk(plane: Any, step: int) -> Floats:
    """Means over step x step cells, H x W or H x W x C; cells at the right and lower border repeat what there is."""
    if step == 1:
        same: Floats = plane.astype(np.float32)
        return same
    height, width = plane.shape[:2]
    cells = -(-height // step), -(-width // step)
    fill = (0, cells[0] * step - height), (0, cells[1] * step - width)
    whole = np.pad(plane, fill + ((0, 0),) * (plane.ndim - 2), mode="edge")
    mean: Floats = whole.reshape(cells[0], step, cells[1], step, *plane.shape[2:]).mean(axis=(1, 3), dtype=np.float32)
    return mean


def _placed(labels: Mask, coarse: int, step: int, shape: tuple[int, ...]) -> Mask:
    """Cells of the outlines' grid, looked up from the working grid's."""
    rows, columns = (
        np.minimum((np.arange(side) * step + step // 2) // coarse, most - 1)
        for side, most in zip(shape, labels.shape, strict=True)
    )
    found: Mask = labels[np.ix_(rows, columns)]
    return found
