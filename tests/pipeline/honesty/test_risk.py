from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.honesty.risk import WEIGHTS, features, risk_of
from pipeline.honesty.row import HONESTY, Honesty, Measures, honesty_row
from tests.pipeline.rows import honesty_from

NOTHING = Measures(
    **dict.fromkeys((field.name for field in fields(Measures)), 0.0)  # type: ignore[arg-type]
    | {"step": 1, "high_frequency": 1.0, "grain": 1.0}
    | dict.fromkeys(("psnr", "unsupported_peak", "seam", "repaired_de00_mean", "identity"))
)
# What rises with each of them, and what falls.
RISING = (
    "residual_peak",
    "residual_mid",
    "new_edges_peak",
    "unsupported_peak",
    "smoothed",
    "roughened",
    "seam",
    "clipped_low",
)
FALLING = ("high_frequency", "identity")


def test_an_output_that_is_its_scan_has_the_least_risk() -> None:
    assert set(features(NOTHING).values()) == {0.0}
    assert set(features(NOTHING)) == set(WEIGHTS)
    assert risk_of(NOTHING) < 0.15


def test_no_weight_is_below_nothing() -> None:
    assert all(weight >= 0 for weight in WEIGHTS.values())


@given(
    st.sampled_from([*RISING, *FALLING]),
    st.floats(0.001, 1),
    st.floats(0.001, 1),
    st.dictionaries(st.sampled_from(RISING), st.floats(0, 5)),
)
def test_it_is_monotone_in_every_measure(name: str, one: float, other: float, rest: dict[str, Any]) -> None:
    less, more = (
        risk_of(replace(NOTHING, **(rest | {name: value}))) for value in sorted((one, other), reverse=name in FALLING)
    )
    assert 0 <= less <= more <= 1


@pytest.mark.parametrize(("cosine", "least", "most"), [(0.9, 0.0, 0.15), (0.45, 0.5, 0.6), (0.05, 0.98, 1.0)])
def test_a_face_that_became_somebody_else_is_enough(cosine: float, least: float, most: float) -> None:
    assert least <= risk_of(replace(NOTHING, identity=cosine)) <= most


def test_a_row_and_back() -> None:
    honesty = Honesty(replace(NOTHING, seam=0.5, identity=-0.25, step=7), 0.125)
    row = honesty_row(honesty)
    assert row is not None
    assert list(row) == HONESTY.names
    assert honesty_from(row) == honesty
    assert (honesty_row(None), honesty_from(None)) == (None, None)
