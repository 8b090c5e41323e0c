from __future__ import annotations

import pytest

from pipeline.policy import POLICIES, ceiling


@pytest.mark.parametrize("name", ["denoise", "balance", "contrast", "faces", "deblur", "generative_fill", "colourise"])
@pytest.mark.parametrize("policy", list(POLICIES))
def test_no_request_goes_over_the_ceiling(policy: str, name: str) -> None:
    allowed = getattr(POLICIES[policy], name)
    assert ceiling(name, None, POLICIES[policy]) == (allowed, {})
    assert ceiling(name, allowed, POLICIES[policy]) == (allowed, {})
    assert ceiling(name, 0.0, POLICIES[policy]) == (0.0, {})
    strength, refused = ceiling(name, 1.5, POLICIES[policy])
    assert strength == allowed
    assert policy in refused[f"{name}_refused"]


def test_conservation_keeps_grain_and_half_of_every_face() -> None:
    policy = POLICIES["conservation"]
    assert (policy.denoise, policy.faces) == (0.0, 0.5)


@pytest.mark.parametrize("name", ["deblur", "generative_fill", "colourise"])
def test_conservation_makes_nothing_up(name: str) -> None:
    assert ceiling(name, None, POLICIES["conservation"]) == (0.0, {})
    strength, refused = ceiling(name, 1.0, POLICIES["conservation"])
    assert (strength, refused) == (0.0, {f"{name}_refused": "1 was asked for; the conservation policy allows 0"})
    assert ceiling(name, 1.0, POLICIES["presentation"]) == (1.0, {})
