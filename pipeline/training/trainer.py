"""Trains a network shard by shard. Stopped at any moment, it goes on where the last shard ended.

Same samples, seed and machine give the same weights, however often it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

Check = Callable[[nn.Module], Mapping[str, float]]
_CHECK_EVERY = 4


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


class Lesson(Protocol):
    """What is learned. shards: how many portions of samples there are. samples: in each of them."""

    @property
    def shards(self) -> int: ...

    @property
    def samples(self) -> int: ...

    def network(self) -> nn.Module:
        """The network to train, as it begins."""
        ...

    def batches(self, shard: int, size: int, rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, ...]]:
        """Every sample of a shard once, but for what does not fill a batch."""
        ...

    def loss(self, network: nn.Module, *batch: torch.Tensor) -> torch.Tensor: ...


class Training:
    """The state of a training that can be put down and taken up at the end of every shard."""

    def __init__(self, settings: Settings, lesson: Lesson, device: str) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.lesson, self.device = settings, lesson, device
        self.network = lesson.network().to(device).to(memory_format=torch.channels_last)
        self.average = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.optimiser = torch.optim.AdamW(self.network.parameters(), settings.rate, weight_decay=settings.decay)
        self.done = 0
        self.step = 0
        self.best = -math.inf

    @property
    def total(self) -> int:
        return self.settings.epochs * self.lesson.shards

    def save(self, path: Path) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "done": self.done,
            "step": self.step,
            "best": self.best,
            "settings": asdict(self.settings),
        }
        _save(state, path)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.done, self.step, self.best = state["done"], state["step"], state.get("best", -math.inf)

    def shard(self) -> dict[str, float]:
        """One shard, every sample once. Returns the mean loss and the last learning rate."""
        epoch, place = divmod(self.done, self.lesson.shards)
        order = np.random.default_rng((self.settings.seed, epoch)).permutation(self.lesson.shards)
        rng = np.random.default_rng((self.settings.seed, epoch, place))
        self.network.train()
        losses = []
        for batch in self.lesson.batches(int(order[place]), self.settings.batch, rng):
            self._set_rate()
            loss = self.lesson.loss(self.network, *(self._moved(tensor) for tensor in batch))
            self.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimiser.step()
            self.step += 1
            self._take_average()
            losses.append(loss.item())
        self.done += 1
        return {"loss": float(np.mean(losses)), "rate": self.optimiser.param_groups[0]["lr"]}

    def averaged(self) -> nn.Module:
        """What ships: the mean of the last weights, on the CPU."""
        network = self.lesson.network()
        network.load_state_dict({name: tensor.cpu() for name, tensor in self.average.items()})
        return network.eval()

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        layout = torch.channels_last if tensor.dim() == 4 else torch.preserve_format
        return tensor.to(self.device, memory_format=layout)

    def _set_rate(self) -> None:
        steps = self.total * (self.lesson.samples // self.settings.batch)
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


def _save(state: object, path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def export(network: nn.Module, path: Path) -> None:
    """Writes a network's weights, rounded to 16-bit floats."""
    save_file({name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}, path)


def parser_of(description: str, usual: Settings) -> argparse.ArgumentParser:
    """The options that every training has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=usual.epochs)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def train(training: Training, folder: Path, check: Check | None = None) -> None:
    """To the end, from where the folder's state says it was left.

    check: says of a network how good it is, higher `score` for better, on what training does not see; is asked every fourth
    shard and at the end. The best averaged weights so far are in best.pt.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "state.pt"
    if state.exists():
        training.load(state)
    while training.done < training.total:
        started = time.perf_counter()
        found: dict[str, Any] = training.shard()
        if check is not None and (training.done % _CHECK_EVERY == 0 or training.done == training.total):
            found |= check(training.averaged())
            if found["score"] > training.best:
                training.best = found["score"]
                _save(training.average, folder / "best.pt")
        training.save(state)
        found |= {"done": training.done, "of": training.total, "seconds": round(time.perf_counter() - started, 1)}
        with (folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(json.dumps(found), flush=True)  # noqa: T201
