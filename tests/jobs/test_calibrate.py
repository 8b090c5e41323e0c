"""What a slice of a collection or a finished run says of a recipe's rates, and the file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs import calibrate
from jobs.calibrate import choose, measure_run, measure_slice
from jobs.calibration import ENGINE, Calibration, Sample, Spread, default_place, load, save, suffix_of
from jobs.rundir import Plan, prepare
from jobs.spec import JobSpec
from pipeline import replay
from pipeline.errors import JobError
from pipeline.stage import Device
from pipeline.storage import Store

MakeSpec = Callable[..., JobSpec]


def sample(megapixels: float, seconds: float, suffix: str = ".png", size: int = 1000) -> Sample:
    return Sample(suffix, size, megapixels, "restored", 2000, {"ingest": seconds, "colour": 2 * seconds})


def test_a_slice_is_measured_stage_by_stage_and_nothing_is_written(make_spec: MakeSpec, scans: Path) -> None:
    plan = prepare(make_spec())
    before = sorted(path for path in scans.parent.rglob("*") if path.is_file())
    told: list[str] = []
    found = measure_slice(plan, 3, Device(), told.append)
    assert sorted(path for path in scans.parent.rglob("*") if path.is_file()) == before
    assert len(found.samples) == len(told) == 3
    for one in found.samples:
        assert set(one.seconds) == {"ingest", "analyse", "repair", "colour", "deliver", ENGINE}
        assert one.megapixels == pytest.approx(24 * 16 / 1e6)
        assert (one.suffix, one.status) == (".png", "restored")
        assert one.output_bytes > 0
        assert all(seconds >= 0 for seconds in one.seconds.values())
    assert (found.origin, found.device, found.threads, found.recipe_id) == ("slice", "cpu", 1, plan.recipe_id)
    assert found.machine["cores"]


def test_stages_that_share_a_pool_are_measured_on_one_core_of_the_cpu(
    make_spec: MakeSpec, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they work in a run, whatever they compute with; networks with a pool of their own get what was asked for."""
    import torch

    seen: set[tuple[str, str, int, int]] = set()
    plain, before = replay.run_stage, torch.get_num_threads()

    def watched(stage: Any, parameters: Any, records: Any, models: Any, device: Device) -> Any:
        seen.add((stage.name, device.kind, device.threads, torch.get_num_threads()))
        return plain(stage, parameters, records, models, device)

    monkeypatch.setattr(replay, "run_stage", watched)
    spec = make_spec(recipe={"policy": "presentation", "repair": {"denoise": 0.5}})
    try:
        measure_slice(prepare(spec), 1, Device("cpu", 2))
    finally:
        torch.set_num_threads(before)
    assert seen == {("analyse", "cpu", 1, 1), ("repair", "cpu", 2, 2), ("colour", "cpu", 1, 1)}


def test_what_cannot_be_decoded_is_in_the_slice_and_has_no_pixels(make_spec: MakeSpec, scans: Path) -> None:
    (scans / "a.png").write_bytes((scans / "a.png").read_bytes()[:60])
    found = measure_slice(prepare(make_spec()), 4, Device())
    assert [one.status for one in found.samples].count("refused") == 1
    assert len(found.measured) == 3


def test_a_collection_of_nothing_but_broken_files_is_said(make_spec: MakeSpec, scans: Path) -> None:
    for path in scans.iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(JobError, match="not one of the photographs could be decoded"):
        measure_slice(prepare(make_spec()), 2, Device())


def test_a_slice_is_spread_over_all_sizes_of_files(make_spec: MakeSpec, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for n in range(30):
        (tmp_path / "scans" / f"{n:02d}.png").write_bytes(b"x" * (n * 37 % 30 + 1))
    plan = prepare(make_spec())
    sizes = [(tmp_path / "scans" / Path(record.source_uri).name).stat().st_size for record in choose(Store(), plan, 5)]
    assert sizes == [4, 10, 16, 22, 28]
    assert len(choose(Store(), plan, 1000)) == 30
    assert choose(Store(), plan, 7) == choose(Store(), plan, 7)


def test_a_finished_run_says_the_same_kind_of_thing(finished: Plan) -> None:
    found = measure_run(finished.run, finished.recipe_id, Store(), 4)
    assert (found.origin, found.threads, len(found.samples)) == (finished.run, 4, 4)
    assert {name for one in found.samples for name in one.seconds} == {"ingest", "repair", "colour", "deliver"}
    assert all(seconds == 0.5 for one in found.samples for seconds in one.seconds.values())


def test_a_run_of_another_recipe_says_nothing(finished: Plan) -> None:
    with pytest.raises(JobError, match="nothing to measure"):
        measure_run(finished.run, "0" * 64, Store(), 1)


def test_of_a_large_run_some_rows_are_enough(finished: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "_ROWS", 2)
    found = measure_run(finished.run, finished.recipe_id, Store(), 1)
    assert 1 <= len(found.samples) <= 2


@pytest.fixture(autouse=True)
def _sizes(finished_sizes: None) -> None:
    """Rows of `finished` have no width: see the fixture."""


@pytest.fixture
def finished_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run that was made by hand says nothing of its photographs' sides; here each has one megapixel."""
    plain = calibrate._sample

    def sided(row: Any, whole: float | None = None) -> Sample:
        return plain(
            row if row["source_width"] or whole is not None else {**row, "source_width": 1000, "source_height": 1000},
            whole,
        )

    monkeypatch.setattr(calibrate, "_sample", sided)


def test_large_photographs_count_for_as_much_as_they_are() -> None:
    found = Calibration("r", "slice", "cpu", 1, (sample(1.0, 1.0), sample(9.0, 1.0)))
    assert found.rate("ingest") == pytest.approx(0.2)
    spread = found.seconds_per_megapixel("colour")
    assert spread is not None
    assert spread.median == pytest.approx((2 + 2 / 9) / 2)
    assert (found.rate("upscale"), found.seconds_per_megapixel("upscale")) == (None, None)
    assert found.megapixels() == 5.0


def test_a_spread_holds_nine_of_ten() -> None:
    found = Spread.of(range(101))
    assert (found.median, found.low, found.high) == (50, 5, 95)
    assert Spread.of([3.0]) == Spread(3.0, 3.0, 3.0)


def test_what_was_saved_is_what_is_loaded(tmp_path: Path) -> None:
    found = Calibration("r", "slice", "cuda", 2, (sample(1.0, 0.25),), {"upscale": 5 << 30}, {"cores": 2})
    uri = default_place(str(tmp_path / "run"))
    assert uri == str(tmp_path / "run.calibration.json")
    assert load(Store(), uri, "r") is None
    save(Store(), uri, found)
    assert load(Store(), uri, "r") == found
    assert load(Store(), uri, "another") is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("0.25", "0.26"), "its digest is wrong"),
        (lambda text: text.replace('"version": 1', '"version": 9'), "has version 9 and this Albumen knows 1"),
        (lambda text: text[:40], "is damaged"),
        (lambda text: "[]", "is damaged"),
        (lambda text: json.dumps({"version": 1, "self_sha256": ""}), "its digest is wrong"),
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_refused(
    tmp_path: Path, change: Callable[[str], str], said: str
) -> None:
    uri = tmp_path / "calibration.json"
    save(Store(), str(uri), Calibration("r", "slice", "cpu", 1, (sample(1.0, 0.25),)))
    uri.write_text(change(uri.read_text()))
    with pytest.raises(JobError, match=said):
        load(Store(), str(uri), "r")


