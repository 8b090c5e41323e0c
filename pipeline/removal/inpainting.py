"""Inpainting: lines and spots are filled with what the picture around them makes most likely.

A small patch that damage runs through is taken for one draw of a Gaussian whose mean and covariance are those of the patches
nearby that look most like its sound part; its damaged samples get their conditional mean. That is non-local Bayes (Lebrun,
Buades and Morel, SIAM J. Imaging Sciences 6(3), 2013) for samples that are missing instead of noisy, as piecewise linear
estimation does it with learnt Gaussians (Yu, Sapiro and Mallat, IEEE TIP 21(5), 2012). Where patches nearby say little, the
covariance of the whole surroundings takes over (kriging). A first fill by Laplace's equation makes patches comparable whose
own samples are missing.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pipeline.photograph import Mask, Pixels, is_neutral
from pipeline.removal.poisson import Plane, differences, field_of

# Side of a patch, in pixels; how many that look like it are used; how far away they may lie, unless told otherwise.
PATCH = 7
REACH = 14.0
_ALIKE = 60
# Patches of which less than this is sound are no examples.
_SOUND = 0.3
# What the surroundings' covariance counts, in patches; the standard deviation of samples that count as sound, in parts of 255.
_SURROUNDINGS = 20.0
_NOISE = 2.0
# What a first fill counts when patches are compared, in each round, beside sound samples.
_FILLED = (0.1, 0.5)
_BATCH = 48
_TILE = 384
_FEWEST = 15
# Orthonormal: the mean, and two differences; the channels of most photographs go together far more than apart.
_OPPONENT = np.array([[1, 1, 1], [1, -1, 0], [0.5, 0.5, -1]], np.float32)
_OPPONENT /= np.linalg.norm(_OPPONENT, axis=1, keepdims=True)

_Index = NDArray[np.intp]


def inpaint(pixels: Pixels, mask: Mask, radius: float = REACH, gone: Mask | None = None) -> Pixels:
    """New pixels where `mask` is set, the same bits elsewhere. H x W x 1|3, in full depth; neutral stays neutral.

    radius: how far away examples are looked for, in pixels, at least 4; time grows with its square.
    gone: H x W, where there is no picture either and which stays as it is: nothing is filled from it.
    """
    reach = max(4, round(radius))
    result = pixels.copy()
    neutral = is_neutral(pixels)
    peak = np.iinfo(pixels.dtype).max
    for window, core in _tiles(mask, 2 * (reach + PATCH)):
        given = np.ascontiguousarray(pixels[window][..., :1] if neutral else pixels[window])
        lost = None if gone is None else gone[window] & ~mask[window]
        filled = fill(given.astype(np.float32) * np.float32(255 / peak), mask[window], reach, lost)
        samples = np.rint(np.clip(filled * np.float32(peak / 255), 0, peak)).astype(pixels.dtype)
        target, inside = result[window][core], mask[window][core]
        target[inside] = np.broadcast_to(samples[core], target.shape)[inside]
    return result


def _tiles(mask: Mask, halo: int) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Windows of the photograph where there is damage, and the part of each that is its own: nothing else costs time."""
    height, width = mask.shape
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            here = mask[top : top + _TILE, left : left + _TILE]
            if not here.any():
                continue
            rows, columns = np.nonzero(here.any(axis=1))[0], np.nonzero(here.any(axis=0))[0]
            inner = (
                slice(top + int(rows[0]), top + int(rows[-1]) + 1),
                slice(left + int(columns[0]), left + int(columns[-1]) + 1),
            )
            window = tuple(
                slice(max(0, part.start - halo), min(most, part.stop + halo))
                for part, most in zip(inner, mask.shape, strict=True)
            )
            core = tuple(
                slice(part.start - wide.start, part.stop - wide.start) for part, wide in zip(inner, window, strict=True)
            )
            yield (window[0], window[1]), (core[0], core[1])


def fill(image: Plane, mask: Mask, reach: int, gone: Mask | None = None) -> Plane:
    """image: H x W x 1|3 float32, 0..255. The same where `mask` is not set."""
    spoilt = mask if gone is None else mask | gone
    result = _smoothly(image, spoilt)
    if min(mask.shape) >= PATCH and not spoilt.all():
        if image.shape[2] == 3:
            result = result @ _OPPONENT.T
        for filled in _FILLED:
            result = _round(result, mask, spoilt, filled, reach)
        if image.shape[2] == 3:
            result = result @ _OPPONENT
    found: Plane = np.where(mask[..., None], result, image)
    return found


def _smoothly(image: Plane, mask: Mask) -> Plane:
    """Laplace's equation, from the edge of the damage inwards."""
    if mask.all():
        return image
    result = image.copy()
    for channel in range(image.shape[2]):
        plane = np.where(mask, np.float32(image[..., channel][~mask].mean()), image[..., channel])
        right, down = differences(plane)
        result[..., channel] = plane + field_of(-right, -down, mask)
    return result


