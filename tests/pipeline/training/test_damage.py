"""Training of the damage network: it learns, an interruption leaves no trace in the weights, and options do what they say."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pipeline.damage.kinds import Kind
from pipeline.damage.marks import PLANES
from pipeline.models.damage_net import DamageNet, folded
from pipeline.training import damage
from pipeline.training.corpus import Corpus
from pipeline.training.damage import UNSEEN, DamageLesson, loss_of
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


def test_what_nobody_could_see_has_no_part_in_the_loss(rng: np.random.Generator) -> None:
    """The loss is that of the other half alone, whatever the scores of this half are, and nothing is learned from it."""
    kinds = torch.from_numpy(rng.integers(0, 5, (2, 16, 32)))
    scores = torch.from_numpy(rng.normal(0, 2, (2, 5, 16, 32)).astype(np.float32))
    half = loss_of(scores[..., :16], kinds[..., :16])
    kinds[..., 16:] = UNSEEN
    scores.requires_grad_()
    loss = loss_of(scores, kinds)
    torch.testing.assert_close(loss, half)
    loss.backward()
    assert scores.grad is not None
    assert not scores.grad[..., 16:].any()
    assert scores.grad[..., :16].any()


def test_a_batch_of_which_nothing_can_be_seen_is_learned_from_like_a_clean_one() -> None:
    kinds = torch.zeros(1, 8, 8, dtype=torch.long)
    kinds[0, 2] = UNSEEN
    right = torch.zeros(1, 5, 8, 8)
    right[:, 0] = 20
    assert loss_of(right, kinds) < 1e-6


def test_faint_marks_are_unseen_and_plain_ones_keep_their_kind(shards: list[Path]) -> None:
    planes = np.load(shards[0])
    faint = planes[..., 6] > 0
    faint[8:] = False
    planes[faint, :3] = planes[faint, 3:6] + 3
    np.save(shards[0], planes)
    found = [truth for _, kinds in DamageLesson(shards).batches(0, 4, np.random.default_rng(1)) for truth in kinds]
    codes = sorted(tuple(truth.unique().tolist()) for truth in found)
    assert codes == [(UNSEEN, Kind.NONE)] * 8 + [(Kind.NONE, Kind.LINE)] * 8
    assert all(int((truth != Kind.NONE).sum()) == 128 for truth in found)


@pytest.fixture
def corpus(rng: np.random.Generator) -> Corpus:
    """One photograph that is nothing but grain, which no sample of `shards` has."""
    return Corpus(("grain.png",), (rng.integers(0, 256, (96, 96, 3), np.uint8),), ("",))


def test_some_samples_are_sound_photographs(shards: list[Path], corpus: Corpus) -> None:
    sound = total = 0
    for shard in range(len(shards)):
        for planes, kinds in DamageLesson(shards, sound=corpus).batches(shard, 4, np.random.default_rng(5)):
            for picture, truth in zip(planes[:, :3], kinds, strict=True):
                grainy = bool(picture[:, truth == Kind.NONE].std(dim=1).min() > 0.05)
                # Where there is no damage it is the photograph, and where there is one it is the sample.
                assert grainy == bool((truth == Kind.NONE).all())
                sound, total = sound + grainy, total + 1
    assert total == 32
    assert 4 <= sound <= 16


def test_an_interruption_leaves_no_trace_with_sound_photographs_either(shards: list[Path], corpus: Corpus) -> None:
    one, other = (
        [
            (planes, kinds)
            for planes, kinds in DamageLesson(shards, sound=corpus).batches(1, 4, np.random.default_rng(7))
        ]
        for _ in range(2)
    )
    assert all(
        torch.equal(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)
    )


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shards: list[Path]) -> Callable[..., Path]:
    """Runs the command on `shards`; the folder of what came out."""

    def run(name: str, *options: object) -> Path:
        output = tmp_path / name
        words = ["damage", "--samples", tmp_path, "--output", output, "--epochs", 1, "--threads", 1, *options]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        damage.main()
        return output

    return run


def test_a_training_goes_on_from_the_mean_of_another(train: Callable[..., Path], tmp_path: Path) -> None:
    """At a rate of nothing it ends with the weights that it was given: the averaged ones, and not the last."""
    torch.manual_seed(11)
    average, last = DamageNet(normed=True), DamageNet(normed=True)
    torch.save({"average": average.state_dict(), "network": last.state_dict()}, tmp_path / "state.pt")
    output = train("tuned", "--start", tmp_path / "state.pt", "--rate", 0)
    ended = torch.load(output / "state.pt", weights_only=True)
    weights = dict(folded(average).named_parameters())
    assert all(torch.equal(ended["average"][name], weight) for name, weight in weights.items())
    fresh = torch.load(train("fresh", "--rate", 0) / "state.pt", weights_only=True)
    assert not torch.equal(fresh["average"]["head.weight"], weights["head.weight"])


def test_a_training_goes_on_from_exported_weights(train: Callable[..., Path]) -> None:
    """And what it exports is open to the next one: bounds, which calibration sets, come along."""
    first = train("first") / "damage.safetensors"
    again = train("again", "--start", first, "--rate", 0) / "damage.safetensors"
    one, other = load_file(first), load_file(again)
    assert set(one) == set(other)
    assert all(torch.equal(other[name], tensor) for name, tensor in one.items())
    tuned = load_file(train("tuned", "--start", again, "--rate", 1e-3) / "damage.safetensors")
    assert not torch.equal(tuned["head.weight"], one["head.weight"])


def test_options_of_the_command_are_followed(
    train: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    (tmp_path / "clean").mkdir()
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "clean" / "grain.png")
    seen: list[Training] = []
    monkeypatch.setattr(damage, "train", lambda training, folder: (seen.append(training), folder.mkdir()))
    output = train("one", "--shards", 1, "--rate", 6e-4, "--seed", 3, "--photographs", tmp_path / "clean")
    [training] = seen
    assert isinstance(training.lesson, DamageLesson)
    assert (training.lesson.shards, training.settings.rate, training.settings.seed) == (1, 6e-4, 3)
    assert training.lesson.sound is not None
    assert training.lesson.sound.names == ("grain.png",)
    exported = load_file(output / "damage.safetensors")
    expected = folded(training.averaged()).state_dict()  # type: ignore[arg-type]
    assert all(torch.equal(exported[name], tensor.half()) for name, tensor in expected.items())


def test_each_shard_is_in_the_log(train: Callable[..., Path]) -> None:
    lines = [json.loads(line) for line in (train("logged") / "log.jsonl").read_text().splitlines()]
    assert [(line["done"], line["of"]) for line in lines] == [(1, 2), (2, 2)]
