"""Replay: outputs of many formats and depths come out again bit for bit, and what has changed since is named."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skimage.data
import tifffile
from PIL import Image

from jobs import lease, manifest, rundir
from jobs.replay import Replayed, replay
from jobs.replay.differences import ModelsHere, models_of
from jobs.rundir import Plan, prepare
from jobs.spec import parse_spec
from pipeline import provenance
from pipeline.errors import ItemError, JobError, Reason, SpecError, Status
from pipeline.models.catalogue import ModelCard
from pipeline.models.store import ModelSource, ModelStore
from pipeline.record import Record, from_manifest
from pipeline.stage import Device
from pipeline.stages import STAGES
from pipeline.stages.deliver import Deliver
from pipeline.stages.ingest import Ingest
from pipeline.storage import Store
from pipeline.supervision import run_end, run_stage, verify_transit
from pipeline.transit import pack, unpack

Call = Callable[..., tuple[int, str, str]]
# The astronaut's face, 40 x 32; another corner for every file.
_PHOTO = skimage.data.astronaut()[60:200, 160:300]


def _pixels(seed: int, *, grey: bool = False, deep: bool = False) -> Any:
    """H x W (x 3), with a scratch and some dust, so that repair has something to do."""
    rng = np.random.default_rng(seed)
    top, left = rng.integers(0, 90, 2)
    pixels = _PHOTO[top : top + 32, left : left + 40].copy()
    pixels = (pixels // 2 + 50).astype(np.uint8)
    pixels[:, 11] = 250
    pixels[5:7, 20:22] = 5
    pixels = pixels[..., 1] if grey else pixels
    return pixels.astype(np.uint16) * 257 + rng.integers(0, 200, pixels.shape, np.uint16) if deep else pixels


def _pillow(pixels: Any, form: str, **options: Any) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, form, **options)
    return target.getvalue()


def _tiff(pixels: Any, **options: Any) -> bytes:
    target = io.BytesIO()
    tifffile.imwrite(target, pixels, photometric="minisblack" if pixels.ndim == 2 else "rgb", **options)
    return target.getvalue()


def _cmyk() -> bytes:
    target = io.BytesIO()
    Image.fromarray(_pixels(22)).convert("CMYK").save(target, "JPEG", quality=95)
    return target.getvalue()


def _scans() -> dict[str, bytes]:
    rgba = np.dstack([_pixels(3), np.tile(np.arange(40, dtype=np.uint8) * 6, (32, 1))])
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "01.png": _pillow(_pixels(1), "PNG", dpi=(300, 300)),
        "02-grey.png": _pillow(_pixels(2, grey=True), "PNG"),
        "03-alpha.png": _pillow(rgba, "PNG"),
        "04-deep.png": imagecodecs.png_encode(_pixels(4, deep=True)),
        "05-deep-grey.png": _pillow(_pixels(5, grey=True, deep=True), "PNG"),
        "06.jpg": _pillow(_pixels(6), "JPEG", quality=95),
        "07-grey.jpg": _pillow(_pixels(7, grey=True), "JPEG", quality=95),
        "08-turned.jpg": _pillow(_pixels(8), "JPEG", quality=95, exif=turned),
        "09.tif": _tiff(_pixels(9)),
        "10-grey.tif": _tiff(_pixels(10, grey=True)),
        "11-deep.tif": _tiff(_pixels(11, deep=True), compression="deflate"),
        "12-deep-grey.tif": _tiff(_pixels(12, grey=True, deep=True), compression="lzw"),
        "13.webp": _pillow(_pixels(13), "WEBP", lossless=True),
        "14-lossy.webp": _pillow(_pixels(14), "WEBP", quality=80),
        "15.bmp": _pillow(_pixels(15), "BMP"),
        "16.gif": _pillow(_pixels(16), "GIF"),
        "17.ppm": _pillow(_pixels(17), "PPM"),
        "18.pgm": _pillow(_pixels(18, grey=True), "PPM"),
        "19.jp2": imagecodecs.jpeg2k_encode(_pixels(19), level=0),
        "20-deep.jp2": imagecodecs.jpeg2k_encode(_pixels(20, deep=True), level=0),
        "21.avif": _pillow(_pixels(21), "AVIF", quality=90),
        "22-cmyk.jpg": _cmyk(),
        "23-broken.jpg": _pillow(_pixels(24), "JPEG")[:300],
        "24-none.png": b"no image",
    }


def restored(plan: Plan) -> Plan:
    """The run as workers leave it: every stage as a pool of its own, pixels packed and unpacked between them."""
    store, models = Store(), ModelStore(ModelSource(cache="/nowhere", planned=frozenset()))
    ingest = Ingest(plan.recipe.ingest, store)
    deliver = Deliver(plan.recipe.deliver, store, plan.run, plan.recipe_id)
    stages = [(STAGES[spec.name](spec.parameters, plan.recipe.policy), spec.parameters) for spec in plan.recipe.stages]

    def carried(record: Record) -> Record:
        [record] = unpack(pack([record]))
        return verify_transit(record)

    done = []
    for table in manifest.parts(store, plan.run):
        for record in from_manifest(table):
            record = run_end(ingest, ingest.parameters, ingest.read, record)
            for stage, parameters in stages:
                stage.open(models, Device())
                [record] = run_stage(stage, parameters, [carried(record)], models, Device())
            record = run_end(deliver, deliver.parameters, deliver.write, carried(record))
            done.append(replace(record, status=Status.RESTORED) if record.status is Status.PENDING else record)
    ingest.close()
    with lease.hold(store, plan.run, "run") as held:
        provenance.commit(store, plan.run, plan.stamp(held.term), done)
        provenance.Compactor(store, plan.run, held.term).compact()
    return plan


def plan_of(folder: Path, scans: dict[str, bytes], **output: Any) -> Plan:
    (folder / "scans").mkdir(parents=True)
    for name, data in scans.items():
        (folder / "scans" / name).write_bytes(data)
    data = {
        "collection": {"name": "replayed", "source": "scans"},
        "output": {"uri": "run", "format": "tiff"} | output,
        "recipe": {
            "stages": ["analyse", "repair", "colour"],
            "policy": "presentation",
            "analyse": {"detector": "none"},
        },
    }
    return prepare(parse_spec(data, folder))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Read only: 24 photographs, of which three are refused."""
    return restored(plan_of(tmp_path_factory.mktemp("many"), _scans()))


