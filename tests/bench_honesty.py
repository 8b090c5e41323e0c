"""How well the risk orders photographs for review: `python -m tests.bench_honesty --shared ../shared`.

Real photographs in two halves, by photograph, honestly restored by the pipeline's own stages, and the same outputs with
something planted. Weights are fitted on the first half (--fit), and judged on the second. What is printed is the table of
docs/honesty.md; --rows keeps every measurement as JSON, and --again reads them instead of measuring.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

from pipeline.honesty.measure import measured
from pipeline.honesty.proof import proof_of
from pipeline.honesty.risk import BIAS, WEIGHTS, features, risk_of
from pipeline.honesty.row import Measures
from pipeline.models.catalogue import ModelCard
from pipeline.models.face_detectors import FaceDetector
from pipeline.models.faces import open_detector
from pipeline.models.store import ModelSource, ModelStore
from pipeline.photograph import Container, Photograph
from pipeline.policy import POLICIES
from pipeline.record import Record
from pipeline.stage import Device, Stage
from pipeline.stages import STAGES
from pipeline.supervision import run_stage
from tests import planted
from tests.hallucinated import HALO, PLANTS, TILE, Ground

Pixels = NDArray[np.uint8]
HONEST = "honest"
_DETECTOR = "retinaface-mobile0.25"
# Longer sides of the scans, in pixels: those that are enlarged by four, and the others.
_SMALL, _LARGE = 192, 400
_PENALTY = 0.005


@dataclass(frozen=True)
class Trial:
    """One output. half: 0 or 1. kind: what was planted, or HONEST. way: how the output was made."""

    half: int
    photograph: str
    kind: str
    way: str
    measures: Measures

    @property
    def risk(self) -> float:
        return risk_of(self.measures)


class Restorer:
    """The pipeline's stages, each opened once, with Real-ESRGAN's compact network."""

    def __init__(self, shared: Path, cache: str) -> None:
        weights = shared / "weights" / "realesr-general-x4v3.fp16derived.pth"
        self._models = ModelStore(ModelSource(cache=cache, local=(card_of(weights),)))
        self._stages: dict[tuple[str, Way], Stage] = {}

    def restore(self, pixels: Pixels, way: Way) -> tuple[Record, Photograph]:
        """The record with its events, and the photograph, as `deliver` gets them."""
        photograph = Photograph("item", np.ascontiguousarray(pixels), Container("TIFF"))
        record = Record(0, "item", "/scan", photograph=replace(photograph, proof=proof_of(photograph)))
        for name in way.stages:
            chosen = _PARAMETERS.get(name, {}) | ({"consistency": way.rounds} if name == "upscale" else {})
            parameters = STAGES[name].Parameters.model_validate(chosen)
            if (name, way) not in self._stages:
                self._stages[name, way] = STAGES[name](parameters, POLICIES[way.policy])
                self._stages[name, way].open(self._models, Device())
            [record] = run_stage(self._stages[name, way], parameters, [record], self._models, Device())
        assert record.photograph is not None, record.detail
        return record, record.photograph


_PARAMETERS: dict[str, dict[str, Any]] = {
    # What docs/honesty.md says was measured with it.
    "analyse": {"detector": "none", "damage": "classical"},
    "repair": {"denoise": 0.0},
    "upscale": {"model": "general", "tile": TILE, "halo": HALO},
}
_ENLARGED = ("analyse", "repair", "upscale", "colour")


@dataclass(frozen=True)
class Way:
    """How outputs are made. longest: the scan's longer side. damaged: whether damage is drawn on it. rounds: of
    back-projection."""

    longest: int
    damaged: bool
    policy: str
    stages: tuple[str, ...]
    rounds: int = 5


_WAYS = {
    "repaired": Way(_LARGE, True, "conservation", ("analyse", "repair", "colour")),
    "enlarged": Way(_SMALL, True, "conservation", _ENLARGED),
    "enlarged, presentation": Way(_SMALL, False, "presentation", _ENLARGED),
    "enlarged, not held to the scan": Way(_SMALL, False, "conservation", _ENLARGED, rounds=0),
}


def card_of(weights: Path) -> ModelCard:
    import hashlib

    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return ModelCard(
        id="general",
        file=weights.name,
        bytes=weights.stat().st_size,
        sha256=digest,
        url=str(weights),
        licence="BSD-3-Clause",
        architecture="srvggnet-compact",
        task="upscale",
        scale=4,
    )


def photographs(shared: Path) -> dict[str, Pixels]:
    """By name, H x W x 3 uint8 RGB: the shared photographs, and some of scikit-image's."""
    found = {path.name: cv2.imread(str(path))[..., ::-1] for path in sorted((shared / "photos").glob("*/*.*"))}
    return found | {name: getattr(skimage.data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")}


def scan_of(pixels: Pixels, longest: int, rng: np.random.Generator, *, damaged: bool) -> Pixels:
    """A scan of this size with grain; damaged: with scratches and dust, faded and with a cast."""
    factor = longest / max(pixels.shape[:2])
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    unit = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=method).astype(np.float32) / 255
    if damaged:
        unit = unit * rng.uniform(0.75, 1.0) * np.array([1.0, rng.uniform(0.92, 1), rng.uniform(0.85, 1)]) + 0.04
        drawn = np.zeros(unit.shape[:2], np.float32)
        for _ in range(rng.integers(1, 5)):
            ends = (rng.uniform(0, 1, (2, 2)) * unit.shape[1::-1]).astype(int)
            cv2.line(drawn, ends[0].tolist(), ends[1].tolist(), 1.0, 1, cv2.LINE_AA)
        for _ in range(rng.integers(0, 20)):
            cv2.circle(drawn, (rng.uniform(0, 1, 2) * unit.shape[1::-1]).astype(int).tolist(), 1, 1.0, -1, cv2.LINE_AA)
        unit = unit + (0.95 - unit) * drawn[..., None]
    unit = unit + rng.normal(0, rng.uniform(0, 5) / 255, unit.shape)
    return np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)


