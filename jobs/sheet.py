"""A contact sheet: each photograph before and after, side by side, as one picture."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline import provenance
from pipeline.codecs import decode
from pipeline.errors import ItemError
from pipeline.photograph import Pixels
from pipeline.storage import Store, canonical

_SIDE = 320
_GAP = 12
_CAPTION = 22
_PAPER = (250, 249, 246)
_INK = (40, 40, 40)


@dataclass(frozen=True, slots=True)
class Pair:
    """Where a photograph's original and its restored file are."""

    before: str
    after: str


def contact_sheet(run: str, most: int = 12) -> bytes | None:
    """PNG of up to `most` restored photographs of a run on this machine, or None where none was restored."""
    store = Store()
    rows = provenance.live(store, canonical(run), ["source_uri", "output_uri", "status"]).to_pylist()
    pairs = [Pair(row["source_uri"], row["output_uri"]) for row in rows if row["status"] == "restored"]
    return sheet_of(pairs[:most], store, store)


def sheet_of(pairs: Iterable[Pair], sources: Store, outputs: Store, form: str = "PNG") -> bytes | None:
    """PNG or JPEG of photographs before and after; None where none of them can be read. form: Pillow's name of the format."""
    drawn: list[tuple[str, Image.Image, Image.Image]] = []
    for pair in pairs:
        try:
            before, after = _thumbnail(sources.read(pair.before)), _thumbnail(outputs.read(pair.after))
        except (OSError, ItemError):
            continue
        drawn.append((Path(pair.before).name, before, after))
    return _draw(drawn, form) if drawn else None


def _thumbnail(data: bytes) -> Image.Image:
    pixels = decode(data, "", 1_000_000_000).pixels
    height, width = pixels.shape[:2]
    factor = _SIDE / max(height, width)
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    small = cv2.resize(
        _eight_bit(pixels), (max(1, round(width * factor)), max(1, round(height * factor))), interpolation=method
    )
    return Image.fromarray(small).convert("RGB")


def _eight_bit(pixels: Pixels) -> NDArray[np.uint8]:
    eight = (pixels if pixels.dtype == np.uint8 else pixels >> 8).astype(np.uint8)
    return eight if eight.shape[2] == 3 else np.repeat(eight, 3, axis=2)


def _draw(pairs: list[tuple[str, Image.Image, Image.Image]], form: str) -> bytes:
    cell = _SIDE + _GAP
    columns = 2 if len(pairs) > 2 else 1
    rows = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (columns * (2 * cell + _GAP) + _GAP, rows * (cell + _CAPTION) + _GAP), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, (name, before, after) in enumerate(pairs):
        row, column = divmod(number, columns)
        left, top = _GAP + column * (2 * cell + _GAP), _GAP + row * (cell + _CAPTION)
        for image, caption, x in ((before, f"{name}: before", left), (after, "after", left + cell)):
            pen.text((x, top), caption, fill=_INK, font=font)
            sheet.paste(image, (x, top + _CAPTION))
    target = io.BytesIO()
    sheet.save(target, form, optimize=True, **({"quality": 90} if form == "JPEG" else {}))
    return target.getvalue()
