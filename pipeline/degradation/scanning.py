"""What scanning and saving do: blur, other resolutions, noise, sharpening, JPEG; once or twice.

Twice as in Wang, Xie, Dong and Shan, Real-ESRGAN: training real-world blind super-resolution with pure synthetic data
(ICCVW 2021), section 3: scans of prints are scanned and saved more than once. Each step is drawn first and then done to
several pictures alike, so that two pictures that are equal somewhere stay equal there, as far from the rest as the steps
reach.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.degradation.ageing import noise_field
from pipeline.degradation.draw import Plane
from pipeline.degradation.marks import Planes
from pipeline.degradation.settings import Degradation


class Step(Protocol):
    """One thing done to a whole picture. reach: how far a pixel can change others, in pixels of the photograph."""

    @property
    def reach(self) -> int: ...

    def apply(self, planes: Planes) -> Planes: ...

    def describe(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Blur:
    """A Gaussian, as wide along as across or not. sigmas: of its axes, in pixels. angle: radians. power: exponent of a
    generalised Gaussian; 1 is the plain one."""

    sigmas: tuple[float, float]
    angle: float = 0.0
    power: float = 1.0

    @property
    def reach(self) -> int:
        return max(1, math.ceil(3 * max(self.sigmas)))

    def apply(self, planes: Planes) -> Planes:
        if self.sigmas[0] == self.sigmas[1] and self.power == 1.0:
            side = 2 * self.reach + 1
            return _each(
                planes, lambda p: cv2.GaussianBlur(p, (side, side), self.sigmas[0], borderType=cv2.BORDER_REFLECT)
            )
        kernel = self._kernel()
        return _each(planes, lambda p: cv2.filter2D(p, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT))

    def _kernel(self) -> Plane:
        y, x = np.mgrid[-self.reach : self.reach + 1, -self.reach : self.reach + 1].astype(np.float64)
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        distance = ((cos * x + sin * y) / self.sigmas[0]) ** 2 + ((cos * y - sin * x) / self.sigmas[1]) ** 2
        kernel = np.exp(-0.5 * distance**self.power)
        weights: Plane = (kernel / kernel.sum()).astype(np.float32)
        return weights

    def describe(self) -> dict[str, Any]:
        return {"step": "blur", "sigmas": list(self.sigmas), "angle": self.angle, "power": self.power}


@dataclass(frozen=True, slots=True)
class Resize:
    """To another resolution and back. factor: of the side. size: height and width in between."""

    factor: float
    size: tuple[int, int]
    down: int
    up: int

    @property
    def reach(self) -> int:
        return math.ceil(4 / min(1.0, self.factor)) + 4

    def apply(self, planes: Planes) -> Planes:
        height, width = planes.shape[1:]
        there = (self.size[1], self.size[0])
        return _each(
            planes,
            lambda p: cv2.resize(cv2.resize(p, there, interpolation=self.down), (width, height), interpolation=self.up),
        )

    def describe(self) -> dict[str, Any]:
        return {"step": "resize", "factor": self.factor, "down": _WAYS[self.down], "up": _WAYS[self.up]}


# How much weaker everything is the second time, and the chance that noise has colour.
_SECOND = 0.6
_COLOUR_NOISE = 0.6
_WAYS = {cv2.INTER_AREA: "area", cv2.INTER_LINEAR: "linear", cv2.INTER_CUBIC: "cubic"}


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """Of a sensor: a constant part and one that grows with the square root of the light. field: 1|3 x H x W, normal."""

    field: Planes
    width: float
    constant: float
    light: float

    @property
    def reach(self) -> int:
        return 0

    def apply(self, planes: Planes) -> Planes:
        fields = self.field if len(self.field) == len(planes) else np.broadcast_to(self.field[:1], planes.shape)
        sigma = np.sqrt(np.float32(self.constant**2) + np.float32(self.light**2) * np.clip(planes, 0, 1))
        noisy: Planes = planes + fields * sigma
        return noisy

    def describe(self) -> dict[str, Any]:
        return {
            "step": "noise",
            "constant": self.constant,
            "light": self.light,
            "width": self.width,
            "channels": len(self.field),
        }


@dataclass(frozen=True, slots=True)
class Sharpen:
    """Unsharp masking, as scanners' programs do it."""

    sigma: float
    amount: float

    @property
    def reach(self) -> int:
        return max(1, math.ceil(3 * self.sigma))

    def apply(self, planes: Planes) -> Planes:
        soft = Blur((self.sigma, self.sigma)).apply(planes)
        return planes + np.float32(self.amount) * (planes - soft)

    def describe(self) -> dict[str, Any]:
        return {"step": "sharpen", "sigma": self.sigma, "amount": self.amount}


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A real encoder and decoder (libjpeg-turbo). quality: 1..100. subsampled: chroma at half the resolution."""

    quality: int
    subsampled: bool

    @property
    def reach(self) -> int:
        # A whole block of coefficients, of chroma twice as wide, and the decoder's smooth upsampling of chroma.
        return 18 if self.subsampled else 8

    def apply(self, planes: Planes) -> Planes:
        bytes_ = np.rint(np.clip(planes, 0, 1) * 255).astype(np.uint8)
        options = [cv2.IMWRITE_JPEG_QUALITY, self.quality]
        if len(planes) == 1:
            decoded = _decoded(cv2.imencode(".jpg", bytes_[0], options)[1], cv2.IMREAD_GRAYSCALE)[None]
        else:
            sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if self.subsampled else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
            image = np.ascontiguousarray(np.moveaxis(bytes_[::-1], 0, 2))
            _, data = cv2.imencode(".jpg", image, [*options, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling])
            decoded = np.moveaxis(_decoded(data, cv2.IMREAD_COLOR), 2, 0)[::-1]
        return np.ascontiguousarray(decoded, np.float32) * np.float32(1 / 255)

    def describe(self) -> dict[str, Any]:
        return {"step": "jpeg", "quality": self.quality, "subsampled": self.subsampled}


def _decoded(data: NDArray[np.uint8], flag: int) -> NDArray[np.uint8]:
    image: NDArray[np.uint8] | None = cv2.imdecode(data, flag)
    assert image is not None, "libjpeg decodes what it encoded"
    return image


@dataclass(frozen=True, slots=True)
class Scan:
    """Steps in order; the same for every picture that is put through."""

    steps: tuple[Step, ...]

    @property
    def reach(self) -> int:
        """How far damage may spread, in pixels."""
        return sum(step.reach for step in self.steps)

    @property
    def softness(self) -> float:
        """Standard deviation of a Gaussian that blurs about as much as all steps together, in pixels."""
        blurs = [step.sigmas[0] * step.sigmas[1] for step in self.steps if isinstance(step, Blur)]
        # An average over a pixel, and a linear interpolation over the next, in pixels of the lower resolution.
        blurs += [0.2 / step.factor**2 for step in self.steps if isinstance(step, Resize)]
        return math.sqrt(sum(blurs))

    @property
    def noise(self) -> float:
        """Standard deviation of all noise in the middle tones."""
        noises = [step.constant**2 + 0.5 * step.light**2 for step in self.steps if isinstance(step, Noise)]
        return math.sqrt(sum(noises))

    def apply(self, planes: Planes) -> Planes:
        """C x H x W, 0..1, to the same; the very array where there is no step."""
        if not self.steps:
            return planes
        for step in self.steps:
            planes = step.apply(planes)
        return np.clip(planes, 0, 1)

    def describe(self) -> list[dict[str, Any]]:
        return [_rounded(step.describe()) for step in self.steps]


def draw_scan(settings: Degradation, size: tuple[int, int], rng: np.random.Generator, *, colour: bool) -> Scan:
    """colour: noise may be; of a grey print it is not, so that grey stays grey."""
    channels = 3 if colour and rng.random() < _COLOUR_NOISE else 1
    steps = _round(settings, size, channels, rng, 1.0)
    if rng.random() < settings.again.chance:
        steps += _round(settings, size, channels, rng, _SECOND)
    return Scan(tuple(steps))


def _round(
    settings: Degradation, size: tuple[int, int], channels: int, rng: np.random.Generator, weaker: float
) -> list[Step]:
    steps: list[Step] = []
    if rng.random() < settings.blur.chance:
        steps.append(_blur(settings.blur.strength * weaker, rng))
    if rng.random() < settings.resize.chance:
        steps.append(_resize(settings.resize.strength * weaker, size, rng))
    if rng.random() < settings.noise.chance:
        steps.append(_noise(settings.noise.strength * weaker, size, channels, rng))
    if rng.random() < settings.sharpen.chance:
        steps.append(
            Sharpen(float(rng.uniform(0.6, 1.8)), float(rng.uniform(0.2, 0.9)) * settings.sharpen.strength * weaker)
        )
    if rng.random() < settings.jpeg.chance:
        worst = 95 - 50 * min(1.5, settings.jpeg.strength * weaker)
        steps.append(Jpeg(int(rng.integers(int(worst), 97)), bool(rng.random() < 0.7)))
    return steps


def _blur(strength: float, rng: np.random.Generator) -> Blur:
    sigma = float(min(4.0, 0.3 + rng.gamma(2.0, 0.28)) * strength)
    if rng.random() < 0.65:
        return Blur((sigma, sigma))
    # Flat-topped or pointed kernels stand for lenses; unequal ones for paper or carriages that moved.
    return Blur(
        (sigma, sigma * float(rng.uniform(0.5, 1.0))), float(rng.uniform(0, np.pi)), float(rng.uniform(0.7, 1.8))
    )


def _resize(strength: float, size: tuple[int, int], rng: np.random.Generator) -> Resize:
    factor = float(np.clip(1 - rng.uniform(0.05, 0.5) * strength, 0.25, 1.0))
    between = max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
    down = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(3))]
    return Resize(factor, between, down, (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(2))])


def _noise(strength: float, size: tuple[int, int], channels: int, rng: np.random.Generator) -> Noise:
    width = 0.0 if rng.random() < 0.5 else float(rng.uniform(0.35, 0.9))
    field = np.stack([noise_field(rng, size, width) for _ in range(channels)])
    constant = float(min(0.06, rng.gamma(1.6, 0.006)) * strength)
    return Noise(field, width, constant, float(rng.uniform(0, 0.03) * strength))


def _each(planes: Planes, act: Callable[[Plane], Plane]) -> Planes:
    """One plane after the other: what is equal in two planes then stays equal to the last bit."""
    return np.stack([act(np.ascontiguousarray(plane)) for plane in planes])


def _rounded(facts: dict[str, Any]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(v) for v in value]
        return round(value, 5) if isinstance(value, float) else value

    return {key: plain(value) for key, value in facts.items()}


def as_image(planes: Planes) -> Planes:
    """C x H x W to H x W x 3."""
    image = np.repeat(planes[0][..., None], 3, axis=2) if len(planes) == 1 else np.moveaxis(planes, 0, 2)
    return np.ascontiguousarray(image, np.float32)
