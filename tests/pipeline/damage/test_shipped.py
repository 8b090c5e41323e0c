"""The detector that comes with Albumen: what it finds, what it leaves alone, and that tiles and depths change no answer."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray

from pipeline.damage.kinds import Kind, fraction_of
from pipeline.damage.learned import LearnedDetector, LearnedSettings, evidence
from pipeline.models.catalogue import CARDS, is_generative
from pipeline.models.damage import open_damage_network
from pipeline.models.store import ModelSource, ModelStore
from pipeline.photograph import Container, Photograph
from pipeline.stage import Device
from pipeline.training.photographs import sources

MODEL = "albumen-damage"
# What all weights that ship with the package may weigh.
MOST_BYTES = 8 << 20
Pixels = NDArray[np.uint8]


def of(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> Photograph:
    return Photograph("item", np.ascontiguousarray(pixels), Container("PNG"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    return ModelStore(ModelSource(cache=str(tmp_path_factory.mktemp("models"))))


@pytest.fixture(scope="module")
def detector(store: ModelStore) -> LearnedDetector:
    return LearnedDetector(open_damage_network(store, MODEL, Device("cpu", 1)), MODEL, "cpu", LearnedSettings())


def test_the_shipped_file_is_the_one_in_the_catalogue(store: ModelStore) -> None:
    path, card = store.verify(MODEL), store.card(MODEL)
    assert path.stat().st_size == card.bytes
    assert hashlib.sha256(path.read_bytes()).hexdigest() == card.sha256
    assert not is_generative(MODEL)
    shipped = [store.path(card.id) for card in CARDS if card.package == "pipeline"]
    assert {file for file in path.parent.iterdir() if file.suffix == ".safetensors"} == set(shipped)
    assert sum(file.stat().st_size for file in shipped) <= MOST_BYTES
    assert sum(parameter.numel() for parameter in open_damage_network(store, MODEL, Device()).parameters()) <= 2_000_000


def scratched(pixels: Pixels) -> tuple[Pixels, NDArray[np.bool_]]:
    """With a white scratch and dust on it; and where."""
    drawn = np.zeros(pixels.shape[:2], np.uint8)
    cv2.polylines(drawn, [np.array([[60, 20], [75, 120], [70, 240]], np.int32)], False, 1, 2)
    for place in ((180, 60), (210, 150), (150, 210)):
        cv2.circle(drawn, place, 2, 1, -1)
    marred = pixels.copy()
    marred[drawn > 0] = 250
    return cv2.GaussianBlur(marred, (0, 0), 0.6), drawn > 0


def test_a_planted_scratch_is_found(detector: LearnedDetector, real_photo: Pixels) -> None:
    ground = cv2.GaussianBlur(np.ascontiguousarray(real_photo[:256, :256]), (0, 0), 2)
    pixels, drawn = scratched(ground)
    found = detector.find(of(pixels))
    thin = (found.kinds == Kind.LINE) | (found.kinds == Kind.SPOT)
    assert thin[drawn].mean() > 0.8
    assert (found.kinds[:, 55:80] == Kind.LINE).sum() > 200
    near = cv2.dilate(drawn.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert near[thin].mean() > 0.9
    assert 0.5 <= (found.confidence[Kind.LINE] or 0) <= 1


@pytest.mark.parametrize("depth", ["grey", "16 bits", "again"])
def test_depth_and_channels_make_no_difference(detector: LearnedDetector, depth: str) -> None:
    grey, _ = scratched(np.ascontiguousarray(skimage.data.camera()[:256, :256, None].repeat(3, axis=2)))
    other = {"grey": grey[..., :1], "16 bits": grey.astype(np.uint16) * 257, "again": grey}[depth]
    one, two = detector.find(of(grey)), detector.find(of(other))
    assert one.kinds.any()
    assert np.array_equal(one.kinds, two.kinds)
    assert one.confidence == two.confidence


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (3, 3), (1, 3000), (3000, 1), (31, 33)], ids=str)
@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 1), ("uint16", 3)])
def test_no_shape_is_too_odd(
    detector: LearnedDetector, rng: np.random.Generator, shape: tuple[int, int], dtype: str, channels: int
) -> None:
    found = detector.find(of(rng.integers(0, np.iinfo(dtype).max, (*shape, channels), dtype=dtype)))
    assert (found.kinds.shape, found.kinds.dtype) == (shape, np.uint8)
    assert found.kinds.max() <= max(Kind)
    assert all(value is None or 0 <= value <= 1 for value in found.confidence.values())


def seen_in_training() -> set[str]:
    """Names of files among the photographs that the weights were trained on."""
    return {Path(photograph.path).stem for photograph in sources()}


@pytest.mark.parametrize("name", ["cell", "moon", "text", "page"])
def test_what_is_clean_is_left_alone(detector: LearnedDetector, name: str) -> None:
    """Pictures that training never saw; more than the limit on average, for a microscope's and a printed page are none of the
    photographs that it was calibrated on."""
    assert name not in seen_in_training()
    found = detector.find(of(np.atleast_3d(getattr(skimage.data, name)())))
    assert fraction_of(found.kinds) < 0.01


@pytest.fixture(scope="module")
def large() -> Pixels:
    pixels = cv2.resize(skimage.data.astronaut(), (900, 860), interpolation=cv2.INTER_CUBIC)
    drawn = np.zeros(pixels.shape[:2], np.uint8)
    for start, end in (((50, 40), (840, 500)), ((700, 20), (500, 840)), ((30, 800), (600, 560))):
        cv2.line(drawn, start, end, 1, 2)
    marred: Pixels = pixels.copy()
    marred[drawn > 0] = 240
    return marred


def test_tiles_answer_as_the_whole_does(detector: LearnedDetector, large: Pixels) -> None:
    """The network looks farther than the halo, but hardly: what lies there changes its mind in few pixels."""
    tiled = LearnedDetector(detector.network, MODEL, "cpu", LearnedSettings(tile=512, halo=96)).find(of(large))
    whole = detector.find(of(large))
    assert fraction_of(whole.kinds) > 0.003
    assert (whole.kinds != tiled.kinds).sum() < 0.03 * (whole.kinds > 0).sum()


def test_tiles_are_equal_where_the_network_looks_no_farther(detector: LearnedDetector, large: Pixels) -> None:
    reach = 320
    one = evidence(detector.scores(large))
    part = evidence(detector.scores(large[:, :800]))
    inside = np.s_[:, : 800 - reach]
    assert np.allclose(one[inside], part[inside], atol=1e-3)
    assert not np.allclose(one[:, 790:800], part[:, 790:800], atol=1e-3)


def test_other_threads_and_what_was_seen_before_make_no_difference(detector: LearnedDetector, large: Pixels) -> None:
    first, before = detector.scores(large[:256, :256]), torch.get_num_threads()
    detector.scores(large[100:300, 50:400])
    assert np.array_equal(first, detector.scores(large[:256, :256]))
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        assert np.array_equal(first, detector.scores(large[:256, :256]))
    finally:
        torch.set_num_threads(before)
