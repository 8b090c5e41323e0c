"""Trains the damage network on composed samples.

python -m pipeline.training.damage --samples samples/ --output training/ --epochs 6
python -m pipeline.training.damage --samples samples/ --output tuned/ --epochs 1 --start training/state.pt --photographs clean/
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
from pipeline.models.precision import bf16_where_native
from pipeline.stage import Device
from pipeline.training.content import busy
from pipeline.training.corpus import Corpus
from pipeline.training.evaluate import of_training
from pipeline.training.samples import Shard, read_shard
from pipeline.training.trainer import Settings, Training, export, parser_of, train
from pipeline.training.visibility import noticeable

# Damage covers a few per cent of what is damaged at all.
_WEIGHTS = (1.0, 3.0, 3.0, 2.0, 2.0)
# The code of a pixel that counts neither way: there is a mark, and nobody could see it.
UNSEEN = -1
# Shares of samples that become sound photographs, neither aged nor scanned, and of these with drawn content: composed samples
# are never as sharp.
_SOUND = 0.3
_BUSY = 0.25


class DamageLesson:
    """To tell kinds of damage from picture, in shards as `samples` writes them."""

    def __init__(self, paths: list[Path], start: Path | None = None, sound: Corpus | None = None) -> None:
        """start: state or exported weights of an earlier training, to go on from. sound: photographs to show as they are."""
        self.paths, self.start, self.sound = paths, start, sound

    @property
    def shards(self) -> int:
        return len(self.paths)

    @property
    def samples(self) -> int:
        return len(np.load(self.paths[0], mmap_mode="r"))

    def network(self) -> nn.Module:
        if self.start is None:
            return DamageNet(normed=True)
        # Already normalised, and trained as it will be used: a few samples at a time have other means than photographs do.
        return of_training(self.start).train()

    def batches(self, shard: int, size: int, rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, ...]]:
        """N x 10 x H x W float32 and N x H x W int64, mirrored and turned at random, lightness and colour varied."""
        planes = read_shard(self.paths[shard])
        order = rng.permutation(len(planes.kinds))
        for start in range(0, len(order) - size + 1, size):
            turned = [_varied(*self._sample(planes, number, rng), rng) for number in order[start : start + size]]
            yield (
                torch.from_numpy(np.stack([shown(p).transpose(2, 0, 1) for p, _ in turned])),
                torch.from_numpy(np.stack([k for _, k in turned])),
            )

    def _sample(
        self, planes: Shard, number: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if self.sound is not None and rng.random() < _SOUND:
            side = planes.kinds.shape[1]
            pixels = self.sound.crop(rng, side)
            return busy(pixels, rng) if rng.random() < _BUSY else pixels, np.zeros((side, side), np.int64)
        damaged, kinds = planes.damaged[number], planes.kinds[number]
        unseen = (kinds != Kind.NONE) & ~noticeable(damaged, planes.undamaged[number], kinds)
        return damaged.astype(np.float32) / np.float32(255), np.where(unseen, UNSEEN, kinds.astype(np.int64))

    def loss(self, network: nn.Module, *batch: torch.Tensor) -> torch.Tensor:
        planes, kinds = batch
        kind = bf16_where_native("fast", Device(planes.device.type))
        with torch.autocast(planes.device.type, kind, enabled=kind is not torch.float32):
            scores = network(planes)
        return loss_of(scores.float(), kinds)


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
    that is in it, of lines and spots together, and of all damage. Pixels that are UNSEEN count for neither."""
    weights = torch.tensor(_WEIGHTS, device=scores.device)
    entropy = functional.cross_entropy(scores, kinds, weight=weights, ignore_index=UNSEEN)
    counted = (kinds != UNSEEN)[:, None]
    chances = scores.softmax(1) * counted
    truth = functional.one_hot(kinds.clamp(min=0), KINDS).permute(0, 3, 1, 2).to(chances.dtype) * counted
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
    parser.add_argument("--shards", type=int, help="the first so many of the samples' shards; without it, all")
    parser.add_argument("--rate", type=float, default=usual.rate, help="highest learning rate")
    parser.add_argument("--start", type=Path, help="state.pt or damage.safetensors of an earlier training")
    parser.add_argument(
        "--photographs", type=Path, help="folder of clean photographs, to show some as they are as well"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    paths = sorted(options.samples.glob("shard-*.npy"))[: options.shards]
    if not paths:
        parser.error(f"{options.samples} holds no shard: python -m pipeline.training.samples makes them")
    settings = replace(usual, epochs=options.epochs, seed=options.seed, rate=options.rate)
    sound = None if options.photographs is None else Corpus.load(options.photographs)
    training = Training(settings, DamageLesson(paths, options.start, sound), options.device)
    train(training, options.output)
    network = training.averaged()
    assert isinstance(network, DamageNet)
    export(network if options.start else folded(network), options.output / "damage.safetensors")


if __name__ == "__main__":
    main()
