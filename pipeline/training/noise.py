"""Trains the two networks against noise, one after the other, on crops of clean photographs with noise of many kinds added.

    python -m pipeline.training.noise --photographs clean/ --start ffdnet_color.pth --output training/

Every eighth photograph is kept from training; what the networks do on these decides which state of them ships.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline.models.noise_net import LEAST_LEVEL, NoiseFinder, NoiseNet, NoiseRemover, from_ffdnet
from pipeline.training.corpus import Corpus
from pipeline.training.grain import Floats, Noisy, drawn, film, halved, sensor, white
from pipeline.training.grain import added as with_noise
from pipeline.training.trainer import Check as Checked
from pipeline.training.trainer import Settings, Training, export, parser_of, train

# FFDNet for colour as KAIR publishes it, under the MIT licence.
START_SHA256 = "286f04f7e3a20254c067ba95efb5d3339f4fc8a09a365a93cd469184d4cdb279"
FINDER = Settings(epochs=1, batch=16, rate=3e-3, decay=0.0, warm=0.03, average=0.998)
REMOVER = Settings(epochs=1, batch=8, rate=2e-3, decay=0.0, warm=0.03, average=0.995)
_SAMPLES = 512
_HELD_OUT = 8
_NEUTRAL = 0.3
# Errors below this hardly count, in parts of 1.
_LEAST_ERROR = 0.5 / 255


class NoiseLesson(ABC):
    """What both have in common. shards: portions of 512 crops. side: of a crop in pixels, even."""

    samples = _SAMPLES

    def __init__(self, corpus: Corpus, shards: int, side: int) -> None:
        self.corpus, self.shards, self.side = corpus, shards, side

    def batches(self, shard: int, size: int, rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, ...]]:
        """N x 3 x side x side noisy and clean, N x 3 x side/2 x side/2 conditions."""
        for _ in range(_SAMPLES // size):
            made = [self._sample(rng) for _ in range(size)]
            yield tuple(torch.from_numpy(np.stack([sample[part] for sample in made])) for part in range(3))

    @abstractmethod
    def network(self) -> nn.Module: ...

    @abstractmethod
    def loss(self, network: nn.Module, *batch: torch.Tensor) -> torch.Tensor: ...

    def _sample(self, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        clean = np.rot90(self.corpus.crop(rng, self.side), int(rng.integers(4)))
        neutral = bool(rng.random() < _NEUTRAL)
        if neutral:
            clean = np.repeat(clean.mean(axis=2, keepdims=True), 3, axis=2)
        clean = np.ascontiguousarray(clean, np.float32)
        noisy = self.drawn(rng, clean, neutral=neutral)
        return planes(noisy.pixels), planes(clean), self.told(conditions(noisy), rng)

    def drawn(self, rng: np.random.Generator, clean: Floats, *, neutral: bool) -> Noisy:
        return drawn(rng, clean, neutral=neutral)

    def told(self, truth: Floats, rng: np.random.Generator) -> Floats:
        return truth


class FinderLesson(NoiseLesson):
    """To say what noise there is, and how far that may be wrong. start: weights of an earlier training, or None."""

    def __init__(self, corpus: Corpus, shards: int, start: dict[str, torch.Tensor] | None = None) -> None:
        super().__init__(corpus, shards, 80)
        self.start = start

    def network(self) -> nn.Module:
        network = NoiseFinder()
        if self.start is not None:
            network.load_state_dict(self.start)
        return network

    def loss(self, network: nn.Module, *batch: torch.Tensor) -> torch.Tensor:
        """Likelihood of the levels' ratio under a Laplace distribution whose width the network says itself (Kendall and Gal,
        NeurIPS 2017), and absolute errors of the correlations where there is noise to have some."""
        noisy, _, truth = batch
        found = network(noisy)
        level = truth[:, :1]
        ratio = (torch.log(found[:, :1] + LEAST_LEVEL) - torch.log(level + LEAST_LEVEL)).abs()
        doubt = found[:, 3:]
        there = level / (level + 2 * LEAST_LEVEL)
        wrong = (found[:, 1:3] - truth[:, 1:]).abs() * there
        loss: torch.Tensor = (ratio * torch.exp(-doubt) + doubt).mean() + 2 * wrong.mean()
        return loss


class RemoverLesson(NoiseLesson):
    """To give back the photograph beneath, told what noise there is. start: of FFDNet, which stays as it is, or None
    to train all of it from random weights."""

    def __init__(self, corpus: Corpus, shards: int, start: dict[str, torch.Tensor] | None) -> None:
        super().__init__(corpus, shards, 64)
        self.start = start

    def network(self) -> nn.Module:
        network = NoiseRemover()
        if self.start is not None:
            _, unknown = network.load_state_dict(self.start, strict=False)
            assert not unknown
            for name, parameter in network.named_parameters():
                parameter.requires_grad_(".base." not in name)
        return network

    def drawn(self, rng: np.random.Generator, clean: Floats, *, neutral: bool) -> Noisy:
        """Nothing is to be learned of white noise."""
        while True:
            noisy = drawn(rng, clean, neutral=neutral)
            if max(noisy.along, noisy.between) > 0.12:
                return noisy

    def told(self, truth: Floats, rng: np.random.Generator) -> Floats:
        """Not quite right, as what is found of noise never is."""
        wrong = rng.normal(0, (0.25, 0.12, 0.12)).astype(np.float32)
        correlations = np.clip(truth[1:] + wrong[1:, None, None], 0, 1)
        roughly: Floats = np.concatenate([truth[:1] * np.exp(wrong[:1]), correlations])
        return roughly

    def loss(self, network: nn.Module, *batch: torch.Tensor) -> torch.Tensor:
        """Mean logarithm of each crop's squared error, PSNR but for a factor: a tenth of weak noise and a tenth of strong noise
        count alike."""
        noisy, clean, told = batch
        error = (network(noisy, told) - clean).square().mean(dim=(1, 2, 3))
        return torch.log(error + _LEAST_ERROR**2).mean()


def planes(pixels: Floats) -> Floats:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def conditions(noisy: Noisy) -> Floats:
    """3 x H/2 x W/2: what NoiseRemover is told."""
    level = halved(noisy.level)
    return np.stack([level, np.full_like(level, noisy.along), np.full_like(level, noisy.between)])


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """Photographs that were kept from training, with the same noise every time."""

    cases: tuple[tuple[Floats, Noisy], ...]

    @classmethod
    def of(cls, corpus: Corpus, side: int = 160) -> Check:
        cases: list[tuple[Floats, Noisy]] = []
        for number in range(len(corpus.images)):
            rng = np.random.default_rng((3, number))
            clean = corpus.only(number).crop(rng, side)
            sigma = (5, 10, 20, 35)[number % 4] / 255
            kinds = (
                [white(rng, clean, sigma)],
                [film(rng, clean, sigma, float(rng.uniform(0.4, 1.3)), float(rng.uniform(0, 0.4)))],
                [film(rng, clean, sigma, 0.7), sensor(rng, clean, sigma / 4, sigma / 2, 0.0, coloured=True)],
            )
            cases.extend((clean, with_noise(clean, layers)) for layers in kinds)
        return cls(tuple(cases))

    def remover(self, network: nn.Module) -> dict[str, float]:
        """score: PSNR in dB over all; white, grain: over a kind."""
        found = []
        for clean, noisy in self.cases:
            with torch.inference_mode():
                after = network(_batch(planes(noisy.pixels)), _batch(conditions(noisy)))[0].clamp(0, 1)
            found.append(-10 * float((after - torch.from_numpy(planes(clean))).square().mean().log10()))
        return {"score": _mean(found), "white": _mean(found[::3]), "grain": _mean([*found[1::3], *found[2::3]])}

    def finder(self, network: nn.Module) -> dict[str, float]:
        """score: less what the surest of every photograph is wrong by: the logarithm of the level and the correlations."""
        levels, correlations = [], []
        for _, noisy in self.cases:
            with torch.inference_mode():
                found = network(_batch(planes(noisy.pixels)))[0]
            truth = torch.from_numpy(conditions(noisy))
            weight = torch.exp(-2 * found[3])
            weight = weight / weight.sum()
            ratio = torch.log(found[0] + LEAST_LEVEL) - torch.log(truth[0] + LEAST_LEVEL)
            levels.append(abs(float((weight * ratio).sum())))
            correlations.append(float((weight * (found[1:3] - truth[1:])).sum(dim=(1, 2)).abs().mean()))
        return {"score": -_mean(levels) - _mean(correlations), "level": _mean(levels), "told": _mean(correlations)}


def _batch(array: Floats) -> torch.Tensor:
    return torch.from_numpy(array)[None]


def _mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 4)


def read_start(path: Path) -> dict[str, torch.Tensor]:
    """Weights to begin with. Raises ValueError for another file than the one that was begun with."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != START_SHA256:
        raise ValueError(f"{path} is not the file that the shipped weights began with: its SHA-256 is another")
    return from_ffdnet(torch.load(path, map_location="cpu", weights_only=True))


