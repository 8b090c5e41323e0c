"""What an enlarged photograph owes to the scan: back-projection, and the tone of toned prints.

Back-projection is Irani and Peleg's (CVGIP 53(3), 1991). A generative network invents detail and, with it, moves
tones and colours. What it answers is averaged down to the scan's size, compared with the scan, and the difference, smoothly
enlarged, is added back; a few rounds suffice.

A toned print (sepia, cyanotype) is a grey photograph seen through a tone. Networks put specks of other hues along its edges,
so it is enlarged as the grey that it is, and gets its tone back by luma.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Rows of the scan on which one round of back-projection depends: the reach of the cubic kernel.
REACH = 2
_KNOTS = 65


def resized(image: Floats, height: int, width: int, interpolation: int) -> Floats:
    """cv2.resize that keeps three axes."""
    result: Floats = cv2.resize(image, (width, height), interpolation=interpolation)
    return result.reshape(height, width, image.shape[2])


def shrunk(image: Floats, scale: int) -> Floats:
    """sH x sW x C to H x W x C, each pixel the mean of scale x scale."""
    return resized(image, image.shape[0] // scale, image.shape[1] // scale, cv2.INTER_AREA)


def grown(image: Floats, scale: int) -> Floats:
    """H x W x C to sH x sW x C, bicubic."""
    return resized(image, image.shape[0] * scale, image.shape[1] * scale, cv2.INTER_CUBIC)


def back_projected(answer: Floats, scan: Floats, rounds: int, limits: tuple[float, float]) -> Floats:
    """answer: sH x sW x C. scan: H x W x C, of the same range. limits: what samples are kept within, after each round."""
    scale = answer.shape[0] // scan.shape[0]
    if scale == 1:
        # Nothing was enlarged: all that differs is what the network was asked to change.
        return answer
    for _ in range(rounds):
        answer = np.clip(answer + grown(scan - shrunk(answer, scale), scale), *limits)
    return answer


def limits_of(scan: Floats) -> tuple[float, float]:
    """What an enlarged scan is kept within: black, white, and what the scan has outside of them (a wide gamut in sRGB)."""
    return min(0.0, float(scan.min())), max(1.0, float(scan.max()))


@dataclass(frozen=True, slots=True, eq=False)
class Tint:
    """The tone of a toned print apart from its luma: what each channel adds at each luma, and what no curve explains.

    curve: knots x 3. rest, scan: H x W x 3. limits: of the scan's samples.
    """

    curve: Floats
    rest: Floats
    scan: Floats
    limits: tuple[float, float]

    def added_to(self, grey: Floats, rows: slice, rounds: int) -> Floats:
        """Enlarged luma (sH x sW x 1) of these rows of the scan, in the print's own tone."""
        rest, scan = self.rest[rows], self.scan[rows]
        toned = grey + _on_curve(self.curve, grey) + grown(rest, grey.shape[0] // rest.shape[0])
        # At hard edges the curve of a mean is not the mean of the curve.
        return back_projected(toned, scan, rounds, self.limits)


def tint_of(srgb: Floats, grey: Floats) -> Tint:
    """srgb: H x W x 3. grey: its luma, H x W x 1. The curve is the mean colour difference over 64 steps of luma."""
    place = np.clip(np.rint(grey[..., 0] * (_KNOTS - 1)), 0, _KNOTS - 1).astype(np.int64).ravel()
    count = np.bincount(place, minlength=_KNOTS)
    seen = count > 0
    curve = np.empty((_KNOTS, 3), np.float32)
    knots = np.arange(_KNOTS)
    for channel in range(3):
        total = np.bincount(place, (srgb[..., channel] - grey[..., 0]).ravel(), _KNOTS)
        curve[:, channel] = np.interp(knots, knots[seen], total[seen] / count[seen])
    smooth = cv2.blur(curve, (1, 3), borderType=cv2.BORDER_REPLICATE)
    return Tint(smooth, srgb - grey - _on_curve(smooth, grey), srgb, limits_of(srgb))


def _on_curve(curve: Floats, grey: Floats) -> Floats:
    place = grey[..., 0] * np.float32(_KNOTS - 1)
    knots = np.arange(_KNOTS)
    return np.stack([np.interp(place, knots, curve[:, c]) for c in range(3)], axis=2).astype(np.float32)
