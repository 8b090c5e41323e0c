"""Degradation: realistic damage and age on clean photographs, with known truth. See docs/degradation.md."""

from pipeline.degradation.compose import Pair, degrade
from pipeline.degradation.settings import PRESETS, Degradation, Effect
from pipeline.degradation.shapes import Shapes

__all__ = ["PRESETS", "Degradation", "Effect", "Pair", "Shapes", "degrade"]
