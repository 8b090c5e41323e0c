from __future__ import annotations

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
from pipeline.models.face_detectors import FaceDetector, Search, open_detector
from pipeline.models.store import ModelSource, ModelStore, state_dict
from pipeline.photograph import Face
from pipeline.stage import Device

CardMaker = Callable[..., ModelCard]
Image = NDArray[np.uint8]
MOBILE, YUNET = "retinaface-mobile0.25", "yunet-2023mar"


@pytest.fixture
def astronaut() -> Image:
    """256 x 256 around one face, whose box is about 90 x 115."""
    return np.ascontiguousarray(skimage.data.astronaut()[:256, 100:356])


def facexlib_finds(models: ModelStore, rgb: Image) -> NDArray[np.float64]:
    compat.install()
    from facexlib.detection.retinaface import RetinaFace

    network = RetinaFace(network_name="mobile0.25", device=torch.device("cpu"))
    network.load_state_dict(state_dict(models.read_weights(MOBILE)))
    with torch.no_grad():
        found = network.eval().detect_faces(np.ascontiguousarray(rgb[..., ::-1]), 0.97)
    return np.asarray(found, np.float64).reshape(-1, 15)


def with_search(detector: FaceDetector, **changes: object) -> FaceDetector:
    return FaceDetector(detector.model_id, detector._network, replace(detector.search, **changes))  # type: ignore[arg-type]


def points(face: Face) -> NDArray[np.float64]:
    return np.reshape(face.landmarks, (5, 2))


def off(face: Face, truth: NDArray[np.float64]) -> float:
    """How far the farthest landmark lies from its place, as a share of the distance of the eyes."""
    return float(np.abs(points(face) - truth).max() / np.linalg.norm(truth[1] - truth[0]))


def test_the_detector_finds_what_facexlib_finds(models: ModelStore, mobile: FaceDetector, family: Image) -> None:
    reference, found = facexlib_finds(models, family), mobile.find(family)
    assert len(found) == len(reference) == 3
    for face, row in zip(found, reference, strict=True):
        assert face.box == pytest.approx(row[:4], abs=1e-3)
        assert face.score == pytest.approx(row[4], abs=1e-6)
        assert face.landmarks == pytest.approx(row[5:15], abs=1e-3)


def test_the_network_sees_what_facexlib_sees_on_every_photograph(
    models: ModelStore, mobile: FaceDetector, shared: Path
) -> None:
    files = [*sorted((shared / "photos" / "damaged").glob("*.png")), *sorted((shared / "photos" / "clean").glob("*"))]
    seen = 0
    for file in files[:7]:
        image = cv2.imread(str(file))[..., ::-1]
        reference, found = facexlib_finds(models, image), mobile._network.detect(image)
        assert found.shape == reference.shape, file.name
        assert np.abs(found - reference).max(initial=0) < 1e-3, file.name
        seen += len(found)
    assert seen >= 8


def test_faces_come_best_first(mobile: FaceDetector, yunet: FaceDetector, family: Image) -> None:
    for detector in (mobile, yunet):
        scores = [face.score for face in detector.find(family)]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) == 3


def test_depth_does_not_change_what_is_found(mobile: FaceDetector, yunet: FaceDetector, astronaut: Image) -> None:
    for detector in (mobile, yunet):
        shallow, deep = detector.find(astronaut), detector.find(astronaut.astype(np.uint16) * 257)
        assert len(shallow) == len(deep) == 1
        assert shallow[0].box == pytest.approx(deep[0].box, abs=0.01)


def test_grey_is_looked_at_like_grey_rgb(mobile: FaceDetector, yunet: FaceDetector, astronaut: Image) -> None:
    grey = np.ascontiguousarray(astronaut[..., :1])
    for detector in (mobile, yunet):
        assert detector.find(grey) == detector.find(np.repeat(grey, 3, axis=2))
        assert len(detector.find(grey)) == 1


def test_yunets_landmarks_are_those_of_retinaface_in_the_same_order(
    mobile: FaceDetector, yunet: FaceDetector, family: Image, astronaut: Image
) -> None:
    for image in (family, astronaut):
        ours, theirs = mobile.find(image), yunet.find(image)
        assert len(ours) == len(theirs) >= 1
        for face in ours:
            assert min(off(other, points(face)) for other in theirs) < 0.15


