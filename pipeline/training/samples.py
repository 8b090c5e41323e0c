"""Composes training samples ahead of training, in shards of one size; a shard is the same bytes wherever it is made.

python -m pipeline.training.samples --photographs clean/ --shapes damage/ --output samples/ --shards 100
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.degradation import Degradation, Shapes, degrade
from pipeline.training.content import busy
from pipeline.training.corpus import Corpus

# Real shapes kept from training: what is measured on them was never seen.
HELD_OUT = 0.15
SPLIT_SEED = 7


@dataclass(frozen=True, slots=True)
class Recipe:
    """What samples are made of. side: of a sample in pixels. size: samples in a shard. busy: share of photographs that get
    drawn lettering and patterns first, which are picture and not damage."""

    photographs: str
    shapes: str | None
    seed: int = 1
    side: int = 256
    size: int = 256
    busy: float = 0.15


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """damaged, undamaged: N x side x side x 3 uint8. kinds: N x side x side uint8."""

    damaged: NDArray[np.uint8]
    undamaged: NDArray[np.uint8]
    kinds: NDArray[np.uint8]


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.npy"


def read_shard(path: Path) -> Shard:
    """Mapped, not read: seven planes a sample."""
    planes = np.load(path, mmap_mode="r")
    return Shard(planes[..., :3], planes[..., 3:6], planes[..., 6])


def compose(recipe: Recipe, folder: Path, number: int) -> None:
    """Writes one shard, unless it is there."""
    path = shard_path(folder, number)
    if path.exists():
        return
    corpus, shapes = _materials(recipe.photographs, recipe.shapes)
    planes = np.empty((recipe.size, recipe.side, recipe.side, 7), np.uint8)
    for place, rng in enumerate(_generators(recipe, number)):
        clean = corpus.crop(rng, recipe.side)
        if rng.random() < recipe.busy:
            clean = busy(clean, rng)
        pair = degrade(clean, Degradation(), shapes, rng)
        planes[place, ..., :3] = np.rint(pair.damaged * 255)
        planes[place, ..., 3:6] = np.rint(pair.undamaged * 255)
        planes[place, ..., 6] = pair.kinds
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.save(file, planes)
    part.replace(path)


def _generators(recipe: Recipe, number: int) -> Iterator[np.random.Generator]:
    for place in range(recipe.size):
        yield np.random.default_rng((recipe.seed, number, place))


@cache
def _materials(photographs: str, shapes: str | None) -> tuple[Corpus, Shapes]:
    """Once a process: composing a shard takes seconds, reading the photographs takes longer."""
    library = Shapes.none() if shapes is None else Shapes.load(Path(shapes)).split(SPLIT_SEED, HELD_OUT)[0]
    return Corpus.load(Path(photographs)), library


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True, help="folder of clean photographs")
    parser.add_argument("--shapes", type=Path, help="folder of real damage shapes; without it, drawn shapes only")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    recipe = Recipe(
        str(options.photographs.resolve()),
        None if options.shapes is None else str(options.shapes.resolve()),
        options.seed,
    )
    options.output.mkdir(parents=True, exist_ok=True)
    corpus = Corpus.load(options.photographs)
    facts = asdict(recipe) | {"corpus": corpus.digest(), "files": corpus.described()}
    (options.output / "recipe.json").write_text(json.dumps(facts, indent=1))
    # Materials are read by the parent and shared by its children, which change none of them.
    _materials(recipe.photographs, recipe.shapes)
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        numbers = range(options.shards)
        for done, _ in enumerate(pool.imap_unordered(partial(compose, recipe, options.output), numbers), 1):
            print(f"{done} of {options.shards} shards", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
