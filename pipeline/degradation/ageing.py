"""What age does to the whole print: tone, contrast, fading, yellowing, grain, paper, light that falls off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.degradation.draw import Plane, value_noise
from pipeline.degradation.marks import Colour, Planes
from pipeline.degradation.settings import Degradation, Effect
from pipeline.photograph import LUMA, Tone

# Toned prints: exponents of red, green and blue over grey. Sepia, selenium, gold, cyanotype.
_TONES = ((0.80, 1.0, 1.30), (0.92, 1.02, 1.0), (0.88, 1.0, 1.18), (1.35, 1.0, 0.75))
_TONE_CHANCES = (0.70, 0.12, 0.10, 0.08)
# Above this width noise is made on a coarser grid; nobody would see the difference.
_WHITE_SIGMA = 0.35


@dataclass(frozen=True, slots=True)
class Aged:
    """planes: 1 x H x W where the print is grey, else 3 x H x W. paper: its own white. grain: standard deviation in the
    middle tones. applied: what was done, with numbers."""

    planes: Planes
    paper: Colour
    tone: Tone
    grain: float
    applied: dict[str, Any]

    @property
    def size(self) -> tuple[int, int]:
        return self.planes.shape[1], self.planes.shape[2]


class _Ageing:
    """One print on its way; every step changes the planes in place or replaces them, and notes what it did."""

    def __init__(self, planes: Planes, settings: Degradation, rng: np.random.Generator) -> None:
        self.planes, self.settings, self.rng = planes, settings, rng
        self.paper = np.ones(len(planes), np.float32)
        self.applied: dict[str, Any] = {}
        self.grain_sigma = 0.0

    @property
    def size(self) -> tuple[int, int]:
        return self.planes.shape[1], self.planes.shape[2]

    def happens(self, effect: Effect) -> bool:
        return bool(self.rng.random() < effect.chance)

    def note(self, name: str, **numbers: Any) -> None:
        self.applied[name] = {key: _plain(value) for key, value in numbers.items()}

    def tone(self) -> Tone:
        draw = self.rng.random()
        if draw >= self.settings.neutral + self.settings.toned:
            return Tone.COLOURED
        # Old emulsions saw blue and hardly red; modern ones as the eye does.
        weights = LUMA * self.rng.uniform((0.5, 0.8, 0.8), (1.1, 1.2, 2.5))
        weights = (weights / weights.sum()).astype(np.float32)
        self.planes = np.tensordot(weights, self.planes, 1)[None]
        self.paper = np.ones(1, np.float32)
        self.note("grey", weights=weights)
        return Tone.NEUTRAL if draw < self.settings.neutral else Tone.TONED

    def contrast(self) -> None:
        gamma = float(np.exp(self.rng.normal(0, 0.18 * self.settings.contrast.strength)))
        self._power(np.full(len(self.planes), gamma, np.float32))
        self.note("contrast", gamma=gamma)

    def _power(self, exponents: NDArray[np.float32]) -> None:
        for plane, exponent in zip(self.planes, exponents, strict=True):
            cv2.pow(plane, float(exponent), dst=plane)

    def toned(self) -> None:
        choice = int(self.rng.choice(len(_TONES), p=_TONE_CHANCES))
        depth = float(self.rng.uniform(0.35, 1.0))
        exponents = np.array(_TONES[choice], np.float32) ** np.float32(depth)
        self.planes = np.repeat(self.planes, 3, axis=0)
        self._power(exponents)
        self.paper = np.ones(3, np.float32)
        self.note("toning", exponents=exponents)

    def vignette(self) -> None:
        height, width = self.size
        y = (np.arange(height, dtype=np.float32) + np.float32(0.5)) / np.float32(height) - np.float32(0.5)
        x = (np.arange(width, dtype=np.float32) + np.float32(0.5)) / np.float32(width) - np.float32(0.5)
        y0, x0 = (np.float32(v) for v in self.rng.normal(0, 0.06, 2))
        amount = float(self.rng.uniform(0.1, 0.5) * min(1.5, self.settings.vignette.strength))
        radius = 2 * ((y - y0) ** 2)[:, None] + 2 * ((x - x0) ** 2)[None, :]
        self.planes *= np.clip(1 - np.float32(amount) * radius, 0, 1)
        self.note("vignette", amount=amount)

    def fading(self) -> None:
        """Density is lost: of dyes in every layer by its own share (a power of the value), of silver as blacks that lift."""
        strength = self.settings.fading.strength
        lift = float(self.rng.uniform(0.02, 0.22) * strength)
        fall = float(self.rng.uniform(0.0, 0.10) * strength)
        low = np.full(len(self.planes), lift, np.float32)
        if len(self.planes) == 3:
            lost = np.clip(self.rng.uniform(0, 0.35, 3) * strength, 0, 0.8).astype(np.float32)
            self._power(1 - lost)
            low *= self.rng.uniform((0.7, 0.6, 0.5), (1.3, 1.0, 1.1)).astype(np.float32)
            self.note("fading", dyes=lost, blacks=low, whites=1 - fall)
        else:
            self.note("fading", blacks=low, whites=1 - fall)
        self.planes *= (1 - fall - low)[:, None, None]
        self.planes += low[:, None, None]
        self.paper *= np.float32(1 - fall)

    def yellowing(self) -> None:
        amount = float(self.rng.uniform(0.1, 1.0) * self.settings.yellowing.strength)
        sheet = np.array([1 - 0.05 * amount, 1 - 0.12 * amount, 1 - 0.32 * amount], np.float32)
        self.planes *= sheet[:, None, None]
        self.paper *= sheet
        self.note("yellowing", paper=sheet)

    def unevenness(self) -> None:
        """The print darkened or faded unevenly: over the whole of it, without an edge anywhere."""
        amount = float(self.rng.uniform(0.02, 0.10) * self.settings.unevenness.strength)
        noise = value_noise(self.rng, self.size, max(16.0, 0.6 * max(self.size)))
        self.planes *= np.clip(1 - np.float32(amount) * (noise + 1), 0, 1)
        self.note("unevenness", amount=amount)

    def grain(self) -> None:
        """Silver grain or dye clouds: strongest in the middle tones, correlated over a pixel or so."""
        sigma = float(min(0.12, self.rng.gamma(2.0, 0.009) + 0.003) * self.settings.grain.strength)
        width = float(self.rng.uniform(0.3, 1.3))
        colour = float(self.rng.uniform(0, 0.4)) if len(self.planes) == 3 and "grey" not in self.applied else 0.0
        shared = noise_field(self.rng, self.size, width)
        middle = middle_tones(self.planes.mean(axis=0)) * np.float32(sigma)
        for plane in self.planes:
            field = shared
            if colour:
                field = np.float32((1 - colour**2) ** 0.5) * shared + np.float32(colour) * noise_field(
                    self.rng, self.size, width
                )
            plane += field * middle
        self.grain_sigma = sigma
        self.note("grain", sigma=sigma, width=width, colour=colour)

    def texture(self) -> None:
        """Paper: fibres, or the pressed pattern of silk and linen surfaces."""
        strength = self.settings.paper.strength
        if self.rng.random() < 0.4:
            amount, pitch = float(self.rng.uniform(0.01, 0.04) * strength), float(self.rng.uniform(3.0, 8.0))
            field = _weave(self.rng, self.size, pitch)
            self.note("paper", pattern="weave", amount=amount, pitch=pitch)
        else:
            amount, pitch = float(self.rng.uniform(0.005, 0.03) * strength), float(self.rng.uniform(1.0, 3.0))
            field = noise_field(self.rng, self.size, pitch)
            self.note("paper", pattern="fibre", amount=amount, pitch=pitch)
        self.planes *= 1 + np.float32(amount) * field


def aged(planes: Planes, settings: Degradation, rng: np.random.Generator) -> Aged:
    """planes: 3 x H x W sRGB, 0..1; not changed."""
    print_ = _Ageing(planes.copy(), settings, rng)
    tone = print_.tone()
    if print_.happens(settings.contrast):
        print_.contrast()
    if print_.happens(settings.vignette):
        print_.vignette()
    if print_.happens(settings.grain):
        print_.grain()
        np.clip(print_.planes, 0, 1, out=print_.planes)
    if tone is Tone.TONED:
        print_.toned()
    if print_.happens(settings.fading):
        print_.fading()
    if print_.happens(settings.yellowing) and tone is not Tone.NEUTRAL:
        print_.yellowing()
    if print_.happens(settings.unevenness):
        print_.unevenness()
    if print_.happens(settings.paper):
        print_.texture()
    # Where nothing happened not a bit may differ.
    result = np.clip(print_.planes, 0, 1) if print_.applied else planes
    paper = np.broadcast_to(print_.paper, 3)
    colour: Colour = (float(paper[0]), float(paper[1]), float(paper[2]))
    return Aged(result, colour, tone, print_.grain_sigma, {"tone": str(tone), **print_.applied})


def noise_field(rng: np.random.Generator, size: tuple[int, int], width: float) -> Plane:
    """Normal noise of mean 0 and deviation 1, correlated like a Gaussian of `width` pixels."""
    field = rng.standard_normal(size, np.float32)
    if width < _WHITE_SIGMA:
        return field
    field = cv2.GaussianBlur(field, (0, 0), width, borderType=cv2.BORDER_REFLECT)
    normal: Plane = field / np.float32(_narrowing(width))
    return normal


def _narrowing(width: float) -> float:
    """Standard deviation of white noise after a Gaussian of this width."""
    reach = int(np.ceil(4 * width))
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * width**2))
    kernel /= kernel.sum()
    return float((kernel**2).sum())


def middle_tones(tones: Plane) -> Plane:
    """1 in the middle tones, about a third at black and white."""
    weight: Plane = np.float32(0.3) + np.float32(2.8) * np.clip(tones * (1 - tones), 0, 1)
    return weight


def _weave(rng: np.random.Generator, size: tuple[int, int], pitch: float) -> Plane:
    height, width = size
    tilt = rng.uniform(0, np.pi)
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]
    total = np.zeros(size, np.float32)
    for turn in (0.0, np.pi / 3, 2 * np.pi / 3) if rng.random() < 0.5 else (0.0, np.pi / 2):
        along = np.float32(2 * np.pi / pitch * np.cos(tilt + turn)), np.float32(2 * np.pi / pitch * np.sin(tilt + turn))
        total += np.cos(along[0] * x + along[1] * y)
    return total / np.float32(2)


def _plain(value: Any) -> Any:
    """A number for JSON."""
    if isinstance(value, np.ndarray):
        return [round(float(v), 5) for v in value]
    return round(float(value), 5) if isinstance(value, (float, np.floating)) else value
