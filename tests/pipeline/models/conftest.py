"""What the tests of face networks share: the real mobile0.25 detector and YuNet, and photographs with faces."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.models import compat
from pipeline.models.face_detectors import FaceDetector, open_detector
from pipeline.models.store import ModelSource, ModelStore
from pipeline.stage import Device

MOBILE, YUNET = "retinaface-mobile0.25", "yunet-2023mar"


@pytest.fixture(scope="session")
def models(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    cache = tmp_path_factory.mktemp("models")
    for name in ("detection_mobilenet0.25_Final.pth", "face_detection_yunet_2023mar.onnx"):
        shutil.copy(shared / "weights" / name, cache)
    return ModelStore(ModelSource(cache=str(cache)))


@pytest.fixture(scope="session")
def mobile(models: ModelStore) -> FaceDetector:
    return open_detector(models, MOBILE, Device("cpu", 2))


@pytest.fixture(scope="session")
def yunet(models: ModelStore) -> FaceDetector:
    return open_detector(models, YUNET, Device("cpu", 2))


@pytest.fixture(scope="session")
def family(shared: Path) -> NDArray[np.uint8]:
    """An old photograph of three people, RGB."""
    image = cv2.imread(str(shared / "photos" / "damaged" / "gfpgan_10045.png"))
    return np.ascontiguousarray(image[..., ::-1])


@pytest.fixture
def face_helper(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """facexlib's helper without the two networks that it would download."""

    def make() -> Any:
        compat.install()
        import torch
        from facexlib.utils import face_restoration_helper as module

        monkeypatch.setattr(module, "init_detection_model", lambda *_, **__: None)
        monkeypatch.setattr(module, "init_parsing_model", lambda *_, **__: None)
        return module.FaceRestoreHelper(1, face_size=512, device=torch.device("cpu"))

    return make
