"""Training of the damage network: it learns, and an interruption leaves no trace in the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.damage.kinds import Kind
from pipeline.damage.marks import PLANES
from pipeline.training.damage import DamageLesson, loss_of
from pipeline.training.samples import shard_path
from pipeline.training.trainer import Settings, Training

QUICK = Settings(epochs=2, batch=4, rate=4e-3)


@pytest.fixture
def shards(tmp_path: Path, rng: np.random.Generator) -> list[Path]:
    """Grey squares with a bright line, 64 x 64."""
    paths = []
    for number in range(2):
        planes = np.zeros((16, 64, 64, 7), np.uint8)
        planes[..., :6] = rng.integers(60, 120, (16, 1, 1, 1))
        for sample in planes:
            place = int(rng.integers(8, 56))
            sample[place : place + 2, :, :3] = 250
            sample[place : place + 2, :, 6] = Kind.LINE
        np.save(shard_path(tmp_path, number), planes)
        paths.append(shard_path(tmp_path, number))
    return paths


def test_an_interrupted_training_ends_with_the_same_weights(shards: list[Path], tmp_path: Path) -> None:
    whole = Training(QUICK, DamageLesson(shards), "cpu")
    while whole.done < whole.total:
        whole.shard()
    for _ in range(whole.total):
        part = Training(QUICK, DamageLesson(shards), "cpu")
        if (tmp_path / "state.pt").exists():
            part.load(tmp_path / "state.pt")
        part.shard()
        part.save(tmp_path / "state.pt")
    assert part.step == whole.step == 16
    for one, other in (
        (whole.network.state_dict(), part.network.state_dict()),
        (whole.average, part.average),
    ):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_it_learns(shards: list[Path]) -> None:
    training = Training(Settings(epochs=4, batch=4, rate=4e-3), DamageLesson(shards), "cpu")
    losses = [training.shard()["loss"] for _ in range(training.total)]
    assert losses[-1] < 0.7 * losses[0]


def test_every_sample_is_seen_once_and_stays_with_its_truth(shards: list[Path]) -> None:
    seen = []
    for planes, kinds in DamageLesson(shards).batches(0, 4, np.random.default_rng(1)):
        assert planes.shape == (4, 3 + PLANES, 64, 64)
        for picture, truth in zip(planes[:, :3], kinds, strict=True):
            line = truth == Kind.LINE
            assert line.sum() == 128
            inside, outside = picture[:, line], picture[:, ~line]
            assert inside.std(dim=1).max() < 1e-6
            assert (inside.mean(dim=1) - outside.mean(dim=1)).abs().min() > 0.1
            seen.append(float(outside.mean()))
    assert len(seen) == 16


def test_the_loss_is_least_for_the_truth() -> None:
    kinds = torch.zeros(1, 8, 8, dtype=torch.long)
    kinds[0, 2] = Kind.SPOT
    right = 20.0 * torch.nn.functional.one_hot(kinds, 5).permute(0, 3, 1, 2).float()
    assert loss_of(right, kinds) < 0.01
    wrong = right.roll(1, dims=2)
    assert loss_of(wrong, kinds) > 1
    assert loss_of(torch.zeros(1, 5, 8, 8), kinds) > loss_of(right, kinds)
