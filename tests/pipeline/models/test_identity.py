from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.models.catalogue import ModelCard
from pipeline.models.faces import TEMPLATE as PATCH_TEMPLATE
from pipeline.models.identity import EMBEDDERS, TEMPLATE, FaceEmbedder, crop, open_embedder
from pipeline.models.store import ModelSource, ModelStore

CardMaker = Callable[..., ModelCard]
WEIGHTS = "mobilefacenet_foamliu.onnx"


@pytest.fixture
def face(rng: np.random.Generator) -> NDArray[np.float32]:
    return cv2.GaussianBlur(rng.random((112, 112, 3)).astype(np.float32), (0, 0), 2)


def test_a_vector_has_length_one_and_is_the_same_again(
    models: ModelStore, embedder: FaceEmbedder, face: NDArray[np.float32]
) -> None:
    first = embedder.embed(face)
    assert (first.shape, first.dtype) == ((128,), np.float32)
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    embedder.embed(1 - face)
    assert embedder.embed(face).tobytes() == first.tobytes()
    assert open_embedder(models, "mobilefacenet").embed(face).tobytes() == first.tobytes()


def test_a_mirrored_face_is_the_same_person(embedder: FaceEmbedder, face: NDArray[np.float32]) -> None:
    mirrored = np.ascontiguousarray(face[:, ::-1])
    assert embedder.embed(face) @ embedder.embed(mirrored) == pytest.approx(1, abs=1e-5)


class Seeing:
    """Stands for a network: keeps what it is shown."""

    def __init__(self, answer: float = 1.0) -> None:
        self.seen: list[NDArray[np.float32]] = []
        self.answer = answer

    def setInput(self, blob: NDArray[np.float32]) -> None:  # noqa: N802
        self.seen.append(blob)

    def forward(self) -> NDArray[np.float32]:
        return np.full((1, 128), self.answer, np.float32)


@pytest.mark.parametrize(
    ("architecture", "black", "white"), [("sface", 0.0, 255.0), ("mobilefacenet", -0.485 / 0.229, (1 - 0.485) / 0.229)]
)
def test_each_network_sees_what_it_was_trained_on(architecture: str, black: float, white: float) -> None:
    seeing = Seeing()
    face = np.zeros((112, 112, 3), np.float32)
    face[:, :30, 0] = 1.0
    FaceEmbedder("mine", architecture, seeing).embed(face)
    assert [blob.shape for blob in seeing.seen] == [(1, 3, 112, 112)] * 2
    one, mirrored = (blob[0, 0] for blob in seeing.seen)
    assert one[5, 0] == pytest.approx(white, abs=1e-3)
    assert one[5, 60] == pytest.approx(black, abs=1e-3)
    assert np.array_equal(mirrored, one[:, ::-1])
    assert set(EMBEDDERS) == {"sface", "mobilefacenet"}


@pytest.mark.parametrize("answer", [0.0, np.nan, np.inf])
def test_no_vector_is_an_error(answer: float) -> None:
    with pytest.raises(RuntimeError, match="no vector"):
        FaceEmbedder("mine", "sface", Seeing(answer)).embed(np.zeros((112, 112, 3), np.float32))


def test_an_altered_file_is_not_opened(shared: Path, tmp_path: Path) -> None:
    data = bytearray((shared / "weights" / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (tmp_path / WEIGHTS).write_bytes(data)
    with pytest.raises(ModelError, match="is not the published file"):
        open_embedder(ModelStore(ModelSource(cache=str(tmp_path))), "mobilefacenet")


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x07" * 40])
def test_what_is_no_network_is_named(tmp_path: Path, card_for: CardMaker, content: bytes) -> None:
    (tmp_path / "mine.onnx").write_bytes(content)
    card = card_for(tmp_path / "mine.onnx", "sface")
    with pytest.raises(ModelError, match="does not fit sface"):
        open_embedder(ModelStore(ModelSource(cache=str(tmp_path), local=(card,))), "mine")


def test_a_model_for_something_else_is_named(models: ModelStore) -> None:
    with pytest.raises(ModelError, match=r"parsenet.* does not tell people apart"):
        open_embedder(models, "parsenet")


def test_a_model_that_has_no_address_says_where_to_put_it(tmp_path: Path) -> None:
    store = ModelStore(ModelSource(cache=str(tmp_path)))
    with pytest.raises(ModelError) as caught:
        store.ensure("mobilefacenet", public=True)
    assert caught.value.hint is not None
    assert WEIGHTS in caught.value.hint
    assert "albumen models fetch" not in caught.value.hint


def test_a_crop_has_its_features_where_the_network_wants_them() -> None:
    patch = np.zeros((512, 512, 3), np.float32)
    for x, y in PATCH_TEMPLATE:
        cv2.circle(patch, (round(x), round(y)), 12, (1, 1, 1), -1)
    face = crop(patch, PATCH_TEMPLATE, 100.0)
    assert face is not None
    assert face.shape == (112, 112, 3)
    for x, y in TEMPLATE:
        around = face[round(y) - 8 : round(y) + 9, round(x) - 8 : round(x) + 9, 0]
        rows, columns = np.mgrid[-8:9, -8:9]
        centre = np.array([(columns * around).sum(), (rows * around).sum()]) / around.sum()
        assert np.abs(centre + np.round((x, y)) - (x, y)).max() < 3


@pytest.mark.parametrize("eyes", [8.0, 16.0, 40.0])
def test_a_crop_is_no_finer_than_its_source(rng: np.random.Generator, eyes: float) -> None:
    """What a small scan cannot hold is not compared: a sharp face and the same at the scan's size give the same crop."""
    sharp = cv2.GaussianBlur(rng.random((512, 512, 3)).astype(np.float32), (0, 0), 1)
    side = round(512 * min(eyes, 35.24) / 125.94)
    small = cv2.resize(sharp, (side, side), interpolation=cv2.INTER_AREA)
    back = np.repeat(np.repeat(small, 1, 0), 1, 1)
    back = cv2.resize(back, (512, 512), interpolation=cv2.INTER_NEAREST)
    one, other = crop(sharp, PATCH_TEMPLATE, eyes), crop(back, PATCH_TEMPLATE, eyes)
    assert one is not None
    assert other is not None
    assert np.abs(one - other).mean() < 0.02


def test_points_that_coincide_give_no_crop() -> None:
    assert crop(np.zeros((512, 512, 3), np.float32), np.full((5, 2), 50.0), 30.0) is None
