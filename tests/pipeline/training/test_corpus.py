"""Clean photographs for training: what is none is named, crops are of any photograph of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import JobError
from pipeline.training.corpus import Corpus


def test_every_file_that_is_no_photograph_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(JobError) as caught:
        Corpus.load(tmp_path)
    assert "a.jpg" in str(caught.value)
    assert "b.png" in str(caught.value)
    with pytest.raises(JobError, match="holds no photograph"):
        Corpus.load(tmp_path / "none")


@pytest.mark.parametrize("shape", [(700, 3000, 3), (40, 30), (256, 256, 4)])
def test_crops_are_squares_of_the_wanted_side(tmp_path: Path, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / "a.png")
    corpus = Corpus.load(tmp_path)
    assert max(corpus.images[0].shape) <= 2400
    for seed in range(5):
        crop = corpus.crop(np.random.default_rng(seed), 64)
        assert (crop.shape, crop.dtype) == ((64, 64, 3), np.float32)
        assert 0 <= crop.min() < crop.max() <= 1
        assert np.array_equal(crop, corpus.crop(np.random.default_rng(seed), 64))


def test_its_digest_follows_from_the_files(tmp_path: Path, real_photo: NDArray[np.uint8]) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(real_photo[:50, :60]).save(tmp_path / name / "photo.png")
    assert Corpus.load(tmp_path / "a").digest() == Corpus.load(tmp_path / "b").digest()
    Image.fromarray(real_photo[:50, 1:61]).save(tmp_path / "b" / "photo.png")
    assert Corpus.load(tmp_path / "a").digest() != Corpus.load(tmp_path / "b").digest()


def test_profiles_are_honoured(tmp_path: Path, real_photo: NDArray[np.uint8], profiles: dict[str, bytes]) -> None:
    """The same samples are other colours in a wide gamut, and every network of ours sees sRGB."""
    image = Image.fromarray(np.ascontiguousarray(real_photo[:40, :40]))
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "wide.png", icc_profile=profiles["adobe"])
    plain, wide = Corpus.load(tmp_path).images
    assert np.array_equal(plain, real_photo[:40, :40])
    assert np.abs(plain.astype(int) - wide).max() > 10


def test_every_second_photograph_can_be_kept_apart(tmp_path: Path, rng: np.random.Generator) -> None:
    for name in "edcba":
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / f"{name}.png")
    corpus = Corpus.load(tmp_path)
    rest, kept = corpus.parted(2)
    assert (rest.names, kept.names) == (("b.png", "d.png"), ("a.png", "c.png", "e.png"))
    for part in (rest, kept):
        for name, image, digest in zip(part.names, part.images, part.sha256, strict=True):
            place = corpus.names.index(name)
            assert (image is corpus.images[place], digest) == (True, corpus.sha256[place])
