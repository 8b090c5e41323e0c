"""What of a picture's gradients belongs to a stain: separation by statistics that the same photograph gives.

The picture is seen as density, where a stain adds (Beer and Lambert). Its gradients are then the picture's own plus those of
the stain, and

- the picture's own have a covariance over the channels that can be measured beside the stain, with long tails (a Student
  distribution, fitted after Lange et al., JASA 84, 1989): edges are many, and red, green and blue mostly change together;
- the stain's lie along one direction of the channels, that of its dye, and across its outline are alike at equal depth.

So the dye is the direction in which the mean gradient across the outline, as a function of depth, stands out of the picture's
own by most. Along it, weighted with the inverse of the picture's covariance (the matched filter), little is left of the
picture: nothing at all where a grey or toned print has a coloured stain. What is left is averaged along the outline, robustly
and at equal depth, as Liu and Gleicher do for the edges of shadows (CVPR 2008), so that texture and the edges of objects
fall out; single gradients count beside those averages only as far as they are surer than the picture (Wiener's rule).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.photograph import Mask
from pipeline.removal.poisson import Plane, differences, field_of

Doubles = NDArray[np.float64]

# How far a detector's outline may be wrong, and how wide a tide line may be, in pixels of the working grid.
REACH = 8
# Averages along the outline: standard deviation in pixels, and the grid on which they are taken.
_ALONG = 12.0
_GRID = 4
# Degrees of freedom of the picture's gradients: far from normal.
_FREEDOM = 2.0
_ROUNDS = 6
_SAMPLES = 20_000
_FEWEST = 200
# What 8 bits and JPEG do to a gradient, standard deviation: the picture is never known better, in any direction.
_ROUNDING = 0.006
# Standard deviations that a stain's gradient may have, in parts of its steepest mean: about the mean at one depth, and single
# gradients at the outline and deep inside.
_LOCAL, _EDGE, _DEEP = 0.5, 0.15, 0.06
_TINY = 1e-8
_SECTORS = 8
# v + 0.055, averaged over this many pixels, below which a stain changes too little to be seen.
_DARK, _EVEN = 0.2, 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Separation:
    """density: H x W x C that the stain adds to ln(v + 0.055); 0 outside. agreement: 0..1, of the stain's sides. evidence: how
    far its outline stands out of the picture; 1 is chance; most outlines drawn over sound pictures stay below 5."""

    density: Plane
    agreement: float
    evidence: float


@dataclass(frozen=True, slots=True, eq=False)
class _Law:
    """How the picture's own gradients are spread. whitening: C x C, gradients times it have unit covariance."""

    inverse: Doubles
    whitening: Plane

    def weights(self, rest: Plane) -> Plane:
        """What a gradient counts, ... x C to ...: less, the less it looks like chance."""
        channels = rest.shape[-1]
        white = rest.reshape(-1, channels) @ self.whitening
        size = np.square(white).sum(axis=1).reshape(rest.shape[:-1])
        weight: Plane = np.float32(_FREEDOM + channels) / (np.float32(_FREEDOM) + size)
        return weight


@dataclass(frozen=True, slots=True, eq=False)
class _Ground:
    """A stain's surroundings. right, down, across: H x W x C gradients, the last along the outline's normal. depth: pixels
    from the outline, positive inside. sound: H x W, 0 where the scan is clipped. telling: the same, and 0 where the picture is
    so dark that an outline may be no more than where the stain stops to be seen. bins: the pixels at each depth."""

    right: Plane
    down: Plane
    across: Plane
    normal: tuple[Plane, Plane]
    depth: Plane
    sound: Plane
    telling: Plane
    bins: tuple[tuple[NDArray[np.intp], NDArray[np.intp]], ...]


