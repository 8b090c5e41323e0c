"""Scan and output on one grid, with what was changed on purpose told apart."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL.PngImagePlugin import PngImageFile

from pipeline.colour_space import ColourSpace, Floats, Stored, bands, open_profile, space_of
from pipeline.damage import REPAIRED
from pipeline.honesty.difference import delta_e
from pipeline.honesty.proof import Proof, block_mean, reduce
from pipeline.measures import lab_of_srgb
from pipeline.photograph import LUMA, Container, Mask, Photograph, to_depth
from pipeline.stage import Outcome

if TYPE_CHECKING:
    from pipeline.record import Event

# What was filled shows a little beyond its mask, once it is enlarged: so many pixels of the scan.
_BEYOND = 2


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """h x w float32 each, on the grid of the proof.

    before, after: sRGB of scan and output, h x w x 1|3. expected: of the scan, as the recorded change of colour leaves it.
    de00: CIEDE2000 of `before` and `after`. light_expected, light: L*. texture_expected, texture: variance of luma within a
    pixel of the grid. fine: variance of the output's luma within a pixel of the scan. spared: where nothing was repaired.
    clipped: by how much the shares of black and of white pixels grew. slope: of luma, of the recorded change of colour.
    """

    before: Floats
    after: Floats
    expected: Floats
    de00: Floats
    light_expected: Floats
    light: Floats
    texture_expected: Floats
    texture: Floats
    fine: Floats | None
    spared: Mask
    clipped: tuple[float, float]
    slope: float


def planes_of(proof: Proof, output: Photograph, events: Sequence[Event]) -> Planes | None:
    """None where the output's shape does not follow from the scan's: then there is nothing to lay side by side."""
    scale = output.scale
    if (output.height, output.width) != (proof.shape[0] * scale, proof.shape[1] * scale):
        return None
    found = reduce(output.pixels, proof.step, scale)
    given = _space(output.container, proof.samples.shape[2])
    before = given.to_srgb(proof.samples)
    after = space_of(output).to_srgb(to_depth(found.samples, np.dtype(np.uint16)))
    factors, offset = recorded_change(events, before.shape[2])
    expected = np.clip(before * factors + offset, 0, 1) if (factors != 1).any() or offset else before
    lab_before, lab_after = (_lab(srgb) for srgb in (before, after))
    slope = float(factors @ LUMA) if len(factors) == 3 else float(factors[0])
    return Planes(
        before=before,
        after=after,
        expected=expected,
        de00=delta_e(lab_before, lab_after),
        light_expected=lab_before[..., 0] if expected is before else _lab(expected)[..., 0],
        light=lab_after[..., 0],
        texture_expected=proof.variance * np.float32(slope**2),
        texture=found.coarse,
        fine=found.fine if scale > 1 else None,
        spared=~repaired_on_grid(output, proof),
        clipped=(found.clipped[0] - proof.clipped[0], found.clipped[1] - proof.clipped[1]),
        slope=slope,
    )


def _space(container: Container, channels: int) -> ColourSpace:
    return Stored() if container.icc is None else open_profile(container.icc, channels)


def _lab(srgb: Floats) -> Floats:
    result = np.empty((*srgb.shape[:2], 3), np.float32)
    for rows in bands(srgb):
        result[rows] = lab_of_srgb(srgb[rows])
    return result


def recorded_change(events: Sequence[Event], channels: int) -> tuple[Floats, np.float32]:
    """Factors of the channels and the offset, in sRGB, of the colour stage's event; ones and zero without one."""
    factors, offset = np.ones(channels, np.float32), np.float32(0)
    for event in events:
        if event.stage != "colour" or event.outcome != Outcome.APPLIED:
            continue
        findings = json.loads(event.findings)
        gains = np.asarray(findings["gains"], np.float32)
        factors = np.broadcast_to(gains if len(gains) == channels else gains[:1], channels) * np.float32(
            findings["slope"]
        )
        offset = np.float32(findings["offset"])
    return factors, offset


def repaired_on_grid(output: Photograph, proof: Proof) -> Mask:
    """h x w: every pixel of the grid in which something was repaired, or next to one."""
    side = proof.step
    result = np.zeros(proof.samples.shape[:2], np.uint8)
    for row, codes in _codes(output, proof):
        marked = block_mean((codes & REPAIRED > 0).astype(np.float32), side)
        result[row : row + len(marked)] = marked > 0
    reach = 2 * -(-_BEYOND // side) + 1
    wide: Mask = cv2.dilate(result, np.ones((reach, reach), np.uint8)) > 0
    return wide


def _codes(output: Photograph, proof: Proof) -> Iterator[tuple[int, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]]:
    """Codes of damage at the scan's scale, in bands of whole blocks, each with its first row on the grid."""
    codes = output.damage
    if codes is None and output.mask is not None:
        # Our own file, and as large as the scan: Pillow's guard against bombs is for those of strangers.
        codes = np.asarray(PngImageFile(io.BytesIO(output.mask)))
    if codes is None or codes.shape != proof.shape:
        return
    blocks = max(1, (1 << 22) // max(1, proof.step * codes.shape[1]))
    for top in range(0, proof.samples.shape[0], blocks):
        yield top, codes[top * proof.step : (top + blocks) * proof.step]
