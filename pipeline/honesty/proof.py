"""What is kept of a scan to hold its restoration against: at most a megapixel, and how much texture lies below it.

The proof is made when the scan was decoded and travels with the photograph, so that nobody has to read the source twice or keep
all of it in memory.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.colour_space import BAND, Floats
from pipeline.photograph import LUMA, Photograph, Pixels, as_unit, to_depth

PROOF_PIXELS = 1 << 20
# Luma beyond which a sample counts as black or white, as in the analysis.
_BLACK, _WHITE = 0.5 / 255, 254.5 / 255


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """samples: h x w x C, 8 or 16 bits in the scan's own encoding, each the mean of step x step pixels; the scan's own
    array where step is 1. deviation: h x w uint16, the standard deviation of luma within those pixels, 65535 for 1; None
    where step is 1. shape: rows and columns of the scan. clipped: shares of its pixels that are black, and white. sha256:
    of all of it."""

    samples: Pixels
    deviation: NDArray[np.uint16] | None
    step: int
    shape: tuple[int, int]
    clipped: tuple[float, float]
    sha256: str

    @property
    def variance(self) -> Floats:
        """Of luma (0..1) within each pixel of the proof, h x w."""
        if self.deviation is None:
            return np.zeros(self.samples.shape[:2], np.float32)
        return np.square(as_unit(self.deviation))

    def facts(self) -> str:
        """All but the arrays, as JSON."""
        shape, kind = self.samples.shape, self.samples.dtype.name
        return json.dumps(
            {"samples": shape, "dtype": kind, "step": self.step, "shape": self.shape, "clipped": self.clipped}
        )

    def is_whole(self) -> bool:
        """Whether it is still what its digest was taken of."""
        return _digest(self) == self.sha256


def proof_of(photograph: Photograph) -> Proof:
    """photograph: as it was decoded."""
    pixels = photograph.pixels
    step = step_for(photograph.height, photograph.width, PROOF_PIXELS)
    found = reduce(pixels, step, 1)
    samples, deviation = pixels, None
    if step > 1:
        samples = to_depth(found.samples, np.dtype(np.uint16))
        deviation = to_depth(np.sqrt(found.coarse), np.dtype(np.uint16))
    bare = Proof(samples, deviation, step, (photograph.height, photograph.width), found.clipped, "")
    return Proof(bare.samples, bare.deviation, step, bare.shape, bare.clipped, _digest(bare))


def _digest(proof: Proof) -> str:
    digest = hashlib.sha256(proof.facts().encode())
    for plane in (proof.samples, proof.deviation):
        if plane is not None:
            digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


def step_for(height: int, width: int, most: int) -> int:
    """The side of the squares that have to be averaged so that at most about `most` pixels remain."""
    return max(1, math.ceil(math.sqrt(height * width / most)))


@dataclass(frozen=True, slots=True, eq=False)
class Reduced:
    """A photograph on the grid of a proof. samples: h x w x C float32, 0..1, in its own encoding. coarse: h x w, variance
    of luma within a pixel of the grid, on the scan's grid. fine: h x w, mean variance of luma within a pixel of the scan.
    clipped: shares of black and of white pixels."""

    samples: Floats
    coarse: Floats
    fine: Floats
    clipped: tuple[float, float]


def reduce(pixels: Pixels, step: int, scale: int) -> Reduced:
    """pixels: `scale` times as wide as the scan. step: pixels of the scan to one of the grid. In bands."""
    height, width, channels = pixels.shape
    side = step * scale
    shape = (-(-height // side), -(-width // side))
    samples = np.empty((*shape, channels), np.float32)
    coarse, fine = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    black = white = 0
    for band, rows in _bands(pixels, side):
        unit = as_unit(band)
        grey = unit[..., 0] if channels == 1 else unit @ LUMA
        black += int(np.count_nonzero(grey <= _BLACK))
        white += int(np.count_nonzero(grey >= _WHITE))
        samples[rows] = block_mean(unit, side)
        on_scan, within = _split(grey, scale)
        if scale > 1:
            fine[rows] = block_mean(within, step)
        if step > 1:
            coarse[rows] = _split(on_scan, step)[1]
    count = max(1, height * width)
    return Reduced(samples, coarse, fine, (black / count, white / count))


def means(pixels: Pixels, side: int) -> Floats:
    """The samples of `reduce` alone: h x w x C float32, 0..1, each the mean of side x side pixels."""
    parts = [block_mean(as_unit(band), side) for band, _ in _bands(pixels, side)]
    return np.concatenate(parts)


def _bands(pixels: Pixels, side: int) -> Iterator[tuple[Pixels, slice]]:
    """Rows of about a band's pixels, whole blocks of `side` rows but for the last, and the rows of the grid that they
    become."""
    blocks = max(1, BAND // max(1, side * pixels.shape[1]))
    for top in range(0, -(-pixels.shape[0] // side), blocks):
        band = pixels[top * side : (top + blocks) * side]
        yield band, slice(top, top + -(-len(band) // side))


def _split(grey: Floats, side: int) -> tuple[Floats, Floats]:
    """Means of side x side pixels, and the variance within them."""
    if side == 1:
        return grey, np.zeros_like(grey)
    mean = block_mean(grey, side)
    spread = np.repeat(np.repeat(mean, side, axis=0)[: len(grey)], side, axis=1)[:, : grey.shape[1]]
    return mean, block_mean(np.square(grey - spread), side)


def block_mean(plane: Floats, side: int) -> Floats:
    """H x W or H x W x C to the means of side x side squares; what is left over at the right and the bottom makes smaller
    ones."""
    if side == 1:
        return plane
    rows, columns = plane.shape[:2]
    result = np.empty((-(-rows // side), -(-columns // side), *plane.shape[2:]), np.float32)
    for top, bottom, high in _runs(rows, side):
        for left, right, wide in _runs(columns, side):
            size = ((right - left) // wide, (bottom - top) // high)
            part = np.ascontiguousarray(plane[top:bottom, left:right])
            mean = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
            place = (slice(top // side, top // side + size[1]), slice(left // side, left // side + size[0]))
            result[place] = mean.reshape(result[place].shape)
    return result


def _runs(length: int, side: int) -> Iterator[tuple[int, int, int]]:
    whole = length - length % side
    if whole:
        yield 0, whole, side
    if whole < length:
        yield whole, length, length - whole
