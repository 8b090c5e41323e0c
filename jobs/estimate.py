"""Predicts what a run will take: from a calibration, the frozen manifest, and the pools that it will have."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster.pools import Layout
from jobs.calibration import ENGINE, Calibration, Sample
from jobs.spec import Price
from pipeline.stages import FOOTPRINTS

# Requests to a bucket for one photograph, counted by tests/jobs/test_estimate.py. The source is got; the image and its two maps
# are put and got again; its commit asks for the next lease by name, and is put; compaction gets it. A mask: put and got.
REQUESTS = {"GET": 5, "HEAD": 1, "PUT": 4}
# Seconds until Ray and the workers are up.
_START = 30.0
_RESAMPLES = 300
_BETWEEN = (5.0, 95.0)


@dataclass(frozen=True, slots=True)
class Total:
    """Photographs and known bytes of one suffix. unknown: photographs of which the manifest has no size."""

    photographs: int = 0
    bytes: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Interval:
    """A prediction, and between what it lies in nine of ten cases as far as the photographs that were measured can tell."""

    middle: float
    low: float
    high: float

    def times(self, factor: float) -> Interval:
        return Interval(self.middle * factor, self.low * factor, self.high * factor)

    def plus(self, more: float) -> Interval:
        return Interval(self.middle + more, self.low + more, self.high + more)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will take. wall_seconds is None where the pools are not known. core_hours, card_hours: that stages are at
    work. output_bytes: of images; masks and the record are not in it. money: machines for the wall time, a month of the bytes,
    requests."""

    photographs: int
    source_bytes: int
    measured: int
    megapixels: Interval
    core_hours: Interval
    card_hours: Interval
    output_bytes: Interval
    requests: int
    wall_seconds: Interval | None = None
    money: Interval | None = None
    currency: str = ""


def totals(tables: Iterable[pa.Table]) -> dict[str, Total]:
    """Of tables of MANIFEST, by suffix; refused entries take nothing."""
    found: dict[str, Total] = defaultdict(Total)
    for table in tables:
        table = table.filter(pc.is_null(table["reason"]))
        # The name alone: a dot in a folder's name is no suffix.
        names = pc.utf8_lower(
            pc.extract_regex(table["source_uri"], r"(?P<suffix>\.[^./]*)$").combine_chunks().field("suffix")
        )
        sizes = pa.table({"suffix": pc.fill_null(names, ""), "bytes": table["source_bytes"]})
        grouped = sizes.group_by("suffix").aggregate([("bytes", "sum"), ("bytes", "count"), ([], "count_all")])
        for row in grouped.to_pylist():
            had, suffix = found[row["suffix"]], row["suffix"]
            found[suffix] = Total(
                had.photographs + row["count_all"],
                had.bytes + (row["bytes_sum"] or 0),
                had.unknown + row["count_all"] - row["bytes_count"],
            )
    return dict(found)


def forecast(
    calibration: Calibration,
    manifest: Mapping[str, Total],
    heavy: frozenset[str],
    layout: Layout | None = None,
    price: Price | None = None,
) -> Forecast:
    """heavy: stages that hold a model. layout: the pools, for the wall time, and the CPUs and GPUs that are paid for."""
    drawn = _draws(calibration, manifest)
    wider = _wider(len(calibration.samples))
    on_card = calibration.device == "cuda"
    cores = {
        name: values * (calibration.threads if name in heavy else 1)
        for name, values in drawn.items()
        if name in FOOTPRINTS or name == ENGINE
        if not (on_card and name in heavy)
    }
    cards = {name: values for name, values in drawn.items() if on_card and name in heavy}
    wall = None if layout is None else _interval(_wall(cores, cards, layout), wider).plus(_START)
    photographs = sum(total.photographs for total in manifest.values())
    requests = photographs * sum(REQUESTS.values())
    output = _interval(drawn["output"], wider)
    core_hours, card_hours = _interval(_sum(cores) / 3600, wider), _interval(_sum(cards) / 3600, wider)
    return Forecast(
        photographs=photographs,
        source_bytes=sum(total.bytes for total in manifest.values()),
        measured=len(calibration.measured),
        megapixels=_interval(drawn["megapixels"], wider),
        core_hours=core_hours,
        card_hours=card_hours,
        output_bytes=output,
        requests=requests,
        wall_seconds=wall,
        money=None if price is None else _money(price, wall, layout, core_hours, card_hours, output, requests),
        currency="" if price is None else price.currency,
    )


