"""What each measure answers to, and what it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.damage import REPAIRED, Kind, mask_png
from pipeline.honesty import proof as proofs
from pipeline.honesty.measure import measured
from pipeline.honesty.proof import proof_of
from pipeline.honesty.row import Measures
from pipeline.models.store import ModelSource, ModelStore
from pipeline.photograph import Container, Decision, Face, Likeness, Photograph, Pixels, as_unit, to_depth
from pipeline.policy import POLICIES
from pipeline.record import Event, Record
from pipeline.stage import Device
from pipeline.stages import STAGES
from pipeline.supervision import run_stage

TILES = json.dumps({"tile": 96, "halo": 16})
EventOf = Callable[..., Event]


def stored(unit: np.ndarray) -> Pixels:
    return to_depth(unit.astype(np.float32), np.dtype(np.uint16))


def blurred(pixels: Pixels, sigma: float) -> Pixels:
    return stored(cv2.GaussianBlur(as_unit(pixels), (0, 0), sigma).reshape(pixels.shape))


def struck(pixels: Pixels, by: float = 0.4) -> Pixels:
    """With lines that the scan does not have."""
    unit, drawn = as_unit(pixels), np.zeros(pixels.shape[:2], np.float32)
    for at in (20, 40, 60):
        cv2.line(drawn, (at, 30), (at + 40, 100), 1.0, 2, cv2.LINE_AA)
    return stored(unit + by * drawn[..., None])


def enlarged(pixels: Pixels, scale: int = 4) -> Pixels:
    return np.repeat(np.repeat(pixels, scale, axis=0), scale, axis=1)


def test_a_scan_that_was_left_alone_shows_nothing(scan: Photograph, judge: Any) -> None:
    honesty, shown = judge(scan.pixels)
    assert honesty.measures == Measures(
        **dict.fromkeys((field.name for field in fields(Measures)), 0.0)
        | {"step": 1, "high_frequency": 1.0, "grain": 1.0}
        | dict.fromkeys(("psnr", "unsupported_peak", "seam", "repaired_de00_mean", "identity"))
    )
    assert not shown.edits.any()
    assert not shown.invented.any()


def test_edges_that_the_scan_does_not_have_are_counted_and_shown(scan: Photograph, judge: Any) -> None:
    honesty, shown = judge(struck(scan.pixels))
    assert honesty.measures.new_edges > 0.02
    assert honesty.measures.new_edges_peak > 0.3
    where = shown.invented > 0.2
    assert where[30:100, 20:100].mean() > 0.1
    assert where[:, 130:].mean() == 0


def test_edges_that_the_scan_has_may_be_sharper_or_softer(scan: Photograph, judge: Any) -> None:
    unit = as_unit(scan.pixels)
    sharper = unit + 0.4 * (unit - cv2.GaussianBlur(unit, (0, 0), 1.0))
    for pixels in (stored(sharper), blurred(scan.pixels, 1.0)):
        assert judge(pixels)[0].measures.new_edges < 0.002


def test_smoothing_takes_high_frequencies_and_grain(scan: Photograph, judge: Any) -> None:
    found = [judge(blurred(scan.pixels, sigma))[0].measures for sigma in (0.6, 1.0, 2.0)]
    for name in ("high_frequency", "grain"):
        values = [getattr(measures, name) for measures in found]
        assert values == sorted(values, reverse=True)
        assert values[2] < 0.1 < values[0] < 0.9
    assert found[0].smoothed < found[1].smoothed < found[2].smoothed
    assert found[2].roughened < 0.01


def test_texture_that_was_added_roughens(scan: Photograph, judge: Any, rng: np.random.Generator) -> None:
    noise = rng.normal(0, 0.05, scan.pixels.shape[:2])[..., None]
    measures = judge(stored(as_unit(scan.pixels) + noise))[0].measures
    assert measures.roughened > 0.3
    assert measures.grain > 4
    assert measures.smoothed < 0.01


def test_the_recorded_change_of_colour_is_no_invention(scan: Photograph, judge: Any, event_of: EventOf) -> None:
    gains, slope, offset = [1.1, 1.0, 0.9], 1.2, -0.05
    changed = stored(as_unit(scan.pixels) * np.float32(slope) * np.array(gains, np.float32) + np.float32(offset))
    told = judge(changed, event_of("colour", gains=gains, slope=slope, offset=offset))[0].measures
    silent = judge(changed)[0].measures
    assert told.de00_mean == silent.de00_mean > 2
    assert told.residual_peak < 0.1 < 2 < silent.residual_peak
    assert told.high_frequency == pytest.approx(1, abs=0.03)
    assert told.new_edges == 0
    skipped = judge(changed, event_of("colour", "skipped", gains=gains, slope=slope, offset=offset))[0].measures
    assert skipped == silent


@pytest.mark.parametrize("scale", [1, 2])
def test_what_was_repaired_inside_its_mask_is_said_apart(scan: Photograph, judge: Any, scale: int) -> None:
    codes = np.zeros(scan.pixels.shape[:2], np.uint8)
    codes[25:105, 15:110] = Kind.SPOT | REPAIRED
    codes[150:160, 150:160] = Kind.STAIN
    given = {"damage": codes} if scale == 1 else {"mask": mask_png(codes)}
    pixels = struck(scan.pixels)
    measures, shown = judge(enlarged(pixels, scale), scale=scale, **given)
    measures = measures.measures
    assert (measures.new_edges, measures.residual_peak) == (0, 0)
    # A rim of two pixels comes along; what was only found does not.
    assert measures.repaired_fraction == pytest.approx((80 + 4) * (95 + 4) / codes.size, abs=1e-6)
    assert measures.repaired_de00_mean > 1
    assert shown.edits.max() > 10
    assert not shown.invented[40:90, 30:100].any()
    assert judge(enlarged(pixels, scale), scale=scale)[0].measures.new_edges_peak > 0.3


def test_detail_between_the_scans_pixels(scan: Photograph, judge: Any, rng: np.random.Generator) -> None:
    smooth = stored(cv2.resize(as_unit(scan.pixels), None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC))
    plain = judge(smooth, scale=4)[0].measures
    noise = cv2.GaussianBlur(rng.normal(size=smooth.shape[:2]).astype(np.float32), (0, 0), 1.0)
    noise -= enlarged(proofs.block_mean(noise, 4))
    where = np.zeros(noise.shape, np.float32)
    where[:300, :300] = 0.1 / noise.std()
    rough, shown = judge(stored(as_unit(smooth) + (noise * where)[..., None]), scale=4)
    assert plain.unsupported_peak < 1
    assert rough.measures.unsupported_peak > 2 * plain.unsupported_peak
    # On the scan's own grid there is hardly anything to see of it.
    assert rough.measures.new_edges == 0
    assert rough.measures.residual_peak < 2
    assert shown.invented[:70, :70].mean() > 5 * shown.invented[80:, 80:].mean()


def test_a_tile_of_another_tone_is_a_seam(scan: Photograph, judge: Any, event_of: EventOf) -> None:
    tiled = event_of("upscale", parameters=TILES)
    # The first tile ends at 96; the second starts where the last of four is moved back to.
    unit = as_unit(scan.pixels)
    toned = unit.copy()
    toned[:, :80] += 0.03
    assert judge(scan.pixels, tiled)[0].measures.seam == 0
    assert judge(stored(toned), tiled)[0].measures.seam > 1
    assert judge(stored(toned))[0].measures.seam is None
    # The same step in the middle of a tile is no seam.
    elsewhere = unit.copy()
    elsewhere[:, :48] += 0.03
    assert judge(stored(elsewhere), tiled)[0].measures.seam < 0.2
    assert (
        judge(stored(toned), event_of("upscale", parameters=json.dumps({"tile": 400, "halo": 16})))[0].measures.seam
        is None
    )
    smaller = event_of("upscale", parameters=json.dumps({"tile": 400, "halo": 16}), tile=96)
    assert judge(stored(toned), smaller)[0].measures.seam > 1


def test_pixels_that_became_black_or_white(scan: Photograph, judge: Any) -> None:
    pixels = scan.pixels.copy()
    pixels[:56], pixels[56:84] = 0, 65535
    measures = judge(pixels)[0].measures
    assert measures.clipped_low == pytest.approx(0.25, abs=0.01)
    assert measures.clipped_high == pytest.approx(0.125, abs=0.01)


def test_the_least_likeness_of_a_face_that_was_laid_in(scan: Photograph, judge: Any) -> None:
    face = Face((0.0, 0.0, 9.0, 9.0), (1.0,) * 10, 0.5, decision=Decision.RESTORED, likeness=Likeness("m", 0.7))
    stays = replace(face, decision=Decision.REFUSED, likeness=Likeness("m", 0.1))
    other = replace(face, likeness=Likeness("m", 0.6))
    bare = replace(face, likeness=None)
    assert judge(scan.pixels, faces=(face, stays, other, bare))[0].measures.identity == 0.6
    assert judge(scan.pixels, faces=(stays, bare))[0].measures.identity is None
    risks = [
        judge(scan.pixels, faces=faces)[0].risk
        for faces in ((), (face,), (replace(face, likeness=Likeness("m", 0.1)),))
    ]
    assert risks == sorted(risks)
    assert risks[2] > 0.9


def test_fidelity_is_what_is_left_when_averaged_down(scan: Photograph, judge: Any) -> None:
    lighter = stored(np.minimum(as_unit(scan.pixels), 0.9) + 0.01)
    measures = judge(lighter)[0].measures
    error = np.square(as_unit(lighter) - as_unit(scan.pixels)).mean()
    assert measures.psnr == pytest.approx(-10 * np.log10(error), abs=1e-3)
    assert measures.residual_low > measures.residual_mid > 0
    large = judge(enlarged(lighter), scale=4)[0].measures
    assert large.psnr == pytest.approx(measures.psnr, abs=1e-3)
    assert large.de00_max == pytest.approx(measures.de00_max, abs=1e-3)


def test_a_large_scan_is_measured_on_its_proof(scan: Photograph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "PROOF_PIXELS", 12000)
    proof = proof_of(scan)
    assert proof.step == 3
    found = measured(proof, scan, (), ())
    assert found is not None
    assert found[0].measures.psnr is None or found[0].measures.psnr > 90
    assert found[0].measures.high_frequency == pytest.approx(1, abs=1e-3)
    # Grain lies below the grid, and is missed all the same.
    calm = measured(proof, replace(scan, pixels=blurred(scan.pixels, 1.0)), (), ())
    assert calm is not None
    assert calm[0].measures.grain < 0.5
    assert calm[0].measures.high_frequency < 0.7


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 3), (9, 300)])
@pytest.mark.parametrize("channels", [1, 3])
def test_photographs_of_any_shape(shape: tuple[int, int], channels: int, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 255, (*shape, channels), np.uint8)
    photograph = Photograph("item", pixels, Container("PNG"))
    other = replace(photograph, pixels=255 - pixels)
    for output in (photograph, other, replace(other, pixels=enlarged(other.pixels, 2), scale=2)):
        found = measured(proof_of(photograph), output, (), ())
        assert found is not None
        values = [getattr(found[0].measures, field.name) for field in fields(Measures)]
        assert all(value is None or np.isfinite(value) for value in values)
        assert 0 <= found[0].risk <= 1


def test_an_output_of_another_shape_is_not_measured(scan: Photograph) -> None:
    assert scan.proof is not None
    assert measured(scan.proof, replace(scan, pixels=scan.pixels[:-1]), (), ()) is None


def test_a_profile_is_honoured(scan: Photograph, profiles: dict[str, bytes]) -> None:
    wide = replace(scan, container=Container("TIFF", icc=profiles["adobe"]))
    darker = stored(as_unit(scan.pixels) * 0.9)
    found = [measured(proof_of(one), replace(one, pixels=darker), (), ()) for one in (scan, wide)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0][0].measures.de00_mean != pytest.approx(found[1][0].measures.de00_mean, rel=1e-3)


@pytest.mark.parametrize("policy", ["conservation", "presentation"])
def test_an_honest_restoration_has_no_new_edges(scan: Photograph, policy: str, judge: Any) -> None:
    """Repair and colour as they are, on a scan with scratches, faded."""
    unit = as_unit(scan.pixels) * np.array([0.8, 0.75, 0.7], np.float32) + np.float32(0.08)
    cv2.line(unit, (30, 10), (200, 210), (1.0, 1.0, 1.0), 1, cv2.LINE_AA)
    pixels = stored(unit)
    marred = replace(scan, pixels=pixels, proof=None)
    record = Record(0, "item", "/scan", photograph=replace(marred, proof=proof_of(marred)))
    analyse = {"detector": "none", "damage": "classical"}
    chosen: dict[str, dict[str, Any]] = {"analyse": analyse, "repair": {"denoise": 0.0}, "colour": {}}
    models = ModelStore(ModelSource(cache="/nowhere"))
    for name, values in chosen.items():
        parameters = STAGES[name].Parameters.model_validate(values)
        [record] = run_stage(STAGES[name](parameters, POLICIES[policy]), parameters, [record], models, Device())
    assert record.photograph is not None
    assert record.photograph.proof is not None
    found = measured(record.photograph.proof, record.photograph, record.events, ())
    assert found is not None
    measures = found[0].measures
    assert measures.repaired_fraction > 0.005
    assert measures.de00_mean > 2
    assert (measures.new_edges, measures.seam) == (0, None)
    assert measures.residual_peak < 0.3
    assert found[0].risk < judge(struck(scan.pixels, 0.15))[0].risk
    applied = {event.stage: event.de00_mean for event in record.events}
    assert applied["analyse"] == 0
    assert 0 < (applied["repair"] or 0) < (applied["colour"] or 0)
