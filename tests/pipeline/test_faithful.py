"""Colour and depth through the stages of the default recipe, with Real-ESRGAN's compact network on real photographs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.color import deltaE_ciede2000

import pipeline.stages.upscale as upscaling
from pipeline.colour_space import open_profile
from pipeline.damage import Kind
from pipeline.measures import lab_of_srgb
from pipeline.models.catalogue import ModelCard
from pipeline.models.store import ModelSource, ModelStore
from pipeline.photograph import LUMA, Container, Photograph, as_unit, is_neutral, widened
from pipeline.policy import POLICIES
from pipeline.stage import Device, Stage, Step
from pipeline.stages import STAGES
from pipeline.stages.colour import adjusted
from pipeline.stages.upscale import Upscale

Samples = NDArray[np.uint8] | NDArray[np.uint16]
Recipe = Callable[..., Photograph]
Profiles = dict[str, bytes]
# A mean that nobody sees; a largest difference that is found by comparing, not by looking.
MEAN, MOST = 1.0, 7.0


@pytest.fixture(scope="module")
def restore(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Runs stages on a photograph; `upscale` has the compact network."""
    weights = shared / "weights" / "realesr-general-x4v3.fp16derived.pth"
    card = card_of(weights)
    store = ModelStore(ModelSource(cache=str(tmp_path_factory.mktemp("cache")), local=(card,)))
    opened: dict[str, Stage] = {}

    def stage(name: str, policy: str) -> Stage:
        if name + policy not in opened:
            parameters = {"analyse": {"detector": "none"}, "upscale": {"model": "general"}}.get(name, {})
            made = STAGES[name](STAGES[name].Parameters.model_validate(parameters), POLICIES[policy])
            made.open(store, Device("cpu", 2))
            opened[name + policy] = made
        return opened[name + policy]

    def run(photograph: Photograph, *names: str, policy: str = "conservation") -> Photograph:
        for name in names:
            step = stage(name, policy).restore([photograph])[0]
            assert isinstance(step, Step)
            photograph = step.photograph
        return photograph

    return run


def card_of(weights: Path) -> ModelCard:
    import hashlib

    return ModelCard(
        id="general",
        file=weights.name,
        bytes=weights.stat().st_size,
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        url=str(weights),
        licence="BSD-3-Clause",
        architecture="srvggnet-compact",
        task="upscale",
        scale=4,
    )


ALL = ("analyse", "repair", "faces", "upscale", "compose", "colour")


def of(pixels: Samples, icc: bytes | None = None, alpha: Samples | None = None) -> Photograph:
    return Photograph("item", np.ascontiguousarray(pixels), Container("TIFF", icc=icc), alpha)


