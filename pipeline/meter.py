"""Hands samples to Ray, which exports them to Prometheus on every node."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from ray.util import metrics as ray_metrics

from pipeline.metrics import METRICS, Metric, Sample

# `json` makes every worker print a line of JSON for each photograph that has come to its end; Ray keeps them in its logs.
LOG_VARIABLE = "ALBUMEN_LOG"


def logs_wanted() -> bool:
    return os.environ.get(LOG_VARIABLE, "") == "json"


class Meter:
    """The metrics of one run in this process. Made where they are used: Ray's metrics belong to a process."""

    def __init__(self, run_id: str) -> None:
        self._run = {"run": run_id}
        self._metrics = {metric.name: _made(metric) for metric in METRICS}

    def add(self, samples: Iterable[Sample]) -> None:
        for sample in samples:
            metric, tags = self._metrics[sample.metric.name], self._run | dict(sample.tags)
            if sample.metric.kind == "gauge":
                metric.set(sample.value, tags=tags)
            elif sample.metric.kind == "histogram":
                metric.observe(sample.value, tags=tags)
            elif sample.value > 0:
                metric.inc(sample.value, tags=tags)


def _made(metric: Metric) -> Any:
    if metric.kind == "histogram":
        return ray_metrics.Histogram(metric.name, metric.says, list(metric.boundaries), metric.tags)
    kind = ray_metrics.Counter if metric.kind == "counter" else ray_metrics.Gauge
    return kind(metric.name, metric.says, metric.tags)


def write_lines(lines: Iterable[str]) -> None:
    """Each with the time, in UTC, as its first member."""
    for line in lines:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        sys.stderr.write(f'{{"time": "{now}", {line[1:]}\n')
    sys.stderr.flush()
