"""A real photograph as floats, and a small library of shapes made by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from pipeline.degradation import Shapes

CLASSES = ("dirt", "dots", "hair", "lint", "scratches", "smut", "spots", "sprinkles", "stain")


@pytest.fixture(scope="session")
def crop() -> NDArray[np.float32]:
    """160 x 192 x 3 float32, of a real photograph with calm and busy parts."""
    image = skimage.data.astronaut()[0:320, 60:444]
    return cv2.resize(image, (192, 160), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)


@pytest.fixture(scope="session")
def shape_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight masks of each class and forty polygons."""
    folder = tmp_path_factory.mktemp("shapes")
    rng = np.random.default_rng(5)
    for name in CLASSES:
        (folder / "masks" / name).mkdir(parents=True)
        for number in range(8):
            mask = np.zeros((80, 80), np.uint8)
            points = rng.integers(5, 75, (6, 2)).astype(np.int32)
            if name in ("hair", "lint", "scratches"):
                cv2.polylines(mask, [points], isClosed=False, color=255, thickness=2)
            else:
                cv2.fillPoly(mask, [points], 255)
            cv2.imwrite(str(folder / "masks" / name / f"{name}-{number}.png"), mask)
    (folder / "polygons").mkdir()
    marks = {}
    for number in range(40):
        turn = np.sort(rng.uniform(0, 2 * np.pi, 8))
        points = (40 + np.stack([np.cos(turn), np.sin(turn)], axis=1) * rng.uniform(4, 12, (8, 1))).round().astype(int)
        label = ("Dust", "Dirt", "Long hair", "Scratch")[number % 4]
        marks[str(number)] = {"points": [{"x": int(x), "y": int(y)} for x, y in points], "label": {"name": label}}
    (folder / "polygons" / "scan-01.json.gz").write_bytes(gzip.compress(json.dumps(marks).encode()))
    return folder


@pytest.fixture(scope="session")
def library(shape_folder: Path) -> Shapes:
    return Shapes.load(shape_folder)
