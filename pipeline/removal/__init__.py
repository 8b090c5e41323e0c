"""Removal of damage: each kind by a method of its own."""

from pipeline.removal.inpainting import inpaint
from pipeline.removal.noise import Denoiser
from pipeline.removal.stains import Cleaned, remove_stains

__all__ = ["Cleaned", "Denoiser", "inpaint", "remove_stains"]
