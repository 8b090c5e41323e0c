"""The honesty measures as provenance keeps them: one struct a photograph. docs/honesty.md says what each can show."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Measures:
    """Of one delivered photograph against its scan, on the grid of the proof (`step` x `step` pixels of the scan to one).

    Lightness is CIE L*, 0..100; "explained" means with the scan's samples changed as the colour stage recorded, and outside the
    mask of what was repaired. None where there is nothing to measure.

    psnr: dB, over all samples in sRGB, None where nothing differs. de00_mean, de00_max: CIEDE2000. residual_low, residual_mid,
    residual_high: root mean square of the explained difference in lightness above 8, between 2 and 8, and below 2 pixels
    (sigma). residual_peak: its largest local mean. new_edges: share of the output's edges that the scan does not have.
    new_edges_peak: the largest local share of pixels that are new edges. high_frequency, grain: variance of the finest band
    of luma, output to scan, of all, and of the flattest quarter. smoothed, roughened: share of pixels whose finest band
    fell below a half, or rose beyond double, of its deviation. unsupported_peak: the largest local mean of detail between
    the scan's pixels, as a multiple of what the scan's contrast around it supports; None where nothing was enlarged. seam:
    by how much lightness steps at borders of tiles more than in the middle of tiles; None without tiles. clipped_low,
    clipped_high: share of pixels that became black, or white. repaired_fraction: of the grid, inside the mask of what was
    repaired. repaired_de00_mean: CIEDE2000 there. identity: the least cosine of a face that was laid in.
    """

    step: int
    psnr: float | None
    de00_mean: float
    de00_max: float
    residual_low: float
    residual_mid: float
    residual_high: float
    residual_peak: float
    new_edges: float
    new_edges_peak: float
    high_frequency: float
    grain: float
    smoothed: float
    roughened: float
    unsupported_peak: float | None
    seam: float | None
    clipped_low: float
    clipped_high: float
    repaired_fraction: float
    repaired_de00_mean: float | None
    identity: float | None


@dataclass(frozen=True, slots=True)
class Honesty:
    """measures, and what is made of them: risk, 0..1, higher for what a person should look at first."""

    measures: Measures
    risk: float


# Since version 4 of the schema; null in older rows and where no photograph was delivered.
HONESTY = pa.struct(
    [
        ("risk", pa.float64()),
        *((f.name, pa.int32() if f.name == "step" else pa.float64()) for f in fields(Measures)),
    ]
)


def honesty_row(honesty: Honesty | None) -> dict[str, Any] | None:
    """The members of HONESTY as Python values."""
    return None if honesty is None else {"risk": honesty.risk} | asdict(honesty.measures)
