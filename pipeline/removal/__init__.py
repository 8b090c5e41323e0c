"""Removal of damage: each kind by a method of its own."""

from pipeline.removal.inpainting import inpaint
from pipeline.removal.noise import denoise

__all__ = ["denoise", "inpaint"]