def depth_of(mask: Mask) -> Plane:
    """Pixels from the outline of `mask`, positive inside."""
    inside = mask.astype(np.uint8)
    distance: Plane = cv2.distanceTransform(inside, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
    return distance


def separate(density: Plane, mask: Mask, free: Mask, beside: Mask, sound: Mask) -> Separation | None:
    """density: H x W x C, ln(v + 0.055). mask: the stain. free: where it may reach. beside: picture without any stain.
    sound: not clipped. None where there is too little to learn from."""
    if (beside & sound).sum() < _FEWEST:
        return None
    ground = _ground(density, mask, free, sound)
    law = _law(ground, beside & sound)
    profile, count = _profile(ground, law)
    if not count.any():
        return None
    # The direction that stands out most, in the metric of what the picture does itself.
    lower = law.whitening.astype(np.float64)
    _, standing, turned = np.linalg.svd((profile * np.sqrt(count)[:, None]) @ lower, full_matrices=False)
    dye = np.linalg.solve(lower.T, turned[0])
    size = float(np.abs(dye).max())
    if not np.isfinite(size) or size < _TINY:
        return None
    dye = dye / size
    own = float(dye @ law.inverse @ dye)
    matched = (law.inverse @ dye / own).astype(np.float32)
    means = (profile @ matched).astype(np.float32)
    steepest = float(np.abs(means).max())
    if steepest < _TINY:
        return None
    local = _along(ground, law, dye.astype(np.float32), matched, means, 1 / own)
    right, down = _gradient(ground, law, dye.astype(np.float32), matched, local, (steepest, 1 / own))
    dye = _lightened(ground, law, dye, local)
    amount = field_of(right * free, down * free, free)
    agreement = _agreement(ground, law, dye.astype(np.float32), matched, means)
    return Separation(
        amount[..., None] * dye.astype(np.float32),
        agreement,
        float(standing[0] ** 2 / len(means)) / _repetition(ground, beside & sound),
    )


def _ground(density: Plane, mask: Mask, free: Mask, sound: Mask) -> _Ground:
    right, down = differences(density)
    depth = depth_of(mask)
    x, y = differences(cv2.GaussianBlur(depth, (0, 0), 1.5))
    size = np.sqrt(x * x + y * y) + np.float32(1e-3)
    x, y = x / size, y / size
    rounded = np.rint(depth).astype(np.int32)
    bins = tuple(np.nonzero((rounded == level) & free) for level in range(-REACH, REACH + 1))
    across = right * x[..., None] + down * y[..., None]
    light = cv2.GaussianBlur(np.exp(density.mean(axis=2)), (0, 0), _EVEN)
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * REACH + 1, 2 * REACH + 1))
    telling = sound & (cv2.erode(light, around) > _DARK)
    whole, seen = sound.astype(np.float32), telling.astype(np.float32)
    return _Ground(right, down, across, (x, y), depth, whole, seen, bins)  # type: ignore[arg-type]


