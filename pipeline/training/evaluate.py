"""Measures a damage detector on truth that training never saw: other photographs, other shapes.

    python -m pipeline.training.evaluate --photographs clean/ --shapes damage/ [--weights state.pt]

Prints, for every detector, one JSON object: F1 over pixels of lines and spots, recall over images, and what it flags on clean
photographs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.damage.classical import ClassicalDetector
from pipeline.damage.found import Detector
from pipeline.damage.kinds import Kind, Kinds
from pipeline.damage.learned import LearnedDetector, LearnedSettings
from pipeline.degradation import Degradation, Pair, Shapes, degrade
from pipeline.photograph import Container, Mask, Photograph, to_depth
from pipeline.training.corpus import Corpus
from pipeline.training.samples import HELD_OUT, SPLIT_SEED

Floats = NDArray[np.float32]

TOLERANCE = 2
# An image counts as found where this share of its damage is.
_FOUND = 0.1


@dataclass
class Counts:
    """Pixels: found that are true, found, true that are found, true. images, seen: damaged images, and those found."""

    right: int = 0
    found: int = 0
    seen: int = 0
    true: int = 0
    images: int = 0
    met: int = 0
    flagged: list[float] = field(default_factory=list)

    def add(self, found: Mask, true: Mask) -> None:
        """Where they are within the tolerance of each other they agree."""
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
    """Lines and spots together; each kind by itself; and the flagged share of clean photographs, per cent."""
    both, by_kind = Counts(), {kind: Counts() for kind in Kind if kind}
    for pair in pairs(corpus, shapes, seed, each):
        found = _find(detector, pair.damaged)
        both.add(lines_and_spots(found), lines_and_spots(pair.kinds))
        for kind, counts in by_kind.items():
            counts.add(found == kind, pair.kinds == kind)
    flagged = [
        float((_find(detector, image.astype(np.float32) / np.float32(255)) > 0).mean()) for image in corpus.images
    ]
    return {
        "line_and_spot": both.facts(),
        **{kind.name.lower(): counts.facts() for kind, counts in by_kind.items()},
        "clean_flagged_percent": {
            "mean": round(100 * float(np.mean(flagged)), 4),
            "max": round(100 * float(np.max(flagged)), 4),
        },
    }


def _find(detector: Detector, pixels: Floats) -> Kinds:
    return detector.find(Photograph("item", to_depth(pixels, np.dtype(np.uint8)), Container("PNG"))).kinds


def of_training(path: Path) -> LearnedDetector:
    """The averaged network of a training's state."""
    import torch

    from pipeline.models.damage_net import DamageNet, folded

    network = DamageNet(normed=True)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["average"])
    network = folded(network).to(memory_format=torch.channels_last)
    return LearnedDetector(network, path.name, "cpu", LearnedSettings())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--shapes", type=Path)
    parser.add_argument("--weights", type=Path, help="a training's state.pt; without it, the classical detector alone")
    parser.add_argument("--each", type=int, default=2)
    options = parser.parse_args()
    corpus = Corpus.load(options.photographs)
    held_out = Shapes.none() if options.shapes is None else Shapes.load(options.shapes).split(SPLIT_SEED, HELD_OUT)[1]
    detectors: dict[str, Detector] = {"classical": ClassicalDetector()}
    if options.weights is not None:
        detectors["network"] = of_training(options.weights)
    for name, detector in detectors.items():
        print(json.dumps({name: measure(detector, corpus, held_out, each=options.each)}, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