def _money(
    price: Price,
    wall: Interval | None,
    layout: Layout | None,
    core_hours: Interval,
    card_hours: Interval,
    output: Interval,
    requests: int,
) -> Interval:
    """Machines are paid for as long as they stand, not for as long as they work; where the wall time is not known, for work."""
    if wall is not None and layout is not None:
        parts = [wall.times((layout.cpus * price.cpu_hour + layout.gpus * price.gpu_hour) / 3600)]
    else:
        parts = [core_hours.times(price.cpu_hour), card_hours.times(price.gpu_hour)]
    parts.append(output.times(price.gigabyte / 1e9))
    fixed = requests / 1000 * price.thousand_requests
    return Interval(*(sum(getattr(part, end) for part in parts) for end in ("middle", "low", "high"))).plus(fixed)


def _draws(calibration: Calibration, manifest: Mapping[str, Total]) -> dict[str, NDArray[np.float64]]:
    """What the collection would take, once by all samples and then by samples drawn again and again with replacement (Efron
    1979): of each suffix, what a byte takes, times its bytes. Keys: stages, `engine`, `megapixels`, `output`."""
    names = [*dict.fromkeys(name for sample in calibration.samples for name in sample.seconds), "megapixels", "output"]
    table = np.array([_row(sample, names) for sample in calibration.samples], np.float64)
    size = np.array([max(sample.bytes, 1) for sample in calibration.samples], np.float64)
    suffixes = np.array([sample.suffix for sample in calibration.samples])
    rng = np.random.default_rng(0)
    total = np.zeros((_RESAMPLES + 1, len(names)))
    for suffix, known in manifest.items():
        own = np.flatnonzero(suffixes == suffix)
        # Of a format that was not measured, nothing better is known than the others.
        own = own if len(own) else np.arange(len(size))
        drawn = np.vstack([own[None], rng.choice(own, (_RESAMPLES, len(own)))])
        bytes_there = known.bytes + known.unknown * size[drawn].mean(axis=1)
        total += table[drawn].sum(axis=1) / size[drawn].sum(axis=1)[:, None] * bytes_there[:, None]
    return {name: total[:, i] for i, name in enumerate(names)}


def _row(sample: Sample, names: Sequence[str]) -> list[float]:
    values = {**sample.seconds, "megapixels": sample.megapixels, "output": float(sample.output_bytes)}
    return [values.get(name, 0.0) for name in names]


def _wall(
    cores: Mapping[str, NDArray[np.float64]], cards: Mapping[str, NDArray[np.float64]], layout: Layout
) -> NDArray[np.float64]:
    """Seconds of the slowest pool, its stages' work shared equally by its actors; and not less than all cores need for all."""
    slowest = _sum(cores) / layout.cpus
    for number, pool in enumerate(layout.pools):
        stages = pool.name.split("+")
        at_work = _sum({name: v for name, v in cores.items() if name in stages or (name == ENGINE and not number)})
        on_card = _sum({name: v for name, v in cards.items() if name in stages})
        slowest = np.maximum(slowest, at_work / (pool.size * max(1, pool.threads)) + on_card / pool.size)
    return slowest


def _sum(parts: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.sum(list(parts.values()), axis=0) if parts else np.zeros(_RESAMPLES + 1)


def _wider(samples: int) -> float:
    """Few samples know less of their own spread than they seem to: about Student's factor beside the normal one."""
    return 1 + 1.5 / max(samples - 1, 0.5)


def _interval(values: NDArray[np.float64], wider: float) -> Interval:
    """values: the prediction first, then those of the draws."""
    middle = float(values[0])
    low, high = (float(value) for value in np.percentile(values[1:], _BETWEEN))
    return Interval(middle, max(middle / 4, middle - (middle - low) * wider), middle + (high - middle) * wider)


def describe(found: Forecast) -> dict[str, Any]:
    """As plain values, for --json."""

    def plain(interval: Interval | None, digits: int = 3) -> dict[str, float] | None:
        if interval is None:
            return None
        return {name: _rounded(getattr(interval, name), digits) for name in ("middle", "low", "high")}

    return {
        "photographs": found.photographs,
        "source_bytes": found.source_bytes,
        "measured_photographs": found.measured,
        "megapixels": plain(found.megapixels),
        "cpu_hours": plain(found.core_hours),
        "gpu_hours": plain(found.card_hours),
        "output_bytes": plain(found.output_bytes),
        "requests": found.requests,
        "wall_seconds": plain(found.wall_seconds),
        "money": plain(found.money),
        "currency": found.currency or None,
    }


def _rounded(value: float, digits: int) -> float:
    return value if not value or math.isinf(value) else float(f"{value:.{digits}g}")
