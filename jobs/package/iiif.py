"""IIIF Presentation 3: a manifest for each photograph, original and restored as a choice on one canvas, faces and damage noted.

The canvas is the upright scan, in its own pixels, so that boxes of the record need no conversion.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from jobs.package.contents import Entry, File, Role, original_name
from jobs.package.files import DamagedError
from jobs.package.layout import Room, into_place
from pipeline.damage import REPAIRED, Kind
from pipeline.errors import ItemError

if TYPE_CHECKING:
    from pipeline.photograph import Photograph

# Longest side of the pictures that a browser is given, pixels.
SIDE = 4096
_QUALITY = 90
_PAGE = 1000
# Areas of damage that are noted, the largest first; the mask that every other package holds has all.
MOST_AREAS = 200
_CONTEXT = "http://iiif.io/api/presentation/3/context.json"


class IiifWriter:
    """manifests/<item_id>.json, images/<item_id>/original.jpg and restored.jpg, collection.json over pages of a thousand."""

    def __init__(self, room: Room) -> None:
        from pipeline.guard import Decoder

        self.counts = {"manifests": 0}
        self._room = room
        self._base = str(room.base).rstrip("/")
        self._decoder = Decoder()
        self._page: list[dict[str, Any]] = []
        self._pages: list[dict[str, Any]] = []
        for name in ("manifests", "images"):
            (room.package / name).mkdir(parents=True)

    def add(self, entry: Entry) -> None:
        if not entry.restored:
            return
        pictures: dict[Role, tuple[int, int]] = {}
        shapes: list[tuple[int, int]] = []
        for role in (Role.ORIGINAL, Role.RESTORED):
            file = entry.file(role)
            if file is None:
                continue
            photograph = self._decoded(entry, file)
            shapes.append((photograph.width, photograph.height))
            pictures[role] = _write_picture(photograph, self._room.package / "images" / entry.item_id / f"{role}.jpg")
        # The scan's own pixels; those of the restored file where a later version has taken the scan's place.
        shape = shapes[0]
        mask = entry.file(Role.MASK)
        codes = None if mask is None else _codes(self._room.files.read(mask))
        self._write(f"manifests/{entry.item_id}.json", "Manifest", self._manifest(entry, pictures, shape, codes))
        self._page.append(
            {"id": self._address(f"manifests/{entry.item_id}.json"), "type": "Manifest", "label": _label(entry)}
        )
        self.counts["manifests"] += 1
        if len(self._page) == _PAGE:
            self._turn()

    def close(self) -> None:
        self._decoder.close()
        if self._page:
            self._turn()
        facts = {"label": {"none": [self._room.collection]}, "items": self._pages}
        self._write("collection.json", "Collection", facts)

    def publish(self) -> None:
        into_place(self._room)

    def _turn(self) -> None:
        name = f"collection-{len(self._pages) + 1:05d}.json"
        label = {"none": [f"{self._room.collection}, part {len(self._pages) + 1}"]}
        self._write(name, "Collection", {"label": label, "items": self._page})
        self._pages.append({"id": self._address(name), "type": "Collection", "label": label})
        self._page = []

    def _decoded(self, entry: Entry, file: File) -> Photograph:
        """In a process of its own, as when it was restored: the original may be hostile."""
        from pipeline.guard import Shared

        row = entry.row
        sides = [row[name] for name in ("source_width", "source_height", "output_width", "output_height")]
        known = all(sides)
        most = max(sides[0] * sides[1], sides[2] * sides[3]) if known else 1_000_000_000
        try:
            with Shared(self._room.files.read(file)) as data:
                return self._decoder.decode(data, entry.item_id, most)
        except ItemError as error:
            raise DamagedError(f"{file.uri}: no picture can be made of it: {error.detail}") from error

    def _address(self, name: str) -> str:
        return f"{self._base}/{name}"

    def _write(self, name: str, kind: str, facts: dict[str, Any]) -> None:
        """Through the library's own model, so that what it would not take is not written. Raises ValueError for that."""
        import iiif_prezi3

        model = getattr(iiif_prezi3, kind)(id=self._address(name), type=kind, **facts)
        text: str = model.json(indent=1)
        whole = {"@context": _CONTEXT} | json.loads(text)
        (self._room.package / name).write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _manifest(
        self,
        entry: Entry,
        pictures: dict[Role, tuple[int, int]],
        shape: tuple[int, int],
        codes: NDArray[np.uint8] | None,
    ) -> dict[str, Any]:
        canvas = self._address(f"manifests/{entry.item_id}/canvas")
        bodies = [
            {
                "id": self._address(f"images/{entry.item_id}/{role}.jpg"),
                "type": "Image",
                "format": "image/jpeg",
                "width": width,
                "height": height,
                "label": {"en": [str(role).capitalize()]},
            }
            for role, (width, height) in pictures.items()
        ]
        body = bodies[0] if len(bodies) == 1 else {"type": "Choice", "items": bodies}
        painting = {
            "id": f"{canvas}/painting/1",
            "type": "Annotation",
            "motivation": "painting",
            "body": body,
            "target": canvas,
        }
        painted = [painting | {"target": canvas}]
        page = {"id": f"{canvas}/painting", "type": "AnnotationPage", "items": painted}
        notes = [*_faces(entry, canvas), *_damage(codes, canvas)]
        facts: dict[str, Any] = {"id": canvas, "type": "Canvas", "width": shape[0], "height": shape[1], "items": [page]}
        if notes:
            facts["annotations"] = [{"id": f"{canvas}/notes", "type": "AnnotationPage", "items": notes}]
        return {"label": _label(entry), "metadata": list(_metadata(entry)), "items": [facts]}


