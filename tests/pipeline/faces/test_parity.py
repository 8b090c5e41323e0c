"""Composition beside facexlib's own: equal but for its known faults, each of which has a test that shows ours is right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.faces.composition import Sheet, lay_in, matrix_of, to_output
from pipeline.faces.masks import packed
from pipeline.models.faces import TEMPLATE
from pipeline.models.parsing import PARSERS
from pipeline.photograph import Decision, Face, narrowed, widened
from tests.pipeline.models.references import a_helper, labels

Image = NDArray[np.uint8]


def a_face(patch: Image, side: float, left: float, top: float, turn: float = 0.15) -> Face:
    scale = 512 / side
    cosine, sine = np.cos(turn) * scale, np.sin(turn) * scale
    to_patch = np.array([[cosine, sine], [-sine, cosine]])
    matrix = np.c_[to_patch, -to_patch @ (left, top)]
    points = (TEMPLATE - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    return Face(
        (left, top, left + side, top + side),
        tuple(float(v) for v in points.ravel()),
        0.99,
        affine=tuple(float(v) for v in matrix.ravel()),
        patch=widened(patch).astype(np.uint16),
        strength=1.0,
        mask_kind="parsenet",
        mask=packed(np.isin(labels(), list(PARSERS["parsenet"].face))),
        decision=Decision.ACCEPTED,
    )


def facexlibs(
    background: NDArray[Any], faces: list[tuple[Face, NDArray[Any]]], scale: int, *, shift: float = 0.0
) -> NDArray[Any]:
    """What `paste_faces_to_input_image` makes of it. background: BGR, already enlarged. shift: taken from its offset."""
    helper = a_helper(scale)
    height, width = background.shape[:2]
    helper.input_img = np.zeros((height // scale, width // scale, 3), np.uint8)
    helper.affine_matrices = [np.reshape(face.affine, (2, 3)) for face, _ in faces]
    helper.get_inverse_affine(None)
    for matrix in helper.inverse_affine_matrices:
        matrix[:, 2] -= shift
    for _, patch_of in faces:
        helper.add_restored_face(np.ascontiguousarray(patch_of[..., ::-1]))
    pasted: NDArray[Any] = helper.paste_faces_to_input_image(upsample_img=np.ascontiguousarray(background))
    return np.ascontiguousarray(pasted[..., ::-1])


def ours(background: NDArray[Any], faces: list[Face], scale: int) -> NDArray[np.uint16]:
    """background: BGR."""
    pixels = widened(np.ascontiguousarray(background[..., ::-1])).astype(np.uint16)
    sheet = Sheet.of(pixels, scale)
    for face in faces:
        lay_in(sheet, face)
    return pixels


@pytest.fixture
def patch(real_photo: Image) -> Image:
    resized = cv2.resize(real_photo, (512, 512), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(resized)


@pytest.fixture
def background(rng: np.random.Generator) -> Image:
    smooth = cv2.GaussianBlur(rng.integers(0, 256, (360, 400, 3), dtype=np.uint8), (0, 0), 2)
    return np.asarray(cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX), np.uint8)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_composed_image_is_facexlibs_but_for_a_step(background: Image, patch: Image, scale: int) -> None:
    """Two faces that overlap, one of them cut by the border. Where the reference is half a pixel off, it is put right."""
    shift = 0.0 if scale == 1 else 0.5
    one = a_face(patch, 180 / scale, 60 / scale, 70 / scale)
    two = a_face(np.ascontiguousarray(patch[:, ::-1]), 190 / scale, 180 / scale, 120 / scale, -0.4)
    three = a_face(np.ascontiguousarray(255 - patch), 150 / scale, 330 / scale, -60 / scale, 0.0)
    faces = [one, two, three]
    # As floats, so that the reference rounds nothing before its last step, which cuts off.
    given = [(face, narrowed(face.patch).astype(np.float32)) for face in faces if face.patch is not None]
    reference = facexlibs(background, given, scale, shift=shift)
    composed = narrowed(ours(background, faces, scale)).astype(int)
    difference = composed - reference.astype(int)
    assert (difference.min(), difference.max()) == (0, 1)
    # Half of what is mixed is cut off by the reference, and rounded up by us.
    mixed = np.any(reference != background[..., ::-1], axis=2)
    assert 0.2 < mixed.mean() < 0.8
    assert 0.2 < difference[mixed].mean() < 0.6


def test_as_gfpgan_does_it_in_bytes_it_is_within_a_step(background: Image, patch: Image) -> None:
    face = a_face(patch, 180, 100, 90)
    assert face.patch is not None
    reference = facexlibs(background, [(face, narrowed(face.patch))], 1).astype(int)
    difference = np.abs(narrowed(ours(background, [face], 1)).astype(int) - reference)
    # It rounds a warped patch to bytes, mixes, and cuts off: twice a rounding, which adds up to two steps now and then.
    assert np.mean(difference > 1) < 0.002
    assert difference.max() <= 2


def test_the_reference_cuts_off_and_so_darkens(background: Image, patch: Image) -> None:
    """Half a step of every pixel it mixes, on average, and more where a face is laid in again."""
    face = a_face(patch, 180, 100, 90)
    assert face.patch is not None
    theirs, mine = background, widened(background).astype(np.uint16)
    patch_of = narrowed(face.patch).astype(np.float32)
    for _ in range(5):
        theirs = np.ascontiguousarray(facexlibs(theirs, [(face, patch_of)], 1)[..., ::-1])
        mine = np.ascontiguousarray(ours(mine, [face], 1)[..., ::-1])
    touched = np.any(mine != widened(background), axis=2)
    assert narrowed(mine)[touched].mean() - theirs[touched].mean() > 0.3


def test_sixteen_bits_stay_sixteen_bits(background: Image, patch: Image) -> None:
    """The reference mixes samples of 0..65535 with faces of 0..255, which turns faces black."""
    deep = np.ascontiguousarray(background.astype(np.uint16) * 257 + 100)
    face = a_face(patch, 180, 100, 90)
    assert face.patch is not None
    reference = facexlibs(deep, [(face, narrowed(face.patch))], 1)
    composed = ours(deep, [face], 1)
    inner = (slice(160, 200), slice(170, 210))
    assert reference[inner].mean() < 300
    assert abs(composed[inner].mean() / 257 - narrowed(face.patch)[180:330, 200:320].mean()) < 40
    assert len(np.unique(composed[inner] % 257)) > 50


@pytest.mark.parametrize("scale", [2, 4])
def test_the_reference_is_half_a_pixel_off(scale: int) -> None:
    distance = np.hypot(*(np.mgrid[:512, :512] - 256))
    mark = np.repeat(np.rint(255 * np.exp(-((distance / 50) ** 2)))[..., None], 3, axis=2).astype(np.uint8)
    face = a_face(mark, 60, 20, 22)
    matrix = matrix_of(face)
    assert matrix is not None
    x, y = cv2.invertAffineTransform(matrix) @ (256, 256, 1)
    # As cv2.resize, which enlarges the reference's background, has it.
    true = np.array([scale * x + (scale - 1) / 2, scale * y + (scale - 1) / 2])
    black = np.zeros((110 * scale, 110 * scale, 3), np.uint8)
    centres = []
    for image in (ours(black, [face], scale), facexlibs(black, [(face, mark.astype(np.float32))], scale)):
        weight = image[..., 0].astype(float)
        rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
        centres.append(np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum())
    assert np.abs(centres[0] - true).max() < 0.05
    assert centres[1] - true == pytest.approx([0.5, 0.5], abs=0.1)
    assert np.allclose(to_output(matrix, scale) @ (256, 256, 1), true)


def test_at_no_strength_nothing_changes(background: Image, patch: Image) -> None:
    assert np.array_equal(
        ours(background, [replace(a_face(patch, 180, 100, 90), strength=0.0)], 1), widened(background[..., ::-1])
    )
