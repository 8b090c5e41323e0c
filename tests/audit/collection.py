"""A collection of small real photographs, some of them broken, the same bytes for the same seed."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

_NAMES = (
    "astronaut",
    "camera",
    "chelsea",
    "coffee",
    "coins",
    "rocket",
    "brick",
    "grass",
    "gravel",
    "hubble_deep_field",
)
# All files get one time: what is new to a run is told from sizes and times, and must not depend on when it was copied.
_TIME = 1_700_000_000


def make_photographs(count: int, seed: int) -> dict[str, bytes]:
    """Files by name: crops of 64 to 200 pixels as PNG, TIFF or JPEG, 8 and some 16 bits; one in 25 is broken."""
    rng = np.random.default_rng(seed)
    plates = [getattr(skimage.data, name)() for name in _NAMES]
    files: dict[str, bytes] = {}
    for number in range(count):
        suffix = ("png", "tif", "jpg")[number % 3]
        data = _encode(_crop(plates[rng.integers(len(plates))], rng), suffix, sixteen=rng.random() < 0.1)
        if number % 25 == 7:
            data = (data[: len(data) // 2], b"", b"no photograph at all")[number // 25 % 3]
        files[f"{number:04d}.{suffix}"] = data
    return files


def _crop(plate: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = (int(side) for side in rng.integers(64, 201, 2))
    top, left = (int(rng.integers(0, size - side)) for size, side in zip(plate.shape, (height, width), strict=False))
    return np.ascontiguousarray(plate[top : top + height, left : left + width])


def _encode(crop: np.ndarray, suffix: str, *, sixteen: bool) -> bytes:
    target = io.BytesIO()
    if sixteen and suffix != "jpg" and crop.ndim == 2:
        crop = crop.astype(np.uint16) * 257
    image = Image.fromarray(crop)
    if suffix == "jpg":
        image.save(target, "JPEG", quality=92)
    elif suffix == "tif":
        image.save(target, "TIFF", compression="tiff_lzw")
    else:
        image.save(target, "PNG")
    return target.getvalue()


def put_files(folder: Path, files: dict[str, bytes], time: int = _TIME) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        # Beside the collection first: a listing must never meet half of an original.
        half = folder.parent / f".{name}.half"
        half.write_bytes(data)
        os.utime(half, (time, time))
        half.rename(folder / name)
