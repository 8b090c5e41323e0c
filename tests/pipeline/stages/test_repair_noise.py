"""Repair on request takes noise away: what it records, what it leaves, and what holds with the networks that ship."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline.damage import REPAIRED, Kind
from pipeline.errors import ModelError, Status
from pipeline.models.store import ModelSource, ModelStore
from pipeline.photograph import Container, Photograph, is_neutral, widened
from pipeline.policy import POLICIES
from pipeline.record import Event, Record
from pipeline.removal import Noise
from pipeline.stage import Device, Outcome, Step
from pipeline.stages.repair import Repair, RepairParameters, is_quiet
from pipeline.supervision import run_stage

Samples = NDArray[np.uint8] | NDArray[np.uint16]
DEVICE = Device("cpu", 1)


class Quieted:
    """Stands for the networks: half the light is noise."""

    model_id = "albumen-noise"

    def __init__(self, level: float) -> None:
        self.level = level

    def find(self, photograph: Photograph) -> Noise:
        return Noise((self.level / 255,) * 32, 0.2, 0.1, self.level)

    def denoise(self, photograph: Photograph, noise: Noise, strength: float) -> Samples:
        return (photograph.pixels * (1 - strength / 2)).astype(photograph.pixels.dtype)


@pytest.fixture
def shipped(tmp_path: Path) -> ModelStore:
    """The networks come with the package: the cache is empty."""
    return ModelStore(ModelSource(cache=str(tmp_path / "cache")))


def flat(dtype: str = "uint8") -> Samples:
    return np.full((40, 60, 3), np.iinfo(dtype).max // 2, dtype)


def noisy(
    rng: np.random.Generator, dtype: str, channels: int, size: tuple[int, int] = (90, 110), *, neutral: bool = False
) -> Samples:
    """A slope under white noise of 20 (of 255)."""
    noise = rng.normal(0, 20 / 255, (*size, 1 if neutral else channels))
    plane = np.linspace(0.3, 0.7, size[1])[None, :, None] + noise
    samples = np.rint(np.clip(plane, 0, 1) * np.iinfo(dtype).max).astype(dtype)
    return np.ascontiguousarray(np.repeat(samples, channels // samples.shape[2], axis=2))


def of(pixels: Samples, icc: bytes | None = None, **more: Any) -> Photograph:
    more = {"damage": np.zeros(pixels.shape[:2], np.uint8)} | more
    return Photograph("item", pixels, Container("TIFF", icc=icc), **more)


def opened(store: ModelStore, policy: str = "presentation", **parameters: Any) -> Repair:
    stage = Repair(RepairParameters(**{"denoise": 1.0} | parameters), POLICIES[policy])
    stage.open(store, DEVICE)
    return stage


def restored(stage: Repair, *photographs: Photograph) -> list[Step]:
    steps = stage.restore(photographs)
    assert all(isinstance(step, Step) for step in steps)
    return [step for step in steps if isinstance(step, Step)]


def calmed(pixels: Samples, level: float, **parameters: Any) -> Step:
    stage = Repair(RepairParameters(**{"denoise": 1.0} | parameters), POLICIES["presentation"])
    stage.denoiser = Quieted(level)  # type: ignore[assignment]
    return restored(stage, of(pixels))[0]


def recorded(stage: Repair, store: ModelStore, photograph: Photograph) -> tuple[Event, Mapping[str, Any]]:
    [record] = run_stage(stage, stage.parameters, [Record(0, "item", "a.tif", photograph=photograph)], store, DEVICE)
    assert record.status is Status.PENDING
    return record.events[-1], json.loads(record.events[-1].findings)


class Empty:
    """A store without any model."""

    def card(self, model_id: str) -> None:
        raise ModelError(model_id)


@pytest.mark.parametrize("policy", ["conservation", "presentation"])
def test_nobody_gets_it_who_did_not_ask(rng: np.random.Generator, policy: str) -> None:
    stage = Repair(RepairParameters(), POLICIES[policy])
    stage.open(Empty(), DEVICE)  # type: ignore[arg-type]
    assert Repair.needs(stage.parameters) == ()
    given = of(noisy(rng, "uint8", 3))
    [step] = restored(stage, given)
    assert (step.photograph.pixels is given.pixels, step.models, step.precision) == (True, (), None)
    assert not [name for name in step.findings if "noise" in name or "denoise" in name]


def test_conservation_refuses_it_and_says_so(rng: np.random.Generator) -> None:
    pixels = noisy(rng, "uint8", 3)
    stage = Repair(RepairParameters(denoise=0.8), POLICIES["conservation"])
    stage.open(Empty(), DEVICE)  # type: ignore[arg-type]
    [step] = restored(stage, of(pixels))
    assert step.photograph.pixels is pixels
    assert "0.8 was asked for" in step.findings["denoise_refused"]


def test_who_asks_for_it_needs_the_networks() -> None:
    stage = Repair(RepairParameters(denoise=0.3), POLICIES["presentation"])
    assert [(need.model_id, need.required) for need in Repair.needs(stage.parameters)] == [("albumen-noise", True)]
    with pytest.raises(ModelError, match="albumen-noise"):
        stage.open(Empty(), DEVICE)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        RepairParameters(denoise=1.1)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_noise_goes_by_the_share_that_is_asked_for_and_is_no_damage(share: float) -> None:
    step = calmed(flat(), 12.0, denoise=share)
    assert np.array_equal(step.photograph.pixels, (widened(flat()) * (1 - share / 2)).astype(np.uint16))
    assert (step.findings["noise_level"], step.findings["denoise_strength"]) == (12.0, share)
    assert (step.findings["noise_correlation"], step.findings["noise_between_channels"]) == (0.2, 0.1)
    assert (step.models, step.precision) == (("albumen-noise",), "fp32")
    assert step.photograph.damage is not None
    assert not step.photograph.damage.any()


def test_what_is_quiet_is_left_to_the_bit_and_the_level_recorded() -> None:
    pixels = flat()
    step = calmed(pixels, 1.9)
    assert step.outcome is Outcome.SKIPPED
    assert step.photograph.pixels is pixels
    found = tuple(step.findings[name] for name in ("noise_level", "denoise_strength", "denoised_fraction"))
    assert found == (1.9, 0.0, 0.0)


def test_grain_has_to_be_stronger_than_white_noise() -> None:
    def quiet(level: float, along: float, between: float) -> bool:
        return is_quiet(Noise((level / 255,) * 32, along, between, level))

    assert [quiet(level, 0.1, 0.1) for level in (1.9, 2.1, 5.9)] == [True, False, False]
    assert [quiet(level, 0.5, 0.1) for level in (5.9, 6.1)] == [True, False]
    assert [quiet(level, 0.1, 1.0) for level in (5.9, 6.1)] == [True, False]


def test_what_looks_like_texture_has_to_be_stronger_still() -> None:
    def quiet(level: float, along: float, between: float) -> bool:
        return is_quiet(Noise((level / 255,) * 32, along, between, level))

    assert [quiet(level, 0.5, 0.98) for level in (11.9, 12.1)] == [True, False]
    assert [quiet(level, 0.5, 0.85) for level in (5.9, 6.1)] == [True, False]


def test_the_record_says_that_it_was_all_over(rng: np.random.Generator, shipped: ModelStore) -> None:
    """The mask has what was repaired; the share of changed pixels has the rest, too."""
    codes = np.zeros((90, 110), np.uint8)
    codes[40:42, 5:100] = Kind.LINE
    pixels = noisy(rng, "uint16", 3)
    stage = opened(shipped)
    event, findings = recorded(stage, shipped, of(pixels, damage=codes))
    [step] = restored(stage, of(pixels, damage=codes))
    marked = step.photograph.damage
    assert marked is not None
    assert np.array_equal(marked > 0, codes > 0)
    assert (marked[codes > 0] == Kind.LINE | REPAIRED).all()
    changed = (step.photograph.pixels != pixels).any(axis=2).mean()
    assert event.changed_fraction == pytest.approx(changed, abs=1e-12)
    assert findings["denoised_fraction"] == pytest.approx(changed, abs=0.001)
    assert changed > 0.99
    assert findings["inpainted_fraction"] == (codes > 0).mean()
    assert event.de00_mean is not None
    assert event.de00_mean > 0.1
    assert [model["id"] for model in event.models] == ["albumen-noise"]
    assert findings["noise_level"] == pytest.approx(20, rel=0.2)


@pytest.mark.parametrize("kind", ["grey", "RGB", "RGB in adobe", "RGB from a scanner", "grey with a profile"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_grey_stays_grey(
    rng: np.random.Generator, shipped: ModelStore, profiles: Mapping[str, bytes], kind: str, dtype: str
) -> None:
    icc = {"RGB in adobe": "adobe", "RGB from a scanner": "scanner", "grey with a profile": "grey"}.get(kind)
    pixels = noisy(rng, dtype, 1 if kind.startswith("grey") else 3, neutral=True)
    [step] = restored(opened(shipped), of(pixels, None if icc is None else profiles[icc]))
    after = step.photograph.pixels
    assert (after.shape, after.dtype) == (pixels.shape, np.uint16)
    assert is_neutral(after)
    before, now = (part[10:-10, 50:60].std(axis=0).mean() for part in (widened(pixels), after))
    assert now < 0.5 * before


def test_eight_bits_and_sixteen_are_one_photograph(rng: np.random.Generator, shipped: ModelStore) -> None:
    pixels = noisy(rng, "uint8", 3)
    alpha = rng.integers(0, 255, pixels.shape[:2], dtype=np.uint8)
    stage = opened(shipped)
    [one] = restored(stage, of(pixels, alpha=alpha))
    [other] = restored(stage, of(widened(pixels), alpha=widened(alpha)))
    assert np.array_equal(one.photograph.pixels, other.photograph.pixels)
    assert one.photograph.alpha is not None
    assert np.array_equal(one.photograph.alpha, widened(alpha))


def test_company_changes_no_bit(rng: np.random.Generator, shipped: ModelStore) -> None:
    """Photographs of several sizes and noises, together, in another order, and alone, with another opened stage."""
    sizes = ((90, 110), (37, 401), (1, 1))
    several = [of(noisy(rng, "uint16", channels, size)) for size, channels in zip(sizes, (3, 1, 3), strict=True)]
    together = restored(opened(shipped), *several)
    turned = restored(opened(shipped), *several[::-1])[::-1]
    alone = [restored(opened(shipped), photograph)[0] for photograph in several]
    for one, other, lone in zip(together, turned, alone, strict=True):
        assert np.array_equal(one.photograph.pixels, other.photograph.pixels)
        assert np.array_equal(one.photograph.pixels, lone.photograph.pixels)
        assert one.findings == other.findings == lone.findings


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 3000), (3000, 1), (3, 3)], ids=str)
@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 1), ("uint16", 3)])
def test_no_shape_fails(
    rng: np.random.Generator, shipped: ModelStore, shape: tuple[int, int], dtype: str, channels: int
) -> None:
    pixels = rng.integers(0, np.iinfo(dtype).max, (*shape, channels), dtype=dtype, endpoint=True)
    event, findings = recorded(opened(shipped), shipped, of(pixels))
    assert event.outcome in ("applied", "skipped")
    assert np.isfinite([findings[name] for name in ("noise_level", "noise_correlation")]).all()