def _round(image: Plane, mask: Mask, spoilt: Mask, filled: float, reach: int) -> Plane:
    """Every damaged sample anew, from the patches that it lies in."""
    half = PATCH // 2
    edge = half + reach
    padded = np.pad(image, ((edge, edge), (edge, edge), (0, 0)), mode="symmetric")
    damaged = np.pad(spoilt, edge, mode="symmetric")
    patches = sliding_window_view(padded, (PATCH, PATCH), axis=(0, 1))
    flags = sliding_window_view(damaged, (PATCH, PATCH))
    share = cv2.boxFilter((~damaged).astype(np.float32), -1, (PATCH, PATCH), borderType=cv2.BORDER_CONSTANT)
    examples = (share >= _SOUND)[half:-half, half:-half]
    common = _common(patches, share[half:-half, half:-half] > 1 - 1e-3)
    total = np.zeros(padded.shape, np.float32)
    weights = np.zeros(damaged.shape, np.float32)
    bell = np.exp(-np.square(np.arange(PATCH) - half) / (2 * (PATCH / 4) ** 2)).astype(np.float32)
    bell = np.outer(bell, bell)
    rows, columns = _centres(mask)
    for start in range(0, len(rows), _BATCH):
        here = slice(start, start + _BATCH)
        places = rows[here] + reach, columns[here] + reach
        estimates, known = _estimates(patches, flags, _near(places, examples, reach), common, places, filled)
        for y, x, estimate, good in zip(*places, estimates, known, strict=True):
            if good:
                total[y : y + PATCH, x : x + PATCH] += estimate * bell[..., None]
                weights[y : y + PATCH, x : x + PATCH] += bell
    inner = slice(edge, -edge), slice(edge, -edge)
    told = mask & (weights[inner] > 0)
    result = image.copy()
    result[told] = total[inner][told] / weights[inner][told][:, None]
    return result


def _centres(mask: Mask) -> tuple[_Index, _Index]:
    """Damaged pixels no farther than one pixel from every other: on a lattice of steps of two, and where that misses."""
    lattice = np.zeros(mask.shape, np.bool_)
    lattice[::2, ::2] = mask[::2, ::2]
    near = cv2.dilate(lattice.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    rows, columns = np.nonzero(lattice | (mask & ~near))
    return rows, columns


def _common(patches: Plane, whole: Mask) -> Plane:
    """Covariance of all sound patches around, C x D x D."""
    rows, columns = np.nonzero(whole)
    channels, size = patches.shape[2], PATCH * PATCH
    if len(rows) < 2:
        identity: Plane = np.repeat(np.eye(size, dtype=np.float32)[None], channels, axis=0)
        return identity
    step = max(1, len(rows) // 4096)
    some = patches[rows[::step], columns[::step]].reshape(-1, channels, size)
    some = (some - some.mean(axis=0)).swapaxes(0, 1)
    covariance: Plane = some.swapaxes(1, 2) @ some / np.float32(some.shape[1])
    return covariance


def _near(places: tuple[_Index, _Index], examples: Mask, reach: int) -> tuple[_Index, _Index, Mask]:
    """Upper left corners of the patches within reach of each place, B x N, and which of them are examples."""
    offsets = np.arange(-reach, reach + 1)
    y, x = np.broadcast_arrays(
        np.clip(places[0][:, None, None] + offsets[None, :, None], 0, examples.shape[0] - 1),
        np.clip(places[1][:, None, None] + offsets[None, None, :], 0, examples.shape[1] - 1),
    )
    y, x = (axis.reshape(len(axis), -1) for axis in (y, x))
    return y, x, examples[y, x]


def _estimates(
    patches: Plane,
    flags: Mask,
    near: tuple[_Index, _Index, Mask],
    common: Plane,
    places: tuple[_Index, _Index],
    filled: float,
) -> tuple[Plane, Mask]:
    """The conditional mean of the patches at `places` (upper left corners), B x P x P x C; and which have examples enough."""
    channels, size, count = patches.shape[2], PATCH * PATCH, len(places[0])
    y, x, there = near
    own = patches[places].reshape(count, channels, size)
    missing = flags[places].reshape(count, size)
    candidates = patches[y, x].reshape(count, -1, channels * size)
    counts = np.where(missing, np.float32(filled), np.float32(1))
    scale = np.tile(np.sqrt(counts), (1, channels))
    distance = np.square((candidates - own.reshape(count, 1, -1)) * scale[:, None]).sum(axis=2)
    distance[~there] = np.inf
    most = min(_ALIKE, distance.shape[1])
    order = np.argpartition(distance, most - 1, axis=1)[:, :most]
    valid = np.isfinite(np.take_along_axis(distance, order, axis=1)).astype(np.float32)
    alike = np.take_along_axis(candidates, order[..., None], axis=1).reshape(count, most, channels, size).swapaxes(1, 2)
    weight = valid[:, None, :, None]
    number = np.maximum(weight.sum(axis=2, keepdims=True), 1)
    mean = (alike * weight).sum(axis=2, keepdims=True) / number
    spread = (alike - mean) * weight
    covariance = (spread.swapaxes(2, 3) @ spread + np.float32(_SURROUNDINGS) * common) / (
        number + np.float32(_SURROUNDINGS)
    )
    # A missing sample is one with endless noise; written with the inverse of the noise, nothing is divided by it.
    trust = np.where(missing, np.float32(0), np.float32(1 / _NOISE))[:, None]
    scaled = covariance * trust[..., None] * trust[..., None, :] + np.eye(size, dtype=np.float32)
    rest = np.linalg.solve(scaled, (trust * (own - mean[:, :, 0]))[..., None])
    estimate = mean[:, :, 0] + (covariance @ (trust[..., None] * rest))[..., 0]
    shaped: Plane = np.moveaxis(estimate.reshape(count, channels, PATCH, PATCH), 1, 3)
    return shaped, valid.sum(axis=1) >= _FEWEST