def joined(folder: Path) -> NoiseNet:
    """The best state of each, as they ship."""
    network = NoiseNet()
    for name, part in (("finder", network.finder), ("remover", network.remover)):
        part.load_state_dict(torch.load(folder / name / "best.pt", map_location="cpu", weights_only=True))
    return network


def main() -> None:
    parser = parser_of(__doc__ or "", REMOVER)
    parser.add_argument("--photographs", type=Path, required=True, help="folder of clean photographs")
    parser.add_argument("--start", type=Path, help="ffdnet_color.pth; without it, training begins with random weights")
    parser.add_argument("--finder-start", type=Path, help="best.pt of an earlier training of the finder, to go on from")
    parser.add_argument("--finder-shards", type=int, default=20, help=f"portions of {_SAMPLES} crops in an epoch")
    parser.add_argument("--remover-shards", type=int, default=14)
    parser.add_argument("--only", choices=("finder", "remover"), help="one of the two, for both can be trained at once")
    options = parser.parse_args()
    start = None if options.start is None else read_start(options.start)
    earlier = None if options.finder_start is None else torch.load(options.finder_start, weights_only=True)
    seen, held = Corpus.load(options.photographs).parted(_HELD_OUT)
    check = Check.of(held)
    lessons: dict[str, tuple[Settings, NoiseLesson, Checked]] = {
        "finder": (FINDER, FinderLesson(seen, options.finder_shards, earlier), check.finder),
        "remover": (REMOVER, RemoverLesson(seen, options.remover_shards, start), check.remover),
    }
    for name in lessons if options.only is None else (options.only,):
        settings, lesson, checked = lessons[name]
        settings = replace(settings, epochs=options.epochs, seed=options.seed)
        train(Training(settings, lesson, options.device), options.output / name, checked)
    if all((options.output / name / "best.pt").exists() for name in lessons):
        export(joined(options.output), options.output / "noise.safetensors")


if __name__ == "__main__":
    main()
