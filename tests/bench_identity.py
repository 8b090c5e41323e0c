"""How well the identity gate tells another person from a restored one: `python -m tests.bench_identity --shared ../shared`.

Faces of real photographs in two halves, by photograph. Limits are read off the first, and the policies' limits judged on the
second. What is printed is the table of docs/identity.md; --rows keeps every measurement as JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.faces.identity import Gate, Pair, objections
from pipeline.models.faces import open_detector
from pipeline.models.identity import open_embedder
from pipeline.models.store import ModelSource, ModelStore
from pipeline.photograph import Likeness, Tone
from pipeline.policy import POLICIES, FaceGate
from pipeline.stage import Device
from tests import planted
from tests.planted import Subject

# Share of the mild restorations of the first half that each limit alone may refuse.
_MOST_COSINE, _MOST_OTHERS = 0.03, 0.005
_MEASURES = ("displacement", "skin_drift", "eye_drift", "glasses")


@dataclass(frozen=True)
class Trial:
    """One face, changed. half: 0 or 1. eyes: pixels between the eyes of the source that the gate was shown."""

    half: int
    kind: str
    variant: str
    photograph: str
    eyes: float
    likeness: Likeness
    found: bool


def trials(gate: Gate, people: Sequence[Subject]) -> Iterator[Trial]:
    """Every face with every change. Donors are of the same half, so that no person is in both."""
    names = list(dict.fromkeys(subject.photograph for subject in people))
    for number, subject in enumerate(people):
        half = names.index(subject.photograph) % 2
        others = [
            other
            for other in people
            if names.index(other.photograph) % 2 == half
            and other is not subject
            and other.face.eyes >= planted.LEAST_DONOR
        ]
        for kind, variant, pair in _changes(subject, others, np.random.default_rng(number)):
            likeness, found = gate.measure(pair)
            yield Trial(half, kind, variant, subject.photograph, pair.eyes, likeness, found)


def _changes(subject: Subject, others: Sequence[Subject], rng: np.random.Generator) -> Iterator[tuple[str, str, Pair]]:
    source = subject.patch()
    for variant, pair in planted.milds(subject, rng):
        yield "mild", variant, pair
    for donor in others:
        for mirrored in (False, True):
            swap = planted.swapped(subject, donor, mirrored=mirrored)
            yield "swap", f"{donor.photograph}, mirrored: {mirrored}", subject.pair(source, swap)
        yield "half another", donor.photograph, subject.pair(source, planted.blended(subject, donor, 0.5))
    glasses = planted.with_glasses(subject)
    yield "glasses drawn", "", subject.pair(source, glasses)
    yield "glasses gone", "", subject.pair(glasses, source)
    yield "20 L* paler", "", subject.pair(source, planted.paler(subject))
    if subject.tone is Tone.COLOURED:
        yield "irises 30 b* bluer", "", subject.pair(source, planted.other_irises(subject))


def refused(found: Sequence[Trial], limits: FaceGate, architecture: str | None) -> float:
    """Share that the gate refuses, 0..1. architecture: None for what the gate does without the vectors."""
    return float(np.mean([bool(objections(t.likeness, architecture, limits, found=t.found)) for t in found]))


def read_off(found: Sequence[Trial]) -> dict[str, float]:
    """Limits that mild restorations pass."""
    mild = [trial.likeness for trial in found if trial.kind == "mild"]
    limits = {"cosine": float(np.quantile([m.identity for m in mild], _MOST_COSINE))}  # type: ignore[type-var]
    for name in _MEASURES:
        known = [value for m in mild if (value := getattr(m, name)) is not None]
        limits[name] = float(np.quantile(known, 1 - _MOST_OTHERS))
    return limits


def report(found: Sequence[Trial], architecture: str) -> None:
    for policy in POLICIES.values():
        seen = [trial for trial in found if trial.eyes >= policy.gate.least_eyes]
        first, second = ([trial for trial in seen if trial.half == half] for half in (0, 1))
        print(
            f"\n## {policy.name}: eyes {policy.gate.least_eyes:g} pixels apart and more; limits {asdict(policy.gate)}"
        )
        print("read off the first half:", {name: round(v, 3) for name, v in read_off(first).items()})
        print("| | faces changed | refused, first half | refused, second half | by vectors alone | by the rest alone |")
        print("|---|---|---|---|---|---|")
        bare = FaceGate(0, policy.gate.mobilefacenet, policy.gate.sface, *[np.inf] * 4, unchecked=0)
        for kind in dict.fromkeys(trial.kind for trial in seen):
            one, two = ([trial for trial in half if trial.kind == kind] for half in (first, second))
            cells = [refused(one, policy.gate, architecture), refused(two, policy.gate, architecture)]
            cells += [refused(two, bare, architecture), refused(two, policy.gate, None)]
            print(f"| {kind} | {len(one)} + {len(two)} | " + " | ".join(f"{100 * cell:.1f} %" for cell in cells) + " |")
    print("\n## by the distance between the eyes: 5th percentile of mild, 95th of swaps, both halves")
    print("| eyes, pixels | mild | cosine, 5th percentile | swaps | cosine, 95th percentile |\n|---|---|---|---|---|")
    for low, high in ((0, 8), (8, 12), (12, 20), (20, 40), (40, 999)):
        part = [trial for trial in found if low <= trial.eyes < high]
        cosines = {k: [t.likeness.identity or 0.0 for t in part if t.kind == k] for k in ("mild", "swap")}
        mild, swap = cosines["mild"], cosines["swap"]
        ends = [f"{np.quantile(v, q):.2f}" if v else "" for v, q in ((mild, 0.05), (swap, 0.95))]
        print(f"| {low} to {high} | {len(mild)} | {ends[0]} | {len(swap)} | {ends[1]} |")
    print("\n## the curve: least cosine, eyes 12 pixels apart and more, both halves")
    print("| least cosine | mild refused | swaps refused | half another refused |\n|---|---|---|---|")
    part = [trial for trial in found if trial.eyes >= 12]
    for least in np.arange(0.2, 0.95, 0.1):
        shares = [np.mean([(t.likeness.identity or 0) < least for t in part if t.kind == k]) for k in _KINDS]
        print(f"| {least:.1f} | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |")


_KINDS = ("mild", "swap", "half another")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--model", default="mobilefacenet")
    parser.add_argument("--rows", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as cache:
        models = ModelStore(ModelSource(cache=cache, mirror=str((arguments.shared / "weights").resolve())))
        models.ensure("retinaface-mobile0.25")
        detector = open_detector(models, "retinaface-mobile0.25", Device())
        gate = Gate(detector, open_embedder(models, arguments.model))
        found = list(trials(gate, planted.subjects(arguments.shared, detector)))
        report(found, models.card(arguments.model).architecture)
    if arguments.rows is not None:
        arguments.rows.write_text(json.dumps([asdict(trial) for trial in found]), encoding="utf-8")


if __name__ == "__main__":
    main()