def test_looking_twice_gives_the_same_numbers(mobile: FaceDetector, yunet: FaceDetector, family: Image) -> None:
    for detector in (mobile, yunet):
        assert detector.find(family) == detector.find(family)


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_face_that_lies_is_found_with_its_own_left_eye_first(
    mobile: FaceDetector, yunet: FaceDetector, astronaut: Image, quarter: int
) -> None:
    turned = np.ascontiguousarray(np.rot90(astronaut[:, :200], quarter))
    for detector in (mobile, yunet):
        upright = points(detector.find(np.ascontiguousarray(astronaut[:, :200]))[0])
        x, y = upright.T
        truth = np.stack(((x, y), (y, 200 - x), (200 - x, 256 - y), (256 - y, x))[quarter], axis=1)
        (face,) = detector.find(turned)
        assert off(face, truth) < 0.05
        left, top, right, bottom = face.box
        assert (left < truth[:, 0].min(), right > truth[:, 0].max()) == (True, True)
        assert (top < truth[:, 1].min(), bottom > truth[:, 1].max()) == (True, True)


def test_turns_are_tried_as_asked(yunet: FaceDetector, astronaut: Image) -> None:
    both = np.concatenate([astronaut, np.rot90(astronaut, 2)], axis=1)
    assert [len(with_search(yunet, turns=turns).find(both)) for turns in ("never", "where-empty", "always")] == [
        1,
        1,
        2,
    ]
    lying = np.ascontiguousarray(np.rot90(astronaut))
    assert [len(with_search(yunet, turns=turns).find(lying)) for turns in ("never", "where-empty", "always")] == [
        0,
        1,
        1,
    ]


def test_a_huge_scan_is_searched_small_and_measured_as_it_is(
    mobile: FaceDetector, yunet: FaceDetector, astronaut: Image
) -> None:
    """On the copy the face has 30 pixels; its landmarks are as good as where it is all there is."""
    scan = np.full((1500, 6000, 3), 128, np.uint8)
    scan[900:1156, 3100:3356] = astronaut
    for detector in (mobile, yunet):
        truth = points(detector.find(astronaut)[0]) + np.array([3100, 900])
        small = with_search(detector, fine=0)
        (coarse,), (face,) = small._copy(scan, 2048), small.find(scan)
        assert off(Face(face.box, tuple(coarse.row[5:]), 1.0), truth) > 0.06
        assert off(face, truth) < 0.06


def test_a_face_that_fills_a_large_scan_is_found(mobile: FaceDetector, yunet: FaceDetector, astronaut: Image) -> None:
    """Both networks know faces of some hundred pixels, and this one has 1,600, where RetinaFace sees two others in it."""
    portrait = cv2.resize(astronaut[20:196, 60:196], (1900, 2450), interpolation=cv2.INTER_CUBIC)
    for detector in (mobile, yunet):
        (face,) = detector.find(portrait)
        assert face.box[3] - face.box[1] > 1200
    assert len(with_search(mobile, coarser=(), turns="never").find(portrait)) == 2


def test_small_faces_of_a_huge_scan_are_found_in_tiles(mobile: FaceDetector, family: Image) -> None:
    """A group: each of the three has 48 pixels in a scan of 5,000, and 20 on the first copy."""
    face = max(mobile.find(family), key=lambda found: found.score)
    left, top, right, bottom = (int(v) for v in face.box)
    side = max(right - left, bottom - top)
    crop = family[max(0, top - side) : bottom + side, max(0, left - side) : right + side]
    small = cv2.resize(crop, None, fx=48 / side, fy=48 / side, interpolation=cv2.INTER_AREA)
    scan = np.full((600, 5000, 3), 110, np.uint8)
    corners = [(40, 300), (200, 2480), (400, 4700)]
    for y, x in corners:
        scan[y : y + small.shape[0], x : x + small.shape[1]] = small
    assert with_search(mobile, fine=0, turns="never").find(scan) == ()
    found = with_search(mobile, turns="never").find(scan)
    assert len(found) == 3
    for y, x in corners:
        inside = [one for one in found if x < one.box[0] < x + small.shape[1] and y < one.box[1] < y + small.shape[0]]
        assert len(inside) == 1


