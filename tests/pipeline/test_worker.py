"""What a worker looks at before it opens anything, below Ray."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import worker
from pipeline.errors import StoreError
from pipeline.meter import Meter, logs_wanted, write_lines
from pipeline.metrics import COMMIT_SECONDS, METRICS, QUEUE_SECONDS, STAGE_SECONDS, Sample
from pipeline.storage import StoreOptions


def test_a_node_that_does_not_see_the_run_refuses(tmp_path: Path) -> None:
    work: Any = SimpleNamespace(run=str(tmp_path), output=StoreOptions())
    with pytest.raises(StoreError, match=r"node 10\.0\.0\.7 does not see the run: there is no run\.json in") as refused:
        worker._check_folder(work, "10.0.0.7")
    assert "a folder that all of them share" in str(refused.value.hint)
    (tmp_path / "run.json").write_text("{}")
    worker._check_folder(work, "10.0.0.7")


def test_both_looks_come_before_anything_is_opened() -> None:
    text = inspect.getsource(worker.StageActor.__init__)
    assert text.index("check_same(") < text.index("_check_folder(") < text.index("self._open(")


class Kept:
    """What Ray's metrics are called with."""

    def __init__(self, name: str, says: str, *others: Any) -> None:
        self.calls: list[tuple[str, float, dict[str, str]]] = []

    def inc(self, value: float, tags: dict[str, str]) -> None:
        self.calls.append(("inc", value, tags))

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.calls.append(("set", value, tags))

    def observe(self, value: float, tags: dict[str, str]) -> None:
        self.calls.append(("observe", value, tags))


def test_samples_reach_rays_metrics_by_their_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(f"pipeline.meter.ray_metrics.{kind}", Kept)
    meter = Meter("f" * 16)
    assert set(meter._metrics) == {metric.name for metric in METRICS}
    # A counter takes no zero.
    meter.add(
        [
            Sample(STAGE_SECONDS, 0.0),
            Sample(STAGE_SECONDS, 1.5),
            Sample(QUEUE_SECONDS, 0.0),
            Sample(COMMIT_SECONDS, 0.2),
        ]
    )
    run = {"run": "f" * 16}
    assert meter._metrics[STAGE_SECONDS.name].calls == [("inc", 1.5, run)]
    assert meter._metrics[QUEUE_SECONDS.name].calls == [("set", 0.0, run)]
    assert meter._metrics[COMMIT_SECONDS.name].calls == [("observe", 0.2, run)]


def test_lines_are_printed_with_the_time_where_they_are_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines(['{"event": "photograph"}'])
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith('{"time": "20')
    assert err.endswith('+00:00", "event": "photograph"}\n')
    assert not logs_wanted()
    monkeypatch.setenv("ALBUMEN_LOG", "json")
    assert logs_wanted()
