"""Finds the faces of a photograph without looking twice at what did not change: `analyse` has searched the scan, and repair,
which comes between, touches little of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.colour_space import bands, visible
from pipeline.models.boxes import covered
from pipeline.models.face_detectors import FaceDetector, around
from pipeline.photograph import Face, Photograph, Pixels, Searched, widened

# Share of the smaller box from which two are one face.
_SAME = 0.5


@dataclass(frozen=True, slots=True)
class Sought:
    """faces: that are there. lost: that were known and are not there any more. looked: whether the detector ran at all.
    finding: how they were found, for the record."""

    faces: tuple[Face, ...]
    lost: tuple[Face, ...]
    looked: bool
    finding: str | dict[str, int]


def search(photograph: Photograph, detector: FaceDetector) -> Photograph:
    """The photograph with its faces, and what was looked at."""
    faces = _by(detector, detector.find(visible(photograph)))
    pixels = photograph.pixels
    places = tuple(_digest(pixels[around(face, pixels.shape)]) for face in faces)
    return replace(photograph, faces=faces, searched=Searched(detector.model_id, _digest(pixels), places))


def seek(photograph: Photograph, detector: FaceDetector) -> Sought:
    """The faces of a photograph that may have been searched before.

    Where this detector looked at the same samples, what it found; where some have changed, faces with other samples around them
    are looked at again, and one look at a small copy is for faces that came to light. Else all of it is searched.
    """
    before, pixels = photograph.searched, photograph.pixels
    if before is None or before.detector != detector.model_id:
        faces = _by(detector, detector.find(visible(photograph)))
        return Sought(faces, tuple(_missing(photograph.faces, faces)), looked=True, finding="whole")
    if before.whole == _digest(pixels):
        count = len(photograph.faces)
        return Sought(photograph.faces, (), looked=False, finding={"kept": count, "again": 0, "lost": 0, "new": 0})
    return _after_changes(photograph, before, detector)


def _after_changes(photograph: Photograph, before: Searched, detector: FaceDetector) -> Sought:
    shown, pixels = visible(photograph), photograph.pixels
    same = [
        digest == _digest(pixels[around(face, pixels.shape)])
        for face, digest in zip(photograph.faces, before.around, strict=True)
    ]
    kept = [face for face, as_it_was in zip(photograph.faces, same, strict=True) if as_it_was]
    touched = [face for face, as_it_was in zip(photograph.faces, same, strict=True) if not as_it_was]
    again = [face for known in touched if (face := detector.find_again(shown, known)) is not None]
    new = detector.find_new(shown, [*kept, *again])
    faces = _by(detector, [*kept, *again, *new])
    lost = tuple(_missing(touched, faces))
    # A face that only the look at the whole saw again is not new.
    fresh = len(new) - (len(touched) - len(again) - len(lost))
    counts = {"kept": len(kept), "again": len(touched) - len(lost), "lost": len(lost), "new": max(0, fresh)}
    return Sought(faces, lost, looked=True, finding=counts)


def _by(detector: FaceDetector, faces: Iterable[Face]) -> tuple[Face, ...]:
    return tuple(replace(face, detector=detector.model_id) for face in faces)


def _missing(known: Sequence[Face], found: Sequence[Face]) -> list[Face]:
    boxes = np.array([face.box for face in found]).reshape(-1, 4)
    return [face for face in known if covered(np.array(face.box), boxes).max(initial=0.0) <= _SAME]


def _digest(pixels: Pixels) -> str:
    """SHA-256 of shape and samples in 16 bits: widening is no change."""
    digest = hashlib.sha256(str(pixels.shape).encode())
    for rows in bands(pixels):
        digest.update(np.ascontiguousarray(widened(pixels[rows])).data)
    return digest.hexdigest()
