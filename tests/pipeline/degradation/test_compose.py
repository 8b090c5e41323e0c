"""Pairs: reproducible, true to the pixel, and unchanged where nothing was to happen."""

from __future__ import annotations

import json
from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.damage.kinds import Kind
from pipeline.degradation import PRESETS, Degradation, Effect, Pair, Shapes, degrade
from pipeline.degradation.settings import LOCAL, SCAN, WHOLE

Image = NDArray[np.float32]
SEEDS = range(8)
ALL = Degradation(
    intact=0.0, **{name: getattr(Degradation(), name).model_copy(update={"chance": 0.5}) for name in LOCAL}
)


def only(name: str, **others: object) -> Degradation:
    """One local effect on every photograph, and nothing else."""
    effect = getattr(Degradation(), name).model_copy(update={"chance": 1.0})
    return Degradation.none(**({"intact": 0.0, name: effect} | others))


def made(crop: Image, wanted: Degradation, seed: int, shapes: Shapes | None = None) -> Pair:
    return degrade(crop, wanted, shapes or Shapes.none(), np.random.default_rng(seed))


@pytest.mark.parametrize("with_shapes", [False, True])
def test_the_same_seed_gives_the_same_bytes_and_another_other_ones(
    crop: Image, library: Shapes, with_shapes: bool
) -> None:
    shapes = library if with_shapes else Shapes.none()
    for seed in SEEDS[:4]:
        first, second = (made(crop, ALL, seed, shapes) for _ in range(2))
        for name in ("clean", "undamaged", "damaged", "kinds"):
            assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name
        assert first.applied == second.applied
    assert made(crop, ALL, 1).damaged.tobytes() != made(crop, ALL, 2).damaged.tobytes()


def test_a_pair_does_not_depend_on_what_was_made_before(crop: Image) -> None:
    alone = made(crop, ALL, 7)
    made(crop, PRESETS["heavy"], 3)
    np.random.default_rng(0).random(5)
    assert made(crop, ALL, 7).damaged.tobytes() == alone.damaged.tobytes()


def test_chances_of_nothing_give_the_photograph_back_bit_for_bit(crop: Image, library: Shapes) -> None:
    for seed in SEEDS[:5]:
        pair = made(crop, Degradation.none(), seed, library)
        assert pair.undamaged.tobytes() == crop.tobytes()
        assert pair.damaged.tobytes() == crop.tobytes()
        assert not pair.kinds.any()
        assert pair.applied["damage"] == []
        assert pair.applied["scan"] == []


def test_the_photograph_is_never_written_to(crop: Image) -> None:
    frozen = crop.copy()
    frozen.flags.writeable = False
    for name in PRESETS:
        pair = made(frozen, PRESETS[name], 1)
        assert pair.clean.tobytes() == crop.tobytes()
        assert not np.shares_memory(pair.damaged, frozen)
        assert not np.shares_memory(pair.undamaged, frozen)


def test_before_the_scan_the_truth_is_exact(crop: Image, library: Shapes) -> None:
    """Nothing differs outside of the truth; inside of it, what 8 bits can tell does."""
    unchanged = marked = 0
    for seed in SEEDS:
        pair = made(crop, ALL.without(*SCAN), seed, library)
        change = np.abs(pair.damaged - pair.undamaged).max(axis=2)
        assert (change[pair.kinds == Kind.NONE] == 0).all()
        damage = change[(pair.kinds != Kind.NONE) & (pair.kinds != Kind.MISSING)]
        marked += damage.size
        unchanged += int((damage < 0.99 / 255).sum())
    # Where one kind lies over another, a pixel may by chance get its own value back.
    assert marked > 5_000
    assert unchanged < 0.002 * marked


@pytest.mark.parametrize("name", ["stains", "foxing", "scratches", "dust", "cracks"])
def test_what_is_marked_can_be_seen(crop: Image, name: str) -> None:
    for seed in SEEDS[:8]:
        pair = made(crop, only(name), seed)
        change = np.abs(pair.damaged - pair.undamaged).max(axis=2)
        if pair.kinds.any():
            assert change[pair.kinds != Kind.NONE].min() >= 0.99 / 255
            assert change.max() > 6 / 255