def smaller(pixels: Samples, scale: int = 4) -> NDArray[np.float32]:
    size = (pixels.shape[1] // scale, pixels.shape[0] // scale)
    return cv2.resize(as_unit(pixels), size, interpolation=cv2.INTER_AREA)


def away(restore: Recipe, path: Path, crop: Sequence[slice] = ()) -> tuple[float, float]:
    """Mean and largest dE00 between a photograph and its restoration, averaged down, outside repaired areas."""
    pixels = np.ascontiguousarray(np.asarray(Image.open(path).convert("RGB"))[tuple(crop)])
    repaired = restore(of(pixels), "analyse", "repair")
    after = restore(repaired, "faces", "upscale", "compose")
    difference = deltaE_ciede2000(lab_of_srgb(as_unit(pixels)), lab_of_srgb(smaller(after.pixels)))
    assert repaired.damage is not None
    # The kernel that carries differences back reaches three pixels over the edge of what was repaired.
    near = cv2.dilate((repaired.damage > 0).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    return float(difference[~near].mean()), float(difference[~near].max())


@pytest.mark.parametrize("name", ["bsds-108070", "bsds-351093"])
def test_what_was_enlarged_is_still_the_photograph(restore: Recipe, shared: Path, name: str) -> None:
    mean, most = away(restore, shared / "photos" / "clean" / f"{name}.jpg", (slice(60, 220), slice(80, 260)))
    assert mean <= MEAN
    assert most <= MOST


@pytest.mark.audit
@pytest.mark.timeout(7200)
def test_every_clean_photograph_is_still_the_photograph(restore: Recipe, shared: Path) -> None:
    found = {path.name: away(restore, path) for path in sorted((shared / "photos" / "clean").glob("*.jpg"))}
    print(*(f"{name} mean {mean:.3f} max {most:.2f}" for name, (mean, most) in found.items()), sep="\n")
    assert len(found) == 40
    assert max(mean for mean, _ in found.values()) <= MEAN
    assert max(most for _, most in found.values()) <= MOST


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("kind", ["grey", "RGB", "RGB in adobe", "RGB from a scanner", "grey with a profile"])
@pytest.mark.parametrize("policy", ["conservation", "presentation"])
def test_neutral_photographs_have_no_chroma_at_all(
    restore: Recipe, real_photo: NDArray[np.uint8], profiles: Profiles, dtype: str, kind: str, policy: str
) -> None:
    plane = cv2.GaussianBlur(real_photo[60:108, 80:136, 1].astype(np.float32) * (0.7 * 257), (0, 0), 0.8)
    plane = np.rint(plane).astype(np.uint16)
    plane = (plane // 257).astype(np.uint8) if dtype == "uint8" else plane
    plane[20:22, 5:50] = np.iinfo(plane.dtype).max
    channels = 1 if kind.startswith("grey") else 3
    icc = {"RGB in adobe": "adobe", "RGB from a scanner": "scanner", "grey with a profile": "grey"}.get(kind)
    scan = of(np.repeat(plane[..., None], channels, axis=2), None if icc is None else profiles[icc])
    for name in ALL:
        scan = restore(scan, name, policy=policy)
        assert scan.pixels.shape[2] == channels
        assert is_neutral(scan.pixels), name
    assert scan.pixels.shape[:2] == (192, 224)
    assert scan.pixels.dtype == np.uint16


TONES = {
    # Colours of the deepest shadow, the middle and the paper: a sepia print and a cyanotype, RGB 0..1.
    "sepia": ((0.16, 0.09, 0.05), (0.60, 0.47, 0.36), (0.98, 0.94, 0.83)),
    "cyanotype": ((0.02, 0.10, 0.26), (0.32, 0.52, 0.66), (0.92, 0.96, 0.98)),
}


def by_lightness(colours: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Number, a* and b* over steps of 5 in L*."""
    place = np.clip(colours[..., 0] // 5, 0, 19).astype(int).ravel()
    count = np.bincount(place, minlength=20)
    a, b = (np.bincount(place, colours[..., k].ravel(), 20) / np.maximum(count, 1) for k in (1, 2))
    return count, a, b


@pytest.mark.parametrize("tone", TONES)
@pytest.mark.parametrize("names", [("upscale",), ALL])
def test_toned_prints_keep_their_tone(
    restore: Recipe, real_photo: NDArray[np.uint8], tone: str, names: tuple[str, ...]
) -> None:
    grey = as_unit(real_photo[40:168, 60:220]) @ LUMA
    knots = np.array(TONES[tone])
    print_ = np.stack([np.interp(grey, (0, 0.5, 1), knots[:, c]) for c in range(3)], axis=2)
    pixels = np.rint(print_ * 255).astype(np.uint8)
    after = lab_of_srgb(as_unit(restore(of(pixels), *names).pixels))
    before = lab_of_srgb(as_unit(pixels))
    many, a, b = by_lightness(before)
    found, now_a, now_b = by_lightness(after)
    seen = (many > 200) & (found > 200 * 16)
    assert seen.sum() > 6
    turn = np.degrees(np.arctan2(now_b, now_a) - np.arctan2(b, a))[seen]
    strength = np.hypot(now_a, now_b)[seen] / np.hypot(a, b)[seen]
    # Contrast may strengthen a tone a little; nothing may bleach or turn it.
    assert np.abs((turn + 180) % 360 - 180).max() < 5
    assert strength.min() > 0.9
    assert strength.max() < (1.1 if names == ("upscale",) else 1.35)
    # And no pixel has a hue that is not the print's.
    places = np.flatnonzero(seen) * 5 + 2.5
    stray = np.hypot(*(after[..., k + 1] - np.interp(after[..., 0], places, (now_a, now_b)[k][seen]) for k in (0, 1)))
    inside = (after[..., 0] > places[0]) & (after[..., 0] < places[-1])
    assert np.percentile(stray[inside], 99) < 2.5


@pytest.mark.parametrize("names", [("upscale",), ("upscale", "colour")])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_gradient_of_16_bits_stays_smooth(restore: Recipe, names: tuple[str, ...], channels: int) -> None:
    """Over 128 pixels the gradient rises by 8 steps of 8 bits: rounded to 8 bits anywhere, there would be bands."""
    tint = np.array([1.0, 0.9, 0.8])[:channels]
    ramp = np.linspace(0.45, 0.45 + 8 / 255, 128)[None, :, None] * tint
    pixels = np.repeat(np.rint(ramp * 65535).astype(np.uint16), 48, axis=0)
    after = restore(of(pixels), *names).pixels[40:-40, 32:-32, 0].astype(int)
    row = after[after.shape[0] // 2]
    assert len(np.unique(row)) > 200
    # A band of 8 bits would be a step of 257, and would leave the straight line by half of that. The network has a faint
    # texture of its own, which averages out over eight pixels.
    assert np.abs(np.diff(row)).max() < 257
    assert off_the_line(row) < 64
    assert off_the_line(np.rint(row / 257) * 257) > 90


def off_the_line(row: NDArray[np.int64]) -> float:
    """How far means of eight neighbours are from the straight line through all, at most."""
    means = row.reshape(-1, 8).mean(axis=1)
    places = np.arange(len(means))
    return float(np.abs(means - np.polyval(np.polyfit(places, means, 1), places)).max())


def test_eight_bits_become_more_before_delivery(restore: Recipe, real_photo: NDArray[np.uint8]) -> None:
    after = restore(of(real_photo[40:104, 60:140]), "upscale", "colour").pixels
    assert after.dtype == np.uint16
    assert all(len(np.unique(after[..., c])) > 256 for c in range(3))
    assert (after % 257 != 0).mean() > 0.9


@pytest.mark.parametrize("name", ["adobe", "prophoto", "scanner"])
def test_colours_outside_srgb_survive_enlargement(
    restore: Recipe, profiles: Profiles, vivid: NDArray[np.uint16], name: str
) -> None:
    icc = profiles[name]
    vivid = np.ascontiguousarray(vivid[:64, :80])
    after = restore(of(vivid, icc), "upscale").pixels
    shrunk = np.rint(smaller(after) * 65535).astype(np.uint16)
    before, now = lab_by_littlecms(vivid, icc), lab_by_littlecms(shrunk, icc)
    srgb = open_profile(icc, 3).to_srgb(vivid)
    outside = ((srgb < -0.02) | (srgb > 1.02)).any(axis=2)
    assert outside.mean() > 0.1
    difference = deltaE_ciede2000(before, now)
    assert difference[outside].mean() < 1.0
    assert np.percentile(difference[outside], 99) < 4.0
    # What clipping to sRGB would have cost, by the same measure.
    clipped = deltaE_ciede2000(lab_of_srgb(srgb), lab_of_srgb(np.clip(srgb, 0, 1)))
    assert difference[outside].mean() < 0.5 * clipped[outside].mean()


@pytest.mark.parametrize("name", ["adobe", "p3", "prophoto", "eci", "scanner"])
def test_colours_outside_srgb_survive_the_colour_stage(
    profiles: Profiles, vivid: NDArray[np.uint16], name: str
) -> None:
    space = open_profile(profiles[name], 3)
    same = adjusted(vivid, space, np.ones(3, np.float32), np.float32(0))
    assert deltaE_ciede2000(*(lab_by_littlecms(p, profiles[name]) for p in (vivid, same))).max() < 0.1
    darker = adjusted(vivid, space, np.full(3, 0.9, np.float32), np.float32(0))
    srgb = space.to_srgb(darker)
    assert np.abs(srgb - 0.9 * space.to_srgb(vivid)).max() < 0.05


def lab_by_littlecms(stored: Samples, icc: bytes) -> NDArray[np.float64]:
    found = imagecodecs.cms_transform(
        as_unit(stored), icc, imagecodecs.cms_profile("lab4"), colorspace="rgb", outcolorspace="lab", intent=1
    )
    return np.asarray(found, np.float64)


@pytest.mark.parametrize("name", ["adobe", "scanner"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_repair_converts_nothing_outside_its_mask(
    restore: Recipe, profiles: Profiles, vivid: NDArray[np.uint16], name: str, dtype: str
) -> None:
    pixels = vivid if dtype == "uint16" else (vivid // 257).astype(np.uint8)
    mask = np.zeros(pixels.shape[:2], bool)
    mask[30:33, 10:90] = True
    marked = replace(of(pixels, profiles[name]), damage=mask * np.uint8(Kind.LINE))
    after = restore(marked, "repair")
    assert after.damage is not None
    assert np.array_equal(after.damage > 0, mask)
    assert np.array_equal(after.pixels[~mask], widened(pixels)[~mask])


def test_a_stage_that_changes_nothing_converts_nothing(
    restore: Recipe, profiles: Profiles, vivid: NDArray[np.uint16]
) -> None:
    scan = of(vivid, profiles["adobe"])
    assert restore(scan, "analyse", "faces", "compose").pixels is scan.pixels


def test_alpha_goes_through_every_stage(restore: Recipe, real_photo: NDArray[np.uint8]) -> None:
    alpha = np.full((48, 56), 255, np.uint8)
    alpha[:, :20] = 0
    after = restore(of(real_photo[60:108, 80:136], alpha=alpha), *ALL)
    assert after.alpha is not None
    assert (after.alpha.shape, after.alpha.dtype) == ((192, 224), np.uint16)
    assert (after.alpha[:, :70] == 0).all()
    assert (after.alpha[:, 90:] == 65535).all()


def test_the_profile_s_bytes_are_carried_also_where_they_are_broken(
    restore: Recipe, real_photo: NDArray[np.uint8]
) -> None:
    pixels = real_photo[60:92, 80:120]
    broken, plain = restore(of(pixels, b"no profile"), *ALL), restore(of(pixels), *ALL)
    assert broken.container.icc == b"no profile"
    assert np.array_equal(broken.pixels, plain.pixels)


@pytest.mark.parametrize("kind", ["coloured", "toned", "wide"])
def test_bands_do_not_show(
    restore: Recipe,
    real_photo: NDArray[np.uint8],
    profiles: Profiles,
    vivid: NDArray[np.uint16],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crop = real_photo[60:156, 80:104]
    grey = np.rint(as_unit(crop) @ LUMA * 255)[..., None]
    toned = np.rint(grey * np.array([1.0, 0.88, 0.7])).astype(np.uint8)
    scan = {"coloured": of(crop), "toned": of(toned), "wide": of(vivid[:, :24], profiles["prophoto"])}[kind]
    whole = restore(scan, "upscale").pixels
    monkeypatch.setattr(upscaling, "BAND", 16)
    taken: list[int] = []
    slices = upscaling.bands

    def few(pixels: Samples, size: int) -> list[slice]:
        rows = list(slices(pixels, min(size, 24 * 13)))
        taken.append(len(rows))
        return rows

    monkeypatch.setattr(upscaling, "bands", few)
    assert np.array_equal(restore(scan, "upscale").pixels, whole)
    assert taken == [8]
    assert Upscale.version == "4"
