"""What all parts share: the machine in words, its devices, models, photographs, and a row of figures."""

from __future__ import annotations

import hashlib
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from jobs.calibration import describe_machine
from pipeline.models.catalogue import ModelCard
from pipeline.models.precision import bf16_where_native
from pipeline.models.store import ModelSource, ModelStore
from pipeline.photograph import Container, Photograph
from pipeline.stage import Device

EMBEDDED = "realesrgan-x4plus-embedded"
Pixels = NDArray[np.uint8]
Found = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """runs: of everything that is timed, after one that is not. engine: whether Ray may be started."""

    runs: int
    engine: bool


@dataclass(frozen=True)
class Figure:
    """One row. value: a median, in `unit`. spread: (largest - smallest) / median of the runs; None of what is counted and not
    timed. against: what it is held against, in the same unit, and ratio: value / against."""

    what: str
    value: float
    unit: str
    spread: float | None = None
    against: float | None = None
    of: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.value / self.against if self.against else None


@dataclass(frozen=True)
class Network:
    """An upscaler and where its weights are."""

    name: str
    store: ModelStore
    model: str


def shared() -> Path:
    """The shared test data; the folder need not be there."""
    return Path(os.environ.get("ALBUMEN_SHARED") or Path(__file__).resolve().parents[3] / "shared")


def compact_file() -> Path:
    return shared() / "weights" / "realesr-general-x4v3.fp16derived.pth"


def compact_network() -> Network | None:
    """The installed official file, else the shared test weights."""
    store, name = ModelStore(), "compact general-x4v3"
    if store.installed("realesr-general-x4v3"):
        return Network(name, store, "realesr-general-x4v3")
    file = compact_file()
    if not file.is_file():
        return None
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    card = ModelCard("compact", file.name, None, digest, str(file), "BSD-3-Clause", "srvggnet-compact", "upscale", 4)
    return Network(name, ModelStore(ModelSource(cache="", local=(card,))), "compact")


def networks() -> tuple[Network, ...]:
    compact = compact_network()
    return (Network("RRDBNet x4plus", ModelStore(), EMBEDDED), *(() if compact is None else (compact,)))


def devices() -> tuple[Device, ...]:
    cpu = Device("cpu", os.cpu_count() or 1)
    return (cpu, Device("cuda", cpu.threads)) if torch.cuda.is_available() else (cpu,)


def machine() -> Found:
    return describe_machine() | {
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16_native": bf16_where_native("fast", devices()[0]) is torch.bfloat16,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def picture(height: int, width: int) -> Pixels:
    """H x W x 3: a real photograph, resampled."""
    photo = skimage.data.astronaut()[0:320, 60:380]
    shrinks = max(height, width) <= photo.shape[0]
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(photo, (width, height), interpolation=kind), np.uint8)


def grainy(megapixels: float, seed: int = 0) -> Pixels:
    """H x W x 3, 4 : 3, with the grain that a scan has: without it files would be small and coders fast."""
    height = max(1, round(math.sqrt(megapixels * 1e6 * 3 / 4)))
    pixels = picture(height, round(height * 4 / 3)).astype(np.float32)
    grain = np.random.default_rng(seed).normal(0, 4, (*pixels.shape[:2], 1)).astype(np.float32)
    return np.clip(np.rint(pixels + grain), 0, 255).astype(np.uint8)


def photograph(pixels: Pixels, name: str = "bench") -> Photograph:
    return Photograph(name, pixels, Container("PNG"))


def timed(call: Callable[[], object], runs: int) -> tuple[float, ...]:
    """Seconds of each run by the clock, after one that is not counted."""
    call()
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return tuple(taken)


def middle(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / middle(values)


def rows_of(figures: Sequence[Figure]) -> list[Found]:
    """As JSON has them."""
    return [asdict(figure) | {"ratio": figure.ratio} for figure in figures]


def show(title: str, figures: Sequence[Figure], console: Console) -> None:
    table = Table(box=None)
    for column in (title, "median", "unit", "spread", "beside", "ratio", ""):
        table.add_column(column, justify="right" if column in {"median", "spread", "ratio"} else "left")
    for figure in figures:
        ratio = figure.ratio
        table.add_row(
            figure.what,
            f"{figure.value:.4g}",
            figure.unit,
            "" if figure.spread is None else f"{figure.spread:.0%}",
            "" if figure.against is None else f"{figure.against:.4g} {figure.of}",
            "" if ratio is None else f"{ratio:.3f}",
            figure.note,
        )
    console.print(table)


def each(figures: Iterator[Figure], title: str, console: Console) -> list[Found]:
    """Shown when all are there, and as JSON."""
    found = list(figures)
    show(title, found, console)
    return rows_of(found)
