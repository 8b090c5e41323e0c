from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.colour_space import space_of
from pipeline.faces.composition import Sheet, footprint, lay_in
from pipeline.faces.masks import packed
from pipeline.faces.row import FACE, face_row
from pipeline.models.faces import TEMPLATE, align, as_patch
from pipeline.photograph import Container, Decision, Face, Photograph, is_neutral, widened
from pipeline.policy import POLICIES
from pipeline.stage import Outcome, Step
from pipeline.stages.compose import Compose, ComposeParameters
from tests.pipeline.rows import face_from

Samples = NDArray[np.uint8] | NDArray[np.uint16]
Patch = NDArray[np.uint16]


def placed(left: float, top: float, side: float, patch: Patch, turn: float = 0.1, strength: float = 1.0) -> Face:
    """A patch that lies on a square of `side` scan pixels, turned about its corner at left, top."""
    scale = 512 / side
    cosine, sine = np.cos(turn) * scale, np.sin(turn) * scale
    to_patch = np.array([[cosine, sine], [-sine, cosine]])
    matrix = np.c_[to_patch, -to_patch @ (left, top)]
    affine = tuple(float(v) for v in matrix.ravel())
    landmarks = tuple(float(v) for v in ((TEMPLATE - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T).ravel())
    return Face((0, 0, 1, 1), landmarks, 0.9, affine, patch, strength, "m", decision=Decision.ACCEPTED)


def plain(value: int) -> Patch:
    return np.full((512, 512, 3), value, np.uint16)


def square_of(face: Face, scale: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Every pixel of the output that the patch's square reaches at all."""
    inverse = cv2.invertAffineTransform(np.reshape(face.affine, (2, 3)))
    corners = np.array([[0, 0, 1], [511, 0, 1], [511, 511, 1], [0, 511, 1]]) @ inverse.T
    larger = corners * scale + (scale - 1) / 2
    drawn = cv2.fillConvexPoly(np.zeros(shape, np.uint8), np.rint(larger).astype(np.int32), 1)
    return cv2.dilate(drawn, np.ones((3, 3), np.uint8)) > 0


def composed(pixels: Samples, *faces: Face, scale: int = 1) -> Step:
    photograph = Photograph("item", pixels, Container("PNG"), faces=faces, scale=scale)
    step = Compose(ComposeParameters(), POLICIES["conservation"]).restore([photograph])[0]
    assert isinstance(step, Step)
    return step


def background(rng: np.random.Generator, dtype: str, channels: int = 3) -> Samples:
    return rng.integers(0, np.iinfo(dtype).max, (240, 260, channels), dtype=dtype, endpoint=True)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("scale", [1, 4])
def test_outside_the_patch_not_a_bit_changes(rng: np.random.Generator, dtype: str, scale: int) -> None:
    pixels = background(rng, dtype)
    copy = pixels.copy()
    face = placed(60 / scale, 40 / scale, 120 / scale, plain(65535))
    after = composed(pixels, face, scale=scale).photograph.pixels
    reached = square_of(face, scale, (240, 260))
    assert 0.1 < reached.mean() < 0.5
    assert np.array_equal(after[~reached], widened(pixels)[~reached])
    assert not np.array_equal(after[reached], widened(pixels)[reached])
    assert np.array_equal(pixels, copy)
    assert after.dtype == np.uint16


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_inside_the_patch_strength_decides(rng: np.random.Generator, dtype: str) -> None:
    pixels, peak = background(rng, dtype), 65535
    for strength in (0.5, 1.0):
        after = composed(pixels, placed(60, 60, 120, plain(65535), 0.0, strength)).photograph.pixels
        middle = (slice(110, 130), slice(110, 130))
        before = widened(pixels)[middle].astype(float)
        expected = before + strength * (peak - before)
        assert np.abs(after[middle] - expected).max() <= 0.52


def test_the_edge_is_soft() -> None:
    after = composed(np.zeros((240, 260, 3), np.uint16), placed(60, 60, 120, plain(65535), 0.0)).photograph.pixels
    row = after[120, :, 0].astype(int)
    assert np.abs(np.diff(row)).max() < 0.35 * 65535
    assert (np.diff(row[60:120]) >= 0).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_stays_grey(rng: np.random.Generator, dtype: str, channels: int) -> None:
    grey = background(rng, dtype, 1)
    pixels = np.repeat(grey, channels, axis=2)
    patch = np.repeat(rng.integers(0, 65536, (512, 512, 1), dtype=np.uint16), 3, axis=2)
    after = composed(pixels, placed(60, 40, 120, patch)).photograph.pixels
    assert after.shape == pixels.shape
    assert is_neutral(after)
    assert np.array_equal(after[..., :1], composed(grey, placed(60, 40, 120, patch)).photograph.pixels)
    assert not np.array_equal(after, widened(pixels))


@pytest.mark.parametrize(("left", "top"), [(-60, 40), (200, 40), (60, -70), (60, 190), (-50, -50), (220, 200)])
def test_a_face_cut_by_the_border_is_laid_in_as_far_as_it_goes(left: int, top: int) -> None:
    pixels = np.zeros((240, 260, 3), np.uint16)
    face = placed(left, top, 120, plain(65535), 0.0)
    after = composed(pixels, face).photograph.pixels
    # The same face on a larger sheet, seen through a window of the photograph's size.
    sheet = np.zeros((540, 560, 3), np.uint16)
    lay_in(Sheet.of(sheet, 1), placed(left + 150, top + 150, 120, plain(65535), 0.0))
    assert after.max() == 65535
    assert np.abs(after.astype(int) - sheet[150:390, 150:410]).max() <= 65535 * 0.002


@pytest.mark.parametrize(("left", "top"), [(-200, 40), (300, 40), (60, -200), (60, 300)])
def test_a_face_outside_changes_nothing(rng: np.random.Generator, left: int, top: int) -> None:
    pixels = background(rng, "uint8")
    step = composed(pixels, placed(left, top, 120, plain(65535), 0.0))
    assert (step.outcome, step.reason) == (Outcome.SKIPPED, "no restored face lies on the photograph")
    assert step.photograph.pixels is pixels
    (face,) = step.photograph.faces
    assert (face.decision, face.reason, face.strength, face.patch) == (Decision.LEFT, "outside", 0.0, None)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_mark_lands_where_pixel_centres_say(scale: int) -> None:
    distance = np.hypot(*(np.mgrid[:512, :512] - 256))
    patch = np.repeat(np.rint(65535 * np.exp(-((distance / 60) ** 2)))[..., None], 3, axis=2).astype(np.uint16)
    face = placed(10, 14, 40, patch, 0.3)
    pixels = np.zeros((70 * scale, 80 * scale, 1), np.uint16)
    after = composed(pixels, face, scale=scale).photograph.pixels[..., 0].astype(float)
    inverse = cv2.invertAffineTransform(np.reshape(face.affine, (2, 3)))
    x, y = inverse @ (256, 256, 1)
    rows, columns = np.mgrid[: after.shape[0], : after.shape[1]]
    found = (columns * after).sum() / after.sum(), (rows * after).sum() / after.sum()
    assert found == pytest.approx((scale * x + (scale - 1) / 2, scale * y + (scale - 1) / 2), abs=0.05)


def test_a_patch_that_nobody_changed_hardly_shows(real_photo: NDArray[np.uint8]) -> None:
    smooth = cv2.GaussianBlur(real_photo, (0, 0), 3)
    points = TEMPLATE * 0.45 + (50, 30)
    face = Face((0, 0, 1, 1), tuple(float(v) for v in points.ravel()), 0.9)
    aligned = align(smooth, face)
    assert aligned is not None
    matrix = tuple(float(v) for v in aligned[1].ravel())
    back = Face(face.box, face.landmarks, 0.9, matrix, as_patch(aligned[0]), 1.0, "m", decision=Decision.ACCEPTED)
    after = composed(smooth, back).photograph.pixels
    assert np.abs(after / 257 - smooth).max() <= 2


def test_faces_without_a_patch_or_strength_are_passed_over(rng: np.random.Generator) -> None:
    pixels = background(rng, "uint8")
    step = composed(pixels, Face((0, 0, 1, 1), (0.0,) * 10, 0.9), placed(60, 40, 120, plain(65535), strength=0.0))
    assert (step.outcome, step.reason) == (Outcome.SKIPPED, "no restored face")
    assert step.photograph.pixels is pixels


def test_patches_are_dropped_once_laid_in(rng: np.random.Generator) -> None:
    step = composed(background(rng, "uint8"), placed(20, 20, 90, plain(0)), placed(120, 90, 100, plain(9)), scale=1)
    assert [face.patch for face in step.photograph.faces] == [None, None]
    assert [face.strength for face in step.photograph.faces] == [1.0, 1.0]
    assert [face.decision for face in step.photograph.faces] == [Decision.RESTORED] * 2
    assert (step.models, dict(step.findings)) == (("m",), {"faces": 2})


@pytest.mark.parametrize("decision", [None, Decision.LEFT, Decision.REFUSED, Decision.RESTORED])
def test_only_what_was_accepted_is_laid_in(rng: np.random.Generator, decision: Decision | None) -> None:
    pixels = background(rng, "uint8")
    step = composed(pixels, replace(placed(60, 40, 120, plain(0)), decision=decision))
    assert (step.outcome, step.photograph.pixels is pixels) == (Outcome.SKIPPED, True)
    assert step.photograph.faces[0].decision is decision


def test_a_face_that_stays_is_not_painted_over_by_its_neighbour(rng: np.random.Generator) -> None:
    pixels = background(rng, "uint16")
    stays = placed(100, 60, 120, plain(0), 0.0).staying(Decision.REFUSED, "identity")
    beside = placed(40, 60, 120, plain(65535), 0.0)
    after = composed(pixels, stays, beside).photograph.pixels
    alone = composed(pixels, beside).photograph.pixels
    # The stayer's eyes, nose and mouth, and well around them.
    points = np.reshape(stays.landmarks, (5, 2))
    left, top = np.floor(points.min(axis=0)).astype(int) - 4
    right, bottom = np.ceil(points.max(axis=0)).astype(int) + 4
    assert np.array_equal(after[top:bottom, left:right], pixels[top:bottom, left:right])
    assert not np.array_equal(alone[top:bottom, left:right], pixels[top:bottom, left:right])
    assert np.array_equal(after[60:180, 45:90], alone[60:180, 45:90])


def test_where_faces_overlap_the_order_they_were_found_in_does_not_matter(rng: np.random.Generator) -> None:
    pixels = background(rng, "uint8")
    faces = [
        replace(placed(60 + 25 * i, 40 + 10 * i, 110, plain(65535 * (i % 2))), score=score, box=(i, 0.0, 1.0, 1.0))
        for i, score in enumerate((0.99, 0.98, 0.98, 0.97))
    ]
    one = composed(pixels, *faces).photograph
    other = composed(pixels, *reversed(faces)).photograph
    assert np.array_equal(one.pixels, other.pixels)
    assert [face.score for face in other.faces] == [0.97, 0.98, 0.98, 0.99]
    last = composed(pixels, faces[3]).photograph.pixels
    inner = (slice(100, 120), slice(180, 200))
    assert np.array_equal(one.pixels[inner], last[inner])


@pytest.mark.parametrize("name", ["adobe", "scanner", "prophoto"])
def test_a_patch_arrives_in_the_photographs_own_space(
    vivid: NDArray[np.uint16], profiles: dict[str, bytes], name: str
) -> None:
    """Where the photograph lies within sRGB, the patch's colour is what is seen; nothing outside the mask goes through the
    profile and back; what lies beyond sRGB stays beyond it by as much."""
    colour = np.array([0.6, 0.45, 0.4])
    patch = np.broadcast_to(np.rint(colour * 65535).astype(np.uint16), (512, 512, 3)).copy()
    face = placed(34, 18, 60, patch, 0.0)
    given = Photograph("item", vivid, Container("TIFF", icc=profiles[name]), faces=(face,))
    step = Compose(ComposeParameters(), POLICIES["conservation"]).restore([given])[0]
    assert isinstance(step, Step)
    after = step.photograph
    assert after.container.icc == profiles[name]
    reached = footprint(after.faces, 1, vivid.shape[:2])
    assert np.array_equal(after.pixels[~reached], vivid[~reached])
    middle = (slice(40, 56), slice(56, 72))
    space = space_of(given)
    before, seen = (space.to_srgb(np.ascontiguousarray(pixels[middle])) for pixels in (vivid, after.pixels))
    assert np.abs(seen - (colour + before - np.clip(before, 0, 1))).max() < 0.004


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_toned_print_keeps_its_tone(dtype: str) -> None:
    """Sepia: a patch that the stage toned is laid in, and every pixel still lies on the line of the print's tones."""
    peak = np.iinfo(dtype).max
    grey = np.linspace(0.2, 0.8, 240)[:, None, None] * np.ones((240, 260, 1))
    tone = np.array([1.0, 0.86, 0.68])
    sepia = np.rint(grey * tone * peak).astype(dtype)
    patch = np.rint(np.linspace(0.3, 0.7, 512)[None, :, None] * tone * np.ones((512, 1, 3)) * 65535).astype(np.uint16)
    after = composed(sepia, placed(60, 40, 120, patch)).photograph.pixels / 65535
    assert np.abs(after / tone - (after / tone).mean(axis=2, keepdims=True)).max() < 0.004


@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_outside_the_recorded_masks_not_a_bit_changes(data: st.DataObject) -> None:
    """Any faces, at any scale, overlapping, cut by the border, some of them staying; masks square or parsed. The footprint
    is asked of what the row keeps, after it went through the row."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    scale = data.draw(st.sampled_from([1, 2, 4]))
    dtype = data.draw(st.sampled_from(["uint8", "uint16"]))
    channels = data.draw(st.sampled_from([1, 3]))
    pixels = background(rng, dtype, channels)
    faces = []
    for i in range(data.draw(st.integers(1, 3))):
        patch = rng.integers(0, 65536, (512, 512, 3), dtype=np.uint16)
        left, top = rng.uniform(-60, 200, 2) / scale
        face = placed(left, top, rng.uniform(20, 160) / scale, patch, rng.uniform(-3, 3), rng.uniform(0.05, 1))
        face = replace(face, score=0.9 + i / 100, mask_kind="square")
        if data.draw(st.booleans()):
            parsed = cv2.circle(np.zeros((512, 512), np.uint8), (256, 256), int(rng.uniform(40, 300)), 1, -1) > 0
            face = replace(face, mask_kind="parsenet", mask=packed(parsed))
        faces.append(face if data.draw(st.integers(0, 3)) else face.staying(Decision.REFUSED, "identity"))
    photograph = composed(pixels, *faces, scale=scale).photograph
    kept = [face_from(row) for row in pa.array([face_row(face) for face in photograph.faces], FACE).to_pylist()]
    reached = footprint(kept, scale, pixels.shape[:2])
    assert np.array_equal(widened(photograph.pixels)[~reached], widened(pixels)[~reached])
    if any(face.decision is Decision.RESTORED for face in photograph.faces):
        assert not np.array_equal(photograph.pixels, widened(pixels))
