"""Picture content that looks like damage and is none: lettering, fences, nets, checks, stars. Drawn on clean photographs
before they are aged, so that the network learns that what is regular, or belongs to the scene, stays."""

from __future__ import annotations

import string
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_Draw = Callable[[NDArray[np.uint8], np.random.Generator], None]

_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)
_LETTERS = np.array(list(string.ascii_letters + string.digits + "    .,-&"))


def busy(photograph: Floats, rng: np.random.Generator) -> Floats:
    """photograph: H x W x 3 in 0..1. One kind of drawn content over part of it, in one colour, softened like a picture."""
    height, width = photograph.shape[:2]
    ink = np.zeros((height, width), np.uint8)
    draw = (_lettering, _lattice, _rails, _stars)[int(rng.integers(4))]
    draw(ink, rng)
    alpha = cv2.GaussianBlur(ink.astype(np.float32) / np.float32(255), (0, 0), float(rng.uniform(0.4, 1.2)))
    alpha *= np.float32(rng.uniform(0.5, 1.0))
    colour = (
        rng.uniform(0, 1, 3)
        if rng.random() < 0.3
        else np.full(3, rng.choice([rng.uniform(0, 0.2), rng.uniform(0.8, 1)]))
    )
    result: Floats = photograph + alpha[..., None] * (colour.astype(np.float32) - photograph)
    return result


def _lettering(ink: NDArray[np.uint8], rng: np.random.Generator) -> None:
    height, width = ink.shape
    font, scale = int(rng.choice(_FONTS)), float(rng.uniform(0.3, 1.6))
    weight, lead = int(rng.integers(1, 3)), round(34 * scale)
    left, top = int(rng.integers(-width // 3, width // 2)), int(rng.integers(0, height))
    for line in range(int(rng.integers(1, 6))):
        text = "".join(rng.choice(_LETTERS, int(rng.integers(3, 20))))
        cv2.putText(ink, text, (left, top + line * lead), font, scale, 255, weight, cv2.LINE_AA)


def _lattice(ink: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Nets, checks and window bars: two families of parallel lines."""
    angle, step = float(rng.uniform(0, np.pi)), float(rng.uniform(6, 40))
    for turned in (angle, angle + float(rng.uniform(np.pi / 4, np.pi / 2))):
        _parallel(ink, turned, step, 40, int(rng.integers(1, 3)))


def _rails(ink: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Fences, stripes, wires: one family of parallel lines."""
    _parallel(
        ink, float(rng.uniform(0, np.pi)), float(rng.uniform(5, 50)), int(rng.integers(4, 30)), int(rng.integers(1, 4))
    )


def _parallel(ink: NDArray[np.uint8], angle: float, step: float, count: int, weight: int) -> None:
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    middle, reach = np.array(ink.shape[::-1]) / 2, float(np.hypot(*ink.shape))
    for place in range(-count // 2, count // 2):
        start, end = (middle + across * place * step + along * side * reach for side in (-1, 1))
        cv2.line(ink, tuple(map(round, start)), tuple(map(round, end)), 255, weight, cv2.LINE_AA)


def _stars(ink: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Lights, stars, sequins, spray: many round points of a few sizes."""
    height, width = ink.shape
    for _ in range(int(rng.integers(60, 400))):
        place = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(ink, place, int(rng.integers(0, 3)), int(rng.integers(90, 256)), -1, cv2.LINE_AA)