def test_after_the_scan_nothing_differs_beyond_its_reach(crop: Image, library: Shapes) -> None:
    compared = 0
    for seed in SEEDS:
        pair = made(crop, ALL, seed, library)
        side = 2 * pair.applied["reach"] + 1
        near = cv2.dilate((pair.kinds != 0).astype(np.uint8), np.ones((side, side), np.uint8))
        away = near == 0
        compared += int(away.sum())
        assert np.array_equal(pair.damaged[away], pair.undamaged[away]), pair.applied["scan"]
    assert compared > 5_000


def test_a_white_scratch_on_white_is_no_damage() -> None:
    white = np.ones((120, 120, 3), np.float32)
    for seed in SEEDS[:10]:
        for name in ("scratches", "dust", "hairs"):
            pair = made(white, only(name, white=1.0), seed)
            assert not pair.kinds.any()
            assert pair.damaged.tobytes() == white.tobytes()


def test_a_scratch_that_noise_hides_is_no_damage(crop: Image) -> None:
    faint = only("scratches").model_copy(update={"scratches": Effect(chance=1, strength=0.12, count=(4, 4))})
    loud = faint.model_copy(update={"grain": Effect(chance=1, strength=2), "noise": Effect(chance=1, strength=2)})
    quiet_pixels = sum(int((made(crop, faint, seed).kinds > 0).sum()) for seed in SEEDS[:10])
    loud_pixels = sum(int((made(crop, loud, seed).kinds > 0).sum()) for seed in SEEDS[:10])
    assert loud_pixels < 0.5 * quiet_pixels


def test_neutral_prints_are_exactly_neutral_until_coloured_damage_comes(crop: Image, library: Shapes) -> None:
    neutral = ALL.model_copy(update={"neutral": 1.0, "toned": 0.0})
    coloured = 0
    for seed in SEEDS:
        pair = made(crop, neutral, seed, library)
        for channel in (1, 2):
            assert np.array_equal(pair.undamaged[..., 0], pair.undamaged[..., channel]), pair.applied
        neutral_scan = np.array_equal(pair.damaged[..., 0], pair.damaged[..., 2])
        assert neutral_scan or not pair.applied["grey_scan"]
        coloured += not neutral_scan
    assert coloured > 2


def test_toned_prints_have_one_hue_and_coloured_ones_their_own(crop: Image) -> None:
    toned = Degradation.none(toned=1.0)
    pair = made(crop, toned, 3)
    light = crop @ np.array([0.299, 0.587, 0.114], np.float32)
    # Colour is a function of lightness: pixels of one red have one blue.
    red, blue = pair.undamaged[..., 0].ravel(), pair.undamaged[..., 2].ravel()
    order = np.argsort(red)
    assert np.abs(np.diff(blue[order]) + 1e-4).min() >= 0
    assert (np.diff(blue[order]) >= -1e-4).all()
    assert light.std() > 0.1
    assert made(crop, Degradation.none(), 3).applied["ageing"]["tone"] == "coloured"


KINDS = {
    **dict.fromkeys(("scratches", "scuffs", "creases", "cracks", "tears", "hairs"), frozenset({Kind.LINE})),
    **dict.fromkeys(("dust", "dirt", "spots", "mould", "foxing"), frozenset({Kind.SPOT})),
    **dict.fromkeys(("corners", "edges", "holes"), frozenset({Kind.MISSING})),
    "stains": {Kind.STAIN},
    "glass": {Kind.SPOT, Kind.LINE},
}


@pytest.mark.parametrize("with_shapes", [False, True])
@pytest.mark.parametrize("name", LOCAL)
def test_every_local_effect_makes_damage_of_its_kind(
    crop: Image, library: Shapes, name: str, with_shapes: bool
) -> None:
    found: Counter[Kind] = Counter()
    real = 0
    for seed in SEEDS[:8]:
        pair = made(crop, only(name, real=1.0), seed, library if with_shapes else None)
        found.update({Kind(int(code)) for code in np.unique(pair.kinds) if code})
        real += sum(entry["real"] for entry in pair.applied["damage"])
    assert set(found) <= KINDS[name]
    assert found.total() >= 6
    drawn = {"creases", "cracks", "tears", "mould", "foxing", "corners", "edges", "holes"}
    assert (real > 0) is (with_shapes and name not in drawn)


