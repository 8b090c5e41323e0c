"""Part g: the stages without a pool of their own, each on one core; and how good the detectors of damage are."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from jobs.demo import draw_dust, draw_scratches
from pipeline.codecs import decode
from pipeline.damage import ClassicalDetector, Detector, fraction_of
from pipeline.damage.learned import LearnedDetector, LearnedSettings
from pipeline.models.damage import open_damage_network
from pipeline.models.store import ModelStore
from pipeline.photograph import Container, Photograph, luma
from pipeline.stage import Device, Outcome
from tests.bench.chain import LIGHT, Chain, job_for, write_scan
from tests.bench.ground import Figure, Found, Options, Pixels, grainy, middle, shared, spread

DAMAGE = "albumen-damage"
Plane = NDArray[np.float32]
_MEGAPIXELS = 1.0


def aged(megapixels: float) -> Pixels:
    """H x W x 3: with grain, four scratches and sixty specks."""
    clean, rng = grainy(megapixels).astype(np.float32) / 255, np.random.default_rng(0)
    pixels = draw_dust(draw_scratches(0.1 + 0.75 * clean, rng, 4), rng, 60)
    return np.clip(np.rint(255 * pixels), 0, 255).astype(np.uint8)


def rows(options: Options) -> Iterator[Figure]:
    """Megapixels a second of one photograph with some scratches and dust, from the seconds in its events. What was skipped is
    left out; repair goes by what it finds. analyse once with the network that finds damage, and once without."""
    before, threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    taken: dict[str, list[float]] = defaultdict(list)
    try:
        with tempfile.TemporaryDirectory(prefix="albumen-bench-") as place:
            folder = Path(place)
            scan = write_scan(folder / "scans", "one", aged(_MEGAPIXELS))
            for stages, damage in ((LIGHT, None), (("analyse",), "classical")):
                job = job_for(folder / str(damage), compact=False, stages=stages, damage=damage)
                with Chain(job, folder, Device("cpu", 1)) as chain:
                    for number in range(options.runs + 1):
                        for event in chain.restore(number, scan).events:
                            if (
                                number
                                and event.outcome == Outcome.APPLIED
                                and (damage is None or event.stage in stages)
                            ):
                                taken[event.stage if damage is None else f"{event.stage}, {damage}"].append(
                                    event.seconds
                                )
    finally:
        cv2.setNumThreads(before)
        torch.set_num_threads(threads)
    for stage, seconds in taken.items():
        yield Figure(stage, _MEGAPIXELS / middle(seconds), "megapixels/s a core", spread(seconds))


def damage_quality() -> Mapping[str, Found] | None:
    """Of both detectors, on clean photographs and on the same with drawn scratches and dust; None without shared data.

    flagged_clean: mean share of clean pixels that it flags. recall, precision: of pixels, the latter with 2 pixels' grace.
    """
    files = sorted((shared() / "photos" / "clean").glob("*.jpg"))
    if not files:
        return None
    greys = [luma(decode(file.read_bytes(), "", 10**9).pixels) for file in files]
    network = open_damage_network(ModelStore(), DAMAGE, Device("cpu", 1))
    learned = LearnedDetector(network, DAMAGE, "cpu", LearnedSettings())
    return {
        name: _quality(detector, greys) for name, detector in (("classical", ClassicalDetector()), (DAMAGE, learned))
    }


def _quality(detector: Detector, greys: Sequence[Plane]) -> Found:
    rng = np.random.default_rng(0)
    recall, precision = [], []
    for grey in greys[:12]:
        clean = (0.15 + 0.65 * grey[:300, :300])[..., None].astype(np.float32)
        marred = draw_dust(draw_scratches(clean, rng, 3), rng, 20)
        truth = np.abs(marred - clean)[..., 0] > 0.1
        found = _marked(detector, marred[..., 0])
        near = cv2.dilate(truth.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        recall.append((found & truth).sum() / truth.sum())
        precision.append((found & near).sum() / max(1, found.sum()))
    return {
        "flagged_clean": float(np.mean([fraction_of(_marked(detector, grey)) for grey in greys])),
        "recall": float(np.mean(recall)),
        "precision": float(np.mean(precision)),
    }


def _marked(detector: Detector, grey: Plane) -> NDArray[np.bool_]:
    pixels = np.clip(np.rint(255 * grey), 0, 255).astype(np.uint8)[..., None]
    marked: NDArray[np.bool_] = detector.find(Photograph("bench", pixels, Container("PNG"))).kinds > 0
    return marked
