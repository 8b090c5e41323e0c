"""What verification says: how much was looked at, and every fault with its place."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from jobs.choices import Depth


@dataclass(frozen=True, slots=True)
class Fault:
    """kind: a word to filter on. place: item id or path. message: one sentence."""

    kind: str
    place: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """How many were looked at, of each: rows of the manifest, restored images, masks, maps, originals."""

    photographs: int
    outputs: int
    masks: int
    maps: int
    sources: int
    faults: tuple[Fault, ...]


class Faults:
    """Gathers faults in the order in which they are found."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, kind: str, place: str, message: str) -> None:
        self.found.append(Fault(kind, place, message))


def as_json(report: Report) -> str:
    return json.dumps(asdict(report), indent=2, ensure_ascii=False)


def as_text(report: Report, depth: Depth) -> list[str]:
    """A line for each fault, and one that counts."""
    lines = [f"{fault.kind:<11} {fault.place}: {fault.message}" for fault in report.faults]
    done = "listed" if depth is Depth.QUICK else "hashed"
    checked = f"{report.photographs:,} photographs, {report.outputs:,} outputs {done}"
    checked += f", {report.masks:,} masks {done}" if report.masks else ""
    checked += f", {report.maps:,} maps {done}" if report.maps else ""
    checked += f", {report.sources:,} sources hashed" if report.sources else ""
    return [*lines, f"{checked}: {len(report.faults)} faults" if report.faults else f"{checked}: no fault"]
