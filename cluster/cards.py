"""Whether the networks of a run fit the memory of the GPUs that they will share."""

from __future__ import annotations

from collections.abc import Mapping

# What CUDA itself takes of a card, and a network of the smallest tile beside its weights.
_OVERHEAD = 1 << 30


def card_least(weights: int) -> int:
    """Bytes of a card without which a network of so many bytes of weights cannot work at all."""
    return weights + _OVERHEAD


def card_fault(least: Mapping[str, int], card: int, cards: int) -> str | None:
    """Why networks that are all at work at once, one actor each, have no place on `cards` GPUs of `card` bytes, in a
    sentence; None where they have. least: the bytes without which a network cannot work at all, by the name of its pool.

    Placed largest first, each on the first card with room, as actors are. Of unequal cards the smallest is the one to ask for:
    Ray knows no card's memory, and gives any of them to any network.
    """
    there: list[list[str]] = [[] for _ in range(cards)]
    taken = [0] * cards
    for name in sorted(least, key=lambda name: -least[name]):
        place = next((number for number in range(cards) if taken[number] + least[name] <= card), None)
        if place is None and cards:
            emptiest = taken.index(min(taken))
            return _fault([*there[emptiest], name], taken[emptiest] + least[name], card)
        if place is not None:
            there[place].append(name)
            taken[place] += least[name]
    return None


def _fault(together: list[str], need: int, card: int) -> str:
    who = (
        f"the networks that share it ({', '.join(together)}), which take"
        if together[1:]
        else f"{together[0]}, which takes"
    )
    return f"a GPU with {card / 2**30:.1f} GiB cannot hold {who} {need / 2**30:.1f} GiB at least"
