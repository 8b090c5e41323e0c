from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.models.faces import FaceRestorer, open_detector
from pipeline.models.store import ModelSource, ModelStore
from pipeline.photograph import Container, Photograph, is_neutral
from pipeline.policy import POLICIES
from pipeline.stage import Device, Outcome, Step
from pipeline.stages.faces import Faces, FacesParameters

MOBILE = "retinaface-mobile0.25"


class Tinting(FaceRestorer):
    """Blurs a face and turns it reddish, as a network might."""

    def __init__(self) -> None:
        super().__init__("tinting", lambda faces, _: faces, Device())

    def restore(self, aligned: NDArray[np.float32]) -> NDArray[np.float32]:
        blurred = [cv2.GaussianBlur(face, (0, 0), 3) + np.array([0.1, 0, 0], np.float32) for face in aligned]
        return np.asarray(blurred, np.float32)


@pytest.fixture
def cache(shared: Path, tmp_path: Path) -> Path:
    shutil.copy(shared / "weights" / "detection_mobilenet0.25_Final.pth", tmp_path)
    return tmp_path


@pytest.fixture
def portrait() -> NDArray[np.uint8]:
    return np.ascontiguousarray(skimage.data.astronaut()[:256, 100:356])


def stage(cache: Path, policy: str = "conservation", **parameters: float) -> Faces:
    """Detector as it is, and a restorer without a network."""
    ready = Faces(FacesParameters(detector=MOBILE, **parameters), POLICIES[policy])  # type: ignore[arg-type]
    ready.detector = open_detector(ModelStore(ModelSource(cache=str(cache))), MOBILE, Device("cpu", 2))
    ready.restorer = Tinting()
    return ready


def restored(ready: Faces, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> Step:
    step = ready.restore([Photograph("item", pixels, Container("PNG"))])[0]
    assert isinstance(step, Step)
    return step


def test_without_models_the_stage_is_a_recorded_skip(tmp_path: Path, portrait: NDArray[np.uint8]) -> None:
    idle = Faces(FacesParameters(), POLICIES["conservation"])
    idle.open(ModelStore(ModelSource(cache=str(tmp_path))), Device())
    step = restored(idle, portrait)
    assert (step.outcome, step.reason) == (Outcome.SKIPPED, "not installed: retinaface-resnet50, gfpgan-v1.4")
    assert step.photograph.pixels is portrait


def test_required_models_have_to_be_there(tmp_path: Path) -> None:
    strict = Faces(FacesParameters(required=True), POLICIES["conservation"])
    with pytest.raises(ModelError, match="albumen models fetch retinaface-resnet50"):
        strict.open(ModelStore(ModelSource(cache=str(tmp_path))), Device())


def test_a_face_gets_a_patch_and_the_pixels_stay(cache: Path, portrait: NDArray[np.uint8]) -> None:
    step = restored(stage(cache), portrait)
    assert step.photograph.pixels is portrait
    (face,) = step.photograph.faces
    assert face.patch is not None
    assert (face.patch.shape, face.patch.dtype) == ((512, 512, 3), np.uint16)
    assert face.affine is not None
    assert len(face.affine) == 6
    assert (face.strength, face.model_id) == (0.5, "tinting")
    assert step.models == (MOBILE, "tinting")
    assert dict(step.findings) == {"faces": 1, "restored": 1}


def test_a_grey_photograph_gets_a_grey_patch(cache: Path, portrait: NDArray[np.uint8]) -> None:
    for pixels in (np.ascontiguousarray(portrait[..., :1]), np.repeat(portrait[..., :1], 3, axis=2)):
        (face,) = restored(stage(cache), pixels).photograph.faces
        assert face.patch is not None
        assert is_neutral(face.patch)
    (face,) = restored(stage(cache), portrait).photograph.faces
    assert face.patch is not None
    assert not is_neutral(face.patch)


def test_the_policy_caps_the_strength_and_says_so(cache: Path, portrait: NDArray[np.uint8]) -> None:
    capped = restored(stage(cache, strength=0.9), portrait)
    assert capped.photograph.faces[0].strength == 0.5
    assert "0.9 was asked for" in capped.findings["faces_refused"]
    free = restored(stage(cache, "presentation", strength=0.9), portrait)
    assert free.photograph.faces[0].strength == 0.9
    assert "faces_refused" not in free.findings


def test_no_face_is_a_skip(cache: Path) -> None:
    step = restored(stage(cache), np.full((60, 80, 3), 90, np.uint8))
    assert (step.outcome, step.reason, step.models) == (Outcome.SKIPPED, "no face was found", (MOBILE,))
    assert step.photograph.faces == ()


def test_a_node_that_has_models_the_plan_had_not_does_not_use_them(tmp_path: Path) -> None:
    """Whether optional models are used is the plan's to say: a recipe id must mean the same on every node."""
    stage = Faces(FacesParameters(), POLICIES["conservation"])
    stage.open(ModelStore(ModelSource(cache=str(tmp_path), planned=frozenset())), Device())
    assert stage.missing == ("retinaface-resnet50", "gfpgan-v1.4")


def test_a_node_that_lacks_models_the_plan_had_stops_the_run(tmp_path: Path) -> None:
    stage = Faces(FacesParameters(), POLICIES["conservation"])
    planned = frozenset({"retinaface-resnet50", "gfpgan-v1.4"})
    with pytest.raises(ModelError, match="is not installed"):
        stage.open(ModelStore(ModelSource(cache=str(tmp_path), planned=planned)), Device())
