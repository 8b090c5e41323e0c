"""Policies: how far restoration may go, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class FaceGate:
    """What a restored face has to keep of the person; else the original stays. docs/identity.md says what the numbers rest on.

    least_eyes: pixels between the eyes in the scan, below which nobody can tell, and the face is left. mobilefacenet, sface:
    least cosine between the vectors of that architecture. displacement, skin_drift, eye_drift, glasses: the most that
    `photograph.Likeness` may say. unchecked: most share of a restored face where no model that tells people apart is installed.
    """

    least_eyes: float
    mobilefacenet: float
    sface: float
    displacement: float
    skin_drift: float
    eye_drift: float
    glasses: float
    unchecked: float

    def cosine(self, architecture: str) -> float:
        least: float = getattr(self, architecture)
        return least


@dataclass(frozen=True, slots=True)
class Policy:
    """Ceilings, 0..1; a request above one is lowered to it, and the photograph's record says so.

    denoise: noise and grain. balance: colour cast. contrast: faded tones. faces: share of a restored face. deblur: blur of
    motion and focus. generative_fill: large missing areas with a picture that is made up. colourise: colours for a photograph
    that never had any. Of the last three no method exists yet; what is left for that is in the findings.
    """

    name: str
    denoise: float
    balance: float
    contrast: float
    faces: float
    deblur: float
    generative_fill: float
    colourise: float
    gate: FaceGate


POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        # Only what came after the photograph was made is taken back: grain, blur and the want of colour belong to it, fading
        # and casts came later. At least half of every source face stays, and nothing is made up.
        "conservation": Policy(
            "conservation",
            denoise=0.0,
            balance=0.5,
            contrast=0.5,
            faces=0.5,
            deblur=0.0,
            generative_fill=0.0,
            colourise=0.0,
            gate=FaceGate(
                least_eyes=12.0,
                mobilefacenet=0.6,
                sface=0.5,
                displacement=0.37,
                skin_drift=12.0,
                eye_drift=9.5,
                glasses=0.55,
                unchecked=0.0,
            ),
        ),
        "presentation": Policy(
            "presentation",
            denoise=1.0,
            balance=1.0,
            contrast=1.0,
            faces=1.0,
            deblur=1.0,
            generative_fill=1.0,
            colourise=1.0,
            gate=FaceGate(
                least_eyes=8.0,
                mobilefacenet=0.45,
                sface=0.363,
                displacement=0.5,
                skin_drift=17.0,
                eye_drift=13.5,
                glasses=0.8,
                unchecked=0.5,
            ),
        ),
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