def _label(entry: Entry) -> dict[str, list[str]]:
    return {"none": [original_name(entry.row["source_uri"])]}


def _metadata(entry: Entry) -> Iterator[dict[str, Any]]:
    row = entry.row
    networks = sorted({model["id"] for event in row["events"] or () for model in event["models"] or ()})
    for label, value in (
        ("Identifier", entry.item_id),
        ("Original", row["source_uri"]),
        ("SHA-256 of the original", row["source_sha256"]),
        ("SHA-256 of the restored file", row["output_sha256"]),
        ("Restored by", row["software"]),
        ("Recipe", row["recipe_id"]),
        ("Neural networks", ", ".join(networks) or "none"),
    ):
        yield {"label": {"en": [label]}, "value": {"none": [str(value)]}}


def _note(canvas: str, name: str, text: str, target: Any) -> dict[str, Any]:
    body = {"type": "TextualBody", "value": text, "format": "text/plain", "language": "en"}
    return {"id": f"{canvas}/{name}", "type": "Annotation", "motivation": "commenting", "body": body, "target": target}


def _faces(entry: Entry, canvas: str) -> Iterator[dict[str, Any]]:
    for number, face in enumerate(entry.row["faces"] or ()):
        left, top, right, bottom = face["box"]
        text = f"face, {face['decision'] or 'found'}"
        text += f" by {face['model_id']}" if face["model_id"] else ""
        text += f": {face['reason']}" if face["reason"] else ""
        text += f", likeness {face['identity']:.2f}" if face["identity"] is not None else ""
        box = f"{max(0, round(left))},{max(0, round(top))},{max(1, round(right - left))},{max(1, round(bottom - top))}"
        yield _note(canvas, f"faces/{number + 1}", text, f"{canvas}#xywh={box}")


def _damage(codes: NDArray[np.uint8] | None, canvas: str) -> Iterator[dict[str, Any]]:
    """Lines and spots by their boxes, stains and what is missing by their outlines."""
    areas = [] if codes is None else sorted(_areas(codes), key=lambda area: -cv2.contourArea(area[2]))
    for number, (kind, repaired, outline) in enumerate(areas[:MOST_AREAS]):
        text = f"{kind.name.lower()}, {'repaired' if repaired else 'left as it is'}"
        left, top, width, height = cv2.boundingRect(outline)
        target: Any = f"{canvas}#xywh={left},{top},{width},{height}"
        if kind in (Kind.STAIN, Kind.MISSING) and len(outline) > 2:
            target = {"type": "SpecificResource", "source": canvas, "selector": _svg(outline)}
        yield _note(canvas, f"damage/{number + 1}", text, target)
    if len(areas) > MOST_AREAS:
        text = f"{len(areas):,} areas of damage, of which the largest {MOST_AREAS} are noted"
        yield _note(canvas, "damage/all", text, canvas)


def _areas(codes: NDArray[np.uint8]) -> Iterator[tuple[Kind, bool, NDArray[np.int32]]]:
    for code in np.unique(codes):
        kind, repaired = int(code) & ~REPAIRED, bool(int(code) & REPAIRED)
        if kind not in set(Kind) - {Kind.NONE}:
            continue
        outlines, _ = cv2.findContours((codes == code).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        for outline in outlines:
            yield Kind(kind), repaired, np.asarray(cv2.approxPolyDP(outline, 1.0, closed=True), np.int32)


def _svg(outline: NDArray[np.int32]) -> dict[str, str]:
    points = " ".join(f"{x},{y}" for x, y in outline.reshape(-1, 2).tolist())
    return {
        "type": "SvgSelector",
        "value": f'<svg xmlns="http://www.w3.org/2000/svg"><polygon points="{points}"/></svg>',
    }


def _codes(data: bytes) -> NDArray[np.uint8]:
    from PIL import Image

    # As large as the photograph that it belongs to, and made by Albumen: its digest has been compared.
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image, np.uint8)


def _write_picture(photograph: Photograph, path: Path) -> tuple[int, int]:
    """JPEG in sRGB, width and height. Alpha is left out."""
    from PIL import Image

    from pipeline.colour_space import visible
    from pipeline.photograph import narrowed

    pixels = visible(photograph)
    shown = np.ascontiguousarray(pixels if pixels.dtype == np.uint8 else narrowed(pixels), np.uint8)
    height, width = shown.shape[:2]
    if (factor := SIDE / max(height, width)) < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        shown = cv2.resize(shown, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)
    path.parent.mkdir(exist_ok=True)
    image = Image.fromarray(shown[..., 0] if shown.shape[2] == 1 else shown)
    image.save(path, "JPEG", quality=_QUALITY, subsampling=0)
    return image.size