def _law(ground: _Ground, beside: Mask) -> _Law:
    """Student's distribution with a fixed number of degrees of freedom, by expectation and maximisation."""
    samples = np.concatenate([ground.right[beside], ground.down[beside]]).astype(np.float64)
    samples = samples[:: max(1, len(samples) // _SAMPLES)]
    channels = samples.shape[1]
    floor = _ROUNDING**2 * np.eye(channels)
    spread = samples.T @ samples / len(samples) + floor
    for _ in range(2 * _ROUNDS):
        size = np.einsum("ij,jk,ik->i", samples, np.linalg.inv(spread), samples)
        weight = (_FREEDOM + channels) / (_FREEDOM + size)
        spread = (samples * weight[:, None]).T @ samples / len(samples) + floor
    inverse: Doubles = np.linalg.inv(spread).astype(np.float64)
    return _Law(inverse, np.linalg.cholesky(inverse).astype(np.float32))


def _repetition(ground: _Ground, beside: Mask) -> float:
    """Pixels along an outline that say the same: 1 for white noise, more for blurred scans and long edges."""
    total = 1.0
    for gradient, there in ((ground.right, beside), (ground.down.swapaxes(0, 1), beside.T)):
        grey = np.where(there, gradient.sum(axis=2), 0)
        # Strong edges count as their sign: the mean is robust as well.
        most = max(2 * float(np.abs(grey).sum() / max(1, there.sum())), _TINY)
        grey = np.clip(grey, -most, most)
        power = float(np.square(grey).sum() / max(1, there.sum()))
        for lag in range(1, min(REACH, len(grey) - 1) + 1):
            both = max(1, int((there[lag:] & there[:-lag]).sum()))
            total += max(0.0, float((grey[lag:] * grey[:-lag]).sum() / both / max(power, _TINY)))
    return total


def _profile(ground: _Ground, law: _Law) -> tuple[Doubles, Doubles]:
    """Mean gradient across the outline at each depth, robustly, and what the pixels at that depth count together."""
    profile = np.zeros((len(ground.bins), ground.right.shape[2]))
    count = np.zeros(len(ground.bins))
    for level, place in enumerate(ground.bins):
        here = ground.across[place][ground.telling[place] > 0]
        if len(here) < REACH:
            continue
        mean = np.median(here, axis=0)
        for _ in range(_ROUNDS):
            weight = law.weights(here - mean)
            mean = (weight @ here) / weight.sum()
        profile[level], count[level] = mean, weight.sum()
    return profile, count


def _along(ground: _Ground, law: _Law, dye: Plane, matched: Plane, means: Plane, noise: float) -> Plane:
    """Gradient of the stain across its outline, H x W: averages along it, drawn to the whole's where little says so."""
    result = np.zeros(ground.depth.shape, np.float32)
    area = np.float32(4 * np.pi * (_ALONG / _GRID) ** 2)
    drawn = np.float32(noise / (_LOCAL * float(np.abs(means).max())) ** 2)
    for mean, place in zip(means, ground.bins, strict=True):
        if not len(place[0]):
            continue
        vectors, sound = ground.across[place], ground.telling[place]
        scalars = vectors @ matched - mean
        found = np.full(len(scalars), mean, np.float32)
        for _ in range(2):
            weight = law.weights(vectors - found[:, None] * dye) * sound
            count, total = (_spread(values, place, ground.depth.shape) * area for values in (weight, weight * scalars))
            found = mean + total / (count + drawn)
        result[place] = found
    return result


def _spread(values: Plane, place: tuple[NDArray[np.intp], NDArray[np.intp]], shape: tuple[int, ...]) -> Plane:
    """Gaussian mean over the neighbourhood of values that stand at `place` (0 elsewhere), back at `place`."""
    height, width = (-(-side // _GRID) for side in shape)
    cell = (place[0] // _GRID) * width + place[1] // _GRID
    sums = np.bincount(cell, values, height * width).reshape(height, width).astype(np.float32)
    smooth = cv2.GaussianBlur(sums, (0, 0), _ALONG / _GRID, borderType=cv2.BORDER_CONSTANT)
    rows, columns = ((axis.astype(np.float32) - (_GRID - 1) / 2) / _GRID for axis in place)
    at = cv2.remap(smooth, columns[None], rows[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    found: Plane = at[0]
    return found


def _gradient(
    ground: _Ground, law: _Law, dye: Plane, matched: Plane, local: Plane, scale: tuple[float, float]
) -> tuple[Plane, Plane]:
    """The stain's gradient: the averages along the outline, and of what differs from them as much as is surer than chance."""
    steepest, noise = scale
    depth = ground.depth
    right, down = local * ground.normal[0], local * ground.normal[1]
    weight = law.weights(ground.right - right[..., None] * dye) + law.weights(ground.down - down[..., None] * dye)
    weight = cv2.GaussianBlur(weight / 2, (0, 0), 1.5)
    edge = np.where(np.abs(depth) <= REACH, _EDGE * np.exp(-2 * np.square(depth / REACH)), 0)
    power = np.square(steepest * (edge + _DEEP * (depth > 0)))
    share = (power / (power + noise / np.maximum(weight, 1e-3)) * ground.sound).astype(np.float32)
    right += share * (ground.right @ matched - right)
    down += share * (ground.down @ matched - down)
    return right, down


def _lightened(ground: _Ground, law: _Law, dye: Doubles, local: Plane) -> Doubles:
    """The dye once more along the direction in which the picture itself changes most, which the matched filter does not see.

    There a robust regression of all gradients at the outline on the stain's decides, with weights for that direction alone.
    """
    if len(dye) == 1:
        return dye
    spread, directions = np.linalg.eigh(np.linalg.inv(law.inverse))
    main, noise = directions[:, -1].astype(np.float32), float(spread[-1])
    rows, columns = (np.concatenate(axis) for axis in zip(*ground.bins, strict=True))
    stain = local[rows, columns].astype(np.float64)
    picture = (ground.across[rows, columns] @ main).astype(np.float64)
    sound = ground.telling[rows, columns]
    share = float(main @ dye)
    for _ in range(2 * _ROUNDS):
        weight = (_FREEDOM + 1) / (_FREEDOM + np.square(picture - share * stain) / noise) * sound
        power = float(weight @ np.square(stain))
        if power < _TINY:
            return dye
        share = float(weight @ (stain * picture)) / power
    lightened: Doubles = dye + (share - float(main @ dye)) * main
    return lightened


def _agreement(ground: _Ground, law: _Law, dye: Plane, matched: Plane, means: Plane) -> float:
    """How far the sides of a stain tell the same: squared mean of what each says, over the mean of its square, 0..1."""
    rows, columns = (np.concatenate(axis) for axis in zip(*ground.bins, strict=True))
    middle = rows.mean(), columns.mean()
    says, counts = np.zeros(_SECTORS), np.zeros(_SECTORS)
    for mean, place in zip(means, ground.bins, strict=True):
        if not len(place[0]):
            continue
        vectors = ground.across[place]
        weight = law.weights(vectors - mean * dye) * ground.telling[place]
        turn = np.arctan2(place[0] - middle[0], place[1] - middle[1]) / (2 * np.pi) + 0.5
        sector = np.minimum((turn * _SECTORS).astype(np.int64), _SECTORS - 1)
        says += np.bincount(sector, weight * (vectors @ matched) * mean, _SECTORS)
        counts += np.bincount(sector, weight * mean * mean, _SECTORS)
    known = counts > 0
    if not known.any():
        return 0.0
    share = counts[known] / counts[known].sum()
    heard = np.clip(says[known] / counts[known], -2, 3)
    mean_said = float((share * heard).sum())
    return max(0.0, mean_said) ** 2 / max(float((share * heard**2).sum()), _TINY)