@pytest.fixture(scope="module")
def _two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A run of two photographs, and a copy of its folder."""
    folder, copy, scans = tmp_path_factory.mktemp("two") / "here", tmp_path_factory.mktemp("copy") / "of", _scans()
    plan = restored(plan_of(folder, {name: scans[name] for name in ("01.png", "11-deep.tif")}, format="png"))
    shutil.copytree(folder, copy)
    return plan, copy


@pytest.fixture
def two(_two: tuple[Plan, Path]) -> Plan:
    """Two photographs and their run as restoring left them, whatever another test has done to them since."""
    plan, copy = _two
    folder = Path(plan.run).parent
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    return plan


def ids(plan: Plan) -> list[str]:
    found: list[str] = provenance.live(Store(), plan.run, ["item_id"])["item_id"].to_pylist()
    return found


def replayed(plan: Plan, *items: str, **options: Any) -> list[Replayed]:
    return list(replay(plan.run, items or ids(plan), **options))


def contents(folder: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_photographs_of_many_formats_and_depths_come_out_again(many: Plan) -> None:
    before = contents(many.run)
    done = replayed(many)
    assert len(done) == 24
    wrong = {one.source_uri: [str(cause) for cause in (*one.causes, *one.results)] for one in done if not one.equal}
    assert wrong == {}
    assert all(one.causes == () and one.results == () for one in done)
    rows = {row["item_id"]: row for row in provenance.live(Store(), many.run).to_pylist()}
    ended = {Path(row["source_uri"]).name: row["reason"] for row in rows.values() if row["status"] != "restored"}
    # CMYK without a profile is refused, and the same way again.
    assert ended == {"22-cmyk.jpg": "unsupported", "23-broken.jpg": "truncated", "24-none.png": "not-an-image"}
    assert {row["depth"] for row in rows.values()} == {8, 16, None}
    assert sum(row["mask_sha256"] is not None for row in rows.values()) >= 10
    assert sum(row["honesty"] is not None and row["edits_sha256"] is not None for row in rows.values()) == 21
    assert {one.events for one in done} == {1, 5}
    assert contents(many.run) == before


def test_what_is_derived_can_be_kept(two: Plan, tmp_path: Path) -> None:
    done = replayed(two, output=tmp_path / "again")
    for one in done:
        assert one.kept is not None
        original = Path(two.run, "images", one.item_id[:2], f"{one.item_id}.png")
        assert Path(one.kept).read_bytes() == original.read_bytes()
    masks = {path.name.removesuffix(".mask.png"): path for path in (tmp_path / "again").glob("*.mask.png")}
    for item, path in masks.items():
        assert path.read_bytes() == Path(two.run, "masks", item[:2], f"{item}.png").read_bytes()
    assert masks
    for kind in ("edits", "invented"):
        for path in (tmp_path / "again").glob(f"*.{kind}.png"):
            item = path.name.removesuffix(f".{kind}.png")
            assert path.read_bytes() == Path(two.run, kind, item[:2], f"{item}.png").read_bytes()
        assert len(list((tmp_path / "again").glob(f"*.{kind}.png"))) == 2
    # A second time the same bytes are there already, and that is right.
    assert all(one.equal for one in replayed(two, output=tmp_path / "again"))
    Path(done[0].kept or "").write_bytes(b"mine")
    with pytest.raises(JobError, match="there already, with other bytes"):
        replayed(two, output=tmp_path / "again")


def test_nothing_is_kept_in_the_run_or_beside_the_originals(two: Plan) -> None:
    for place in (two.run, f"{two.run}/again", two.spec.collection.source):
        with pytest.raises(SpecError, match="lies inside the"):
            replayed(two, output=Path(place))


def test_items_are_named_by_id_beginning_or_source(two: Plan) -> None:
    one, other = ids(two)
    assert [found.item_id for found in replayed(two, other, one[:8])] == [other, one]
    assert [found.item_id for found in replayed(two, f"{two.spec.collection.source}/11-deep.tif", other)] == [other]
    with pytest.raises(SpecError) as caught:
        replayed(two, one, "0" * 32, "nothing.png", one[:3])
    assert [fault.split("'")[1] for fault in caught.value.faults] == ["0" * 32, "nothing.png", one[:3]]


def test_a_changed_source_is_named(two: Plan) -> None:
    source = Path(two.spec.collection.source, "01.png")
    source.write_bytes(source.read_bytes()[:-1] + b"x")
    first, second = replayed(two)
    assert (first.equal, first.results, second.equal) == (False, (), True)
    [cause] = first.causes
    assert (cause.kind, cause.what) == ("source", str(source))
    assert cause.recorded != cause.found
    source.unlink()
    [gone, _] = replayed(two)
    assert [cause.kind for cause in gone.causes] == ["source"]
    assert "is not there" in (gone.causes[0].found or "")


def tamper(plan: Plan, alter: Callable[[dict[str, Any]], Any]) -> None:
    path = Path(plan.run, "run.json")
    facts = json.loads(path.read_text())
    alter(facts)
    path.write_text(json.dumps(facts))


def test_a_changed_parameter_is_named(two: Plan) -> None:
    tamper(two, lambda facts: facts["spec"]["recipe"].update(repair={"radius": 5.0}))
    for one in replayed(two):
        found = {(cause.kind, cause.what): (cause.recorded, cause.found) for cause in one.causes}
        assert found.pop(("recipe", "id"))
        assert found == {("parameter", "repair.radius"): ("14.0", "5.0")}


def test_a_changed_policy_is_named_as_another_recipe_and_the_first_event_that_differs_is_said(two: Plan) -> None:
    tamper(two, lambda facts: facts["spec"]["recipe"].update(policy="conservation"))
    one = replayed(two)[0]
    assert [cause.kind for cause in one.causes] == ["recipe"]
    assert not one.equal
    assert (one.results[0].kind, one.results[0].what.split(",")[0]) in (("event", "3 repair"), ("event", "4 colour"))
    kinds = [result.kind for result in one.results]
    assert "output" in kinds
    # What is measured on another output comes behind it.
    assert kinds[-1] in ("output", "mask", "map", "honesty")


def test_a_changed_stage_is_named(two: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STAGES["colour"], "version", "99")
    one = replayed(two)[0]
    assert ("stage", "colour") in [(cause.kind, cause.what) for cause in one.causes]
    # The pixels are the same; the delivered file's XMP names the version that was used.
    assert next((result.kind, result.what.split(",")[0]) for result in one.results) == ("event", "5 deliver")


def test_other_software_is_named(two: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rundir, "software", lambda: {"numpy": "0.1"} | {"torch": None})
    one = replayed(two)[0]
    assert {cause.what: cause.found for cause in one.causes if cause.kind == "software"}["numpy"] == "0.1"
    assert one.equal


def row_of(plan: Plan, alter: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrites the first row of the run's only part, digest and all, as a hand that forges would."""
    import hashlib

    [path] = Path(plan.run, "provenance/parts").iterdir()
    rows = pq.read_table(path).to_pylist()
    alter(rows[0])
    pq.write_table(pa.Table.from_pylist(rows, provenance.PROVENANCE), path)
    seal = sorted(Path(plan.run, "provenance/seals").iterdir())[-1]
    facts = json.loads(seal.read_text())
    facts["parts"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    seal.write_text(json.dumps(facts))


@pytest.mark.parametrize("number", [0, 2, 4])
def test_the_first_event_that_differs_is_named(two: Plan, number: int) -> None:
    row_of(two, lambda row: row["events"][number].update(output_sha256="0" * 64))
    one, other = replayed(two)
    stage = ["ingest", "analyse", "repair", "colour", "deliver"][number]
    assert not one.equal
    assert (one.results[0].kind, one.results[0].what) == ("event", f"{number + 1} {stage}, output")
    assert one.results[0].recorded == "0" * 64
    assert other.equal


def test_other_bytes_of_the_output_are_named(two: Plan) -> None:
    row_of(two, lambda row: row.update(output_sha256="0" * 64))
    one = replayed(two)[0]
    assert [result.kind for result in one.results] == ["output"]


@pytest.mark.parametrize("name", ["edits", "invented"])
def test_other_bytes_of_a_map_are_named(two: Plan, name: str) -> None:
    row_of(two, lambda row: row.update({f"{name}_sha256": "0" * 64}))
    one = replayed(two)[0]
    assert not one.equal
    assert [(result.kind, result.what) for result in one.results] == [("map", name)]


def test_another_measure_is_named(two: Plan) -> None:
    row_of(two, lambda row: row["honesty"].update(risk=0.0, grain=row["honesty"]["grain"] * (1 + 1e-9)))
    one = replayed(two)[0]
    assert [(result.kind, result.what, result.recorded) for result in one.results] == [("honesty", "risk", "0.0")]


def test_a_row_of_before_there_were_measures_comes_out_again(two: Plan) -> None:
    def old(row: dict[str, Any]) -> None:
        row.update(honesty=None, schema_version=3)
        row.update(dict.fromkeys(("edits_uri", "edits_sha256", "invented_uri", "invented_sha256")))

    row_of(two, old)
    assert all(one.equal for one in replayed(two))


def test_a_photograph_that_failed_for_a_reason_that_passed(two: Plan) -> None:
    def failed(row: dict[str, Any]) -> None:
        row.update(status="failed", reason="worker-died", output_sha256=None, mask_sha256=None)
        row["events"] = row["events"][:1]

    row_of(two, failed)
    one = replayed(two)[0]
    assert ("status", "failed, worker-died", "restored") in [(r.kind, r.recorded, r.found) for r in one.results]


def test_a_changed_model_is_named(two: Plan) -> None:
    model = {"id": "realesrgan-x4plus-embedded", "sha256": "0" * 64, "licence": "BSD-3-Clause"}
    row_of(two, lambda row: row["events"][2].update(models=[model]))
    one = replayed(two)[0]
    [cause] = [cause for cause in one.causes if cause.kind == "model"]
    assert (cause.what, cause.recorded) == (model["id"], "0" * 64)
    assert (cause.found or "").startswith("713ee713")
    assert (one.equal, one.results) == (False, ())


def test_a_model_whose_file_was_altered_or_is_gone_is_named(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "mine.pth"
    path.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    card = ModelCard("mine", path.name, None, digest, str(path), "MIT", "rrdbnet", "upscale")
    store = ModelStore(ModelSource(cache=str(tmp_path), local=(card,)))
    row = {"events": [{"models": [{"id": "mine", "sha256": digest}]}, {"models": None}]}
    assert list(ModelsHere(store).differences(models_of(row))) == []
    path.write_bytes(b"Weights")
    [found] = ModelsHere(store).differences(models_of(row))
    assert "is not the published file" in (found.found or "")
    path.unlink()
    [found] = ModelsHere(store).differences(models_of(row))
    assert "cannot fetch" in (found.found or "")
    [unknown] = ModelsHere(store).differences({"other": digest})
    assert "there is no model 'other'" in (unknown.found or "")


def test_a_model_is_hashed_once_however_many_photographs_it_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    path = tmp_path / "mine.pth"
    path.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    card = ModelCard("mine", path.name, None, digest, str(path), "MIT", "rrdbnet", "upscale")
    store = ModelStore(ModelSource(cache=str(tmp_path), local=(card,)))
    hashed: list[str] = []
    monkeypatch.setattr(store, "ensure", hashed.append)
    here = ModelsHere(store)
    for _ in range(3):
        assert list(here.differences({"mine": digest})) == []
    assert hashed == ["mine"]
    # Another record may say that it was another file.
    assert [found.recorded for found in here.differences({"mine": "0" * 64})] == ["0" * 64]


def test_a_recipe_that_is_known_no_more_is_one_message(two: Plan) -> None:
    tamper(two, lambda facts: facts["spec"]["recipe"].update(stages=["analyse", "polish"]))
    with pytest.raises(JobError, match=r"run\.json: recipe\.stages: there is no stage 'polish'"):
        replayed(two)


def test_the_command_line(two: Plan, albumen: Call, tmp_path: Path) -> None:
    one, other = ids(two)
    code, out, err = albumen("replay", two.run, one, other)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"equal    {item} {two.spec.collection.source}/{name}: 5 events and the bytes are the same"
        for item, name in ((one, "01.png"), (other, "11-deep.tif"))
    ]
    row_of(two, lambda row: row["events"][2].update(output_sha256="0" * 64))
    code, out, _ = albumen("replay", two.run, one, "--json")
    [found] = json.loads(out)
    assert (code, found["equal"], found["results"][0]["what"]) == (1, False, "3 repair, output")
    code, out, _ = albumen("replay", two.run, one)
    assert code == 1
    assert out.startswith(f"differs  {one}")
    code, _, err = albumen("replay", two.run, "nothing")
    assert (code, "the run has no photograph 'nothing'" in err) == (2, True)
    assert albumen("replay", tmp_path, one)[0] == 1


def test_an_entry_that_was_refused_while_listing_has_nothing_to_derive(two: Plan) -> None:
    def refused(row: dict[str, Any]) -> None:
        error = ItemError(Reason.DUPLICATE, "named twice")
        row.update(status="refused", reason=str(error.reason), events=[], source_sha256=None)
        row.update(output_sha256=None, mask_sha256=None, edits_sha256=None, invented_sha256=None, honesty=None)

    row_of(two, refused)
    one = replayed(two)[0]
    assert (one.events, one.equal) == (0, True)
