"""The run's folder: what a plan writes, and when it refuses to."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs import lease, manifest, rundir
from jobs.gc import collect
from jobs.rundir import ModelUse, Plan, load, prepare
from jobs.spec import JobSpec
from pipeline import provenance
from pipeline.errors import ItemError, JobError, ModelError, Reason, SpecError, StoreError
from pipeline.models.catalogue import by_id
from pipeline.record import from_manifest
from pipeline.software import PACKAGES
from pipeline.storage import Entry, Store

Merge = Callable[..., JobSpec]
Pending = Callable[..., pa.Table]

DETECTOR = "retinaface-mobile0.25"
REQUIRED: dict[str, Any] = {"stages": ["analyse", "repair", "faces", "colour"], "faces": {"required": True}}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that are created or put, in order."""
    names: list[str] = []
    create, put = Store.create, Store.put

    def created(store: Store, uri: str, data: bytes) -> bool:
        names.append(uri)
        return create(store, uri, data)

    def record(store: Store, uri: str, data: bytes) -> None:
        names.append(uri)
        put(store, uri, data)

    monkeypatch.setattr(Store, "create", created)
    monkeypatch.setattr(Store, "put", record)
    return names


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Ends the process, as far as a test can, when a name that holds this text is written for the first time."""

    def arrange(text: str) -> None:
        create, put = Store.create, Store.put
        killed: list[str] = []

        def die(uri: str) -> None:
            if text in uri and not killed:
                killed.append(uri)
                raise KeyboardInterrupt

        def dying_create(store: Store, uri: str, data: bytes) -> bool:
            die(uri)
            return create(store, uri, data)

        def dying_put(store: Store, uri: str, data: bytes) -> None:
            die(uri)
            put(store, uri, data)

        monkeypatch.setattr(Store, "create", dying_create)
        monkeypatch.setattr(Store, "put", dying_put)

    return arrange


@pytest.fixture
def detector(shared: Path, make_spec: Merge) -> Callable[..., JobSpec]:
    """A spec whose recipe may use a small real face detector, and whose mirror the test chooses."""

    def make(mirror: Path | None) -> JobSpec:
        models = {} if mirror is None else {"mirror": str(mirror)}
        return make_spec(recipe={"analyse": {"detector": DETECTOR}}, models=models)

    return make


def test_lease_manifest_index_and_run_json_come_in_this_order(
    make_spec: Merge, scans: Path, tmp_path: Path, written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "PART_ROWS", 3)
    prepare(make_spec())
    names = [str(Path(uri).relative_to(tmp_path / "run")) for uri in written]
    assert [re.sub("-[0-9a-f]{12}[.]", "-*.", name) for name in names] == [
        "lease/00000001.json",
        "manifest/part-00000000-00000001-*.parquet",
        "manifest/part-00000001-00000001-*.parquet",
        "manifest/index-00000000.json",
        "run.json",
        "lease/00000001.json",
    ]


def test_a_plan_gives_its_lease_back(make_spec: Merge, scans: Path) -> None:
    plan = prepare(make_spec())
    held = lease.current(Store(), plan.run)
    assert held is not None
    assert (held.term, held.purpose, held.released) == (1, "planning", True)


def test_a_plan_counts_what_it_found(make_spec: Merge, tmp_path: Path, scans: Path) -> None:
    (scans / "notes.txt").touch()
    plan = prepare(make_spec())
    assert plan.new
    assert (plan.photographs, plan.index.refused, plan.index.ignored) == (4, 0, {".txt": 1})
    assert plan.index.known_bytes == sum(path.stat().st_size for path in scans.glob("*.png"))
    assert plan.run == str(tmp_path / "run")


def test_refused_entries_are_counted(make_spec: Merge, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("source_uri\nscans/a.png\nscans/a.png\nhttp://127.0.0.1/a.png\n")
    plan = prepare(make_spec(collection={"source": "list.csv"}))
    assert (plan.photographs, plan.index.refused) == (3, 2)
    [part] = manifest.parts(Store(), plan.run)
    assert part["reason"].to_pylist() == [None, "duplicate", "unsupported"]


@pytest.mark.parametrize(("listed", "output"), [("a.png", "run"), ("run/a.png", "run"), ("run/old/a.png", "run")])
def test_the_output_and_listed_originals_are_kept_apart(
    make_spec: Merge, tmp_path: Path, listed: str, output: str
) -> None:
    (tmp_path / "list.csv").write_text(f"source_uri\n{listed}\n")
    with pytest.raises(SpecError, match="originals"):
        prepare(make_spec(collection={"source": "list.csv"}, output={"uri": output}))
    assert not (tmp_path / "run").exists()


def test_another_source_is_another_run(make_spec: Merge, scans: Path, tmp_path: Path) -> None:
    prepare(make_spec())
    shutil.copytree(scans, tmp_path / "others")
    with pytest.raises(JobError, match="its source was"):
        prepare(make_spec(collection={"source": "others"}))


def test_what_may_have_passed_is_tried_again_on_request(finished: Plan, pending: Pending) -> None:
    assert pending(finished).num_rows == 0
    again = pending(finished, 3)
    rows = {row["item_no"]: row for row in provenance.live(Store(), finished.run).to_pylist()}
    assert [rows[number]["reason"] for number in again["item_no"].to_pylist()] == ["stage-failed"]
    assert pending(finished, 2).num_rows == 0


def test_run_json_says_what_was_planned(make_spec: Merge, scans: Path) -> None:
    spec = make_spec()
    plan = prepare(spec)
    known = load(plan.run)
    assert (known["run_id"], known["recipe_id"], known["collection"]) == (plan.run_id, plan.recipe_id, "albums")
    assert known["layout"] == rundir.LAYOUT
    assert JobSpec.model_validate(known["spec"]) == spec
    assert known["models"][0] == {"id": "retinaface-resnet50", "required": False, "sha256": None, "licence": "MIT"}
    assert [(model["id"], model["required"]) for model in known["models"][1:]] == [("albumen-damage", True)]
    assert len(known["models"][1]["sha256"]) == 64
    assert {"albumen", "ray", "torch", "python"} <= set(known["software"])


def test_the_source_is_only_read(make_spec: Merge, scans: Path) -> None:
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in scans.iterdir()}
    prepare(make_spec())
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in scans.iterdir()} == before


def test_the_second_plan_finds_the_first(make_spec: Merge, scans: Path, written: list[str]) -> None:
    first = prepare(make_spec())
    written.clear()
    second = prepare(make_spec())
    assert (first.new, second.new) == (True, False)
    assert written == []
    facts = ("run_id", "recipe_id", "index", "models")
    assert [getattr(first, name) for name in facts] == [getattr(second, name) for name in facts]


def test_the_second_plan_does_not_list_the_source(make_spec: Merge, scans: Path, pending: Pending) -> None:
    prepare(make_spec())
    shutil.rmtree(scans)
    plan = prepare(make_spec())
    assert (plan.new, plan.photographs, pending(plan).num_rows) == (False, 4, 4)


def test_what_came_after_the_plan_is_not_part_of_it(make_spec: Merge, scans: Path, scan: Callable[..., bytes]) -> None:
    prepare(make_spec())
    (scans / "late.png").write_bytes(scan(9))
    assert prepare(make_spec()).photographs == 4


def test_pools_and_addresses_may_change(make_spec: Merge, scans: Path) -> None:
    first = prepare(make_spec())
    second = prepare(make_spec(cluster={"cpus": 1, "pools": {"analyse": 2}}))
    assert (second.new, second.run_id) == (False, first.run_id)


@pytest.mark.parametrize(
    "sections",
    [
        {"recipe": {"stages": ["analyse", "colour"]}},
        {"recipe": {"repair": {"radius": 5}}},
        {"recipe": {"policy": "presentation"}},
        {"output": {"format": "tiff"}},
        {"collection": {"max_megapixels": 10}},
    ],
)
def test_another_recipe_may_not_go_on_with_a_run(make_spec: Merge, scans: Path, sections: dict[str, Any]) -> None:
    prepare(make_spec())
    with pytest.raises(JobError, match=r"holds a run of another job: its recipe .* was another") as caught:
        prepare(make_spec(**sections))
    assert caught.value.hint is not None
    assert "Choose another [output] uri" in caught.value.hint


def test_another_collection_may_not_go_on_with_a_run(make_spec: Merge, scans: Path) -> None:
    prepare(make_spec())
    with pytest.raises(JobError) as caught:
        prepare(make_spec(collection={"name": "plates"}))
    (fault,) = caught.value.faults
    assert fault.endswith("run holds a run of another job: the collection was 'albums'")


def test_a_run_that_was_moved_is_not_gone_on_with(make_spec: Merge, scans: Path, tmp_path: Path) -> None:
    prepare(make_spec())
    (tmp_path / "run").rename(tmp_path / "moved")
    with pytest.raises(JobError, match="moved holds a run of another job: it was moved here"):
        prepare(make_spec(output={"uri": "moved"}))


def test_a_refused_plan_leaves_the_run_as_it_was(make_spec: Merge, scans: Path, tmp_path: Path) -> None:
    prepare(make_spec())
    before = (tmp_path / "run/run.json").read_bytes()
    with pytest.raises(JobError):
        prepare(make_spec(recipe={"policy": "presentation"}))
    assert (tmp_path / "run/run.json").read_bytes() == before


@pytest.mark.parametrize(
    "name", ["images/ab/holiday.png", "masks/ab/holiday.png", "edits/ab/holiday.png", "provenance/other.parquet"]
)
def test_a_folder_that_belongs_to_something_else_is_left_alone(
    make_spec: Merge, scans: Path, tmp_path: Path, name: str
) -> None:
    foreign = tmp_path / "run" / name
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"mine")
    with pytest.raises(JobError, match="is not empty and no run of Albumen") as caught:
        prepare(make_spec())
    assert str(foreign) in caught.value.faults[0]
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == [foreign]


@pytest.mark.parametrize("text", ["{}", "[]", '{"run": 1}'])
def test_a_run_json_of_another_program_is_no_run(make_spec: Merge, scans: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text(text)
    with pytest.raises(JobError, match=r"run\.json"):
        prepare(make_spec())


def test_a_damaged_run_json_is_an_error(make_spec: Merge, scans: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text('{"run_id": "12')
    with pytest.raises(JobError, match=r"run\.json is damaged"):
        prepare(make_spec())


def test_an_output_that_is_a_file(make_spec: Merge, scans: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(StoreError, match="cannot be read"):
        prepare(make_spec())


def test_an_output_that_may_not_be_written(make_spec: Merge, open_folder: Path, scan: Callable[..., bytes]) -> None:
    (open_folder / "scans").mkdir()
    (open_folder / "scans/a.png").write_bytes(scan())
    spec = make_spec(open_folder, models={"cache": "models"})
    open_folder.chmod(0o555)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        with pytest.raises(StoreError, match=r"run's lease cannot be taken: .*Permission denied"):
            prepare(spec)
    finally:
        if root:
            os.seteuid(0)
        open_folder.chmod(0o755)


def test_a_missing_source_writes_nothing(make_spec: Merge, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"^collection\.source: .*scans is not there$"):
        prepare(make_spec())
    assert not (tmp_path / "run").exists()


def test_a_source_without_photographs_writes_nothing(make_spec: Merge, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    with pytest.raises(SpecError, match="holds no photograph"):
        prepare(make_spec())
    assert not (tmp_path / "run").exists()


def test_a_missing_required_model_says_how_to_get_it(make_spec: Merge, scans: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        prepare(make_spec(recipe=REQUIRED))
    text = str(caught.value)
    assert "model retinaface-resnet50 is not installed" in text
    assert "albumen models fetch retinaface-resnet50" in text
    assert "albumen models fetch gfpgan-v1.4" in text
    assert "[models] mirror" in text
    assert not (tmp_path / "run").exists()


def test_missing_models_and_a_missing_source_are_reported_together(make_spec: Merge) -> None:
    with pytest.raises(SpecError) as caught:
        prepare(make_spec(recipe=REQUIRED))
    assert len(caught.value.faults) == 3
    assert caught.value.faults[0].startswith("collection.source: ")
    assert caught.value.hint is not None
    assert "albumen models fetch gfpgan-v1.4" in caught.value.hint


def test_a_missing_optional_model_is_recorded_as_such(make_spec: Merge, scans: Path) -> None:
    plan = prepare(make_spec(recipe={"stages": ["analyse", "faces"]}))
    assert [(use.id, use.required, use.sha256) for use in plan.models] == [
        ("retinaface-resnet50", False, None),
        ("albumen-damage", True, by_id()["albumen-damage"].sha256),
        ("gfpgan-v1.4", False, None),
        ("parsenet", False, None),
        ("bisenet", False, None),
        ("mobilefacenet", False, None),
        ("sface-2021dec", False, None),
    ]


def test_of_models_that_stand_in_for_each_other_the_first_is_enough(
    make_spec: Merge, shared: Path, scans: Path, no_models: Path
) -> None:
    plan = prepare(make_spec(recipe={"stages": ["faces"]}, models={"mirror": str(shared / "weights")}))
    found = {use.id: use.sha256 for use in plan.models}
    assert found["mobilefacenet"] == by_id()["mobilefacenet"].sha256
    assert "sface-2021dec" not in found
    assert (found["parsenet"], found["bisenet"]) == (None, None)


def test_an_optional_model_is_fetched_from_the_mirror(
    detector: Merge, shared: Path, scans: Path, no_models: Path
) -> None:
    card = by_id()[DETECTOR]
    plan = prepare(detector(shared / "weights"))
    assert plan.models[0] == ModelUse(DETECTOR, required=False, sha256=card.sha256, licence="MIT")
    assert [use.id for use in plan.models] == [DETECTOR, "albumen-damage"]
    assert (no_models / card.file).stat().st_size == card.bytes


def test_an_altered_file_on_the_mirror_is_an_error_and_no_skip(
    detector: Merge, shared: Path, scans: Path, tmp_path: Path, no_models: Path
) -> None:
    file = by_id()[DETECTOR].file
    (tmp_path / "mirror").mkdir()
    data = bytearray((shared / "weights" / file).read_bytes())
    data[1000] ^= 1
    (tmp_path / "mirror" / file).write_bytes(data)
    with pytest.raises(ModelError, match="is not the published file"):
        prepare(detector(tmp_path / "mirror"))
    assert not (tmp_path / "run").exists()
    assert not (no_models / file).exists()


def test_a_model_installed_since_changes_the_recipe(detector: Merge, shared: Path, scans: Path) -> None:
    prepare(detector(None))
    with pytest.raises(JobError, match=rf"other models are installed now than when it was planned \({DETECTOR}\)"):
        prepare(detector(shared / "weights"))


@pytest.mark.parametrize("name", ["lease/", "part-00000000", "part-00000001", "index-", "run.json"])
def test_a_plan_that_was_killed_is_planned_again(
    make_spec: Merge,
    scans: Path,
    kill: Callable[[str], None],
    name: str,
    pending: Pending,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(manifest, "PART_ROWS", 2)
    kill(name)
    with pytest.raises(KeyboardInterrupt):
        prepare(make_spec())
    with pytest.raises(JobError, match="is no run of Albumen"):
        load(make_spec().output.uri)
    plan = prepare(make_spec())
    assert (plan.new, plan.photographs, pending(plan).num_rows) == (True, 4, 4)


def test_a_plan_that_was_killed_leaves_no_rows_behind(
    make_spec: Merge,
    scans: Path,
    kill: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    pending: Pending,
) -> None:
    monkeypatch.setattr(manifest, "PART_ROWS", 2)
    kill("run.json")
    with pytest.raises(KeyboardInterrupt):
        prepare(make_spec())
    for name in ("c.png", "d.png"):
        (scans / name).unlink()
    plan = prepare(make_spec())
    assert plan.photographs == 2
    assert pending(plan)["item_no"].to_pylist() == [0, 1]
    assert load(plan.run)["manifest"] == plan.index.version == 1
    # And gc takes the version and its parts away; the leases stay.
    collect(plan.run)
    assert sorted(path.name for path in Path(plan.run, "manifest").glob("index-*")) == ["index-00000001.json"]
    assert len(list(Path(plan.run, "manifest").glob("part-*"))) == 1
    assert pending(plan)["item_no"].to_pylist() == [0, 1]


def test_a_plan_that_another_overtook_puts_no_run_json(
    make_spec: Merge, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paused between its manifest and run.json, it wakes behind a plan that has one."""
    others: list[Plan] = []
    freeze = rundir._freeze

    def overtaken(*given: Any) -> Any:
        index = freeze(*given)
        if not others:
            monkeypatch.setattr(rundir, "_freeze", freeze)
            Path(make_spec().output.uri, "lease").rename(scans.parent / "lease")
            others.append(prepare(make_spec()))
            shutil.rmtree(Path(make_spec().output.uri, "lease"))
            (scans.parent / "lease").rename(Path(make_spec().output.uri, "lease"))
        return index

    monkeypatch.setattr(rundir, "_freeze", overtaken)
    with pytest.raises(JobError, match="somebody else has planned a run there meanwhile"):
        prepare(make_spec())
    assert load(others[0].run)["manifest"] == others[0].index.version == 1


