"""What the tests of face networks share beyond the pipeline's others: YuNet, and facexlib's helper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.models import compat
from pipeline.models.catalogue import ModelCard
from pipeline.models.face_detectors import FaceDetector, open_detector
from pipeline.models.store import ModelSource, ModelStore
from pipeline.stage import Device

YUNET = "yunet-2023mar"


@pytest.fixture(scope="session")
def yunet(models: ModelStore) -> FaceDetector:
    return open_detector(models, YUNET, Device("cpu", 2))


@pytest.fixture
def store_of(card_for: Callable[..., ModelCard]) -> Callable[[Path, str], ModelStore]:
    """Makes a store of one model, `mine`, of an architecture."""

    def make(path: Path, architecture: str) -> ModelStore:
        return ModelStore(ModelSource(cache=str(path.parent / "cache"), local=(card_for(path, architecture),)))

    return make


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
