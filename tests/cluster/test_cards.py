"""Whether networks fit the GPUs that they share, by the bytes without which they cannot work."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.cards import card_fault

GIB = 1 << 30


def test_networks_that_must_share_a_card_are_added_up() -> None:
    least = {"analyse": GIB, "faces": 2 * GIB, "upscale": 3 * GIB}
    assert card_fault(least, 6 * GIB, 1) is None
    assert card_fault(least, 5 * GIB, 1) == (
        "a GPU with 5.0 GiB cannot hold the networks that share it (upscale, faces, analyse), which take 6.0 GiB at least"
    )
    # Two cards: the largest alone, the others together.
    assert card_fault(least, 3 * GIB, 2) is None
    assert card_fault(least, 2 * GIB, 8) == "a GPU with 2.0 GiB cannot hold upscale, which takes 3.0 GiB at least"


def test_without_networks_or_cards_nothing_is_asked_for() -> None:
    assert card_fault({}, GIB, 1) is None
    assert card_fault({"upscale": GIB}, 1, 0) is None


@settings(max_examples=200, deadline=None, database=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 12), st.integers(1, 3))
def test_what_is_refused_has_no_place_and_what_passes_has(sizes: list[int], card: int, cards: int) -> None:
    """Against every way to share up to four networks out, for which the largest first is never worse than the best."""
    ways = itertools.product(range(cards), repeat=len(sizes))
    fits = any(
        all(sum(size for size, place in zip(sizes, way, strict=True) if place == n) <= card for n in range(cards))
        for way in ways
    )
    assert (card_fault({str(i): size for i, size in enumerate(sizes)}, card, cards) is None) == fits
