"""Trains the network that takes noise away, on crops of clean photographs with noise of many kinds added.

python -m pipeline.training.noise --photographs clean/ --start ffdnet_color.pth --output training/
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from pipeline.models.noise_net import NoiseNet, from_ffdnet
from pipeline.training.corpus import Corpus
from pipeline.training.trainer import Settings, Training, export, parser_of, train

Floats = NDArray[np.float32]

USUAL = Settings(epochs=1, batch=8, rate=3e-4, decay=0.0, warm=0.05, average=0.998)
# FFDNet for colour as KAIR publishes it, under the MIT licence.
START_SHA256 = "286f04f7e3a20254c067ba95efb5d3339f4fc8a09a365a93cd469184d4cdb279"
_SIDE = 64
_SAMPLES = 512
# Weight of the level's error beside the picture's.
_LEVEL = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Grain:
    """Noise as it is added. field: H x W x 3, of variance 1. constant, light, middle: standard deviation of its parts: one
    everywhere, one that grows with the square root of the light as photons do, one that is strongest in the middle tones as
    film's grain is."""

    field: Floats
    constant: float
    light: float = 0.0
    middle: float = 0.0

    def level(self, clean: Floats) -> Floats:
        """Standard deviation at every sample of H x W x 3 in 0..1."""
        light = np.clip(clean, 0, 1)
        variance = self.constant**2 + self.light**2 * light + self.middle**2 * 4 * light * (1 - light)
        found: Floats = np.sqrt(variance).astype(np.float32)
        return found

    def add(self, clean: Floats) -> Floats:
        """As a scan has it: what lies outside 0..1 is cut off."""
        noisy: Floats = np.clip(clean + self.field * self.level(clean), 0, 1)
        return noisy


def white(rng: np.random.Generator, side: int, sigma: float) -> Grain:
    """Independent in every sample. sigma: standard deviation, of samples in 0..1."""
    return Grain(rng.standard_normal((side, side, 3), np.float32), sigma)


def grain(rng: np.random.Generator, side: int, sigma: float, width: float, *, coloured: bool) -> Grain:
    """Correlated and signal-dependent. width: standard deviation of the Gaussian that correlates it, in pixels."""
    margin = 8
    raw = rng.standard_normal((side + 2 * margin, side + 2 * margin, 3 if coloured else 1), np.float32)
    soft = cv2.GaussianBlur(raw, (0, 0), width).reshape(raw.shape)[margin:-margin, margin:-margin]
    field = np.repeat(soft, 3 // soft.shape[2], axis=2) / np.float32(_deviation(width))
    shares = rng.dirichlet((1.0, 1.0, 1.0)) ** 0.5
    return Grain(np.ascontiguousarray(field, np.float32), *(float(sigma * share) for share in shares))


def _deviation(width: float) -> float:
    """Of white noise of variance 1 after a Gaussian."""
    kernel = cv2.getGaussianKernel(2 * 8 + 1, width)
    return float((kernel**2).sum())


def drawn(rng: np.random.Generator, side: int) -> Grain:
    """What training adds to one crop: white noise, grain, or none."""
    kind = rng.random()
    if kind < 0.04:
        return white(rng, side, 0.0)
    if kind < 0.5:
        return white(rng, side, float(rng.uniform(0, 55)) / 255)
    sigma = float(rng.uniform(2, 40)) / 255
    return grain(rng, side, sigma, float(rng.uniform(0.35, 1.4)), coloured=bool(rng.random() < 0.5))


class NoiseLesson:
    """To give back the photograph beneath. start: weights of FFDNet, or None to begin with random ones."""

    samples = _SAMPLES

    def __init__(self, corpus: Corpus, shards: int, start: dict[str, torch.Tensor] | None) -> None:
        self.corpus, self.shards, self.start = corpus, shards, start

    def network(self) -> nn.Module:
        network = NoiseNet()
        if self.start is not None:
            missing, unknown = network.load_state_dict(self.start, strict=False)
            assert not unknown
            assert all(name.startswith("level.") for name in missing)
        return network

    def batches(self, shard: int, size: int, rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, ...]]:
        """N x 3 x side x side noisy and clean, N x 1 x side/2 x side/2 levels."""
        for _ in range(_SAMPLES // size):
            made = [self._sample(rng) for _ in range(size)]
            yield tuple(torch.from_numpy(np.stack([sample[part] for sample in made])) for part in range(3))

    def _sample(self, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        clean = self.corpus.crop(rng, _SIDE)
        clean = np.ascontiguousarray(np.rot90(clean, int(rng.integers(4))))
        if rng.random() < 0.2:
            clean = np.repeat(clean.mean(axis=2, keepdims=True), 3, axis=2)
        clean = np.ascontiguousarray(clean, np.float32)
        noise = drawn(rng, _SIDE)
        variance = (noise.level(clean) ** 2).mean(axis=2)
        level = np.sqrt(cv2.resize(variance, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        return _planes(noise.add(clean)), _planes(clean), level[None]

    def loss(self, network: nn.Module, *batch: torch.Tensor) -> torch.Tensor:
        """Mean absolute errors of picture and level. Half of a batch is cleaned with the true level, so that each of the two
        networks learns its own part."""
        assert isinstance(network, NoiseNet)
        noisy, clean, truth = batch
        found = network.levels(noisy)
        half = len(noisy) // 2
        cleaned = network.cleaned(noisy, torch.cat([truth[:half], found[half:]]))
        return functional.l1_loss(cleaned, clean) + _LEVEL * functional.l1_loss(found, truth)


def _planes(pixels: Floats) -> Floats:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def read_start(path: Path) -> dict[str, torch.Tensor]:
    """Weights to begin with. Raises ValueError for another file than the one that was begun with."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != START_SHA256:
        raise ValueError(f"{path} is not the file that the shipped weights began with: its SHA-256 is another")
    return from_ffdnet(torch.load(path, map_location="cpu", weights_only=True))


def main() -> None:
    parser = parser_of(__doc__ or "", USUAL)
    parser.add_argument("--photographs", type=Path, required=True, help="folder of clean photographs")
    parser.add_argument("--start", type=Path, help="ffdnet_color.pth; without it, training begins with random weights")
    parser.add_argument("--shards", type=int, default=60, help=f"portions of {_SAMPLES} crops in an epoch")
    options = parser.parse_args()
    start = None if options.start is None else read_start(options.start)
    lesson = NoiseLesson(Corpus.load(options.photographs), options.shards, start)
    settings = replace(USUAL, epochs=options.epochs, seed=options.seed)
    training = Training(settings, lesson, options.device)
    train(training, options.output)
    export(training.averaged(), options.output / "noise.safetensors")


if __name__ == "__main__":
    main()