@pytest.mark.parametrize("name", [*WHOLE, *SCAN])
def test_every_effect_of_the_whole_changes_the_whole_and_damages_nothing(crop: Image, name: str) -> None:
    chances = {name: Effect(chance=1)} | ({"jpeg": Effect(chance=1)} if name == "again" else {})
    tone = {"toned": 1.0} if name == "yellowing" else {}
    pair = made(crop, Degradation.none(**chances, **tone), 4)
    plain = made(crop, Degradation.none(**tone), 4)
    assert np.abs(pair.undamaged - plain.undamaged).mean() > 1e-4
    assert pair.undamaged.min() >= 0
    assert pair.undamaged.max() <= 1
    assert not pair.kinds.any()
    assert pair.damaged.tobytes() == pair.undamaged.tobytes()


def test_what_destroys_more_wins(crop: Image) -> None:
    both = Degradation.none(
        intact=0.0,
        stains=Effect(chance=1, count=(6, 6)),
        scratches=Effect(chance=1, count=(40, 40)),
        edges=Effect(chance=1, count=(4, 4)),
    )
    over_stain = over_line = 0
    for seed in SEEDS[:8]:
        together = made(crop, both, seed)
        stains_alone = made(crop, both.without("scratches", "edges"), seed)
        without_edges = made(crop, both.without("edges"), seed)
        # The draws before an effect are the same with and without it, so that the damage before it is too.
        over_stain += int(((stains_alone.kinds == Kind.STAIN) & (without_edges.kinds == Kind.LINE)).sum())
        over_line += int(((without_edges.kinds == Kind.LINE) & (together.kinds == Kind.MISSING)).sum())
        assert not ((together.kinds == Kind.STAIN) & (without_edges.kinds == Kind.LINE)).any()
    assert over_stain > 100
    assert over_line > 100


def test_undamaged_photographs_come_as_often_as_the_settings_say(crop: Image) -> None:
    small = np.ascontiguousarray(crop[:48, :48])
    often = only("scratches", scratches=Effect(chance=1, count=(9, 9))).model_copy(update={"intact": 0.5})
    clean = sum(not made(small, often, seed).kinds.any() for seed in range(100))
    assert 35 <= clean <= 65
    assert not any(made(small, often.model_copy(update={"intact": 1.0}), seed).kinds.any() for seed in range(10))


def test_what_was_done_is_told_in_json(crop: Image, library: Shapes) -> None:
    for seed in SEEDS[:6]:
        pair = made(crop, ALL, seed, library)
        assert json.loads(json.dumps(pair.applied)) == pair.applied
        counts = {kind.name.lower(): int((pair.kinds == kind).sum()) for kind in Kind if kind}
        assert pair.applied["pixels"] == counts
        assert {entry["effect"] for entry in pair.applied["damage"]} <= set(LOCAL)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 300), (300, 7), (2, 2), (33, 17)])
@pytest.mark.parametrize("preset", ["print", "heavy"])
def test_any_size_will_do(size: tuple[int, int], preset: str, library: Shapes) -> None:
    image = np.random.default_rng(1).random((*size, 3), np.float32)
    for seed in range(6):
        check(degrade(image, PRESETS[preset], library, np.random.default_rng(seed)), size)


def check(pair: Pair, size: tuple[int, int]) -> None:
    for image in (pair.clean, pair.undamaged, pair.damaged):
        assert image.shape == (*size, 3)
        assert image.dtype == np.float32
        assert image.flags.c_contiguous
        assert np.isfinite(image).all()
        assert image.min() >= 0
        assert image.max() <= 1
    assert pair.kinds.shape == size
    assert pair.kinds.dtype == np.uint8
    assert pair.kinds.max() <= Kind.MISSING


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    seed=st.integers(0, 2**32),
    level=st.sampled_from([0.0, 0.4, 1.0]),
    preset=st.sampled_from(sorted(PRESETS)),
)
def test_pairs_hold_for_any_size_seed_and_tone(height: int, width: int, seed: int, level: float, preset: str) -> None:
    image = np.full((height, width, 3), level, np.float32)
    image[height // 2 :, width // 2 :] = 1 - level
    pair = degrade(image, PRESETS[preset], Shapes.none(), np.random.default_rng(seed))
    check(pair, (height, width))
    exact = degrade(image, PRESETS[preset].without(*SCAN), Shapes.none(), np.random.default_rng(seed))
    assert np.array_equal(exact.damaged[exact.kinds == 0], exact.undamaged[exact.kinds == 0])


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 1), np.float32),
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.float32),
    ],
)
def test_what_is_no_photograph_is_refused(wrong: NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match="H x W x 3 float32"):
        degrade(wrong, Degradation(), Shapes.none(), np.random.default_rng(0))  # type: ignore[arg-type]
