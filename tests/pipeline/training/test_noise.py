"""Noise for training is as strong and as correlated as it is said to be, and both networks learn from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.degradation.ageing import middle_tones
from pipeline.degradation.scanning import Jpeg
from pipeline.training.corpus import Corpus
from pipeline.training.grain import Floats, added, drawn, film, halved, sensor, white
from pipeline.training.noise import Check, FinderLesson, RemoverLesson, conditions, joined, read_start
from pipeline.training.trainer import Settings, Training, train


@pytest.fixture
def corpus(real_photo: NDArray[np.uint8]) -> Corpus:
    photo = np.ascontiguousarray(real_photo[:200, :200])
    names = tuple(f"{number}.png" for number in range(3))
    return Corpus(names, tuple(np.ascontiguousarray(np.roll(photo, n, 1)) for n in range(3)), names)


def grey(value: float = 0.5, side: int = 200) -> Floats:
    return np.full((side, side, 3), value, np.float32)


def test_white_noise_is_white(rng: np.random.Generator) -> None:
    noisy = added(grey(), [white(rng, grey(), 0.05)])
    assert (noisy.pixels - 0.5).std() == pytest.approx(0.05, rel=0.02)
    assert noisy.level == pytest.approx(0.05)
    assert max(noisy.along, noisy.between) < 0.02
    neutral = added(grey(), [white(rng, grey(), 0.05, neutral=True)])
    assert neutral.between == pytest.approx(1)
    assert (neutral.pixels[..., :1] == neutral.pixels).all()


@pytest.mark.parametrize(("width", "along"), [(0.6, 0.445), (1.0, 0.78)])
def test_grain_is_correlated_as_a_gaussian_is(rng: np.random.Generator, width: float, along: float) -> None:
    noisy = added(grey(), [film(rng, grey(), 0.06, width)])
    assert noisy.along == pytest.approx(along, abs=0.05)
    assert noisy.between == pytest.approx(1, abs=0.001)
    assert added(grey(), [film(rng, grey(), 0.06, width, 1.0)]).between < 0.1


def test_levels_follow_the_light_and_add_up(rng: np.random.Generator) -> None:
    clean = grey()
    clean[:100] = 0.1
    for layers in (
        [film(rng, clean, 0.05, 0.5)],
        [sensor(rng, clean, 0.01, 0.06, 0.0, coloured=True)],
        [film(rng, clean, 0.03, 0.5), white(rng, clean, 0.02)],
    ):
        noisy = added(clean, layers)
        for rows in (np.s_[:100], np.s_[100:]):
            assert noisy.level[rows].mean() == pytest.approx((noisy.pixels - clean)[rows].std(), rel=0.06)
        assert noisy.level[0, 0] < 0.9 * noisy.level[-1, 0]
    assert film(rng, clean, 0.05, 0.5).level[0, 0, 0] == pytest.approx(0.05 * middle_tones(np.float32(0.1)))


def test_what_jpeg_leaves_of_noise_is_its_level(rng: np.random.Generator) -> None:
    clean = grey()
    noisy = added(clean, [white(rng, clean, 0.04)], Jpeg(60, subsampled=False))
    assert noisy.level.mean() == pytest.approx((noisy.pixels - clean).std(), rel=0.02)
    assert noisy.level.mean() < 0.036


def test_where_there_is_none_nothing_is_said(rng: np.random.Generator) -> None:
    noisy = added(grey(), ())
    assert np.array_equal(noisy.pixels, grey())
    assert (noisy.level.max(), noisy.along, noisy.between) == (0, 0, 0)


def test_all_kinds_are_drawn_and_neutral_stays_neutral(rng: np.random.Generator, real_photo: NDArray[np.uint8]) -> None:
    photo = np.ascontiguousarray(real_photo[:64, :64], np.float32) / 255
    neutral = np.repeat(photo.mean(axis=2, keepdims=True), 3, axis=2)
    seen = [drawn(rng, photo, neutral=False) for _ in range(150)]
    assert {noisy.level.max() == 0 for noisy in seen} == {True, False}
    assert min(noisy.along for noisy in seen) < 0.05
    assert max(noisy.along for noisy in seen) > 0.7
    assert all(
        noisy.pixels.dtype == np.float32 and 0 <= noisy.pixels.min() <= noisy.pixels.max() <= 1 for noisy in seen
    )
    for _ in range(30):
        pixels = drawn(rng, neutral, neutral=True).pixels
        assert np.abs(pixels - pixels[..., :1]).max() < 1e-6


def test_levels_are_halved_by_power() -> None:
    level = np.zeros((4, 4), np.float32)
    level[0, 0] = 0.2
    assert halved(level)[0, 0] == pytest.approx(0.1)
    assert halved(level).max() == halved(level)[0, 0]


def test_batches_are_what_the_networks_take(corpus: Corpus) -> None:
    for lesson, exact in ((FinderLesson(corpus, 1), True), (RemoverLesson(corpus, 1, None), False)):
        noisy, clean, told = next(lesson.batches(0, 4, np.random.default_rng(3)))
        again = next(lesson.batches(0, 4, np.random.default_rng(3)))
        assert all(torch.equal(one, other) for one, other in zip((noisy, clean, told), again, strict=True))
        assert noisy.shape == clean.shape == (4, 3, lesson.side, lesson.side)
        assert told.shape == (4, 3, lesson.side // 2, lesson.side // 2)
        noise = (noisy - clean).square().mean(dim=(1, 2, 3)).sqrt()
        assert torch.allclose(
            told[:, 0].square().mean(dim=(1, 2)).sqrt(), noise, rtol=0.1 if exact else 1.5, atol=0.004
        )


def test_a_photograph_is_on_one_side_only(corpus: Corpus) -> None:
    seen, held = corpus.parted(2)
    assert (seen.names, held.names) == (("1.png",), ("0.png", "2.png"))


def test_both_learn_and_the_best_of_each_is_joined(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.training.noise._SAMPLES", 32)
    for lesson in (FinderLesson, RemoverLesson):
        monkeypatch.setattr(lesson, "samples", 32)
    check = Check.of(corpus.only(0), side=64)
    settings = Settings(epochs=1, batch=4, rate=3e-3, decay=0.0, average=0.9)
    finder = Training(settings, FinderLesson(corpus, 4), "cpu")
    remover = Training(settings, RemoverLesson(corpus, 1, None), "cpu")
    for name, training, checked in (("finder", finder, check.finder), ("remover", remover, check.remover)):
        before = checked(training.averaged())["score"]
        train(training, tmp_path / name, checked)
        assert training.best > before
    network = joined(tmp_path)
    assert check.finder(network.finder)["score"] == pytest.approx(finder.best, abs=1e-3)
    assert check.remover(network.remover)["score"] == pytest.approx(remover.best, abs=1e-3)


def test_only_the_file_that_was_begun_with_is_a_start(tmp_path: Path, shared: Path) -> None:
    other = tmp_path / "ffdnet_color.pth"
    torch.save({"model.0.weight": torch.zeros(96, 13, 3, 3)}, other)
    with pytest.raises(ValueError, match="not the file"):
        read_start(other)
    start = read_start(shared / "weights" / "ffdnet_color.pth")
    assert start["layers.0.base.weight"].shape == (96, 15, 3, 3)
    assert not start["layers.0.base.weight"][:, 13:].any()


def test_conditions_say_what_is_true(rng: np.random.Generator) -> None:
    noisy = added(grey(), [white(rng, grey(), 0.05)])
    told = conditions(noisy)
    assert told.shape == (3, 100, 100)
    assert told[0] == pytest.approx(0.05)
    assert told[1].max() == told[1].min() == np.float32(noisy.along)
