"""Policies: how far restoration may go, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Policy:
    """Ceilings, 0..1; a request above one is lowered to it, and the photograph's record says so.

    denoise: noise and grain. balance: colour cast. contrast: faded tones. faces: share of a restored face.
    """

    name: str
    denoise: float
    balance: float
    contrast: float
    faces: float


POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        # Grain belongs to the photograph; fading and casts came later. At least half of every source face stays.
        "conservation": Policy("conservation", denoise=0.0, balance=0.5, contrast=0.5, faces=0.5),
        "presentation": Policy("presentation", denoise=1.0, balance=1.0, contrast=1.0, faces=1.0),
    }
)


def ceiling(name: str, wanted: float | None, policy: Policy) -> tuple[float, dict[str, str]]:
    """The strength to use, and the finding to record where the policy refused more. None asks for all it allows."""
    allowed: float = getattr(policy, name)
    if wanted is None:
        return allowed, {}
    if wanted <= allowed:
        return wanted, {}
    return allowed, {f"{name}_refused": f"{wanted:g} was asked for; the {policy.name} policy allows {allowed:g}"}
