"""What the tests of the pipeline share: a real photograph, cards of models of one's own, a folder that anyone may enter."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from pipeline.models.catalogue import ModelCard

CardMaker = Callable[..., ModelCard]


@pytest.fixture(scope="session")
def real_photo() -> NDArray[np.uint8]:
    """H x W x 3 uint8 RGB: a clean photograph of the shared data, else scikit-image's."""
    root = Path(__file__).resolve().parents[2]
    clean = Path(os.environ.get("ALBUMEN_SHARED") or root.parent / "shared") / "photos" / "clean"
    found = sorted(clean.glob("*.jpg")) if clean.is_dir() else []
    return np.asarray(Image.open(found[0]).convert("RGB")) if found else np.asarray(skimage.data.astronaut())


@pytest.fixture
def card_for() -> CardMaker:
    """Makes the card of a model of one's own, as a job's [[models.local]] would."""

    def make(path: Path, architecture: str, scale: int = 1, model_id: str = "mine") -> ModelCard:
        return ModelCard(
            id=model_id,
            file=path.name,
            bytes=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            url=str(path),
            licence="MIT",
            architecture=architecture,
            task="test",
            scale=scale,
        )

    return make


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that another user than the one who runs the tests can enter."""
    folder = Path(tempfile.mkdtemp(prefix="albumen-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
