"""Damage found by a network, on photographs of any size: over a pyramid, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.colour_space import visible
from pipeline.damage.found import Found
from pipeline.damage.kinds import FOUND, Kind, Kinds
from pipeline.damage.marks import shown
from pipeline.photograph import Photograph, Pixels, as_unit
from pipeline.tiles import Window, windows

if TYPE_CHECKING:
    import torch

# Chances of each kind in FOUND, 0..255, H x W x 4.
_Chances = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class LearnedSettings:
    """threshold: chance of damage from which a pixel counts, 0..1. tile: side of what the network sees at once. halo: of a
    tile, what is looked at and not answered for. Both even. smallest: the pyramid ends at a longest side of so many pixels."""

    threshold: float = 0.5
    tile: int = 640
    halo: int = 64
    smallest: int = 1200


class LearnedDetector:
    """network: as `DamageNet`, ready for inference. model_id: recorded.

    Damage as wide as the network learned it is found at full size; the wider one on a large scan in the smaller levels.
    Where levels differ the surer one counts.
    """

    def __init__(self, network: torch.nn.Module, model_id: str, device: str, settings: LearnedSettings) -> None:
        self.network, self.device, self.settings = network, device, settings
        self.model_id: str | None = model_id

    def find(self, photograph: Photograph) -> Found:
        levels = [visible(photograph)]
        while max(levels[-1].shape[:2]) > self.settings.smallest:
            levels.append(_halved(levels[-1]))
        coarser: _Chances | None = None
        while len(levels) > 1:
            level = levels.pop()
            chances = np.empty((*level.shape[:2], len(FOUND)), np.uint8)
            for window, found in self._tiles(level, coarser):
                chances[window] = found
            coarser = chances
        kinds = np.zeros(levels[0].shape[:2], np.uint8)
        sums, counts = np.zeros(len(FOUND)), np.zeros(len(FOUND), np.int64)
        for window, found in self._tiles(levels[0], coarser):
            part = _decided(found, round(self.settings.threshold * 255))
            kinds[window] = part
            for place, kind in enumerate(FOUND):
                here = part == kind
                counts[place] += np.count_nonzero(here)
                sums[place] += found[here, place].sum(dtype=np.int64)
        confidence = {
            kind: float(total / count / 255) for kind, total, count in zip(FOUND, sums, counts, strict=True) if count
        }
        return Found(_covering(kinds), confidence)

    def _tiles(self, level: Pixels, coarser: _Chances | None) -> Iterator[tuple[Window, _Chances]]:
        """Chances in every window of a level, no less than those of the next coarser one."""
        for around, inner, window in windows(level.shape[0], level.shape[1], self.settings.tile, self.settings.halo):
            found = self._chances(level[around])[inner]
            if coarser is not None:
                np.maximum(found, _enlarged(coarser, window), out=found)
            yield window, found

    def _chances(self, pixels: Pixels) -> _Chances:
        import torch

        from pipeline.models.damage_net import MULTIPLE

        height, width = pixels.shape[:2]
        image = as_unit(pixels)
        image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
        below, right = -height % MULTIPLE, -width % MULTIPLE
        padded = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REFLECT)
        planes = torch.from_numpy(np.ascontiguousarray(shown(padded).transpose(2, 0, 1)))[None].to(self.device)
        with torch.inference_mode():
            scores = self.network(planes.contiguous(memory_format=torch.channels_last))[0]
            chances = (scores.float().softmax(0)[1:, :height, :width] * 255).round().to(torch.uint8)
        found: _Chances = np.ascontiguousarray(chances.permute(1, 2, 0).cpu().numpy())
        return found


def _halved(pixels: Pixels) -> Pixels:
    """Sides rounded up, so that every pixel has a parent."""
    size = (-(-pixels.shape[1] // 2), -(-pixels.shape[0] // 2))
    result: Pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)
    return result


def _enlarged(coarser: _Chances, window: Window) -> _Chances:
    """Chances of the level above over a window that starts at even places."""
    rows, columns = window
    parents = coarser[rows.start // 2 : -(-rows.stop // 2), columns.start // 2 : -(-columns.stop // 2)]
    twice: _Chances = cv2.resize(parents, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    return twice[: rows.stop - rows.start, : columns.stop - columns.start]


def _decided(chances: _Chances, threshold: int) -> Kinds:
    kinds: Kinds = (1 + chances.argmax(axis=2)).astype(np.uint8)
    kinds[chances.sum(axis=2, dtype=np.uint16) < threshold] = Kind.NONE
    return kinds


def _covering(kinds: Kinds) -> Kinds:
    """Lines and spots one pixel wider: their soft edges, which would be spread over what is filled, belong to them."""
    for kind in (Kind.LINE, Kind.SPOT):
        grown = cv2.dilate((kinds == kind).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        kinds[grown & (kinds == Kind.NONE)] = kind
    return kinds
