"""Faces with known changes, for the identity gate: mild restorations, planted swaps, blends, glasses, pale skin, irises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import skimage.data
from numpy.typing import NDArray

from pipeline.faces.identity import Pair
from pipeline.faces.work import pair_of, toned
from pipeline.models.faces import FaceDetector, align
from pipeline.photograph import Container, Decision, Face, Photograph, Tone, is_neutral

Image = NDArray[np.float32]
# What of a patch has to have the target's colours: brows to chin, ear to ear.
_INNER = (slice(180, 420), slice(150, 362))
_AROUND = 3.0
LEAST_DONOR = 19.0


@dataclass(frozen=True)
class Subject:
    """One face. scan: the photograph around it, H x W x 3 float32 sRGB 0..1; face: in its pixels."""

    photograph: str
    scan: Image
    face: Face
    tone: Tone

    def patch(self, scan: Image | None = None) -> Image:
        aligned = align(
            np.rint(np.clip(self.scan if scan is None else scan, 0, 1) * 65535).astype(np.uint16), self.face
        )
        assert aligned is not None
        return aligned[0]

    def pair(self, source: Image, restored: Image, eyes: float | None = None) -> Pair:
        """source, restored: patches. eyes: of the source, where it is a smaller scan than the subject's own."""
        pair = pair_of(self.face, source, np.clip(restored, 0, 1).astype(np.float32), self.scan.shape)
        return pair if eyes is None else Pair(pair.source, pair.composed, pair.landmarks, eyes)


def subjects(
    shared: Path, detector: FaceDetector, least_eyes: float = 5.0, names: frozenset[str] | None = None
) -> list[Subject]:
    """Faces of the shared photographs, of scikit-image's and of matplotlib's, by the distance between their eyes. names: of
    files, for some of them."""
    found = []
    images = {str(path): cv2.imread(str(path))[..., ::-1] for path in sorted((shared / "photos").glob("*/*.*"))}
    hopper = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    images |= {str(hopper): cv2.imread(str(hopper))[..., ::-1], "astronaut.png": skimage.data.astronaut()}
    for name, image in images.items():
        if names is not None and Path(name).name not in names:
            continue
        faces = detector.find(np.ascontiguousarray(image))
        found += [_subject(Path(name).name, image, face) for face in faces if face.eyes >= least_eyes]
    return sorted(found, key=lambda subject: subject.face.eyes)


def _subject(name: str, image: NDArray[np.uint8], face: Face) -> Subject:
    points = np.reshape(face.landmarks, (5, 2))
    reach = _AROUND * face.eyes
    left, top = np.maximum(np.floor(points.mean(axis=0) - reach), 0).astype(int)
    right, bottom = np.ceil(points.mean(axis=0) + reach).astype(int)
    scan = np.ascontiguousarray(image[top:bottom, left:right])
    moved = points - (left, top)
    placed = Face(face.box, tuple(float(v) for v in moved.ravel()), face.score, decision=Decision.ACCEPTED)
    aligned = align(scan, placed)
    assert aligned is not None
    placed = Face(
        (0.0, 0.0, float(scan.shape[1]), float(scan.shape[0])),
        placed.landmarks,
        face.score,
        affine=tuple(float(v) for v in aligned[1].ravel()),
        strength=1.0,
    )
    coloured = Tone.NEUTRAL if is_neutral(scan) else _tone(scan)
    return Subject(name, scan.astype(np.float32) / 255, placed, coloured)


def _tone(scan: NDArray[np.uint8]) -> Tone:
    from pipeline.measures import tone_of_photograph

    return tone_of_photograph(Photograph("item", scan, Container("PNG")))


def milds(subject: Subject, rng: np.random.Generator) -> Iterator[tuple[str, Pair]]:
    """Restorations that keep the person: of what is there, and perfect ones of what was damaged by us."""
    scan, clean, eyes = subject.scan, subject.patch(), subject.face.eyes
    for name, change in _FILTERS.items():
        yield name, subject.pair(clean, subject.patch(change(scan)))
    for sigma in (8, 16):
        yield f"noise {sigma} removed", subject.pair(subject.patch(_noisy(scan, sigma, rng)), clean)
    yield "JPEG 40 removed", subject.pair(subject.patch(_jpeg(scan, 40)), clean)
    for sigma in (1.0, 2.0):
        yield f"blur {sigma:g} removed", subject.pair(subject.patch(cv2.GaussianBlur(scan, (0, 0), sigma)), clean)
    yield (
        "blur 1.5, noise 6 removed",
        subject.pair(subject.patch(_noisy(cv2.GaussianBlur(scan, (0, 0), 1.5), 6, rng)), clean),
    )
    for factor in (2, 3, 4):
        yield f"enlarged {factor}", subject.pair(subject.patch(_small(scan, factor)), clean, eyes / factor)
    yield "enlarged 2, noise 8 removed", subject.pair(subject.patch(_noisy(_small(scan, 2), 8, rng)), clean, eyes / 2)


