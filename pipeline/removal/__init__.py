"""Removal of damage: each kind by a method of its own."""

from pipeline.removal.inpainting import inpaint
from pipeline.removal.noise import Denoiser, Noise
from pipeline.removal.stains import Cleaned, remove_stains

__all__ = ["Cleaned", "Denoiser", "Noise", "inpaint", "remove_stains"]