def test_suffixes_are_those_of_names() -> None:
    assert [suffix_of(uri) for uri in ("/a.b/c.TIF", "s3://x/y.jpeg", "/a.b/c", "/a/.hidden")] == [
        ".tif",
        ".jpeg",
        "",
        "",
    ]


def test_the_command_writes_where_plan_and_run_look(
    albumen: Callable[..., tuple[int, str, str]], make_spec: MakeSpec, scans: Path, tmp_path: Path
) -> None:
    spec = make_spec(price={"cpu_hour": 0.05, "gigabyte": 0.02, "currency": "EUR"}, cluster={"cpus": 2})
    job = tmp_path / "job.json"
    job.write_text(spec.to_json(), encoding="utf-8")
    code, out, err = albumen("calibrate", job, "-n", 2, "--json")
    answer = json.loads(out)
    assert (code, err, answer["photographs"]) == (0, "", 2)
    assert answer["written"] == str(tmp_path / "run.calibration.json")
    assert (
        answer["stages"]["colour"]["low"] <= answer["stages"]["colour"]["median"] <= answer["stages"]["colour"]["high"]
    )
    code, out, _ = albumen("plan", job, "--json")
    foreseen = json.loads(out)["foreseen"]
    assert (code, foreseen["photographs"], foreseen["requests"]) == (0, 4, 40)
    assert foreseen["megapixels"]["middle"] == pytest.approx(4 * 24 * 16 / 1e6, rel=0.01)
    assert foreseen["wall_seconds"]["low"] <= foreseen["wall_seconds"]["middle"] <= foreseen["wall_seconds"]["high"]
    _, out, _ = albumen("plan", job)
    assert "Foreseen  4 photographs, from 2 that were measured" in out
    assert "EUR" in out


def test_a_plan_for_a_cluster_that_nobody_asked_has_hours_and_no_time(
    albumen: Callable[..., tuple[int, str, str]], make_spec: MakeSpec, scans: Path, tmp_path: Path
) -> None:
    spec = make_spec(cluster={"address": "ray://head:10001"})
    plan = prepare(spec)
    save(Store(), default_place(plan.run), Calibration(plan.recipe_id, "slice", "cpu", 1, (sample(1.0, 3600.0),)))
    job = tmp_path / "job.json"
    job.write_text(spec.to_json(), encoding="utf-8")
    answer = json.loads(albumen("plan", job, "--json")[1])
    assert (answer["layout"], answer["foreseen"]["wall_seconds"]) == (None, None)
    assert answer["foreseen"]["cpu_hours"]["middle"] > 0
    assert "--connect asks it for the sizes of pools" in albumen("plan", job)[1]


def test_plans_go_by_what_was_measured(make_spec: MakeSpec, scans: Path) -> None:
    from cluster.connect import Resources
    from cluster.nodes import Node
    from jobs.graph import demands, lay_out

    plan = prepare(make_spec(recipe={"stages": ["upscale"]}))
    there = Resources((Node(16.0),))
    slow = Sample(".png", 1000, 1.0, "restored", 1, {"ingest": 30.0, "upscale": 10.0, "deliver": 10.0, ENGINE: 0.0})
    found = Calibration(plan.recipe_id, "slice", "cpu", 2, (slow,))
    # And what a photograph takes beside its stages.
    assert [demand.seconds for demand in demands(plan, found)] == pytest.approx([30.0, 20.0, 10.0], abs=0.02)
    before, after = lay_out(plan, there), lay_out(plan, there, found)
    assert before.bottleneck == "upscale"
    assert after.bottleneck == "ingest"
    assert after.pools[0].size == 8
    on_card = replace(found, device="cuda", card_bytes={"upscale": 3 << 30})
    [_, upscale, _] = demands(plan, on_card)
    assert (upscale.card_seconds, upscale.card_memory) == (10.0, 3 << 30)
