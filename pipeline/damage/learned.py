"""Damage found by a network, on photographs of any size: over a pyramid, tile by tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.colour_space import visible
from pipeline.damage.found import Found
from pipeline.damage.kinds import FOUND, Kind, Kinds
from pipeline.damage.marks import shown
from pipeline.damage.pieces import judged
from pipeline.models.precision import convolving
from pipeline.photograph import Photograph, Pixels, as_unit
from pipeline.tiles import Window, windows

if TYPE_CHECKING:
    from pipeline.models.damage_net import DamageNet

# Certainty of each kind in FOUND, 0..255, H x W x 4.
_Certainty = NDArray[np.uint8]
_Plane = NDArray[np.float32]

# Texture looks a little like damage everywhere, damage looks like it in one place: how much of what is mistakable within a
# square of so many pixels a line or spot has to exceed, and from which log-odds on a pixel is mistakable at all.
_AROUND = 65
_SHARE = np.float32(2.0)
_MISTAKABLE = np.float32(-4.0)
_NEVER = np.float32(-100)
_LINE = FOUND.index(Kind.LINE)


@dataclass(frozen=True, slots=True)
class LearnedSettings:
    """threshold: certainty from which a pixel counts, 0..1; 0.5 is where calibration put it. tile: side of what the network
    sees at once. halo: of a tile, what is looked at and not answered for; tile - 2 halo and halo are multiples of the
    network's own. smallest: the pyramid ends at a longest side of so many pixels."""

    threshold: float = 0.5
    tile: int = 1024
    halo: int = 96
    smallest: int = 1200


class LearnedDetector:
    """network: ready for inference, with its calibrated bounds. model_id: recorded.

    Damage as wide as the network learned it is found at full size; the wider one on a large scan in the smaller levels.
    Where levels differ the surer one counts.
    """

    def __init__(self, network: DamageNet, model_id: str, device: str, settings: LearnedSettings) -> None:
        self.network, self.device, self.settings = network, device, settings
        self.bounds: _Plane = network.bounds.cpu().numpy().astype(np.float32)
        self.model_id: str | None = model_id

    def find(self, photograph: Photograph) -> Found:
        levels = [visible(photograph)]
        while max(levels[-1].shape[:2]) > self.settings.smallest:
            levels.append(_halved(levels[-1]))
        certainty: _Certainty | None = None
        while levels:
            certainty = self._certainty(levels.pop(), certainty)
        assert certainty is not None
        height, width, _ = certainty.shape
        kinds = np.zeros((height, width), np.uint8)
        sums, counts = np.zeros(len(FOUND)), np.zeros(len(FOUND), np.int64)
        for _, _, window in windows(height, width, self.settings.tile, 0):
            part = _decided(certainty[window], round(self.settings.threshold * 255))
            kinds[window] = part
            for place, kind in enumerate(FOUND):
                here = part == kind
                counts[place] += np.count_nonzero(here)
                sums[place] += certainty[window][here, place].sum(dtype=np.int64)
        confidence = {
            kind: float(total / count / 255) for kind, total, count in zip(FOUND, sums, counts, strict=True) if count
        }
        return Found(covering(kinds), confidence)

    def _certainty(self, level: Pixels, coarser: _Certainty | None) -> _Certainty:
        """Of a level, no less than of the next coarser one. Seen tile by tile; pieces are judged whole."""
        height, width = level.shape[:2]
        found, thin = np.empty((height, width, len(FOUND)), np.uint8), np.empty((height, width), np.float32)
        for around, inner, window in windows(height, width, self.settings.tile, self.settings.halo):
            odds = evidence(self.scores(level[around]))[inner]
            thin[window] = odds[..., _LINE]
            for place, bound in enumerate(self.bounds):
                if place != _LINE:
                    found[(*window, place)] = _certain(odds[..., place], bound)
        judged_whole = judged(thin, lightness(level))
        for _, _, window in windows(height, width, self.settings.tile, 0):
            found[(*window, _LINE)] = _certain(judged_whole[window], self.bounds[_LINE])
            if coarser is not None:
                np.maximum(found[window], _enlarged(coarser, window), out=found[window])
        return found

    def odds(self, pixels: Pixels) -> _Plane:
        """H x W x 4: log-odds of each kind in FOUND, as they are held against the bounds. pixels: no larger than a tile."""
        found = evidence(self.scores(pixels))
        found[..., _LINE] = judged(np.ascontiguousarray(found[..., _LINE]), lightness(pixels))
        return found

    def scores(self, pixels: Pixels) -> _Plane:
        """Of each `Kind`, 5 x H x W. pixels: H x W x 1 or 3 sRGB, no larger than a tile."""
        import torch

        from pipeline.models.damage_net import MULTIPLE

        height, width = pixels.shape[:2]
        image = as_unit(pixels)
        image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
        below, right = -height % MULTIPLE, -width % MULTIPLE
        padded = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REFLECT)
        planes = torch.from_numpy(np.ascontiguousarray(shown(padded).transpose(2, 0, 1)))[None].to(self.device)
        with torch.inference_mode(), convolving(self.device, exact=True):
            scores = self.network(planes.contiguous(memory_format=torch.channels_last))[0]
            found: _Plane = np.ascontiguousarray(scores[:, :height, :width].float().cpu().numpy())
        return found