def test_pending_is_what_is_not_committed(make_spec: Merge, scans: Path, pending: Pending) -> None:
    plan = prepare(make_spec())
    done = [record.ended(ItemError(Reason.TRUNCATED, "half")) for record in from_manifest(pending(plan))[::2]]
    provenance.commit(Store(), plan.run, plan.stamp(1), done)
    assert pending(plan)["item_no"].to_pylist() == [1, 3]


def test_a_finished_run_has_nothing_pending(finished: Plan, pending: Pending) -> None:
    assert pending(finished).num_rows == 0


def test_the_stamp_ties_rows_to_the_run(make_spec: Merge, scans: Path) -> None:
    plan = prepare(make_spec())
    stamp = plan.stamp(7)
    assert (stamp.run_id, stamp.recipe_id, stamp.term) == (plan.run_id, plan.recipe_id, 7)
    assert stamp.software.startswith("albumen 0.")


def test_every_place_has_a_run_id_of_its_own(make_spec: Merge, scans: Path) -> None:
    one, two = prepare(make_spec()), prepare(make_spec(output={"uri": "run2"}))
    assert one.run_id != two.run_id
    assert one.recipe_id == two.recipe_id


def test_a_folder_without_run_json_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"is no run of Albumen: there is no run\.json in it"):
        load(str(tmp_path))


