"""Paired benchmark sets: clean photographs, and the same aged and damaged, with the truth about the damage.

A set's folder, docs/degradation.md in full: `undamaged/NAME-000.png`, `damaged/NAME-000.png`, `kinds/NAME-000.png`,
`pairs.jsonl` with a line for each pair and each file that is none, and `set.json` with what all of them share.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from PIL import Image

from pipeline import __version__
from pipeline.codecs import READABLE
from pipeline.colour_space import as_srgb
from pipeline.damage.kinds import Kind, Kinds
from pipeline.damage.mask import COLOURS
from pipeline.degradation import PRESETS, Degradation, Pair, Shapes, degrade
from pipeline.errors import ItemError, Reason, SpecError, StoreError
from pipeline.photograph import Photograph, to_depth
from pipeline.record import Record
from pipeline.stages.ingest import Ingest, IngestParameters
from pipeline.storage import Entry, Store

# Composing holds some thirty floats for each pixel.
MOST_MEGAPIXELS = 40.0
# What a name that is not one file's alone ends with.
_LIKE_OURS = re.compile(r"-[0-9a-fA-F]{8}$")
_FOLDERS = ("undamaged", "damaged", "kinds")


@dataclass(frozen=True, slots=True)
class Order:
    """What a set is made of. source: folder or prefix of clean photographs. output: a folder that is empty or not there.

    shapes: folder of real shapes, of which part `part` of `parts` is used. count: pairs of one photograph.
    """

    source: str
    output: Path
    preset: str = "print"
    seed: int = 0
    count: int = 1
    shapes: Path | None = None
    part: int = 0
    parts: int = 1


@dataclass(slots=True)
class Made:
    """What became of an order. refused: the lines of files that gave no pair. ignored: files left out, by suffix."""

    photographs: int = 0
    pairs: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


def make_set(order: Order, progress: Callable[[int, int], None] = lambda done, total: None) -> Made:
    """Write a set. progress: is told how many files of how many are done.

    A photograph's pairs depend on its bytes, the seed, the preset and the shapes, and not on its name or its neighbours.
    Raises SpecError for an order that cannot be carried out, before anything is written; StoreError where the source cannot
    be listed or the output not be written.
    """
    settings, shapes = _checked(order)
    made = Made()
    entries = list(_entries(order.source, made.ignored))
    if not entries:
        raise SpecError(f"{order.source} holds no photographs")
    names = _names(entries)
    ingest = Ingest(IngestParameters(megapixels=MOST_MEGAPIXELS), Store())
    seen: dict[str, str] = {}
    try:
        for folder in _FOLDERS:
            (order.output / folder).mkdir(parents=True)
        _write(order.output / "set.json", _as_json(_shared(order, settings, shapes), indent=2))
        with (order.output / "pairs.jsonl").open("x", encoding="utf-8") as lines:
            for number, entry in enumerate(entries):
                for line in _pairs(order, settings, shapes, ingest, entry, names[entry.key], seen):
                    lines.write(_as_json(line))
                    made.pairs += "reason" not in line
                    made.photographs += line.get("pair") == 0
                    made.refused += [line] if "reason" in line else []
                progress(number + 1, len(entries))
    except OSError as error:
        raise StoreError(f"{order.output} cannot be written: {error}") from error
    finally:
        ingest.close()
    return made


def _checked(order: Order) -> tuple[Degradation, Shapes]:
    faults = []
    if order.preset not in PRESETS:
        faults.append(f"there is no preset {order.preset!r}: {', '.join(PRESETS)}")
    if not 0 <= order.part < order.parts:
        faults.append(f"part {order.part} of {order.parts} is none: parts are counted from 0")
    if order.output.exists() and not order.output.is_dir():
        faults.append(f"{order.output} is no folder")
    elif order.output.is_dir() and any(order.output.iterdir()):
        faults.append(f"{order.output} is not empty; choose another folder with --output")
    if (fault := Store().check_folder(order.source)) is not None:
        faults.append(fault)
    elif order.output.resolve().is_relative_to(Path(order.source).resolve()):
        faults.append(f"{order.output} lies in the folder of the clean photographs, which are only read")
    if order.shapes is not None and not order.shapes.is_dir():
        faults.append(f"{order.shapes} is no folder of shapes")
    if faults:
        raise SpecError(faults)
    shapes = Shapes.none() if order.shapes is None else Shapes.load(order.shapes, order.part, order.parts)
    return PRESETS[order.preset], shapes


def _entries(source: str, ignored: Counter[str]) -> Iterator[Entry]:
    try:
        for entry in Store().list(source):
            name = PurePosixPath(entry.key)
            if entry.fault is None and (name.suffix.lower() not in READABLE or name.name.startswith(".")):
                ignored[name.suffix.lower() or name.name] += 1
            else:
                yield entry
    except OSError as error:
        raise StoreError(f"{source}: {error}") from error


def _names(entries: list[Entry]) -> dict[str, str | None]:
    """A name for each key's pairs: its file's without suffix; None where that may not be its alone, in any case."""
    stems = {entry.key: PurePosixPath(entry.key).stem for entry in entries}
    times = Counter(stem.casefold() for stem in stems.values())
    alone = {key: times[stem.casefold()] == 1 and not _LIKE_OURS.search(stem) for key, stem in stems.items()}
    return {key: stem if alone[key] else None for key, stem in stems.items()}


def _pairs(
    order: Order,
    settings: Degradation,
    shapes: Shapes,
    ingest: Ingest,
    entry: Entry,
    name: str | None,
    seen: dict[str, str],
) -> Iterator[dict[str, Any]]:
    """The lines of one file. seen: sources by digest, for the set has every photograph once."""
    # Names of files need not be text; lines and messages are.
    source = entry.key.encode(errors="backslashreplace").decode()
    try:
        digest, photograph = _read(ingest, entry)
        if digest in seen:
            raise ItemError(Reason.DUPLICATE, f"the same bytes as {seen[digest]}")
    except ItemError as error:
        yield {"source": source, "reason": str(error.reason), "detail": error.detail}
        return
    seen[digest] = source
    srgb = as_srgb(photograph)
    base = name or f"{PurePosixPath(entry.key).stem}-{digest[:8]}"
    for number in range(order.count):
        pair = degrade(srgb, settings, shapes, generator(order.seed, digest, number))
        files = {folder: f"{folder}/{base}-{number:03d}.png" for folder in _FOLDERS}
        _write_pair(order.output, files, pair)
        line = {"source": source, "source_sha256": digest, "seed": order.seed, "pair": number, **files}
        yield line | {"height": photograph.height, "width": photograph.width, "applied": pair.applied}


def _read(ingest: Ingest, entry: Entry) -> tuple[str, Photograph]:
    """As ingest reads it: under the same limits, with the same reasons."""
    if entry.fault is not None:
        raise ItemError(Reason.SOURCE_UNREADABLE, entry.fault)
    record = ingest.read(Record(0, hashlib.sha256(entry.key.encode(errors="surrogateescape")).hexdigest(), entry.uri))
    if record.photograph is None or record.source_sha256 is None:
        raise ItemError(Reason(record.reason or Reason.STAGE_FAILED), record.detail or "it could not be read")
    return record.source_sha256, record.photograph


def generator(seed: int, digest: str, number: int) -> np.random.Generator:
    """Random numbers for one pair: of the seed, the source's SHA-256 in hex, and the pair's number."""
    words = np.frombuffer(bytes.fromhex(digest), ">u4").tolist()
    return np.random.default_rng([seed, number, *words])


def _write_pair(output: Path, files: dict[str, str], pair: Pair) -> None:
    for folder, image in (("undamaged", pair.undamaged), ("damaged", pair.damaged)):
        _write(output / files[folder], _png(Image.fromarray(to_depth(image, np.dtype(np.uint8)))))
    _write(output / files["kinds"], _png(as_palette(pair.kinds)))


def as_palette(kinds: Kinds) -> Image.Image:
    """Codes as an indexed image of fixed colours."""
    image = Image.frombytes("P", (kinds.shape[1], kinds.shape[0]), kinds.tobytes())
    image.putpalette([value for kind in Kind for value in COLOURS[kind]])
    return image


def _png(image: Image.Image) -> bytes:
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


def _write(path: Path, content: bytes | str) -> None:
    """A file that is not there yet; FileExistsError where it is."""
    with path.open("xb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


def _shared(order: Order, settings: Degradation, shapes: Shapes) -> dict[str, Any]:
    """What decides a set beside its photographs. The same bytes need the same libraries."""
    of_all = hashlib.sha256("".join(sorted(shapes.digests())).encode()).hexdigest()
    return {
        "albumen": __version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
        "preset": order.preset,
        "settings": settings.model_dump(mode="json"),
        "seed": order.seed,
        "count": order.count,
        "shapes": {"part": order.part, "of": order.parts, "shapes": len(shapes), "sha256": of_all}
        if len(shapes)
        else None,
        "kinds": {kind.name.lower(): {"code": int(kind), "colour": COLOURS[kind]} for kind in Kind},
    }


def _as_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent) + "\n"
