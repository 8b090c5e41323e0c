"""Trains the damage network on composed samples. Stopped at any moment, it goes on where the last shard ended.

    python -m pipeline.training.damage --samples samples/ --output training/ --epochs 6

Same samples, seed and machine give the same weights, however often it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch.nn import functional

from pipeline.damage.kinds import Kind
from pipeline.models.damage_net import KINDS, DamageNet, folded
from pipeline.training.samples import read_shard

# Damage covers a few per cent of what is damaged at all.
_WEIGHTS = (1.0, 3.0, 3.0, 2.0, 2.0)


@dataclass(frozen=True, slots=True)
class Settings:
    """rate: highest learning rate, reached after `warm` of all steps, then falling as a cosine. batch: samples a step.
    average: of the exponential moving average of weights, which is what ships."""

    epochs: int = 6
    batch: int = 16
    rate: float = 2e-3
    decay: float = 1e-4
    warm: float = 0.03
    average: float = 0.998
    seed: int = 1


class Training:
    """The state of a training that can be put down and taken up at the end of every shard."""

    def __init__(self, settings: Settings, shards: list[Path], device: str) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.shards, self.device = settings, shards, device
        self.network = DamageNet(normed=True).to(device).to(memory_format=torch.channels_last)
        self.average = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.optimiser = torch.optim.AdamW(self.network.parameters(), settings.rate, weight_decay=settings.decay)
        self.done = 0
        self.step = 0

    @property
    def total(self) -> int:
        return self.settings.epochs * len(self.shards)

    def save(self, path: Path) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "done": self.done,
            "step": self.step,
            "settings": asdict(self.settings),
        }
        part = path.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, path)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.done, self.step = state["done"], state["step"]

    def shard(self) -> dict[str, float]:
        """One shard, every sample once. Returns the mean loss and its parts."""
        epoch, place = divmod(self.done, len(self.shards))
        order = np.random.default_rng((self.settings.seed, epoch)).permutation(len(self.shards))
        rng = np.random.default_rng((self.settings.seed, epoch, place))
        self.network.train()
        losses = []
        for pixels, kinds in batches(self.shards[order[place]], self.settings.batch, rng):
            self._set_rate()
            found = self.network(pixels.to(self.device, memory_format=torch.channels_last))
            loss = loss_of(found, kinds.to(self.device))
            self.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimiser.step()
            self.step += 1
            self._take_average()
            losses.append(loss.item())
        self.done += 1
        return {"loss": float(np.mean(losses)), "rate": self.optimiser.param_groups[0]["lr"]}

    def averaged(self) -> DamageNet:
        """What ships: the mean of the last weights, on the CPU."""
        network = DamageNet(normed=True)
        network.load_state_dict({name: tensor.cpu() for name, tensor in self.average.items()})
        return network.eval()

    def _set_rate(self) -> None:
        steps = self.total * (len(np.load(self.shards[0], mmap_mode="r")) // self.settings.batch)
        share = self.step / max(1, steps)
        warm = self.settings.warm
        factor = share / warm if share < warm else 0.5 * (1 + math.cos(math.pi * (share - warm) / (1 - warm)))
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.rate * max(factor, 1e-3)

    @torch.no_grad()
    def _take_average(self) -> None:
        # Early on the mean would still be made of random weights.
        keep = min(self.settings.average, (1 + self.step) / (10 + self.step))
        for name, tensor in self.network.state_dict().items():
            if tensor.dtype.is_floating_point:
                self.average[name].lerp_(tensor, 1 - keep)
            else:
                self.average[name].copy_(tensor)


def export(network: DamageNet, path: Path) -> None:
    """Writes a trained network as it is used, its weights rounded to 16-bit floats."""
    weights = {name: tensor.half().contiguous() for name, tensor in folded(network).state_dict().items()}
    save_file(weights, path)


def batches(path: Path, size: int, rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """N x 3 x H x W float32 in 0..1 and N x H x W int64, mirrored and turned at random, lightness and colour varied."""
    shard = read_shard(path)
    order = rng.permutation(len(shard.kinds))
    for start in range(0, len(order) - size + 1, size):
        chosen = np.sort(order[start : start + size])
        pixels = shard.damaged[chosen].astype(np.float32) / np.float32(255)
        kinds = shard.kinds[chosen].astype(np.int64)
        turned = [_varied(p, k, rng) for p, k in zip(pixels, kinds, strict=True)]
        yield (
            torch.from_numpy(np.stack([p.transpose(2, 0, 1) for p, _ in turned])),
            torch.from_numpy(np.stack([k for _, k in turned])),
        )


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
    """Weighted cross entropy, and what is missing from a soft Dice of each kind and of all damage together (Milletari et al.,
    3DV 2016) over the batch."""
    weights = torch.tensor(_WEIGHTS, device=scores.device)
    entropy = functional.cross_entropy(scores, kinds, weight=weights)
    chances = scores.softmax(1)
    truth = functional.one_hot(kinds, KINDS).permute(0, 3, 1, 2).to(chances.dtype)
    dice = [_dice(chances[:, kind], truth[:, kind]) for kind in Kind if kind]
    dice.append(_dice(1 - chances[:, 0], 1 - truth[:, 0]))
    return entropy + 1 - torch.stack(dice).mean()


def _dice(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return (2 * (found * truth).sum() + 1) / (found.sum() + truth.sum() + 1)


def main() -> None:
    usual = Settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=usual.epochs)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    shards = sorted(options.samples.glob("shard-*.npy"))
    if not shards:
        parser.error(f"{options.samples} holds no shard: python -m pipeline.training.samples makes them")
    options.output.mkdir(parents=True, exist_ok=True)
    training = Training(Settings(epochs=options.epochs, seed=options.seed), shards, options.device)
    state = options.output / "state.pt"
    if state.exists():
        training.load(state)
    _train(training, state, options.output / "log.jsonl")
    export(training.averaged(), options.output / "damage.safetensors")


def _train(training: Training, state: Path, log: Path) -> None:
    while training.done < training.total:
        started = time.perf_counter()
        found: dict[str, Any] = training.shard()
        training.save(state)
        found |= {"done": training.done, "of": training.total, "seconds": round(time.perf_counter() - started, 1)}
        with log.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(json.dumps(found), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
