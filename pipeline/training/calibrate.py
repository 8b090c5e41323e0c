"""Sets the bounds from which each kind of damage counts, on clean photographs that training never saw, and exports the network.

    python -m pipeline.training.calibrate --photographs other/ --weights state.pt --output damage.safetensors

In clean photographs there is nothing to find: each kind may flag so much of as many others, and no more. Every second one, from
the first one on, is used; the others are left for `evaluate`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pipeline.colour_space import visible
from pipeline.damage.kinds import FOUND, Kind, fraction_of
from pipeline.damage.learned import LearnedDetector, LearnedSettings, covering
from pipeline.photograph import Container, Photograph
from pipeline.training.corpus import Corpus
from pipeline.training.evaluate import of_training
from pipeline.training.trainer import export

EVERY = 2
# Shares of clean pixels that may be flagged, with the edges that are added: 0.15 per cent in all. Stains may flag
# none: the network hardly tells them from light.
MAY: Mapping[Kind, float] = MappingProxyType(
    {Kind.LINE: 0.0008, Kind.SPOT: 0.0004, Kind.STAIN: 0.0, Kind.MISSING: 0.0003}
)
# One-sided 95 per cent of a normal distribution.
_SURE = 1.645
# Log-odds between which a bound lies, and how often the distance is halved: to a hundredth.
_LEAST, _MOST, _STEPS = -8.0, 16.0, 12


def bound_of(odds: list[NDArray[np.float32]], kind: Kind, share: float) -> float:
    """The least bound at which the mean share of pixels that are flagged, on as many other photographs, is predicted with 95 %
    certainty to be no more than that. odds: H x W each."""
    low, high = _LEAST, _MOST
    for _ in range(_STEPS):
        middle = (low + high) / 2
        flagged = [fraction_of(covering((plane >= middle) * np.uint8(kind))) for plane in odds]
        # Both means vary: of these photographs, and of those to come.
        predicted = np.mean(flagged) + _SURE * np.std(flagged) * np.sqrt(2 / len(flagged))
        low, high = (middle, high) if predicted > share else (low, middle)
    return high


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="a training's state.pt")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    network = of_training(options.weights)
    # As they ship: what is calibrated is the rounded network.
    network.half().float()
    detector = LearnedDetector(network, options.weights.name, "cpu", LearnedSettings())
    _, corpus = Corpus.load(options.photographs).parted(EVERY)
    photographs = [Photograph(n, i, Container("PNG")) for n, i in zip(corpus.names, corpus.images, strict=True)]
    odds = [detector.odds(visible(photograph)) for photograph in photographs]
    bounds = {kind: bound_of([plane[..., FOUND.index(kind)] for plane in odds], kind, MAY[kind]) for kind in FOUND}
    network.bounds.copy_(torch.tensor([bounds[kind] for kind in FOUND]))
    export(network, options.output)
    print(json.dumps({kind.name.lower(): round(bound, 3) for kind, bound in bounds.items()}))  # noqa: T201


if __name__ == "__main__":
    main()
