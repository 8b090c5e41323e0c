"""Bounds are set on clean photographs, so that little of others is flagged, and travel with the weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from pipeline.damage.kinds import FOUND, Kind, fraction_of
from pipeline.damage.learned import LearnedDetector, LearnedSettings, covering
from pipeline.models.damage_net import DamageNet
from pipeline.photograph import Container, Photograph
from pipeline.training import calibrate
from pipeline.training.calibrate import EVERY, MAY, bound_of
from pipeline.training.evaluate import of_training

Plane = NDArray[np.float32]
STEP = 0.02


def planes(rng: np.random.Generator, count: int = 8, spread: float = 0.5) -> list[Plane]:
    """Log-odds of photographs, of which some look more like damage all over than others."""
    return [rng.normal(rng.normal(0, spread), 1, (64, 64)).astype(np.float32) for _ in range(count)]


def flagged(odds: list[Plane], kind: Kind, bound: float) -> list[float]:
    return [fraction_of(covering((plane >= bound) * np.uint8(kind))) for plane in odds]


@pytest.mark.parametrize("kind", [Kind.LINE, Kind.MISSING])
@pytest.mark.parametrize("share", [0.001, 0.02])
def test_a_bound_is_the_least_that_lets_as_many_other_photographs_pass(
    rng: np.random.Generator, kind: Kind, share: float
) -> None:
    odds = planes(rng)
    bound = bound_of(odds, kind, share)

    def predicted(at: float) -> float:
        found = flagged(odds, kind, at)
        return float(np.mean(found) + 1.645 * np.std(found) * np.sqrt(2 / len(found)))

    assert predicted(bound) <= share < predicted(bound - STEP)


def test_photographs_that_differ_need_a_higher_bound(rng: np.random.Generator) -> None:
    """The same pixels, dealt out evenly and not: the mean is the same, and less certain."""
    pixels = np.sort(rng.normal(0, 1, 8 * 64 * 64).astype(np.float32))
    alike = [plane.reshape(64, 64) for plane in np.split(rng.permutation(pixels), 8)]
    apart = [plane.reshape(64, 64) for plane in np.split(pixels, 8)]
    assert bound_of(apart, Kind.MISSING, 0.02) > bound_of(alike, Kind.MISSING, 0.02) + 0.3


def test_the_edges_that_are_added_to_lines_are_counted() -> None:
    """One pixel of a line flags nine, one of a missing area itself."""
    plane = np.full((64, 64), -9, np.float32)
    plane[20, 20] = 5
    one = 1 / plane.size
    assert bound_of([plane], Kind.LINE, 8.5 * one) > 5 - STEP
    assert bound_of([plane], Kind.LINE, 9.5 * one) < -7
    assert bound_of([plane], Kind.MISSING, 1.5 * one) < -7


def test_what_may_flag_nothing_flags_nothing(rng: np.random.Generator) -> None:
    odds = planes(rng)
    bound = bound_of(odds, Kind.STAIN, MAY[Kind.STAIN])
    most = max(float(plane.max()) for plane in odds)
    assert most < bound < most + STEP


def state(path: Path) -> Path:
    """As a training leaves it, of a network that has learned nothing."""
    torch.manual_seed(3)
    network = DamageNet(normed=True)
    torch.save({"average": network.state_dict()}, path)
    return path


def photographs(folder: Path, pixels: NDArray[np.uint8], others: int) -> Path:
    """Four; `others` says what the second and the fourth are, which calibration does not look at."""
    folder.mkdir()
    for number, name in enumerate("abcd"):
        seen = np.roll(pixels, 7 * number, 1) if number % EVERY == 0 else np.full_like(pixels, others)
        Image.fromarray(seen).save(folder / f"{name}.png")
    return folder


def calibrated(monkeypatch: pytest.MonkeyPatch, folder: Path, weights: Path, output: Path) -> None:
    words = ["calibrate", "--photographs", str(folder), "--weights", str(weights), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", words)
    calibrate.main()


def test_a_training_becomes_the_file_that_ships(
    tmp_path: Path, real_photo: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.ascontiguousarray(real_photo[40:168, 60:188])
    weights = state(tmp_path / "state.pt")
    for name, others in (("one", 0), ("two", 200)):
        calibrated(monkeypatch, photographs(tmp_path / name, pixels, others), weights, tmp_path / f"{name}.safetensors")
    # What is left for `evaluate` decides nothing.
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    tensors = load_file(tmp_path / "one.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    said = json.loads(capsys.readouterr().out.splitlines()[0])
    bounds = dict(zip((kind.name.lower() for kind in FOUND), tensors["bounds"].tolist(), strict=True))
    assert bounds == pytest.approx(said, abs=0.01)
    assert len(set(bounds.values())) > 1
    network = of_training(tmp_path / "one.safetensors")
    assert torch.equal(network.bounds, tensors["bounds"].float())
    detector = LearnedDetector(network, "mine", "cpu", LearnedSettings())
    shares = []
    for number in (0, 2):
        seen = np.ascontiguousarray(np.roll(pixels, 7 * number, 1))
        shares.append(fraction_of(detector.find(Photograph("item", seen, Container("PNG"))).kinds))
    assert np.mean(shares) <= sum(MAY.values())
    loose = of_training(weights)
    every = LearnedDetector(loose, "mine", "cpu", LearnedSettings()).find(Photograph("item", pixels, Container("PNG")))
    assert fraction_of(every.kinds) > 10 * sum(MAY.values())
