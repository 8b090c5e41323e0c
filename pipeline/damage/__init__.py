"""Damage: its kinds, and what finds it."""

from pipeline.damage.classical import DetectorSettings, find_damage
from pipeline.damage.kinds import Kind, Kinds

__all__ = ["DetectorSettings", "Kind", "Kinds", "find_damage"]
