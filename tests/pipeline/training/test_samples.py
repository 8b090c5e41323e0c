"""Composed samples: the same wherever they are made, and their truth true."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.damage.kinds import Kind
from pipeline.training.content import busy
from pipeline.training.samples import Recipe, compose, read_shard, shard_path


@pytest.fixture
def recipe(tmp_path: Path, real_photo: NDArray[np.uint8]) -> Recipe:
    (tmp_path / "clean").mkdir()
    Image.fromarray(real_photo).save(tmp_path / "clean" / "a.png")
    return Recipe(str(tmp_path / "clean"), None, seed=3, side=64, size=12)


def test_a_shard_is_the_same_bytes_whatever_was_made_before(recipe: Recipe, tmp_path: Path) -> None:
    for folder, numbers in (("one", (0, 1)), ("other", (1,))):
        (tmp_path / folder).mkdir()
        for number in numbers:
            compose(recipe, tmp_path / folder, number)
    one, other = (shard_path(tmp_path / folder, 1) for folder in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    assert one.read_bytes() != shard_path(tmp_path / "one", 0).read_bytes()


def test_a_shard_that_is_there_is_not_made_again(recipe: Recipe, tmp_path: Path) -> None:
    compose(recipe, tmp_path, 0)
    before = shard_path(tmp_path, 0).stat().st_mtime_ns
    compose(recipe, tmp_path, 0)
    assert shard_path(tmp_path, 0).stat().st_mtime_ns == before
    assert not list(tmp_path.glob("*.part"))


def test_damage_is_where_its_truth_says(recipe: Recipe, tmp_path: Path) -> None:
    compose(recipe, tmp_path, 0)
    shard = read_shard(shard_path(tmp_path, 0))
    assert shard.damaged.shape == shard.undamaged.shape == (12, 64, 64, 3)
    assert set(np.unique(shard.kinds)) <= {int(kind) for kind in Kind}
    assert (shard.kinds > 0).any()
    for damaged, undamaged, kinds in zip(shard.damaged, shard.undamaged, shard.kinds, strict=True):
        # Blur and JPEG carry damage over its edge, by no more than this.
        near = cv2.dilate((kinds > 0).astype(np.uint8), np.ones((33, 33), np.uint8)) > 0
        assert np.array_equal(damaged[~near], undamaged[~near])


def test_drawn_content_is_drawn_over_part_of_a_photograph(real_photo: NDArray[np.uint8]) -> None:
    photograph = real_photo[:128, :128].astype(np.float32) / 255
    shares = []
    for seed in range(20):
        drawn = busy(photograph, np.random.default_rng(seed))
        assert (drawn.shape, drawn.dtype) == (photograph.shape, np.float32)
        assert 0 <= drawn.min() <= drawn.max() <= 1
        shares.append(float((np.abs(drawn - photograph).max(axis=2) > 0.02).mean()))
    assert np.median(shares) > 0.01
    assert max(shares) < 0.99
