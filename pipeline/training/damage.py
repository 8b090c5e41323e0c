"""Trains the damage network on composed samples.

python -m pipeline.training.damage --samples samples/ --output training/ --epochs 6
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from pipeline.damage.kinds import Kind
from pipeline.damage.marks import shown
from pipeline.models.damage_net import KINDS, DamageNet, folded
from pipeline.training.samples import read_shard
from pipeline.training.trainer import Settings, Training, export, parser_of, train

# Damage covers a few per cent of what is damaged at all.
_WEIGHTS = (1.0, 3.0, 3.0, 2.0, 2.0)


class DamageLesson:
    """To tell kinds of damage from picture, in shards as `samples` writes them."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    @property
    def shards(self) -> int:
        return len(self.paths)

    @property
    def samples(self) -> int:
        return len(np.load(self.paths[0], mmap_mode="r"))

    def network(self) -> nn.Module:
        return DamageNet(normed=True)

    def batches(self, shard: int, size: int, rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, ...]]:
        """N x 10 x H x W float32 and N x H x W int64, mirrored and turned at random, lightness and colour varied."""
        planes = read_shard(self.paths[shard])
        order = rng.permutation(len(planes.kinds))
        for start in range(0, len(order) - size + 1, size):
            chosen = np.sort(order[start : start + size])
            pixels = planes.damaged[chosen].astype(np.float32) / np.float32(255)
            kinds = planes.kinds[chosen].astype(np.int64)
            turned = [_varied(p, k, rng) for p, k in zip(pixels, kinds, strict=True)]
            yield (
                torch.from_numpy(np.stack([shown(p).transpose(2, 0, 1) for p, _ in turned])),
                torch.from_numpy(np.stack([k for _, k in turned])),
            )

    def loss(self, network: nn.Module, *batch: torch.Tensor) -> torch.Tensor:
        planes, kinds = batch
        return loss_of(network(planes), kinds)


def _varied(
    pixels: NDArray[np.float32], kinds: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    quarter, mirrored = int(rng.integers(4)), rng.random() < 0.5
    pixels, kinds = np.rot90(pixels, quarter), np.rot90(kinds, quarter)
    if mirrored:
        pixels, kinds = pixels[:, ::-1], kinds[:, ::-1]
    # A negative of a print and an over-exposed one look as damaged as the print.
    pixels = pixels ** np.float32(np.exp(rng.uniform(-0.4, 0.4))) * np.float32(rng.uniform(0.75, 1.0))
    if rng.random() < 0.15:
        pixels = 1 - pixels
    if rng.random() < 0.3:
        pixels = pixels[..., rng.permutation(3)]
    return np.ascontiguousarray(pixels), np.ascontiguousarray(kinds)


def loss_of(scores: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
    """Weighted cross entropy, and what is missing from a soft Dice (Milletari et al., 3DV 2016) over the batch: of each kind
    that is in it, of lines and spots together, and of all damage."""
    weights = torch.tensor(_WEIGHTS, device=scores.device)
    entropy = functional.cross_entropy(scores, kinds, weight=weights)
    chances = scores.softmax(1)
    truth = functional.one_hot(kinds, KINDS).permute(0, 3, 1, 2).to(chances.dtype)
    thin = [Kind.LINE, Kind.SPOT]
    groups = [[kind] for kind in Kind if kind] + [thin, [kind for kind in Kind if kind]]
    dice = [_dice(chances[:, group].sum(1), truth[:, group].sum(1)) for group in groups if bool(truth[:, group].any())]
    return entropy + 1 - torch.stack(dice).mean() if dice else entropy


def _dice(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return (2 * (found * truth).sum() + 1) / (found.sum() + truth.sum() + 1)


def main() -> None:
    # Many small steps: on a few cores a network sees too few of them otherwise.
    usual = Settings(batch=4, rate=1.5e-3)
    parser = parser_of(__doc__ or "", usual)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    paths = sorted(options.samples.glob("shard-*.npy"))
    if not paths:
        parser.error(f"{options.samples} holds no shard: python -m pipeline.training.samples makes them")
    settings = replace(usual, epochs=options.epochs, seed=options.seed)
    training = Training(settings, DamageLesson(paths), options.device)
    train(training, options.output)
    network = training.averaged()
    assert isinstance(network, DamageNet)
    export(folded(network), options.output / "damage.safetensors")


if __name__ == "__main__":
    main()