def lightness(pixels: Pixels) -> _Plane:
    """H x W, 0..1: the mean of sRGB's channels. Of one channel and of three equal ones the same."""
    light: _Plane = pixels[..., 0].astype(np.float32)
    for channel in range(1, pixels.shape[2]):
        light += pixels[..., channel]
    light /= np.float32(pixels.shape[2] * np.iinfo(pixels.dtype).max)
    return light


def evidence(scores: _Plane) -> _Plane:
    """5 x H x W scores to H x W x 4: log-odds of each kind in FOUND against none. Lines and spots count together, less where
    much around them is mistakable; spots where they are likelier than lines, and lines everywhere, for pieces to be judged."""
    none, line, spot = scores[0], scores[Kind.LINE], scores[Kind.SPOT]
    thin = np.logaddexp(line, spot) - none
    thin -= _SHARE * cv2.blur(np.maximum(thin - _MISTAKABLE, 0), (_AROUND, _AROUND), borderType=cv2.BORDER_REFLECT)
    odds: _Plane = np.empty((*none.shape, len(FOUND)), np.float32)
    for place, kind in enumerate(FOUND):
        odds[..., place] = scores[kind] - none
    odds[..., _LINE] = thin
    odds[..., FOUND.index(Kind.SPOT)] = np.where(spot > line, thin, _NEVER)
    return odds


def _certain(odds: _Plane, bound: np.float32) -> NDArray[np.uint8]:
    """Certainty, 0..255; half of it at the bound."""
    found: NDArray[np.uint8] = np.rint(255 / (1 + np.exp(np.clip(bound - odds, -30, 30)))).astype(np.uint8)
    return found


def _halved(pixels: Pixels) -> Pixels:
    """Sides rounded up, so that every pixel has a parent."""
    size = (-(-pixels.shape[1] // 2), -(-pixels.shape[0] // 2))
    result: Pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)
    return result


def _enlarged(coarser: _Certainty, window: Window) -> _Certainty:
    """Certainty of the level above over a window that starts at even places."""
    rows, columns = window
    parents = coarser[rows.start // 2 : -(-rows.stop // 2), columns.start // 2 : -(-columns.stop // 2)]
    twice: _Certainty = cv2.resize(parents, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    return twice[: rows.stop - rows.start, : columns.stop - columns.start]


def _decided(certainty: _Certainty, threshold: int) -> Kinds:
    kinds: Kinds = (1 + certainty.argmax(axis=2)).astype(np.uint8)
    kinds[certainty.max(axis=2) < threshold] = Kind.NONE
    return kinds


def covering(kinds: Kinds) -> Kinds:
    """Lines and spots one pixel wider: their soft edges, which would be spread over what is filled, belong to them."""
    for kind in (Kind.LINE, Kind.SPOT):
        grown = cv2.dilate((kinds == kind).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        kinds[grown & (kinds == Kind.NONE)] = kind
    return kinds
