"""Marks over a picture: only what can be seen is laid, and where it is, is known to the pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from pipeline.damage.kinds import Kind, Kinds
from pipeline.degradation.draw import Plane
from pipeline.degradation.marks import Mark, Planes
from pipeline.photograph import Mask

# Changes up to the first are nothing, from the second on they are all there; in between they fade in, so that the edge of
# what counts as damage is no edge in the picture. A pixel that is left with less than the third is not damaged.
_NOTHING = np.float32(2 / 255)
_WHOLE = np.float32(5 / 255)
_LEAST = np.float32(1 / 255)
# What does not stand out of the picture by this much in the scan, or by so many standard deviations of its noise, is not seen.
_SEEN = 8 / 255
_SEEN_STAIN = 6 / 255
_SEEN_IN_NOISE = 1.2
# Nor a line or spot by so much of the relief that the picture itself has around: leaves and bricks hide scratches.
_SEEN_IN_RELIEF = 1.5
# How far, in pixels of a sharp scan, the eye follows a line from where it stands out.
_ALONG = 3.0
# Blur that is not worth the time.
_SOFT = 0.3

_Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Sight:
    """What hides damage. softness: of the scan's blur, in pixels. noise: standard deviation of grain and noise together."""

    softness: float
    noise: float

    def stands_out(self, change: Plane, picture: Plane, kind: Kind) -> Mask:
        """change: H x W, signed. picture: beneath it. Where the change can be seen in the scan."""
        floor: Plane | float = _SEEN_STAIN
        if kind is not Kind.STAIN:
            floor = np.maximum(max(_SEEN, _SEEN_IN_NOISE * self.noise), _SEEN_IN_RELIEF * _relief(picture))
        if self.softness > _SOFT:
            change = cv2.GaussianBlur(change, (0, 0), self.softness, borderType=cv2.BORDER_REFLECT)
        out: Mask = np.abs(change) > floor
        return out

    def near(self, seen: Mask) -> Mask:
        """What lies so near to something seen that it is seen along with it."""
        radius = round(_ALONG + 2 * self.softness)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
        along: Mask = cv2.dilate(seen.astype(np.uint8), disc).astype(np.bool_)
        return along


def _relief(picture: Plane) -> Plane:
    """Mean deviation of each pixel's surroundings from their own smooth course."""
    detail = np.abs(picture - cv2.GaussianBlur(picture, (0, 0), 3.0))
    around: Plane = cv2.blur(detail, (15, 15))
    return around


class Damaged:
    """The print with damage, before the scan, as it grows.

    planes: C x H x W. kinds: where damage is. applied: what was laid, one entry for each effect and kind.
    """

    def __init__(self, planes: Planes, channels: int, sight: Sight) -> None:
        """planes: of the undamaged print, not changed. channels: 3 where its damage may have colour."""
        self.planes = np.repeat(planes, channels, axis=0) if len(planes) < channels else planes.copy()
        self.kinds: Kinds = np.zeros(planes.shape[1:], np.uint8)
        self.sight = sight
        self.applied: list[dict[str, Any]] = []

    def lay(self, marks: list[Mark]) -> None:
        """The marks of one effect, as far as they can be seen."""
        visible = [mark for mark in marks if mark.patch.alpha.any()]
        for kind in sorted({mark.kind for mark in visible}):
            self._lay([mark for mark in visible if mark.kind is kind], kind)

    def _lay(self, marks: list[Mark], kind: Kind) -> None:
        window = _around(marks)
        region = self.planes[:, window[0], window[1]]
        before = region.copy()
        for mark in marks:
            mark.apply(self.planes)
        np.clip(region, 0, 1, out=region)
        seen = self._gone(marks, window, before) if kind is Kind.MISSING else self._seen(before, region, kind)
        np.copyto(region, before, where=~seen)
        codes = self.kinds[window]
        # What destroys more wins; of lines and spots, the later.
        codes[seen & (codes <= _OVER[kind])] = kind
        if not seen.any():
            return
        self.applied.append(
            {
                "effect": marks[0].effect,
                "kind": kind.name,
                "marks": len(marks),
                "real": sum(mark.real for mark in marks),
                "pixels": int(seen.sum()),
            }
        )

    def _seen(self, before: Planes, after: Planes, kind: Kind) -> Mask:
        """Where the change can be seen; fades out in `after`, in place, what is too little."""
        difference = after - before
        size = np.abs(difference)
        change = size.max(axis=0) if len(size) > 1 else size[0]
        share = np.clip((change - _NOTHING) * np.float32(1 / (_WHOLE - _NOTHING)), 0, 1)
        np.add(before, difference * share, out=after)
        signed = difference.mean(axis=0) if len(size) > 1 else difference[0]
        # A change of colour alone has a mean of nothing.
        strongest = np.copysign(change, signed)
        weak, strong = change * share >= _LEAST, self.sight.stands_out(strongest, before.mean(axis=0), kind)
        # Of a stain all is seen once one sees any; of a line only what is near a place where it stands out.
        return whole_pieces(weak, strong) if kind is Kind.STAIN else weak & self.sight.near(strong)

    def _gone(self, marks: list[Mark], window: _Window, before: Planes) -> Mask:
        """All of an area of which something can be seen, also where what lies behind happens to equal the picture."""
        covered = np.zeros(before.shape[1:], np.bool_)
        for mark in marks:
            rows, columns = mark.patch.window
            top, left = rows.start - window[0].start, columns.start - window[1].start
            height, width = mark.patch.alpha.shape
            covered[top : top + height, left : left + width] |= mark.patch.alpha > _LEAST
        after = self.planes[:, window[0], window[1]]
        return whole_pieces(covered, np.abs(after - before).max(axis=0) > _SEEN)


# The codes that each kind may take the place of, up to and with this one.
_OVER = {Kind.STAIN: Kind.NONE, Kind.LINE: Kind.STAIN, Kind.SPOT: Kind.STAIN, Kind.MISSING: Kind.MISSING}


def _around(marks: list[Mark]) -> _Window:
    """The rectangle around all of them."""
    rows, columns = zip(*(mark.patch.window for mark in marks), strict=True)
    return (
        slice(min(r.start for r in rows), max(r.stop for r in rows)),
        slice(min(c.start for c in columns), max(c.stop for c in columns)),
    )


def whole_pieces(weak: Mask, strong: Mask) -> Mask:
    """The connected pieces (8 neighbours) of `weak` that hold something of `strong`."""
    _, labels = cv2.connectedComponents(weak.astype(np.uint8), connectivity=8)
    held = np.zeros(int(labels.max()) + 1, np.bool_)
    held[labels[strong & weak]] = True
    held[0] = False
    pieces: Mask = held[labels]
    return pieces
