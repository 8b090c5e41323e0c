"""Noise of many kinds on clean photographs, with all that is true of it: what the networks against noise are trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.degradation.ageing import middle_tones, noise_field
from pipeline.degradation.scanning import Jpeg

Floats = NDArray[np.float32]

_SHARE_JPEG = 0.12


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One noise of several. field: H x W x 3, mean 0 and variance 1. level: H x W x 1, its standard deviation."""

    field: Floats
    level: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Noisy:
    """pixels: H x W x 3 in 0..1. level: H x W, standard deviation of the noise, over the channels together. along, between: its
    correlation with the noise of the pixel beside it or below, and with that of other channels, 0..1."""

    pixels: Floats
    level: Floats
    along: float
    between: float


def white(rng: np.random.Generator, clean: Floats, sigma: float, *, neutral: bool = False) -> Layer:
    """The same everywhere and independent from pixel to pixel, of neutral photographs equal in every channel. sigma: standard
    deviation, of samples in 0..1."""
    field = rng.standard_normal((*clean.shape[:2], 1 if neutral else 3), np.float32)
    return Layer(_wide(field), np.full((*clean.shape[:2], 1), sigma, np.float32))


def film(rng: np.random.Generator, clean: Floats, sigma: float, width: float, colour: float = 0.0) -> Layer:
    """Grain as degradation has it: strongest in the middle tones, correlated over `width` pixels. colour: 0..1, the share that
    every channel has of its own."""
    size = clean.shape[:2]
    field = np.repeat(noise_field(rng, size, width)[..., None], 3, axis=2)
    if colour:
        own = np.stack([noise_field(rng, size, width) for _ in range(3)], axis=2)
        field = np.float32((1 - colour**2) ** 0.5) * field + np.float32(colour) * own
    return Layer(field, (middle_tones(clean.mean(axis=2)) * np.float32(sigma))[..., None])


def sensor(
    rng: np.random.Generator, clean: Floats, constant: float, light: float, width: float, *, coloured: bool
) -> Layer:
    """A scanner's: a constant part, and one that grows with the square root of the light."""
    field = np.stack([noise_field(rng, clean.shape[:2], width) for _ in range(3 if coloured else 1)], axis=2)
    level = np.sqrt(np.float32(constant**2) + np.float32(light**2) * clean.mean(axis=2, keepdims=True))
    return Layer(_wide(field), level)


def _wide(field: Floats) -> Floats:
    return np.repeat(field, 3 // field.shape[2], axis=2)


def added(clean: Floats, layers: Sequence[Layer], jpeg: Jpeg | None = None) -> Noisy:
    """As a scan has it: what lies outside 0..1 is cut off. jpeg: how it was saved afterwards; its errors count as noise."""
    total = np.zeros_like(clean)
    for layer in layers:
        total += layer.field * layer.level
    level: Floats = np.sqrt(sum((layer.level[..., 0] ** 2 for layer in layers), np.zeros(clean.shape[:2], np.float32)))
    pixels = np.clip(clean + total, 0, 1)
    if jpeg is not None:
        pixels = np.ascontiguousarray(jpeg.apply(pixels.transpose(2, 0, 1)).transpose(1, 2, 0))
        before, total = float(np.square(total).mean()), pixels - clean
        level = level * np.float32((float(np.square(total).mean()) / before) ** 0.5)
    return Noisy(pixels, level, *_correlations(total, level))


def _correlations(noise: Floats, level: Floats) -> tuple[float, float]:
    field = noise / np.maximum(level, 1e-6)[..., None]
    power = float(np.square(field).mean())
    if power < 1e-6:
        return 0.0, 0.0
    beside = float((field[:, 1:] * field[:, :-1]).mean() + (field[1:] * field[:-1]).mean()) / 2
    between = float((field * np.roll(field, 1, axis=2)).mean())
    return float(np.clip(beside / power, 0, 1)), float(np.clip(between / power, 0, 1))


def drawn(rng: np.random.Generator, clean: Floats, *, neutral: bool) -> Noisy:
    """What training adds to one photograph: nothing, white noise, or grain and a scanner's noise, some of it through JPEG.
    neutral: its channels are equal, and stay so."""
    kind = rng.random()
    if kind < 0.04:
        return added(clean, ())
    if kind < 0.36:
        return added(clean, [white(rng, clean, float(55 * rng.random() ** 1.2) / 255, neutral=neutral)])
    which = rng.random()
    makers: list[Callable[..., Layer]] = [_some_film] * (which < 0.85) + [_some_sensor] * (which > 0.4)
    layers = [make(rng, clean, neutral=neutral) for make in makers]
    saved = Jpeg(int(rng.integers(70, 97)), subsampled=rng.random() < 0.5) if rng.random() < _SHARE_JPEG else None
    return added(clean, layers, saved)


def _some_film(rng: np.random.Generator, clean: Floats, *, neutral: bool) -> Layer:
    own = rng.random()
    colour = 0.0 if neutral or own < 0.25 else 1.0 if own < 0.45 else float(rng.uniform(0, 0.5))
    return film(rng, clean, _strength(rng, 45), float(rng.uniform(0.3, 1.4)), colour)


def _some_sensor(rng: np.random.Generator, clean: Floats, *, neutral: bool) -> Layer:
    sigma, share = _strength(rng, 25), float(rng.random())
    width = 0.0 if rng.random() < 0.5 else float(rng.uniform(0.35, 0.9))
    coloured = not neutral and bool(rng.random() < 0.6)
    return sensor(rng, clean, sigma * share, 1.4 * sigma * (1 - share), width, coloured=coloured)


def _strength(rng: np.random.Generator, most: float) -> float:
    """Of weak noise there is as much to learn as of strong noise; strong grain is what is most easily taken for picture."""
    if rng.random() < 0.5:
        return float(rng.uniform(2.0, most)) / 255
    return float(np.exp(rng.uniform(np.log(2.0), np.log(most)))) / 255


def halved(level: Floats) -> Floats:
    """H x W standard deviations, H and W even, as the networks have them: one for 2 x 2 pixels."""
    small: Floats = np.sqrt(cv2.resize(np.square(level), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return small
