"""Licences are judged by a table: what it does not know is not known to be safe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.catalogue import CARDS, by_id
from pipeline.models.licences import LICENCES, Use, commercial_use

NC, OK, NEW = "CC-BY-NC-4.0", "MIT", "LicenseRef-somebodys-own"
_RANK = {Use.FORBIDDEN: 0, Use.UNKNOWN: 1, Use.ALLOWED: 2}


@pytest.mark.parametrize(
    ("expression", "use"),
    [
        ("MIT", Use.ALLOWED),
        ("Apache-2.0 AND BSD-3-Clause", Use.ALLOWED),
        (f"MIT AND {NC}", Use.FORBIDDEN),
        (f"MIT OR {NC}", Use.ALLOWED),
        (f"MIT AND {NEW}", Use.UNKNOWN),
        (f"{NEW} AND {NC}", Use.FORBIDDEN),
        (f"{NEW} OR {NC}", Use.UNKNOWN),
        (f"MIT OR MIT AND {NC}", Use.ALLOWED),
        (f"(MIT OR Apache-2.0) AND {NC}", Use.FORBIDDEN),
        ("GPL-3.0-only WITH GCC-exception-3.1", Use.ALLOWED),
        (f"{NC} WITH Some-exception", Use.FORBIDDEN),
        ("  MIT  ", Use.ALLOWED),
        # No guess from what a name looks like.
        ("MIT-like", Use.UNKNOWN),
        ("mit", Use.UNKNOWN),
        ("Apache 2.0", Use.UNKNOWN),
        ("free for commercial use", Use.UNKNOWN),
        ("proprietary", Use.UNKNOWN),
        ("", Use.UNKNOWN),
        ("MIT AND", Use.UNKNOWN),
        ("AND MIT", Use.UNKNOWN),
        ("(MIT", Use.UNKNOWN),
        ("MIT)", Use.UNKNOWN),
        ("MIT WITH", Use.UNKNOWN),
        ("MIT; see file", Use.UNKNOWN),
        ("MIT MIT", Use.UNKNOWN),
    ],
)
def test_expressions(expression: str, use: Use) -> None:
    assert commercial_use(expression) is use


def test_every_licence_of_the_catalogue_is_in_the_table() -> None:
    assert {card.id for card in CARDS if commercial_use(card.licence) is Use.UNKNOWN} == set()


def test_what_the_catalogue_forbids() -> None:
    for model in ("gfpgan-v1.3", "gfpgan-v1.4", "codeformer"):
        assert commercial_use(by_id()[model].licence) is Use.FORBIDDEN


@given(st.sampled_from(sorted(LICENCES)), st.sampled_from([*sorted(LICENCES), NEW]))
def test_both_is_the_worst_and_either_is_the_best(one: str, other: str) -> None:
    ranks = [_RANK[commercial_use(name)] for name in (one, other)]
    assert _RANK[commercial_use(f"{one} AND {other}")] == min(ranks)
    assert _RANK[commercial_use(f"({one}) OR {other}")] == max(ranks)


@given(st.text(alphabet="MIT ANDOR()WITH-.", max_size=40))
def test_any_text_is_answered(text: str) -> None:
    assert commercial_use(text) in Use
