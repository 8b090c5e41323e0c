"""Sheets to look at: each photograph as it came, what was found in it, and what repair made of it, with crops at four times.

    python -m tests.damage_sheets --photographs ../shared/photos/damaged --output sheets [--damage albumen-damage]

Writes one PNG a photograph, and prints one JSON object each: the share of pixels found and repaired by kind.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.codecs import decode
from pipeline.damage import FOUND, REPAIRED, fraction_of
from pipeline.damage.kinds import Kinds
from pipeline.damage.mask import COLOURS
from pipeline.models.store import ModelStore
from pipeline.photograph import Container, Photograph, narrowed
from pipeline.policy import POLICIES
from pipeline.stage import Device, Step
from pipeline.stages.analyse import Analyse, AnalyseParameters
from pipeline.stages.repair import Repair, RepairParameters

Picture = NDArray[np.uint8]

_SIDE = 512
_CROP = 96
_ZOOM = 4
_CROPS = 3
_GAP = 8


def repaired(path: Path, damage: str | None) -> tuple[Picture, Picture, Kinds, dict[str, Any]]:
    """Before and after as H x W x 3 RGB, codes of damage, and the findings of both stages."""
    pixels = decode(path.read_bytes(), path.name, 10**9).pixels
    photograph = Photograph(path.name, pixels, Container("PNG"))
    device, policy, findings = Device("cpu", 1), POLICIES["conservation"], {}
    chosen = AnalyseParameters() if damage is None else AnalyseParameters(damage=damage)
    for stage in (Analyse(chosen, policy), Repair(RepairParameters(denoise=0.0), policy)):
        stage.open(ModelStore(), device)
        [step] = stage.restore([photograph])
        assert isinstance(step, Step)
        photograph = step.photograph
        findings[stage.name] = dict(step.findings)
    assert photograph.damage is not None
    return _rgb(pixels), _rgb(narrowed(photograph.pixels)), photograph.damage, findings


def _rgb(pixels: NDArray[Any]) -> Picture:
    narrow = narrowed(pixels)
    wide: Picture = np.repeat(narrow, 3, axis=2) if narrow.shape[2] == 1 else narrow[..., :3]
    return np.ascontiguousarray(wide)


def sheet(before: Picture, after: Picture, kinds: Kinds) -> Picture:
    """Before, marked and after beside one another; below them the places that changed most, at four times."""
    marked = _marked(before, kinds)
    rows = [_beside([_fitted(picture) for picture in (before, marked, after)])]
    for top, left in _places(before, after):
        window = np.s_[top : top + _CROP, left : left + _CROP]
        crops = [picture[window] for picture in (before, marked, after)]
        rows.append(_beside([cv2.resize(c, None, fx=_ZOOM, fy=_ZOOM, interpolation=cv2.INTER_NEAREST) for c in crops]))
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, _GAP), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    return np.concatenate(padded)


def _marked(picture: Picture, kinds: Kinds) -> Picture:
    """Repaired damage in full colour, what was found and left half through."""
    result = picture.astype(np.float32) * 0.6
    for kind in FOUND:
        colour = COLOURS[kind]
        for code, share in ((int(kind), 0.5), (int(kind) | REPAIRED, 1.0)):
            where = kinds == code
            result[where] = (1 - share) * result[where] + share * np.array(colour, np.float32)
    return result.round().astype(np.uint8)


def _fitted(picture: Picture) -> Picture:
    factor = min(1.0, _SIDE / max(picture.shape[:2]))
    result: Picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return result


def _beside(pictures: list[Picture]) -> Picture:
    return np.concatenate(
        [np.pad(picture, ((0, 0), (0, _GAP), (0, 0)), constant_values=255) for picture in pictures], axis=1
    )


def _places(before: Picture, after: Picture) -> list[tuple[int, int]]:
    """Top left corners of the crops with the most change, none over another."""
    change = np.abs(before.astype(np.float32) - after.astype(np.float32)).mean(axis=2)
    found: list[tuple[int, int]] = []
    if min(change.shape) <= _CROP:
        return found
    while len(found) < _CROPS:
        total = cv2.boxFilter(
            change, -1, (_CROP, _CROP), anchor=(0, 0), normalize=False, borderType=cv2.BORDER_CONSTANT
        )
        total = total[: -_CROP + 1, : -_CROP + 1]
        top, left = (int(place) for place in np.unravel_index(int(total.argmax()), total.shape))
        if total[top, left] <= 0:
            break
        found.append((top, left))
        change[top : top + _CROP, left : left + _CROP] = 0
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--damage", help="what finds damage, as in the recipe; without it, the recipe's default")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for path in sorted(
        p for p in options.photographs.iterdir() if p.suffix.lower() in {".png", ".jpg", ".jpeg", ".tif"}
    ):
        before, after, kinds, findings = repaired(path, options.damage)
        cv2.imwrite(str(options.output / (path.stem + ".png")), sheet(before, after, kinds)[..., ::-1])
        shares = {
            kind.name.lower(): [round(fraction_of(kinds == code), 5) for code in (int(kind), int(kind) | REPAIRED)]
            for kind in FOUND
        }
        print(json.dumps({"photograph": path.name, "left_and_repaired": shares, "findings": findings["repair"]}))


if __name__ == "__main__":
    main()
