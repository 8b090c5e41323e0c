"""Clean photographs to train on: whole files in memory once, random crops at random scales."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.codecs import decode
from pipeline.colour_space import Floats, as_srgb
from pipeline.errors import ItemError, JobError
from pipeline.photograph import Pixels, to_depth

# Sides above this hold no detail that a scan of a print has.
_LONGEST = 2400
_MAX_PIXELS = 60_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """names: of the files. images: H x W x 3 uint8, sRGB. sha256: of the files, in the same order."""

    names: tuple[str, ...]
    images: tuple[Pixels, ...]
    sha256: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path) -> Corpus:
        """Every photograph in a folder, in order of name. Raises JobError that names every file that is none."""
        faults, names, images, digests = [], [], [], []
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            data = path.read_bytes()
            try:
                photograph = decode(data, path.name, _MAX_PIXELS)
            except ItemError as error:
                faults.append(f"{path}: {error}")
                continue
            names.append(str(path.relative_to(folder)))
            images.append(to_depth(_bounded(as_srgb(photograph)), np.dtype(np.uint8)))
            digests.append(hashlib.sha256(data).hexdigest())
        if faults or not images:
            raise JobError("; ".join(faults) or f"{folder} holds no photograph")
        return cls(tuple(names), tuple(images), tuple(digests))

    def crop(self, rng: np.random.Generator, side: int) -> Floats:
        """side x side x 3 float32 in 0..1: any place of any photograph, at full size or averaged down."""
        image = self.images[int(rng.integers(len(self.images)))]
        shortest = min(image.shape[:2])
        # Most pictures are looked at whole, and a crop of a few pixels of sky teaches little: larger views are likelier.
        span = round(side * np.exp(rng.uniform(0, np.log(max(1.0, shortest / side)))))
        span = min(max(span, min(side, shortest)), shortest)
        top, left = (int(rng.integers(length - span + 1)) for length in image.shape[:2])
        view = image[top : top + span, left : left + span].astype(np.float32) / np.float32(255)
        kind = cv2.INTER_AREA if span > side else cv2.INTER_CUBIC
        result: Floats = np.clip(cv2.resize(view, (side, side), interpolation=kind), 0, 1)
        return result

    def parted(self, every: int) -> tuple[Corpus, Corpus]:
        """Two without a photograph in common: the second has every n-th."""
        places = range(len(self.images))
        return self.only(*(p for p in places if p % every)), self.only(*(p for p in places if not p % every))

    def only(self, *places: int) -> Corpus:
        return Corpus(
            tuple(self.names[place] for place in places),
            tuple(self.images[place] for place in places),
            tuple(self.sha256[place] for place in places),
        )

    def described(self) -> Sequence[dict[str, str]]:
        return [{"name": name, "sha256": digest} for name, digest in zip(self.names, self.sha256, strict=True)]

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.described(), sort_keys=True).encode()).hexdigest()


def _bounded(pixels: Floats) -> Floats:
    scale = _LONGEST / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    result: Floats = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return result
