"""Face detectors behind one interface, and the policy by which a photograph of any size is searched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, Protocol

import cv2
import numpy as np

from pipeline.errors import ModelError
from pipeline.models.boxes import Rows, covered, overlap, suppressed
from pipeline.models.catalogue import ModelCard
from pipeline.models.retinaface import open_retinaface
from pipeline.models.store import ModelStore
from pipeline.models.yunet import open_yunet
from pipeline.photograph import Face, Pixels
from pipeline.stage import Device
from pipeline.tiles import spans

# Of the first copy that is searched, and so the longer side up to which a photograph is searched as it stands.
LONGEST = 2048
# Faces are measured again where the scan shows more of them than the copy did: at this size, or less where there is no more.
_MEASURED = 256
_GAIN = 1.25
# Around a face that is looked at again, at least this many pixels each way: a network wants to see what a face lies in.
_AROUND = 160
# Share of the smaller box from which two sightings at different scales are one face.
_SAME = 0.5
_SAME_PLACE = 0.3
_TILE, _OVERLAP = 1024, 128

Turns = Literal["never", "where-empty", "always"]


@dataclass(frozen=True, slots=True)
class Search:
    """How a photograph is searched.

    coarser: longer sides, pixels, of further copies, for faces too large for the network in the first.
    largest: side of the largest face of which the network sees the whole, in pixels that it is given; of a larger one it may
    take parts for faces.
    fine: longer side of a finer copy that is searched in tiles for faces too small for it, or 0 for none.
    turns: whether the photograph is searched in its other three orientations, `where-empty` for where it shows no face as it
    stands, on a copy of `turned` pixels.
    least_eye_distance: of two eyes, in pixels of the scan; faces with less are left out.
    """

    coarser: tuple[int, ...] = (640,)
    largest: int = 768
    fine: int = 4096
    turns: Turns = "where-empty"
    turned: int = 1024
    least_eye_distance: float = 5.0


class Network(Protocol):
    """Sees faces of some range of sizes on exactly the pixels that it is given."""

    def detect(self, pixels: Pixels) -> Rows:
        """K x 15, best first: left, top, right, bottom, score, then x and y of eyes, nose and mouth corners, of an upright face
        the one on the left of the picture first."""
        ...


@dataclass(frozen=True, slots=True)
class _Sighting:
    """row: as Network.detect gives it, in pixels of the scan. seen: longer side of the box in the pixels that the network saw.
    quarter: turns by 90 degrees, against the clock, in which it saw them."""

    row: Rows
    seen: float
    quarter: int = 0

    @property
    def side(self) -> float:
        return float(max(self.row[2] - self.row[0], self.row[3] - self.row[1]))

    @property
    def upright(self) -> int:
        """The quarter in which the face stands, by its landmarks."""
        eyes, mouth = self.row[5:9].reshape(2, 2).mean(axis=0), self.row[11:15].reshape(2, 2).mean(axis=0)
        across, down = mouth - eyes
        return round(float(np.arctan2(-across, down)) / (np.pi / 2)) % 4

    @property
    def lies(self) -> bool:
        """Whether another quarter turn would set the face more upright than the one in which it was seen."""
        return self.upright != self.quarter


class FaceDetector:
    """find: faces of one photograph, best score first; equal scores keep the order in which they were seen."""

    def __init__(self, model_id: str, network: Network, search: Search) -> None:
        self.model_id = model_id
        self.search = search
        self._network = network

    def find(self, pixels: Pixels) -> tuple[Face, ...]:
        """pixels: H x W x 1|3 uint8 or uint16 RGB. Boxes and landmarks are in its pixels, and may reach over its border.

        What fits into 2048 pixels is searched as it stands, and what is found there is exactly what the network finds.
        """
        found = self._upright(pixels)
        if self.search.turns == "always" or (self.search.turns == "where-empty" and not found):
            for quarter in (1, 2, 3):
                found = _with_new(found, self._copy(pixels, self.search.turned, quarter))
        return self._settled(pixels, found)

    def find_new(self, pixels: Pixels, known: Sequence[Face]) -> tuple[Face, ...]:
        """Faces that are not among those known: one look, upright, at a copy as large as those that are turned. For what
        a repair has brought to light."""
        boxes = [_Sighting(_row(face), 0.0) for face in known]
        return self._settled(pixels, _with_new(boxes, self._copy(pixels, self.search.turned))[len(boxes) :])

    def find_again(self, pixels: Pixels, face: Face) -> Face | None:
        """The face where it was found before, seen in what `around` gives; None where it is not seen there any more."""
        known = _Sighting(_row(face), 0.0)
        rows, columns = around(face, pixels.shape)
        part, shrink = _shrunk(pixels[rows, columns], _MEASURED / known.side)
        seen = list(self._look(part, shrink, (columns.start, rows.start), known.upright))
        if not seen:
            return None
        shared = overlap(known.row[:4], np.array([one.row[:4] for one in seen]))
        best = int(np.argmax(shared))
        again = _face(seen[best].row)
        return again if shared[best] >= _SAME_PLACE and again.eyes >= self.search.least_eye_distance else None

    def _settled(self, pixels: Pixels, found: Sequence[_Sighting]) -> tuple[Face, ...]:
        measured = [self._measured(pixels, sighting) for sighting in found]
        rows = np.array([sighting.row for sighting in measured]).reshape(-1, 15)
        # Two sightings of one face may have become the same box.
        rows = rows[suppressed(rows[:, :4], rows[:, 4], _SAME)]
        faces = (_face(row) for row in rows)
        return tuple(face for face in faces if face.eyes >= self.search.least_eye_distance)

    def _upright(self, pixels: Pixels) -> list[_Sighting]:
        """Sightings at all scales. Those of the first copy stay, but for what it saw inside of faces too large for it."""
        longest = max(pixels.shape[:2])
        found = self._copy(pixels, LONGEST)
        limit = self.search.largest * max(1.0, longest / LONGEST)
        for side in self.search.coarser:
            if side < 0.6 * min(longest, LONGEST):
                found = _with_larger(found, self._copy(pixels, side), limit)
        fine = min(self.search.fine, longest)
        if fine > _GAIN * LONGEST:
            found = _with_new(found, self._tiles(pixels, fine))
        return found

    def _copy(self, pixels: Pixels, longest: int, quarter: int = 0) -> list[_Sighting]:
        small, shrink = _bounded(pixels, longest)
        return list(self._look(small, shrink, (0, 0), quarter))

    def _tiles(self, pixels: Pixels, longest: int) -> list[_Sighting]:
        """Faces no larger than the tiles' overlap, each of which lies whole in one tile."""
        copy, shrink = _bounded(pixels, longest)
        seen = [
            sighting
            for top, bottom in spans(copy.shape[0], _TILE, _OVERLAP // 2)
            for left, right in spans(copy.shape[1], _TILE, _OVERLAP // 2)
            for sighting in self._look(copy[top:bottom, left:right], shrink, (left / shrink, top / shrink))
            if sighting.seen <= _OVERLAP
        ]
        found: list[_Sighting] = []
        for sighting in sorted(seen, key=lambda one: -one.row[4]):
            found = _with_new(found, [sighting])
        return found

    def _look(
        self, pixels: Pixels, shrink: float, corner: tuple[float, float], quarter: int = 0
    ) -> Iterator[_Sighting]:
        """Sightings on a part of the scan, `shrink` times its size, that begins at `corner` (x, y) of it."""
        for row in self._network.detect(np.ascontiguousarray(np.rot90(pixels, quarter))):
            seen = max(row[2] - row[0], row[3] - row[1])
            placed = _turned_back(row, pixels.shape, quarter)
            placed[:4], placed[5:] = placed[:4] / shrink, placed[5:] / shrink
            placed[[0, 2, 5, 7, 9, 11, 13]] += corner[0]
            placed[[1, 3, 6, 8, 10, 12, 14]] += corner[1]
            yield _Sighting(placed, float(seen), quarter)

    def _measured(self, pixels: Pixels, sighting: _Sighting) -> _Sighting:
        """The same face on the scan itself, where that shows more of it, and upright, where it was seen lying, which costs
        landmarks their place; as it was where the network does not see it so."""
        size, lies = min(sighting.side, _MEASURED), sighting.lies
        if size < _GAIN * sighting.seen and not lies:
            return sighting
        rows, columns = _window(sighting.row, sighting.side, pixels.shape)
        part, shrink = _shrunk(pixels[rows, columns], size / sighting.side)
        again = [
            (one, float(overlap(sighting.row[:4], one.row[None, :4])[0]))
            for quarter in ((0, 1, 2, 3) if lies else (sighting.quarter,))
            for one in self._look(part, shrink, (columns.start, rows.start), quarter)
        ]
        there = [(one, shared) for one, shared in again if shared >= _SAME_PLACE and not (lies and one.lies)]
        if not there:
            return sighting
        return max(there, key=lambda pair: pair[0].row[4] if lies else pair[1])[0]


def around(face: Face, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of what a face is looked at in again, of a scan of this shape."""
    return _window(_row(face), max(face.size, _AROUND), shape)


def _window(row: Rows, reach: float, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns as far as `reach` from the centre of a box, as far as the scan goes."""
    centre, corner = (row[:2] + row[2:4]) / 2, shape[1::-1]
    left, top = (int(v) for v in np.clip(np.floor(centre - reach), 0, np.subtract(corner, 1)))
    right, bottom = (int(v) for v in np.clip(np.ceil(centre + reach), (left + 1, top + 1), corner))
    return slice(top, bottom), slice(left, right)


def _with_new(found: list[_Sighting], more: Sequence[_Sighting]) -> list[_Sighting]:
    """`found`, and of `more` the faces that are not among them."""
    if not found:
        return list(more)
    known = np.array([one.row[:4] for one in found])
    return found + [one for one in more if covered(one.row[:4], known).max() <= _SAME]


def _with_larger(found: list[_Sighting], more: Sequence[_Sighting], limit: float) -> list[_Sighting]:
    """`found`, and of `more`, seen on a smaller copy, the faces that are not among them. One larger than `limit`, pixels of the
    scan, takes the place of smaller ones inside it."""
    for one in more:
        if one.side > limit:
            found = [old for old in found if old.side > limit or covered(old.row[:4], one.row[None, :4])[0] <= _SAME]
        found = _with_new(found, [one])
    return found


def _bounded(pixels: Pixels, longest: int) -> tuple[Pixels, float]:
    return _shrunk(pixels, longest / max(pixels.shape[:2]))


def _shrunk(pixels: Pixels, shrink: float) -> tuple[Pixels, float]:
    """A copy `shrink` times as large, and never a larger one; before anything becomes floats, which take fourfold memory."""
    if shrink >= 1:
        return pixels, 1.0
    small = cv2.resize(pixels, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    return small.reshape(*small.shape[:2], -1), shrink


def _turned_back(row: Rows, shape: tuple[int, ...], quarter: int) -> Rows:
    """Box and points of an image turned by `numpy.rot90(image, quarter)`, in the image of `shape` as it stood."""
    points = np.concatenate([row[:4], row[5:]]).reshape(-1, 2)
    height, width = shape[:2]
    x, y = points.T
    x, y = ((x, y), (width - y, x), (width - x, height - y), (y, height - x))[quarter]
    box = [min(x[:2]), min(y[:2]), max(x[:2]), max(y[:2])]
    return np.concatenate([box, row[4:5], np.stack([x[2:], y[2:]], axis=1).ravel()])


def _face(row: Rows) -> Face:
    # As precise as records keep them, so that a face is the same before and after its way to another worker.
    left, top, right, bottom, score, *landmarks = (float(v) for v in row.astype(np.float32))
    return Face(box=(left, top, right, bottom), landmarks=tuple(landmarks), score=score)


def _row(face: Face) -> Rows:
    return np.array([*face.box, face.score, *face.landmarks])


def open_detector(models: ModelStore, model_id: str, device: Device, search: Search | None = None) -> FaceDetector:
    """search: None for what suits the network.

    Raises ModelError for a missing or altered file and for a model that is no detector known here.
    """
    card = models.card(model_id)
    if card.architecture not in DETECTORS:
        raise ModelError(f"model {model_id} ({card.architecture}) is no face detector that can be opened here")
    return FaceDetector(model_id, DETECTORS[card.architecture](models, card, device), search or suited(card))


def suited(card: ModelCard) -> Search:
    """YuNet sees no face larger than some 300 pixels; RetinaFace's largest anchors have 512."""
    return replace(Search(), coarser=(640, 240), largest=400) if card.architecture == "yunet" else Search()


def _open_yunet(models: ModelStore, card: ModelCard, device: Device) -> Network:
    return open_yunet(models, card)


DETECTORS: Mapping[str, Callable[[ModelStore, ModelCard, Device], Network]] = MappingProxyType(
    {"retinaface-resnet50": open_retinaface, "retinaface-mobile0.25": open_retinaface, "yunet": _open_yunet}
)
