"""One number that orders photographs for review: fixed, monotone in every measure, read off planted hallucinations."""

from __future__ import annotations

import math

from pipeline.honesty.row import Measures

# What a logistic regression gives for the features below (weights at least 0), fitted by `python -m tests.bench_honesty --fit`.
BIAS = -1.912
WEIGHTS: dict[str, float] = {
    "residual_peak": 1.171,
    "residual_mid": 0.0,
    "new_edges_peak": 1.159,
    "unsupported_peak": 0.806,
    "smoothed": 0.0,
    "roughened": 0.094,
    "softer": 0.793,
    "seam": 0.824,
    "clipped": 0.0,
}
# Honest enlargements have about as much unsupported detail as this.
_USUAL = 0.75
# Of faces: half-way between the same person and another one (docs/identity.md), and how fast doubt falls with the cosine.
_HALF_WAY, _STEEPNESS = 0.45, 12.0


def features(measures: Measures) -> dict[str, float]:
    """All 0 for an output that is its scan, and rising with what should not be; logarithms, so that no single one drowns
    the rest."""
    return {
        "residual_peak": math.log1p(measures.residual_peak),
        "residual_mid": math.log1p(measures.residual_mid),
        "new_edges_peak": math.log1p(100 * measures.new_edges_peak),
        "unsupported_peak": math.log1p(max(0.0, (measures.unsupported_peak or 0.0) - _USUAL)),
        "smoothed": math.log1p(100 * measures.smoothed),
        "roughened": math.log1p(100 * measures.roughened),
        "softer": max(0.0, -math.log2(measures.high_frequency)),
        "seam": math.log1p(measures.seam or 0.0),
        "clipped": math.log1p(100 * (measures.clipped_low + measures.clipped_high)),
    }


def risk_of(measures: Measures) -> float:
    """0..1: 1 - (1 - p)(1 - q), p from the picture and q from the least likeness of a face that was laid in."""
    score = BIAS + sum(WEIGHTS[name] * value for name, value in features(measures).items())
    picture = _logistic(score)
    face = 0.0 if measures.identity is None else _logistic(_STEEPNESS * (_HALF_WAY - measures.identity))
    return 1 - (1 - picture) * (1 - face)


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, value))))
