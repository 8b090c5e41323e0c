"""Measures a damage detector on truth that training never saw: other photographs, other shapes.

    python -m pipeline.training.evaluate --photographs clean/ --shapes damage/ [--weights state.pt]

Prints, for every detector, one JSON object: F1 over pixels of lines and spots, recall over images, and what it flags on clean
photographs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.damage.kinds import Kind, Kinds
from pipeline.degradation import Degradation, Pair, Shapes, degrade
from pipeline.photograph import LUMA, Mask
from pipeline.training.corpus import Corpus
from pipeline.training.samples import HELD_OUT, SPLIT_SEED

Floats = NDArray[np.float32]
# H x W x 3 sRGB in 0..1 to codes.
Detector = Callable[[Floats], Kinds]

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


def measure(detect: Detector, corpus: Corpus, shapes: Shapes, seed: int = 11, each: int = 2) -> dict[str, object]:
    """Lines and spots together; each kind by itself; and the flagged share of clean photographs, per cent."""
    both, by_kind = Counts(), {kind: Counts() for kind in Kind if kind}
    for pair in pairs(corpus, shapes, seed, each):
        found = detect(pair.damaged)
        both.add(lines_and_spots(found), lines_and_spots(pair.kinds))
        for kind, counts in by_kind.items():
            counts.add(found == kind, pair.kinds == kind)
    flagged = [float((detect(image.astype(np.float32) / np.float32(255)) > 0).mean()) for image in corpus.images]
    return {
        "line_and_spot": both.facts(),
        **{kind.name.lower(): counts.facts() for kind, counts in by_kind.items()},
        "clean_flagged_percent": {
            "mean": round(100 * float(np.mean(flagged)), 4),
            "max": round(100 * float(np.max(flagged)), 4),
        },
    }


def classical(pixels: Floats) -> Kinds:
    from pipeline.damage import DetectorSettings, find_damage

    mask, _ = find_damage(pixels @ LUMA, DetectorSettings())
    return mask.astype(np.uint8) * np.uint8(Kind.LINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--shapes", type=Path)
    parser.add_argument("--weights", type=Path, help="a training's state.pt; without it, the classical detector alone")
    parser.add_argument("--each", type=int, default=2)
    options = parser.parse_args()
    corpus = Corpus.load(options.photographs)
    held_out = Shapes.none() if options.shapes is None else Shapes.load(options.shapes).split(SPLIT_SEED, HELD_OUT)[1]
    detectors: dict[str, Detector] = {"classical": classical}
    if options.weights is not None:
        detectors["network"] = of_weights(options.weights)
    for name, detect in detectors.items():
        print(json.dumps({name: measure(detect, corpus, held_out, each=options.each)}, indent=1))  # noqa: T201


def of_weights(path: Path, threshold: float = 0.5) -> Detector:
    """The averaged network of a training's state, run over whole photographs."""
    import torch

    from pipeline.models.damage_net import MULTIPLE, DamageNet, folded

    network = DamageNet(normed=True)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["average"])
    network = folded(network).to(memory_format=torch.channels_last)

    def detect(pixels: Floats) -> Kinds:
        height, width = pixels.shape[:2]
        below, right = -height % MULTIPLE, -width % MULTIPLE
        padded = cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_REFLECT_101)
        with torch.inference_mode():
            scores = network(torch.from_numpy(padded.transpose(2, 0, 1).copy())[None])[0]
        chances = scores.softmax(0).numpy()[:, :height, :width]
        kinds: Kinds = (1 + chances[1:].argmax(axis=0)).astype(np.uint8)
        kinds[chances[0] > 1 - threshold] = Kind.NONE
        return kinds

    return detect


if __name__ == "__main__":
    main()
