from __future__ import annotations

import gc
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.models import compat
from pipeline.models.catalogue import ModelCard
from pipeline.models.faces import RESTORERS, TEMPLATE, FaceDetector, align, as_patch, open_detector, open_restorer
from pipeline.models.store import ModelSource, ModelStore, state_dict
from pipeline.photograph import Face
from pipeline.stage import Device

CardMaker = Callable[..., ModelCard]
MOBILE = "retinaface-mobile0.25"
WEIGHTS = "detection_mobilenet0.25_Final.pth"


@pytest.fixture(scope="module")
def models(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    cache = tmp_path_factory.mktemp("models")
    shutil.copy(shared / "weights" / WEIGHTS, cache)
    return ModelStore(ModelSource(cache=str(cache)))


@pytest.fixture(scope="module")
def detector(models: ModelStore) -> FaceDetector:
    return open_detector(models, MOBILE, Device("cpu", 2))


@pytest.fixture(scope="module")
def family(shared: Path) -> NDArray[np.uint8]:
    """An old photograph of three people, RGB."""
    image = cv2.imread(str(shared / "photos" / "damaged" / "gfpgan_10045.png"))
    return np.ascontiguousarray(image[..., ::-1])


def a_face(scale: float = 1.0, left: float = 40.0, top: float = 30.0, turn: float = 0.2) -> Face:
    """A face whose landmarks are the template's, made smaller, turned and moved."""
    cosine, sine = np.cos(turn) * scale, np.sin(turn) * scale
    points = TEMPLATE @ np.array([[cosine, sine], [-sine, cosine]]) + (left, top)
    low, high = points.min(axis=0), points.max(axis=0)
    return Face((*low, *high), tuple(float(v) for v in points.ravel()), 0.99)


def facexlib_finds(models: ModelStore, bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
    compat.install()
    from facexlib.detection.retinaface import RetinaFace

    network = RetinaFace(network_name="mobile0.25", device=torch.device("cpu"))
    network.load_state_dict(state_dict(models.read_weights(MOBILE)))
    with torch.no_grad():
        return np.asarray(network.eval().detect_faces(bgr, 0.97))


def facexlib_crops(bgr: NDArray[np.uint8], face: Face, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.uint8]:
    compat.install()
    from facexlib.utils import face_restoration_helper as module

    # The helper would download two networks that alignment does not use.
    monkeypatch.setattr(module, "init_detection_model", lambda *_, **__: None)
    monkeypatch.setattr(module, "init_parsing_model", lambda *_, **__: None)
    helper = module.FaceRestoreHelper(1, face_size=512, device=torch.device("cpu"))
    helper.read_image(bgr)
    helper.all_landmarks_5 = [np.reshape(face.landmarks, (5, 2))]
    helper.align_warp_face()
    crop: NDArray[np.uint8] = helper.cropped_faces[0]
    return crop


def test_the_detector_finds_what_facexlib_finds(
    models: ModelStore, detector: FaceDetector, family: NDArray[np.uint8]
) -> None:
    reference = facexlib_finds(models, np.ascontiguousarray(family[..., ::-1]))
    found = detector.find(family)
    assert len(found) == len(reference) == 3
    for face, row in zip(found, reference, strict=True):
        assert face.box == pytest.approx(row[:4], abs=0.05)
        assert face.score == pytest.approx(row[4], abs=1e-4)
        assert face.landmarks == pytest.approx(row[5:15], abs=0.05)


def test_faces_come_best_first(detector: FaceDetector, family: NDArray[np.uint8]) -> None:
    scores = [face.score for face in detector.find(family)]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 3


def test_depth_does_not_change_what_is_found(detector: FaceDetector) -> None:
    astronaut = np.ascontiguousarray(skimage.data.astronaut()[:256, 100:356])
    shallow, deep = detector.find(astronaut), detector.find(astronaut.astype(np.uint16) * 257)
    assert len(shallow) == len(deep) == 1
    assert shallow[0].box == pytest.approx(deep[0].box, abs=0.01)


def test_grey_is_looked_at_like_grey_rgb(detector: FaceDetector) -> None:
    grey = np.ascontiguousarray(skimage.data.astronaut()[:256, 100:356, :1])
    assert detector.find(grey) == detector.find(np.repeat(grey, 3, axis=2))
    assert len(detector.find(grey)) == 1


def test_a_large_scan_is_searched_small_and_answered_in_its_own_pixels(detector: FaceDetector) -> None:
    astronaut = skimage.data.astronaut()[:256, 100:356]
    wide = np.zeros((300, 2600, 3), np.uint8)
    wide[20:276, 2100:2356] = astronaut
    found, alone = detector.find(wide), detector.find(np.ascontiguousarray(astronaut))
    assert len(found) == len(alone) == 1
    left, top, right, bottom = alone[0].box
    assert found[0].box == pytest.approx((left + 2100, top + 20, right + 2100, bottom + 20), abs=6)
    assert found[0].score <= 1.0


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 3, 1), (40, 33, 3)])
def test_nothing_is_found_where_nothing_is(detector: FaceDetector, shape: tuple[int, ...]) -> None:
    assert detector.find(np.full(shape, 90, np.uint8)) == ()


