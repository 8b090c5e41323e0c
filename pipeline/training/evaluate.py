"""Measures a damage detector on truth that training never saw: other photographs, other shapes.

    python -m pipeline.training.evaluate --photographs clean/ --shapes damage/ --every 2 [--weights damage.safetensors]

Prints, for every detector, one JSON object: F1 over pixels of lines and spots, recall over images, and what it flags on clean
photographs, with the names of the worst. Every second photograph, from the first one on, is what `calibrate` sets bounds on:
with `--every 2` the others are measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.damage.classical import ClassicalDetector
from pipeline.damage.found import Detector
from pipeline.damage.kinds import Kind, Kinds, fraction_of
from pipeline.damage.learned import LearnedDetector, LearnedSettings
from pipeline.degradation import Degradation, Pair, Shapes, degrade
from pipeline.photograph import Container, Mask, Photograph, to_depth
from pipeline.training.corpus import Corpus
from pipeline.training.samples import HELD_OUT, SPLIT_SEED
from pipeline.training.visibility import noticeable

if TYPE_CHECKING:
    from pipeline.models.damage_net import DamageNet

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

TOLERANCE = 2
# An image counts as found where this share of its damage is.
_FOUND = 0.1
_WORST = 5


@dataclass
class Counts:
    """Pixels: found that are true, found, true that are found, true. images, seen: damaged images, and those found."""

    right: int = 0
    found: int = 0
    seen: int = 0
    true: int = 0
    images: int = 0
    met: int = 0

    def add(self, found: Mask, true: Mask, unseen: Mask | None = None) -> None:
        """Where they are within the tolerance of each other they agree. unseen: truth that counts neither way, nor does what
        is found at it."""
        if unseen is not None:
            true = true & ~unseen
            found = found & ~(_grown(unseen) & ~_grown(true))
        seen = true & _grown(found)
        self.right += int((found & _grown(true)).sum())
        self.found += int(found.sum())
        self.seen += int(seen.sum())
        self.true += int(true.sum())
        if true.any():
            self.images += 1
            self.met += bool(seen.sum() >= _FOUND * true.sum())

    def facts(self) -> dict[str, float]:
        precision, recall = self.right / max(1, self.found), self.seen / max(1, self.true)
        return {
            "f1": round(2 * precision * recall / max(1e-9, precision + recall), 4),
            "precision": round(precision, 4),
            "recall": round(recall, 4),
            "images": self.images,
            "image_recall": round(self.met / max(1, self.images), 4),
        }


def _grown(mask: Mask) -> Mask:
    size = 2 * TOLERANCE + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    grown: Mask = cv2.dilate(mask.astype(np.uint8), disc) > 0
    return grown


def pairs(corpus: Corpus, shapes: Shapes, seed: int, each: int) -> Iterator[Pair]:
    """Whole photographs with damage; the same every time."""
    for number, image in enumerate(corpus.images):
        for copy in range(each):
            rng = np.random.default_rng((seed, number, copy))
            yield degrade(image.astype(np.float32) / np.float32(255), Degradation(), shapes, rng)


def lines_and_spots(kinds: Kinds) -> Mask:
    mask: Mask = (kinds == Kind.LINE) | (kinds == Kind.SPOT)
    return mask


def measure(detector: Detector, corpus: Corpus, shapes: Shapes, seed: int = 11, each: int = 2) -> dict[str, object]:
    """Lines and spots together, and as far as a person could see them; each kind by itself; the share that is flagged of clean
    photographs and of the same as aged prints without damage, per cent."""
    both, seen, by_kind = Counts(), Counts(), {kind: Counts() for kind in Kind if kind}
    aged = []
    for pair in pairs(corpus, shapes, seed, each):
        damaged, undamaged = _bytes(pair.damaged), _bytes(pair.undamaged)
        found, true = _find(detector, damaged), lines_and_spots(pair.kinds)
        aged.append(_flagged(detector, undamaged))
        both.add(lines_and_spots(found), true)
        seen.add(lines_and_spots(found), true, true & ~noticeable(damaged, undamaged, pair.kinds))
        for kind, counts in by_kind.items():
            counts.add(found == kind, pair.kinds == kind)
    flagged = [_flagged(detector, image) for image in corpus.images]
    worst = sorted(zip(flagged, corpus.names, strict=True), reverse=True)[:_WORST]
    return {
        "line_and_spot": both.facts(),
        "line_and_spot_noticeable": seen.facts(),
        **{kind.name.lower(): counts.facts() for kind, counts in by_kind.items()},
        "clean_flagged_percent": {
            "photographs": len(flagged),
            "mean": round(float(np.mean(flagged)), 4),
            "median": round(float(np.median(flagged)), 4),
            "worst": {name: round(share, 4) for share, name in worst},
        },
        "aged_flagged_percent": round(float(np.mean(aged)), 4),
    }


def _bytes(pixels: Floats) -> Bytes:
    return to_depth(pixels, np.dtype(np.uint8)).astype(np.uint8, copy=False)


def _flagged(detector: Detector, pixels: Bytes) -> float:
    """Per cent."""
    return 100 * fraction_of(_find(detector, pixels))


def _find(detector: Detector, pixels: Bytes) -> Kinds:
    return detector.find(Photograph("item", pixels, Container("PNG"))).kinds


def of_training(path: Path) -> DamageNet:
    """The averaged network of a training's state, or what was exported of one."""
    import torch
    from safetensors.torch import load_file

    from pipeline.models.damage_net import DamageNet, folded

    if path.suffix == ".safetensors":
        network = DamageNet()
        network.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    else:
        average = torch.load(path, map_location="cpu", weights_only=True)["average"]
        normed = "bounds" not in average
        network = DamageNet(normed=normed)
        network.load_state_dict(average)
        network = folded(network) if normed else network
    return network.eval().to(memory_format=torch.channels_last)


def held_out(shapes: Path | None) -> Shapes:
    """The real shapes that no sample was made with."""
    return Shapes.none() if shapes is None else Shapes.load(shapes).split(SPLIT_SEED, HELD_OUT)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--shapes", type=Path)
    parser.add_argument(
        "--weights", type=Path, help="damage.safetensors, or a training's state.pt; without, classical alone"
    )
    parser.add_argument("--each", type=int, default=2)
    parser.add_argument("--every", type=int, help="leave out every n-th photograph, as `calibrate` takes them")
    options = parser.parse_args()
    corpus = Corpus.load(options.photographs)
    if options.every is not None:
        corpus, _ = corpus.parted(options.every)
    shapes = held_out(options.shapes)
    detectors: dict[str, Detector] = {"classical": ClassicalDetector()}
    if options.weights is not None:
        network = of_training(options.weights)
        detectors["network"] = LearnedDetector(network, options.weights.name, "cpu", LearnedSettings())
    for name, detector in detectors.items():
        print(json.dumps({name: measure(detector, corpus, shapes, each=options.each)}, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
