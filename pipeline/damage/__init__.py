"""Damage: its kinds, what finds it, which of it is repaired, and the mask that is stored."""

from pipeline.damage.classical import ClassicalDetector, DetectorSettings, find_damage
from pipeline.damage.found import Detector, Found
from pipeline.damage.kinds import FOUND, REPAIRED, Kind, Kinds, fraction_of
from pipeline.damage.mask import mask_png, stored_mask

__all__ = [
    "FOUND",
    "REPAIRED",
    "ClassicalDetector",
    "Detector",
    "DetectorSettings",
    "Found",
    "Kind",
    "Kinds",
    "find_damage",
    "fraction_of",
    "mask_png",
    "stored_mask",
]