def test_a_face_cut_by_the_border_is_found_where_half_of_it_is_left(
    mobile: FaceDetector, yunet: FaceDetector, astronaut: Image
) -> None:
    left, _, right, _ = mobile.find(astronaut)[0].box
    cut = np.ascontiguousarray(astronaut[:, int(left + 0.3 * (right - left)) :])
    for detector in (mobile, yunet):
        (face,) = detector.find(cut)
        assert face.box[0] < 5


def test_eyes_that_are_too_close_leave_a_face_out(mobile: FaceDetector, astronaut: Image) -> None:
    (face,) = mobile.find(astronaut)
    distance = float(np.linalg.norm(points(face)[0] - points(face)[1]))
    assert len(with_search(mobile, least_eye_distance=distance - 0.1).find(astronaut)) == 1
    assert with_search(mobile, least_eye_distance=distance + 0.1, turns="never").find(astronaut) == ()


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 3, 1), (40, 33, 3)])
def test_nothing_is_found_where_nothing_is(mobile: FaceDetector, yunet: FaceDetector, shape: tuple[int, ...]) -> None:
    assert mobile.find(np.full(shape, 90, np.uint8)) == yunet.find(np.full(shape, 90, np.uint8)) == ()


def test_resnet50_is_facexlibs_on_the_same_weights(tmp_path: Path, card_for: CardMaker, astronaut: Image) -> None:
    """Random weights see no faces: what is compared is the answer of all anchors, and that our file can be opened."""
    compat.install()
    from facexlib.detection.retinaface import RetinaFace

    torch.manual_seed(3)
    network = RetinaFace(network_name="resnet50", device=torch.device("cpu")).eval()
    torch.save({f"module.{name}": tensor for name, tensor in network.state_dict().items()}, tmp_path / "resnet.pth")
    card = card_for(tmp_path / "resnet.pth", "retinaface-resnet50")
    opened = open_detector(ModelStore(ModelSource(cache=str(tmp_path), local=(card,))), "mine", Device("cpu", 2))
    small = np.ascontiguousarray(astronaut[40:168, 60:188])
    assert opened.search == Search()
    planes = torch.from_numpy(small.transpose(2, 0, 1)[None].astype(np.float32))
    with torch.inference_mode():
        for ours, theirs in zip(opened._network._network(planes), network(planes), strict=True):  # type: ignore[attr-defined]
            assert torch.equal(ours, theirs)
    with torch.no_grad():
        assert len(opened._network.detect(small)) == len(network.detect_faces(small[..., ::-1].copy(), 0.97))


def test_what_is_no_detector_is_named(models: ModelStore) -> None:
    with pytest.raises(ModelError, match=r"parsenet.* is no face detector"):
        open_detector(models, "parsenet", Device())


def test_weights_of_another_network_do_not_fit(tmp_path: Path, card_for: CardMaker) -> None:
    torch.save({"params": {"weight": torch.ones(3)}}, tmp_path / "other.pth")
    (tmp_path / "other.onnx").write_bytes(b"no graph")
    for file, architecture in (("other.pth", MOBILE), ("other.onnx", "yunet")):
        card = card_for(tmp_path / file, architecture)
        with pytest.raises(ModelError, match=f"does not fit {architecture}"):
            open_detector(ModelStore(ModelSource(cache=str(tmp_path), local=(card,))), "mine", Device())


@pytest.mark.parametrize("model_id", [MOBILE, YUNET])
def test_a_file_that_is_missing_or_altered_is_not_opened(tmp_path: Path, models: ModelStore, model_id: str) -> None:
    store = ModelStore(ModelSource(cache=str(tmp_path)))
    with pytest.raises(ModelError, match="is not installed"):
        open_detector(store, model_id, Device())
    content = models.path(model_id).read_bytes()
    store.path(model_id).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelError, match="is not the published file"):
        open_detector(store, model_id, Device())
