"""The table of architectures that can be opened, by what a model is for. Knowing them imports no library."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from pipeline.models.damage import DAMAGE_DETECTORS
from pipeline.models.denoisers import DENOISERS
from pipeline.models.faces import DETECTORS, RESTORERS
from pipeline.models.identity import EMBEDDERS
from pipeline.models.parsing import PARSERS
from pipeline.models.upscalers import ARCHITECTURES

OPENABLE: Mapping[str, Collection[str]] = MappingProxyType(
    {
        "upscale": ARCHITECTURES,
        "detect-faces": DETECTORS,
        "faces": RESTORERS,
        "parse-faces": PARSERS,
        "identify-faces": EMBEDDERS,
        "detect-damage": DAMAGE_DETECTORS,
        "denoise": DENOISERS,
    }
)