def _small(scan: Image, factor: float) -> Image:
    height, width = scan.shape[:2]
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    small = cv2.resize(scan, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def _noisy(scan: Image, sigma: float, rng: np.random.Generator) -> Image:
    return np.clip(scan + rng.normal(0, sigma / 255, (*scan.shape[:2], 1)).astype(np.float32), 0, 1)


def _jpeg(scan: Image, quality: int) -> Image:
    _, data = cv2.imencode(".jpg", _bytes(scan)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1], np.float32) / 255


def _bytes(scan: Image) -> NDArray[np.uint8]:
    return np.rint(np.clip(scan, 0, 1) * 255).astype(np.uint8)


def _sharper(scan: Image, sigma: float, share: float) -> Image:
    return scan + share * (scan - cv2.GaussianBlur(scan, (0, 0), sigma))


def _denoised(scan: Image) -> Image:
    return cv2.fastNlMeansDenoisingColored(_bytes(scan), None, 5, 5, 5, 15).astype(np.float32) / 255


def _contrast(scan: Image, share: float) -> Image:
    return (scan - scan.mean()) * np.float32(share) + scan.mean()


_FILTERS: dict[str, Callable[[Image], Image]] = {
    "sharpened 1": lambda scan: _sharper(scan, 1.0, 0.7),
    "sharpened 2": lambda scan: _sharper(scan, 2.0, 1.0),
    "denoised": _denoised,
    "bilateral": lambda scan: cv2.bilateralFilter(scan, 5, 0.08, 2.0),
    "median 3": lambda scan: cv2.medianBlur(_bytes(scan), 3).astype(np.float32) / 255,
    "contrast 1.3": lambda scan: _contrast(scan, 1.3),
    "contrast 0.75": lambda scan: _contrast(scan, 0.75),
    "gamma 0.8": lambda scan: np.power(scan, np.float32(0.8)),
    "down and up 2": lambda scan: _small(scan, 2),
}


def swapped(subject: Subject, donor: Subject, *, mirrored: bool = False) -> Image:
    """The donor's face as a restorer might give it: aligned to the subject's patch, in its colours and its contrast."""
    patch = donor.patch()
    return matched(np.ascontiguousarray(patch[:, ::-1]) if mirrored else patch, subject.patch(), subject.tone)


def matched(answer: Image, target: Image, tone: Tone) -> Image:
    one, other = (cv2.cvtColor(np.clip(patch, 0, 1), cv2.COLOR_RGB2LAB) for patch in (answer, target))
    for channel in range(3):
        have, want = one[_INNER][..., channel], other[_INNER][..., channel]
        gain = want.std() / have.std() if have.std() > 1e-3 else 1.0
        one[..., channel] = (one[..., channel] - have.mean()) * gain + want.mean()
    return toned(np.clip(cv2.cvtColor(one, cv2.COLOR_LAB2RGB), 0, 1), target, tone)


def blended(subject: Subject, donor: Subject, share: float) -> Image:
    """share: of the donor."""
    return subject.patch() * np.float32(1 - share) + swapped(subject, donor) * np.float32(share)


def with_glasses(subject: Subject) -> Image:
    """Round, dark glasses drawn on the face."""
    patch = subject.patch()
    drawn = np.zeros(patch.shape[:2], np.float32)
    for x in (193, 319):
        cv2.ellipse(drawn, (x, 245), (48, 40), 0, 0, 360, 1.0, 8, cv2.LINE_AA)
    cv2.line(drawn, (241, 238), (271, 238), 1.0, 8, cv2.LINE_AA)
    drawn = cv2.GaussianBlur(drawn, (0, 0), 1.0)[..., None]
    return np.asarray(patch * (1 - drawn) + drawn * np.float32(0.08), np.float32)


def paler(subject: Subject, by: float = 20.0) -> Image:
    """by: CIELAB lightness."""
    lab = cv2.cvtColor(subject.patch(), cv2.COLOR_RGB2LAB)
    lab[..., 0] = np.clip(lab[..., 0] + by, 0, 100)
    return np.clip(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), 0, 1)


def other_irises(subject: Subject) -> Image:
    """Irises that are blue in the place of what they were."""
    lab = cv2.cvtColor(subject.patch(), cv2.COLOR_RGB2LAB)
    for x, y in ((193, 240), (319, 240)):
        around = cv2.circle(np.zeros(lab.shape[:2], np.float32), (x, y), 16, 1.0, -1)
        around = cv2.GaussianBlur(around, (0, 0), 2.0)
        lab[..., 2] -= 30 * around
    return np.clip(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), 0, 1)
