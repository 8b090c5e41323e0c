"""What is measured on a scan and its output (docs/honesty.md), and the maps that show where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pipeline.colour_space import Floats
from pipeline.honesty.planes import Planes, planes_of
from pipeline.honesty.proof import Proof
from pipeline.honesty.risk import risk_of
from pipeline.honesty.row import Honesty, Measures
from pipeline.honesty.seams import seam
from pipeline.photograph import LUMA, Decision, Face, Mask, Photograph

if TYPE_CHECKING:
    from pipeline.record import Event

# L* a pixel, of a gradient: weaker ones are no edges.
_EDGE = 3.0
# An edge is new where its gradient is so many times the steepest of the scan around it, and steeper by an edge.
_STEEPER = 1.5
# Pixels to either side in which the scan's own edge may lie.
_AROUND = 2
_BANDS = (2.0, 8.0)
# A deviation of luma that texture has to have to be missed, and that it needs at least to be too much.
_FAINT = 1.0 / 255
_QUIET = 0.25 / 255
_LOUD = 2.0 / 255
# Detail between the scan's pixels is supported by the scan's own contrast around it, and by so much of the range.
_GRANTED = 1.0 / 100
_WINDOW = 7


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """Where it is: h x w float32 on the grid of the proof. edits: CIEDE2000 of all that was changed. invented: 0..1, what
    neither the scan, nor the recorded change of colour, nor the mask of what was repaired explains."""

    edits: Floats
    invented: Floats


def measured(
    proof: Proof, output: Photograph, events: Sequence[Event], faces: Sequence[Face]
) -> tuple[Honesty, Shown] | None:
    """output: the photograph as it is delivered, before it is encoded, its pixels `scale` times as wide as the scan's.

    None where its shape does not follow from the scan's.
    """
    planes = planes_of(proof, output, events)
    if planes is None:
        return None
    residual = np.where(planes.spared, planes.light - planes.light_expected, np.float32(0))
    window = window_of(residual.shape)
    fresh, edges = new_edges(planes)
    drift = np.abs(_blurred(residual, _BANDS[0]))
    unsupported = _unsupported(planes)
    texture = _texture(planes)
    bands = _in_bands(residual)
    inside = ~planes.spared
    measures = Measures(
        step=proof.step,
        psnr=_psnr(planes),
        de00_mean=_mean(planes.de00),
        de00_max=float(planes.de00.max()),
        residual_low=bands[0],
        residual_mid=bands[1],
        residual_high=bands[2],
        residual_peak=_peak(drift, window),
        new_edges=float(np.count_nonzero(fresh > 0)) / max(1.0, float(np.count_nonzero(edges))),
        new_edges_peak=_peak((fresh > 0).astype(np.float32), window),
        high_frequency=texture.all,
        grain=texture.flat,
        smoothed=texture.smoothed,
        roughened=texture.roughened,
        unsupported_peak=None if unsupported is None else _peak(unsupported, window),
        seam=seam(residual, proof, events),
        clipped_low=max(0.0, planes.clipped[0]),
        clipped_high=max(0.0, planes.clipped[1]),
        repaired_fraction=float(inside.mean()),
        repaired_de00_mean=_mean(planes.de00[inside]) if inside.any() else None,
        identity=_least_identity(faces),
    )
    shown = Shown(planes.de00, _invented(fresh, drift, unsupported))
    return Honesty(measures, risk_of(measures)), shown


def window_of(shape: tuple[int, ...]) -> int:
    """The side of the square over which local means are taken: odd, a twelfth of the shorter side, at least 9 pixels."""
    return max(9, min(shape[:2]) // 12) | 1


def new_edges(planes: Planes) -> tuple[Floats, Mask]:
    """By how much the output's gradient of lightness is steeper than any that the scan has nearby, 0 where that is no new edge;
    and where the output has edges at all. Both outside what was repaired."""
    there, expected = (_gradient(plane) for plane in (planes.light, planes.light_expected))
    nearby = cv2.dilate(expected, np.ones((2 * _AROUND + 1,) * 2, np.uint8))
    excess = np.where(planes.spared, there - _STEEPER * nearby, np.float32(0))
    return np.where(excess > _EDGE, excess, np.float32(0)), (there > _EDGE) & planes.spared


def _gradient(light: Floats) -> Floats:
    smooth = _blurred(light, 1.0)
    across, down = (
        cv2.Scharr(smooth, cv2.CV_32F, *axes, scale=1 / 32, borderType=cv2.BORDER_REPLICATE)
        for axes in ((1, 0), (0, 1))
    )
    steep: Floats = cv2.magnitude(across, down)
    return steep


def _in_bands(residual: Floats) -> tuple[float, float, float]:
    """Root mean squares of what is coarser than the second sigma, between both, and finer than the first."""
    some, more = (_blurred(residual, sigma) for sigma in _BANDS)
    return _rms(more), _rms(some - more), _rms(residual - some)


@dataclass(frozen=True, slots=True)
class _Texture:
    all: float
    flat: float
    smoothed: float
    roughened: float


def _texture(planes: Planes) -> _Texture:
    """The finest band: of luma on the grid, and what lies below the grid."""
    given, got = (_finest(srgb) for srgb in (planes.expected, planes.after))
    given, got = given + planes.texture_expected, got + planes.texture
    spared, floor = planes.spared, _QUIET**2
    if not spared.any():
        return _Texture(1.0, 1.0, 0.0, 0.0)
    structure = _gradient(_blurred(planes.light_expected, 3.0))
    flat = spared & (structure <= np.quantile(structure[spared], 0.25))
    one, other = (cv2.blur(plane, (_WINDOW, _WINDOW), borderType=cv2.BORDER_REPLICATE) for plane in (given, got))
    count = np.count_nonzero(spared)
    smoothed = spared & (one > _FAINT**2) & (other < one / 4)
    roughened = spared & (other > 4 * one + _LOUD**2)
    return _Texture(
        all=(_mean(got[spared]) + floor) / (_mean(given[spared]) + floor),
        flat=(_mean(got[flat]) + floor) / (_mean(given[flat]) + floor),
        smoothed=float(np.count_nonzero(smoothed) / count),
        roughened=float(np.count_nonzero(roughened) / count),
    )


def _finest(srgb: Floats) -> Floats:
    grey = _luma(srgb)
    fine: Floats = np.square(grey - _blurred(grey, 1.0))
    return fine


def _luma(srgb: Floats) -> Floats:
    grey: Floats = srgb[..., 0] if srgb.shape[2] == 1 else srgb @ LUMA
    return grey


def _unsupported(planes: Planes) -> Floats | None:
    """Deviation of the output's luma within each pixel of the scan, to what the scan's gradient and texture around it
    support."""
    if planes.fine is None:
        return None
    grey = _luma(planes.expected)
    steep = _gradient(grey)
    texture = cv2.blur(_finest(planes.expected) + planes.texture_expected, (5, 5), borderType=cv2.BORDER_REPLICATE)
    # A box filter of running sums may end a hair below zero.
    near = cv2.blur(steep, (3, 3), borderType=cv2.BORDER_REPLICATE)
    support = near + np.sqrt(np.maximum(texture, 0)) + np.float32(_GRANTED)
    return np.where(planes.spared, np.sqrt(planes.fine) / support, np.float32(0))


def _invented(fresh: Floats, drift: Floats, unsupported: Floats | None) -> Floats:
    """The most of the three, each by what is beyond doubt: a new gradient of 15 L* a pixel, a drift of 15 L*, detail
    between the scan's pixels of four times what supports it, where up to once is nothing."""
    most = np.maximum(fresh, drift) / np.float32(15)
    if unsupported is not None:
        most = np.maximum(most, (unsupported - np.float32(1)) / np.float32(3))
    return np.minimum(most, np.float32(1))


def _psnr(planes: Planes) -> float | None:
    one, other = planes.before, planes.after
    error = float(np.mean(np.square(np.clip(one, 0, 1) - np.clip(other, 0, 1)), dtype=np.float64))
    return None if error == 0 else -10 * math.log10(error)


def _least_identity(faces: Sequence[Face]) -> float | None:
    known = [
        face.likeness.identity
        for face in faces
        if face.decision is Decision.RESTORED and face.likeness is not None and face.likeness.identity is not None
    ]
    return min(known, default=None)


def _blurred(plane: Floats, sigma: float) -> Floats:
    result: Floats = cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return result


def _peak(plane: Floats, window: int) -> float:
    return float(cv2.blur(plane, (window, window), borderType=cv2.BORDER_REPLICATE).max())


def _mean(plane: Floats) -> float:
    return float(plane.mean(dtype=np.float64))


def _rms(plane: Floats) -> float:
    return math.sqrt(float(np.mean(np.square(plane), dtype=np.float64)))