def test_software_is_named_by_installed_versions(make_spec: Merge, scans: Path) -> None:
    plan = prepare(make_spec())
    text = Path(plan.run, "run.json").read_text(encoding="utf-8")
    software = json.loads(text)["software"]
    assert software["numpy"] == np.__version__
    assert set(PACKAGES) < set(software)


def test_two_plans_at_once_make_one_manifest(make_spec: Merge, scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else plans the run while this one looks at its source."""
    survey = manifest.survey
    other: list[Plan] = []

    def slow(spec: JobSpec) -> manifest.Survey:
        found = survey(spec)
        if not other:
            other.append(None)  # type: ignore[arg-type]
            other[0] = prepare(spec)
        return found

    monkeypatch.setattr(manifest, "survey", slow)
    plan = prepare(make_spec())
    assert (other[0].new, plan.new) == (True, False)
    assert (plan.run_id, plan.photographs) == (other[0].run_id, 4)
    assert len(list(Path(plan.run, "manifest").iterdir())) == 2


def test_a_run_that_somebody_plans_is_not_planned(make_spec: Merge, scans: Path) -> None:
    spec = make_spec()
    with lease.hold(Store(), spec.output.uri, "planning"), pytest.raises(lease.LeaseHeldError, match="`planning` of"):
        prepare(spec)


def test_a_later_index_is_what_a_plan_goes_on_with(make_spec: Merge, scans: Path) -> None:
    plan = prepare(make_spec())
    store = Store()
    index = manifest.sound_index(store, plan.run)
    builder = manifest.Builder(plan.spec.collection, index.photographs)
    builder.add((Entry("late.png", str(scans / "late.png"), 5, None), None))
    manifest.write(store, plan.run, index, 1, [builder.rest()], Counter(), 2)
    again = prepare(make_spec())
    assert (again.new, again.photographs, again.index.known_bytes) == (False, 5, plan.index.known_bytes + 5)


@pytest.mark.parametrize("layout", [2, 4, None])
def test_another_layout_is_refused(make_spec: Merge, scans: Path, layout: int | None) -> None:
    plan = prepare(make_spec())
    path = Path(plan.run, "run.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layout": layout}))
    with pytest.raises(JobError, match=r"was written by another version of Albumen .* this one knows layout 3"):
        prepare(make_spec())


def test_a_run_whose_manifest_is_gone_is_not_gone_on_with(make_spec: Merge, scans: Path) -> None:
    plan = prepare(make_spec())
    shutil.rmtree(Path(plan.run, "manifest"))
    with pytest.raises(JobError, match="manifest"):
        prepare(make_spec())