def test_what_is_no_detector_is_named(models: ModelStore) -> None:
    with pytest.raises(ModelError, match=r"parsenet.* is no face detector"):
        open_detector(models, "parsenet", Device())
    with pytest.raises(ModelError, match=r"parsenet.* is no face restorer"):
        open_restorer(models, "parsenet", Device())


def test_weights_of_another_network_do_not_fit(tmp_path: Path, card_for: CardMaker) -> None:
    torch.save({"params": {"weight": torch.ones(3)}}, tmp_path / "other.pth")
    card = card_for(tmp_path / "other.pth", "retinaface-mobile0.25")
    with pytest.raises(ModelError, match="does not fit retinaface"):
        open_detector(ModelStore(ModelSource(cache=str(tmp_path), local=(card,))), "mine", Device())


@pytest.mark.parametrize("scale", [0.3, 1.7])
def test_alignment_is_facexlibs(real_photo: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    face = a_face(scale)
    reference = facexlib_crops(np.ascontiguousarray(real_photo[..., ::-1]), face, monkeypatch)
    aligned = align(real_photo, face)
    assert aligned is not None
    assert aligned[0].dtype == np.float32
    difference = np.abs(aligned[0] * 255 - reference[..., ::-1].astype(np.float32))
    assert difference.max() <= 1.0


def test_alignment_on_found_faces_is_facexlibs(
    detector: FaceDetector, family: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    for face in detector.find(family):
        reference = facexlib_crops(np.ascontiguousarray(family[..., ::-1]), face, monkeypatch)
        aligned = align(family, face)
        assert aligned is not None
        assert np.abs(aligned[0] * 255 - reference[..., ::-1].astype(np.float32)).max() <= 1.0


def test_the_matrix_carries_landmarks_onto_the_template() -> None:
    face = a_face(0.4)
    aligned = align(np.zeros((300, 300, 3), np.uint8), face)
    assert aligned is not None
    points = np.c_[np.reshape(face.landmarks, (5, 2)), np.ones(5)]
    assert np.abs(points @ aligned[1].T - TEMPLATE).max() < 0.01


def test_alignment_keeps_depth_and_grey(real_photo: NDArray[np.uint8]) -> None:
    face = a_face(0.3)
    shallow, deep = align(real_photo, face), align(real_photo.astype(np.uint16) * 257, face)
    grey = align(np.ascontiguousarray(real_photo[..., :1]), face)
    assert shallow is not None
    assert deep is not None
    assert grey is not None
    assert np.abs(shallow[0] - deep[0]).max() < 1e-5
    inside = np.abs(grey[0] - shallow[0][..., :1]) < 1e-6
    assert grey[0].shape == (512, 512, 3)
    assert inside[200:400, 200:300].all()


def test_points_that_coincide_cannot_be_aligned() -> None:
    face = replace(a_face(), landmarks=(50.0,) * 10)
    assert align(np.zeros((100, 100, 3), np.uint8), face) is None


def test_a_patch_travels_in_sixteen_bits() -> None:
    unit = np.array([[[-0.2, 0.5, 1.3]]], np.float32)
    assert as_patch(unit).tolist() == [[[0, 32768, 65535]]]


def test_the_same_face_gives_the_same_bytes_twice(card_for: CardMaker) -> None:
    """The network of GFPGAN with random weights, its noise switched on: weights of noise start at zero."""
    compat.install()
    torch.manual_seed(7)
    network = RESTORERS["gfpgan-clean"]()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.numel() == 1:
                parameter.fill_(0.5)
    face = np.random.default_rng(3).random((512, 512, 3), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gfpgan.pth"
        torch.save({"params_ema": network.state_dict()}, path)
        del network
        gc.collect()
        store = ModelStore(ModelSource(cache=folder, local=(card_for(path, "gfpgan-clean"),)))
        restorer = open_restorer(store, "mine", Device("cpu", 2))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = restorer.restore(face)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = restorer.restore(face)
    assert first.shape == (512, 512, 3)
    assert (first.min() >= 0, first.max() <= 1, first.std() > 0.01) == (True, True, True)
    assert first.tobytes() == second.tobytes()
