"""What a recipe was measured to take on a machine: one small JSON file, read and written here, and what follows from it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from statistics import median, quantiles

from pipeline.errors import JobError
from pipeline.selfdigest import DIGEST, JSON_MARK, is_right, json_with_digest
from pipeline.storage import Store

VERSION = 1
# What the machinery around the stages takes: digests, rows.
ENGINE = "engine"


@dataclass(frozen=True, slots=True)
class Sample:
    """One photograph as it was measured. suffix: of its name, lower case. megapixels: of the source, 0 where it was refused.
    output_bytes: of the delivered image. seconds: by stage."""

    suffix: str
    bytes: int
    megapixels: float
    status: str
    output_bytes: int
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Spread:
    """Of what was measured: the median, and between which values nine of ten lie."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """values: at least one."""
        found = sorted(values)
        if len(found) == 1:
            return cls(found[0], found[0], found[0])
        cuts = quantiles(found, n=20, method="inclusive")
        return cls(median(found), cuts[0], cuts[-1])


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured, photograph by photograph. origin: `slice`, or the run that it was taken from. device: of the networks.
    threads: that each had. card_bytes: the most that a stage took of a card's memory. machine: where, in words."""

    recipe_id: str
    origin: str
    device: str
    threads: int
    samples: tuple[Sample, ...]
    card_bytes: Mapping[str, int] = field(default_factory=dict)
    machine: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def measured(self) -> tuple[Sample, ...]:
        """Those that were decoded."""
        return tuple(sample for sample in self.samples if sample.megapixels > 0)

    def seconds_per_megapixel(self, stage: str) -> Spread | None:
        found = [s.seconds[stage] / s.megapixels for s in self.measured if stage in s.seconds]
        return Spread.of(found) if found else None

    def rate(self, stage: str) -> float | None:
        """Seconds for a megapixel on the whole: large photographs count for as much as they are. None where not measured."""
        samples = [sample for sample in self.measured if stage in sample.seconds]
        return sum(s.seconds[stage] for s in samples) / sum(s.megapixels for s in samples) if samples else None

    def output_per_megapixel(self) -> Spread | None:
        found = [s.output_bytes / s.megapixels for s in self.measured if s.status == "restored"]
        return Spread.of(found) if found else None

    def megapixels(self) -> float | None:
        """Of an ordinary photograph."""
        return median(sample.megapixels for sample in self.measured) if self.measured else None


def default_place(run: str) -> str:
    """Beside the run's folder, and not in it: what is there is the run's record, and no guess about it."""
    return run.rstrip("/") + ".calibration.json"


def save(store: Store, uri: str, calibration: Calibration) -> None:
    """Raises OSError as the store does."""
    facts = {"version": VERSION, **asdict(calibration)}
    store.put(uri, json_with_digest(facts, indent=1))


def load(store: Store, uri: str, recipe_id: str) -> Calibration | None:
    """None where there is none, or it is of another recipe. Raises JobError where it is damaged or of another version."""
    try:
        data = store.read(uri)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JobError(f"cluster.calibration: {uri} cannot be read: {error}") from error
    try:
        facts = json.loads(data)
        version, digest = facts.pop("version"), facts.pop(DIGEST)
        if version != VERSION:
            raise JobError(f"{uri} has version {version} and this Albumen knows {VERSION}; calibrate again")
        if not digest or not is_right(data, JSON_MARK):
            raise JobError(f"{uri} is not as it was written: its digest is wrong; calibrate again")
        samples = tuple(Sample(**sample) for sample in facts.pop("samples"))
        found = Calibration(**facts, samples=samples)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise JobError(f"{uri} is damaged: {error}; calibrate again") from error
    return found if found.recipe_id == recipe_id else None


def suffix_of(uri: str) -> str:
    return PurePosixPath(uri).suffix.lower()


def describe_machine() -> dict[str, str | int]:
    """What of this machine decides how fast it is."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")), ""
    )
    return {
        "processor": model or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "gigabytes": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": platform.platform(terse=True),
    }


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
