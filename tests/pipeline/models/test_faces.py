from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.models.face_detectors import FaceDetector
from pipeline.models.faces import TEMPLATE, align, as_patch
from pipeline.photograph import Face

Helper = Callable[[], Any]


def a_face(scale: float = 1.0, left: float = 40.0, top: float = 30.0, turn: float = 0.2) -> Face:
    """A face whose landmarks are the template's, made smaller, turned and moved."""
    cosine, sine = np.cos(turn) * scale, np.sin(turn) * scale
    points = TEMPLATE @ np.array([[cosine, sine], [-sine, cosine]]) + (left, top)
    low, high = points.min(axis=0), points.max(axis=0)
    return Face((*low, *high), tuple(float(v) for v in points.ravel()), 0.99)


def facexlib_crop(helper: Any, rgb: NDArray[np.uint8], face: Face) -> NDArray[np.float32]:
    """facexlib's 512 x 512 crop of one face, RGB 0..255."""
    helper.read_image(np.ascontiguousarray(rgb[..., ::-1]))
    helper.all_landmarks_5 = [np.reshape(face.landmarks, (5, 2))]
    helper.align_warp_face()
    crop: NDArray[np.float32] = helper.cropped_faces[0][..., ::-1].astype(np.float32)
    return crop


@pytest.mark.parametrize("scale", [0.3, 1.7])
def test_alignment_is_facexlibs(real_photo: NDArray[np.uint8], face_helper: Helper, scale: float) -> None:
    face = a_face(scale)
    aligned = align(real_photo, face)
    assert aligned is not None
    assert aligned[0].dtype == np.float32
    assert np.abs(aligned[0] * 255 - facexlib_crop(face_helper(), real_photo, face)).max() <= 1.0


def test_alignment_on_found_faces_is_facexlibs(
    mobile: FaceDetector, family: NDArray[np.uint8], face_helper: Helper
) -> None:
    found = mobile.find(family)
    assert len(found) == 3
    for face in found:
        aligned = align(family, face)
        assert aligned is not None
        assert np.abs(aligned[0] * 255 - facexlib_crop(face_helper(), family, face)).max() <= 1.0


def test_the_matrix_carries_landmarks_onto_the_template() -> None:
    face = a_face(0.4)
    aligned = align(np.zeros((300, 300, 3), np.uint8), face)
    assert aligned is not None
    points = np.c_[np.reshape(face.landmarks, (5, 2)), np.ones(5)]
    assert np.abs(points @ aligned[1].T - TEMPLATE).max() < 0.01


def test_alignment_keeps_depth_and_grey(real_photo: NDArray[np.uint8]) -> None:
    face = a_face(0.3)
    shallow, deep = align(real_photo, face), align(real_photo.astype(np.uint16) * 257, face)
    grey = align(np.ascontiguousarray(real_photo[..., :1]), face)
    assert shallow is not None
    assert deep is not None
    assert grey is not None
    assert np.abs(shallow[0] - deep[0]).max() < 1e-5
    inside = np.abs(grey[0] - shallow[0][..., :1]) < 1e-6
    assert grey[0].shape == (512, 512, 3)
    assert inside[200:400, 200:300].all()


def test_points_that_coincide_cannot_be_aligned() -> None:
    face = replace(a_face(), landmarks=(50.0,) * 10)
    assert align(np.zeros((100, 100, 3), np.uint8), face) is None


def test_a_patch_travels_in_sixteen_bits() -> None:
    unit = np.array([[[-0.2, 0.5, 1.3]]], np.float32)
    assert as_patch(unit).tolist() == [[[0, 32768, 65535]]]