def trials(shared: Path, restorer: Restorer, detector: FaceDetector, most: int | None) -> Iterator[Trial]:
    """Every photograph each way, honest, and with everything planted in it. What is planted comes from the same half."""
    found = photographs(shared)
    names = sorted(found)
    # Evenly, so that every kind of photograph is among them.
    names = names if most is None else [names[at * len(names) // most] for at in range(min(most, len(names)))]
    donors = planted.subjects(shared, detector, least_eyes=planted.LEAST_DONOR)
    for kind_of_way, way in _WAYS.items():
        others: dict[int, list[NDArray[Any]]] = {0: [], 1: []}
        for number, name in enumerate(names):
            half, rng = number % 2, np.random.default_rng([number, len(kind_of_way)])
            scan = scan_of(found[name], way.longest, rng, damaged=way.damaged)
            record, output = restorer.restore(scan, way)
            assert output.proof is not None
            deep = output.pixels.astype(np.uint16) * np.uint16(257 if output.pixels.dtype == np.uint8 else 1)
            faces = [face for face in detector.find(np.ascontiguousarray(scan)) if face.eyes >= 8]
            strangers = [one for one in donors if _half(one.photograph, names) == half and one.photograph != name]
            made = {HONEST: deep}
            if others[half]:
                ground = Ground(scan, deep, output.scale, faces, others[half][-1], strangers)
                for kind, plant in PLANTS.items():
                    if (changed := plant(ground, rng)) is not None:
                        made[kind] = changed
            for kind, pixels in made.items():
                judged = measured(output.proof, replace(output, pixels=pixels), record.events, ())
                assert judged is not None
                yield Trial(half, name, kind, kind_of_way, judged[0].measures)
            others[half].append(deep)


def _half(name: str, names: Sequence[str]) -> int:
    """Of a photograph by its file's name; faces of files that are not in the halves go with the first."""
    found = [number for number, one in enumerate(names) if Path(one).stem == Path(name).stem]
    return found[0] % 2 if found else 0


def auc(honest: Sequence[float], made: Sequence[float]) -> float:
    """The area under the receiver operating characteristic: how often a planted output has the higher risk (ties count
    half)."""
    one, other = np.asarray(honest)[:, None], np.asarray(made)[None, :]
    return float((other > one).mean() + (other == one).mean() / 2)


def fitted(found: Sequence[Trial]) -> tuple[float, dict[str, float]]:
    """Logistic regression on these trials, honest and planted ones weighed alike, no weight below 0."""
    from scipy.optimize import minimize

    names = list(WEIGHTS)
    table = np.array([[features(trial.measures)[name] for name in names] for trial in found])
    wanted = np.array([trial.kind != HONEST for trial in found], float)
    weigh = np.where(wanted > 0, 0.5 / wanted.sum(), 0.5 / (1 - wanted).sum())

    def loss(values: NDArray[np.float64]) -> float:
        score = values[0] + table @ values[1:]
        return float(weigh @ (np.logaddexp(0, score) - wanted * score) + _PENALTY * np.square(values[1:]).sum())

    bounds = [(None, None)] + [(0, None)] * len(names)
    values = minimize(loss, np.zeros(len(names) + 1), bounds=bounds, method="L-BFGS-B").x
    return float(values[0]), dict(zip(names, map(float, values[1:]), strict=True))


def report(found: Sequence[Trial]) -> None:
    print("| planted | first + second half | AUC, first half | AUC, second half | median risk, second half |")
    print("|---|---|---|---|---|")
    halves = [[trial for trial in found if trial.half == half] for half in (0, 1)]
    honest = [[trial.risk for trial in half if trial.kind == HONEST] for half in halves]
    for kind in ("all", *dict.fromkeys(trial.kind for trial in found)):
        made = [[t.risk for t in half if t.kind == kind or (kind == "all" and t.kind != HONEST)] for half in halves]
        if not all(made):
            continue
        areas = ["" if kind == HONEST else f"{auc(one, other):.3f}" for one, other in zip(honest, made, strict=True)]
        counts = " + ".join(str(len(one)) for one in made)
        print(f"| {kind} | {counts} | {areas[0]} | {areas[1]} | {np.median(made[1]):.3f} |")
    for way in dict.fromkeys(trial.way for trial in found):
        part = [trial for trial in halves[1] if trial.way == way]
        one, other = ([t.risk for t in part if (t.kind == HONEST) is wanted] for wanted in (True, False))
        print(f"second half, {way}: AUC {auc(one, other):.3f}, {len(one)} honest, {len(other)} planted")
    worst = sorted((t for t in halves[1] if t.kind == HONEST), key=lambda t: -t.risk)[:3]
    print("honest ones of the highest risk:", [(t.photograph, t.way, round(t.risk, 3)) for t in worst])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--fit", action="store_true", help="print weights that fit the first half")
    parser.add_argument("--photographs", type=int, help="only so many")
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    if arguments.again:
        kept = json.loads(arguments.rows.read_text(encoding="utf-8"))
        found = [Trial(**(row | {"measures": Measures(**row["measures"])})) for row in kept]
    else:
        with tempfile.TemporaryDirectory() as cache:
            mirror = str((arguments.shared / "weights").resolve())
            models = ModelStore(ModelSource(cache=cache, mirror=mirror))
            models.ensure(_DETECTOR)
            detector = open_detector(models, _DETECTOR, Device())
            found = list(trials(arguments.shared, Restorer(arguments.shared, cache), detector, arguments.photographs))
        if arguments.rows is not None:
            arguments.rows.write_text(json.dumps([asdict(trial) for trial in found]), encoding="utf-8")
    if arguments.fit:
        bias, weights = fitted([trial for trial in found if trial.half == 0])
        print(f"BIAS = {bias:.3f}\nWEIGHTS =", {name: round(value, 3) for name, value in weights.items()})
    print(f"BIAS = {BIAS}, WEIGHTS = {WEIGHTS}\n")
    report(found)


if __name__ == "__main__":
    main()
