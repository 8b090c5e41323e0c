"""The demo's collection: public-domain photographs that installed packages ship, aged by hand, and one broken file."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.spec import JobSpec, parse_spec

# Says that a folder was made by the demo, so that it may write there again.
MARK = ".albumen-demo"

Print = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Specimen:
    """One photograph of the demo. package, path: where it is shipped. crop: left, top, side in pixels. side: of the scan."""

    name: str
    package: str
    path: str
    crop: tuple[int, int, int]
    side: int
    age: Callable[[Print, np.random.Generator], Print]


def collect(folder: Path) -> None:
    """Write the demo's scans. The same files every time."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, specimen in enumerate(SPECIMENS):
        scan = specimen.age(_crop(specimen), np.random.default_rng(seed))
        pixels = np.rint(np.clip(scan, 0, 1) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{specimen.name}.png", dpi=(300, 300))
    intact = io.BytesIO()
    Image.fromarray(np.rint(_crop(SPECIMENS[0]) * 255).astype(np.uint8)).save(intact, "JPEG")
    (folder / "half a file.jpg").write_bytes(intact.getvalue()[: len(intact.getvalue()) // 2])


def demo_spec(output: Path) -> JobSpec:
    return parse_spec(
        {
            "collection": {"name": "demo", "source": str(output / "scans")},
            "output": {"uri": str(output / "run"), "format": "png"},
        },
        output,
    )


def _crop(specimen: Specimen) -> Print:
    left, top, size = specimen.crop
    data = files(specimen.package).joinpath(specimen.path).read_bytes()
    image = Image.open(io.BytesIO(data)).convert("RGB").crop((left, top, left + size, top + size))
    small = image.resize((specimen.side, specimen.side), Image.Resampling.LANCZOS)
    return np.asarray(small, np.float32) / np.float32(255)


def _faded_colour(image: Print, rng: np.random.Generator) -> Print:
    yellow = np.array([1.0, 0.93, 0.74], np.float32)
    return draw_dust(draw_scratches(_grain(0.22 + 0.6 * image * yellow, rng, 0.012), rng, 2), rng, 14)


def _grey_print(image: Print, rng: np.random.Generator) -> Print:
    grey = image @ np.array([0.299, 0.587, 0.114], np.float32)
    aged = draw_dust(draw_scratches(_grain(0.15 + 0.65 * grey[..., None], rng, 0.015), rng, 3), rng, 18)
    return np.repeat(aged, 3, axis=2)


def _sepia_print(image: Print, rng: np.random.Generator) -> Print:
    grey = (image @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    toned = (0.16 + 0.7 * grey) ** np.array([0.85, 1.0, 1.3], np.float32)
    return draw_dust(draw_scratches(toned.astype(np.float32), rng, 2), rng, 10)


def _grain(image: Print, rng: np.random.Generator, sigma: float) -> Print:
    return image + rng.normal(0, sigma, (*image.shape[:2], 1)).astype(np.float32)


def draw_scratches(image: Print, rng: np.random.Generator, count: int) -> Print:
    """White lines from top to bottom on a square or wider image, H x W x C float32 0..1."""
    size = image.shape[0]
    for _ in range(count):
        points = np.cumsum(
            np.vstack([[rng.uniform(0.1, 0.9) * size, 0], np.c_[rng.normal(0, 2, 24), np.full(24, size / 22)]]), 0
        )
        canvas = np.zeros(image.shape[:2], np.uint8)
        cv2.polylines(
            canvas, [np.rint(points * 16).astype(np.int32)], isClosed=False, color=255, lineType=cv2.LINE_AA, shift=4
        )
        image = _lighten(image, canvas)
    return image


def draw_dust(image: Print, rng: np.random.Generator, count: int) -> Print:
    """White specks of one to three pixels."""
    size = image.shape[0]
    canvas = np.zeros(image.shape[:2], np.uint8)
    for _ in range(count):
        centre = tuple(int(v) for v in rng.integers(4, size - 4, 2))
        cv2.circle(canvas, centre, int(rng.integers(1, 3)), 255, -1, cv2.LINE_AA)
    return _lighten(image, canvas)


def _lighten(image: Print, canvas: NDArray[np.uint8]) -> Print:
    share = canvas.astype(np.float32)[..., None] / np.float32(255)
    return image + share * (np.float32(0.97) - image)


SPECIMENS: tuple[Specimen, ...] = (
    Specimen("astronaut", "skimage.data", "astronaut.png", (80, 0, 320), 176, _faded_colour),
    Specimen("grace hopper", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg", (90, 20, 340), 176, _grey_print),
    Specimen("rocket", "skimage.data", "rocket.jpg", (160, 0, 400), 160, _sepia_print),
)
