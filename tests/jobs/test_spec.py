"""Job specs: what is accepted, and what each fault is called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.rundir import prepare
from jobs.spec import JobSpec, PoolBounds, check_places, load_spec, parse_spec
from pipeline.errors import SpecError

FULL = """
[collection]
name = "Nachlaß Müller"
source = "scans/boxes"
endpoint = "http://127.0.0.1:9000"
max_megapixels = 80
max_gigabytes = 1.5

[output]
uri = "s3://restored/mueller/"
endpoint = "http://127.0.0.1:9001"
format = "jpeg"
jpeg_quality = 90

[recipe]
stages = ["analyse", "repair", "faces", "upscale", "compose", "colour"]
policy = "presentation"

[recipe.repair]
radius = 4
denoise = 0.5

[recipe.faces]
strength = 0.8
required = true

[recipe.upscale]
model = "ours-x2"
tile = 128

[models]
mirror = "mirror"
cache = "/var/cache/models"
endpoint = "http://127.0.0.1:9002"

[[models.local]]
id = "ours-x2"
file = "weights/ours.pth"
sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
architecture = "rrdbnet"
task = "upscale"
licence = "MIT"
scale = 2

[cluster]
address = "auto"
cpus = 6
pools = { upscale = 3 }
"""

LOCAL = {
    "id": "ours",
    "file": "ours.pth",
    "sha256": "a" * 64,
    "architecture": "rrdbnet",
    "task": "upscale",
    "licence": "MIT",
}

Merge = Callable[..., JobSpec]


def faults(make_spec: Merge, **sections: Any) -> tuple[str, ...]:
    with pytest.raises(SpecError) as caught:
        make_spec(**sections)
    return caught.value.faults


@pytest.fixture
def full(tmp_path: Path) -> JobSpec:
    (tmp_path / "job.toml").write_text(FULL, encoding="utf-8")
    return load_spec(tmp_path / "job.toml")


def test_a_full_spec_is_read(full: JobSpec) -> None:
    assert full.collection.name == "Nachlaß Müller"
    assert (full.collection.max_megapixels, full.collection.max_gigabytes) == (80, 1.5)
    assert (full.output.format, full.output.jpeg_quality) == ("jpeg", 90)
    assert full.recipe.policy == "presentation"
    assert (full.cluster.address, full.cluster.cpus, dict(full.cluster.pools)) == ("auto", 6, {"upscale": 3})
    assert full.source_options.endpoint == "http://127.0.0.1:9000"
    assert full.output_options.endpoint == "http://127.0.0.1:9001"


@pytest.mark.parametrize("depth", ["source", 8, 16])
def test_the_depth_reaches_the_recipe_and_its_identity(make_spec: Merge, depth: object) -> None:
    recipe = make_spec(output={"depth": depth}).make_recipe()
    assert recipe.deliver.depth == depth
    assert (recipe.identity({}) == make_spec().make_recipe().identity({})) is (depth == "source")


def test_a_full_spec_becomes_its_recipe(full: JobSpec) -> None:
    recipe = full.make_recipe()
    assert [stage.name for stage in recipe.stages] == ["analyse", "repair", "faces", "upscale", "compose", "colour"]
    parameters: dict[str, Any] = {stage.name: stage.parameters for stage in recipe.stages}
    assert (parameters["repair"].radius, parameters["repair"].denoise) == (4, 0.5)
    assert parameters["upscale"].model == "ours-x2"
    assert (recipe.policy.name, recipe.ingest.megapixels, recipe.ingest.gigabytes) == ("presentation", 80, 1.5)
    assert (recipe.deliver.format, recipe.deliver.jpeg_quality) == ("jpeg", 90)


def test_pages_and_quality_reach_the_recipe(make_spec: Merge) -> None:
    spec = make_spec(collection={"pages": "refuse"}, output={"format": "avif", "quality": 80})
    recipe = spec.make_recipe()
    assert (recipe.ingest.pages, recipe.deliver.format, recipe.deliver.chosen_quality()) == ("refuse", "avif", 80)


def test_a_model_of_the_jobs_own_stands_beside_the_catalogue(full: JobSpec) -> None:
    source = full.model_source()
    assert [(card.id, card.scale, card.licence) for card in source.local] == [("ours-x2", 2, "MIT")]
    assert source.cache == "/var/cache/models"
    assert source.options.endpoint == "http://127.0.0.1:9002"


def test_relative_paths_start_at_the_folder_of_the_spec(full: JobSpec, tmp_path: Path) -> None:
    assert full.collection.source == str(tmp_path / "scans/boxes")
    assert full.models.mirror == str(tmp_path / "mirror")
    assert full.models.local[0].file == str(tmp_path / "weights/ours.pth")


def test_the_working_directory_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job.toml").write_text(FULL, encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    here = load_spec(Path("job.toml"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_spec(Path("../job.toml")) == here


def test_a_remote_place_loses_only_its_last_slash(full: JobSpec) -> None:
    assert full.output.uri == "s3://restored/mueller"


def test_a_tilde_is_the_users_home(make_spec: Merge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert make_spec(collection={"source": "~/scans"}).collection.source == str(tmp_path / "home/scans")


def test_a_file_uri_is_a_path(make_spec: Merge, tmp_path: Path) -> None:
    assert make_spec(collection={"source": f"file://{tmp_path}/x"}).collection.source == str(tmp_path / "x")


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    spec = parse_spec({"collection": {"name": "x", "source": "a"}, "output": {"uri": "b"}}, tmp_path)
    assert spec.recipe.stages == ("analyse", "repair", "faces", "upscale", "compose", "colour")
    assert (spec.recipe.policy, spec.output.format, spec.cluster.address) == ("conservation", "tiff", None)


def test_json_says_the_same_as_toml(full: JobSpec, tmp_path: Path) -> None:
    (tmp_path / "sent.json").write_text(full.to_json(), encoding="utf-8")
    assert load_spec(tmp_path / "sent.json") == full


def test_a_spec_sent_to_another_folder_means_the_same_places(make_spec: Merge, tmp_path: Path) -> None:
    spec = make_spec(models={"local": [LOCAL]})
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "sent.json").write_text(spec.to_json(), encoding="utf-8")
    assert load_spec(tmp_path / "node" / "sent.json") == spec


@pytest.mark.parametrize(
    ("sections", "fault"),
    [
        ({"colection": {}}, "colection: unknown key"),
        ({"collection": {"sorce": "x"}}, "collection.sorce: unknown key"),
        ({"output": {"url": "x"}}, "output.url: unknown key"),
        ({"recipe": {"polcy": "x"}}, "recipe.polcy: unknown key"),
        ({"recipe": {"sharpen": {}}}, "recipe.sharpen: unknown key"),
        ({"recipe": {"repair": {"radios": 3}}}, "recipe.repair.radios: unknown key"),
        ({"models": {"miror": "x"}}, "models.miror: unknown key"),
        ({"models": {"local": [LOCAL | {"bytes": 3}]}}, "models.local.0.bytes: unknown key"),
        ({"cluster": {"gpus": 1}}, "cluster.gpus: unknown key"),
    ],
)
def test_an_unknown_key_is_one_fault_at_every_level(make_spec: Merge, sections: dict[str, Any], fault: str) -> None:
    assert faults(make_spec, **sections) == (fault,)


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"collection": {"name": 3}}, "collection.name"),
        ({"collection": {"name": ""}}, "collection.name"),
        ({"collection": {"source": ["a", "b"]}}, "collection.source"),
        ({"collection": {"max_megapixels": "many"}}, "collection.max_megapixels"),
        ({"collection": {"max_gigabytes": 0}}, "collection.max_gigabytes"),
        ({"output": {"format": "gif"}}, "output.format"),
        ({"output": {"jpeg_quality": 101}}, "output.jpeg_quality"),
        ({"output": {"depth": 12}}, "output.depth"),
        ({"output": {"format": "jpeg", "depth": 16}}, "output"),
        ({"recipe": {"stages": "analyse"}}, "recipe.stages"),
        ({"recipe": {"stages": ["analyse", 3]}}, "recipe.stages.1"),
        ({"recipe": {"repair": {"denoise": 2}}}, "recipe.repair.denoise"),
        ({"models": {"local": {"id": "ours"}}}, "models.local"),
        ({"models": {"local": [LOCAL | {"sha256": "abc"}]}}, "models.local.0.sha256"),
        ({"cluster": {"cpus": 0}}, "cluster.cpus"),
        ({"cluster": {"pools": {"analyse": "two"}}}, "cluster.pools.analyse"),
    ],
)
def test_a_wrong_value_is_one_fault_that_names_its_key(make_spec: Merge, sections: dict[str, Any], key: str) -> None:
    (fault,) = faults(make_spec, **sections)
    assert fault.startswith(f"{key}: ")


@pytest.mark.parametrize(("section", "key"), [("collection", "name"), ("collection", "source"), ("output", "uri")])
def test_a_key_that_has_to_be_there(spec_data: dict[str, Any], tmp_path: Path, section: str, key: str) -> None:
    del spec_data[section][key]
    with pytest.raises(SpecError) as caught:
        parse_spec(spec_data, tmp_path)
    assert caught.value.faults == (f"{section}.{key}: field required",)


def test_a_section_that_has_to_be_there(spec_data: dict[str, Any], tmp_path: Path) -> None:
    del spec_data["output"]
    with pytest.raises(SpecError, match=r"^output: field required$"):
        parse_spec(spec_data, tmp_path)


def test_an_unknown_stage(make_spec: Merge) -> None:
    (fault,) = faults(make_spec, recipe={"stages": ["analyse", "sharpen"]})
    assert fault.startswith("recipe.stages: there is no stage 'sharpen'; choose among analyse, repair")


def test_stages_in_the_wrong_order(make_spec: Merge) -> None:
    found = faults(make_spec, recipe={"stages": ["colour", "analyse", "repair"]})
    assert found == ("recipe.stages: the order must be analyse, repair, colour",)


def test_a_stage_named_twice(make_spec: Merge) -> None:
    assert faults(make_spec, recipe={"stages": ["repair", "repair"]}) == ("recipe.stages: a stage is named twice",)


def test_parameters_of_a_stage_that_is_left_out(make_spec: Merge) -> None:
    (fault,) = faults(make_spec, recipe={"upscale": {"tile": 128}})
    assert fault == "recipe.upscale: parameters for a stage that recipe.stages leaves out"


def test_an_unknown_policy(make_spec: Merge) -> None:
    (fault,) = faults(make_spec, recipe={"policy": "wild"})
    assert fault == "recipe.policy: there is no policy 'wild'; choose conservation, presentation"


def test_an_unknown_model(make_spec: Merge) -> None:
    (fault,) = faults(make_spec, recipe={"stages": ["upscale"], "upscale": {"model": "esrgan-9"}})
    assert fault.startswith("recipe: there is no model 'esrgan-9'")
    assert "albumen models list" in fault


def test_a_model_of_the_jobs_own_may_be_named(make_spec: Merge) -> None:
    recipe = {"stages": ["upscale"], "upscale": {"model": "ours"}}
    assert make_spec(recipe=recipe, models={"local": [LOCAL]}).make_recipe().needs()[0].model_id == "ours"


def test_a_local_model_may_not_take_a_name_of_the_catalogue(make_spec: Merge) -> None:
    (fault,) = faults(make_spec, models={"local": [LOCAL | {"id": "yunet-2023mar"}]})
    assert fault == "models.local: 'yunet-2023mar' is a name of the catalogue"


def test_two_local_models_may_not_share_a_name(make_spec: Merge) -> None:
    (fault,) = faults(make_spec, models={"local": [LOCAL, LOCAL | {"file": "other.pth", "sha256": "b" * 64}]})
    assert fault.startswith("models.local: 'ours'")


@pytest.mark.parametrize("output", ["scans", "scans/restored", "scans/deep/er", "other/../scans/restored"])
def test_the_output_may_not_lie_inside_the_source(make_spec: Merge, output: str) -> None:
    (fault,) = faults(make_spec, output={"uri": output})
    assert fault.startswith("output.uri: ")
    assert "originals are never written to" in fault


def test_the_source_may_not_lie_inside_the_output(make_spec: Merge) -> None:
    (fault,) = faults(make_spec, collection={"source": "run/scans"})
    assert fault.startswith("collection.source: ")
    assert "lies inside the output" in fault


def test_a_link_does_not_hide_that_the_output_lies_inside_the_source(
    make_spec: Merge, scans: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(scans)
    (fault,) = faults(make_spec, output={"uri": "link/restored"})
    assert fault.startswith("output.uri: ")


def test_a_link_does_not_hide_that_the_source_lies_inside_the_output(make_spec: Merge, tmp_path: Path) -> None:
    (tmp_path / "run/scans").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "run/scans")
    (fault,) = faults(make_spec, collection={"source": "link"})
    assert fault.startswith("collection.source: ")


def test_folders_whose_names_begin_alike_are_apart(make_spec: Merge, tmp_path: Path) -> None:
    assert make_spec(output={"uri": "scans-restored"}).output.uri == str(tmp_path / "scans-restored")


def test_a_bucket_cannot_hold_source_and_output_inside_each_other(make_spec: Merge) -> None:
    (fault,) = faults(make_spec, collection={"source": "s3://b/scans/"}, output={"uri": "s3://b/scans/restored"})
    assert fault.startswith("output.uri: ")


def test_another_spelling_of_s3_does_not_hide_the_source(make_spec: Merge) -> None:
    (fault,) = faults(make_spec, collection={"source": "s3://b/scans"}, output={"uri": "s3a://b/scans/restored"})
    assert fault.startswith("output.uri: ")


def test_a_source_of_an_unknown_scheme_is_a_fault_of_its_key(make_spec: Merge) -> None:
    with pytest.raises(SpecError) as caught:
        prepare(make_spec(collection={"source": "foo://bucket/scans"}))
    (fault,) = caught.value.faults
    assert fault.startswith("collection.source: foo://bucket/scans")


def test_an_output_of_an_unknown_scheme_is_a_fault_of_its_key(make_spec: Merge, scans: Path) -> None:
    with pytest.raises(SpecError) as caught:
        prepare(make_spec(output={"uri": "foo://bucket/run"}))
    (fault,) = caught.value.faults
    assert fault.startswith("output.uri: foo://bucket/run")


def test_unknown_schemes_are_faults_of_the_text(make_spec: Merge) -> None:
    found = faults(
        make_spec,
        collection={"source": "foo://bucket/scans"},
        output={"uri": "bar://bucket/run"},
        recipe={"policy": "wild"},
    )
    assert len(found) == 3
    assert {fault.split(": ")[0] for fault in found} == {"collection.source", "output.uri", "recipe.policy"}


def test_a_pool_has_to_name_a_stage(make_spec: Merge) -> None:
    (fault,) = faults(make_spec, cluster={"pools": {"analyze": 2}})
    assert fault.startswith("cluster.pools")
    assert "analyze" in fault


@pytest.mark.parametrize("stage", ["ingest", "repair", "deliver"])
def test_a_pool_may_name_any_stage_of_the_run(make_spec: Merge, stage: str) -> None:
    assert dict(make_spec(cluster={"pools": {stage: 2}}).cluster.pools) == {stage: 2}


def test_a_pool_may_have_bounds(make_spec: Merge) -> None:
    spec = make_spec(cluster={"pools": {"repair": {"min": 2, "max": 9}, "analyse": {"max": 3}}})
    assert dict(spec.cluster.pools) == {"repair": PoolBounds(min=2, max=9), "analyse": PoolBounds(min=1, max=3)}
    assert parse_spec(json.loads(spec.to_json()), Path("/")) == spec


@pytest.mark.parametrize(
    "bounds", [{"min": 3, "max": 2}, {"min": 0, "max": 2}, {"most": 2, "max": 2}, {}, [1, 2], True]
)
def test_wrong_bounds_are_one_fault(make_spec: Merge, bounds: object) -> None:
    (fault,) = faults(make_spec, cluster={"pools": {"analyse": bounds}})
    assert fault.startswith("cluster.pools.analyse: ")


@pytest.mark.parametrize("size", [0, -3])
def test_a_pool_has_at_least_one_actor(make_spec: Merge, size: int) -> None:
    (fault,) = faults(make_spec, cluster={"pools": {"analyse": size}})
    assert fault.startswith("cluster.pools.analyse: ")


@pytest.mark.parametrize("key", ["max_megapixels", "max_gigabytes"])
def test_a_limit_is_a_finite_number(make_spec: Merge, key: str) -> None:
    (fault,) = faults(make_spec, collection={key: float("inf")})
    assert fault.startswith(f"collection.{key}: ")


@pytest.mark.parametrize("place", ["scans\0", "~no-such-user-here/scans"])
def test_a_path_that_cannot_be_is_a_fault(make_spec: Merge, place: str) -> None:
    (fault,) = faults(make_spec, collection={"source": place})
    assert fault.startswith("collection.source: ")


def test_faults_of_form_are_reported_together(make_spec: Merge) -> None:
    found = faults(
        make_spec,
        extra={},
        collection={"sorce": "x", "name": 3},
        output={"format": "gif"},
        models={"local": [LOCAL | {"scale": 0}]},
        cluster={"cpus": 0},
    )
    keys = {fault.split(": ")[0] for fault in found}
    assert keys == {
        "extra",
        "collection.sorce",
        "collection.name",
        "output.format",
        "models.local.0.scale",
        "cluster.cpus",
    }
    assert len(found) == 6


def test_faults_of_meaning_are_reported_together(make_spec: Merge) -> None:
    found = faults(
        make_spec,
        recipe={"stages": ["analyse", "sharpen"], "policy": "wild", "analyse": {"x": 1}, "faces": {}, "sharpness": {}},
        output={"uri": "scans/restored"},
        models={"local": [LOCAL | {"id": "parsenet"}]},
    )
    assert [fault.split(": ")[0] for fault in found] == [
        "recipe.policy",
        "recipe.analyse.x",
        "recipe.stages",
        "recipe.faces",
        "recipe.sharpness",
        "output.uri",
        "models.local",
    ]


def test_faults_of_form_and_of_meaning_are_reported_together(make_spec: Merge) -> None:
    found = faults(make_spec, collection={"sorce": "x"}, recipe={"policy": "wild"}, output={"uri": "scans/restored"})
    assert {fault.split(": ")[0] for fault in found} == {"collection.sorce", "recipe.policy", "output.uri"}


def test_an_unknown_key_of_the_recipe_hides_no_other_fault(make_spec: Merge) -> None:
    found = faults(make_spec, recipe={"polcy": "x", "policy": "wild", "stages": ["sharpen"]})
    assert {fault.split(": ")[0] for fault in found} == {"recipe.polcy", "recipe.policy", "recipe.stages"}


def test_two_unknown_models_are_reported_together(make_spec: Merge) -> None:
    recipe = {"stages": ["analyse", "upscale"], "analyse": {"detector": "nose"}, "upscale": {"model": "big"}}
    found = faults(make_spec, recipe=recipe)
    assert ["'nose'" in found[0], "'big'" in found[1], len(found)] == [True, True, 2]


def test_several_faults_read_as_a_list() -> None:
    assert str(SpecError(["a: wrong", "b: wrong"])) == "2 faults:\n  - a: wrong\n  - b: wrong"


def test_a_spec_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.toml: No such file"):
        load_spec(tmp_path / "none.toml")


def test_a_spec_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="Is a directory"):
        load_spec(tmp_path)


def test_a_spec_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_bytes(FULL.encode("latin-1"))
    with pytest.raises(SpecError, match=r"job\.toml is not UTF-8 text"):
        load_spec(tmp_path / "job.toml")


def test_a_spec_that_is_not_toml_says_where(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("[collection]\nname = albums\n", encoding="utf-8")
    with pytest.raises(SpecError, match=r"job\.toml: .*line 2"):
        load_spec(tmp_path / "job.toml")


def test_a_spec_that_is_not_json(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{", encoding="utf-8")
    with pytest.raises(SpecError, match=r"job\.json: .*line 1"):
        load_spec(tmp_path / "job.json")


def test_a_spec_that_is_no_object_says_which_file(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("[]", encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "job.json")
    assert "job.json" in caught.value.faults[0]


@pytest.mark.parametrize(
    ("name", "manifest"), [("x.csv", True), ("x.JSONL", True), ("x.parquet", True), ("x", False), ("csv", False)]
)
def test_a_manifest_is_known_by_its_suffix(make_spec: Merge, name: str, manifest: bool) -> None:
    assert make_spec(collection={"source": name}).collection.is_manifest is manifest


def test_a_manifest_may_lie_beside_the_output(make_spec: Merge, tmp_path: Path) -> None:
    spec = make_spec(collection={"source": "albums/list.csv"}, output={"uri": "albums/run"})
    assert spec.output.uri == str(tmp_path / "albums/run")


@pytest.mark.parametrize(
    ("source", "fault"),
    [("nowhere", "is not there"), ("nowhere.csv", "is not there"), ("file.txt", "is no folder"), ("scans", None)],
)
def test_places_are_looked_at(make_spec: Merge, scans: Path, tmp_path: Path, source: str, fault: str | None) -> None:
    (tmp_path / "file.txt").touch()
    found = check_places(make_spec(collection={"source": source}))
    assert found == ([] if fault is None else [f"collection.source: {tmp_path / source} {fault}"])


def test_json_holds_no_more_than_was_asked_for(make_spec: Merge) -> None:
    assert set(json.loads(make_spec().to_json())) == {"collection", "output", "recipe", "models", "cluster", "price"}


def test_a_model_that_no_adapter_opens_is_a_fault_of_the_spec(make_spec: Callable[..., JobSpec]) -> None:
    ours = {"id": "ours", "file": "gfpgan.pth", "sha256": "0" * 64, "architecture": "gfpgan-original", "task": "faces"}
    with pytest.raises(SpecError, match="its architecture 'gfpgan-original' cannot be opened here yet"):
        make_spec(
            models={"local": [ours | {"licence": "MIT"}]}, recipe={"stages": ["faces"], "faces": {"restorer": "ours"}}
        )


def test_a_licence_that_has_to_be_accepted_by_name_is_a_fault_of_the_spec(make_spec: Callable[..., JobSpec]) -> None:
    recipe = {"stages": ["faces"], "faces": {"restorer": "codeformer"}}
    with pytest.raises(SpecError, match=r"LicenseRef-S-Lab-1\.0 only.*accept = \[\"LicenseRef-S-Lab-1\.0\"\]"):
        make_spec(recipe=recipe, models={"accept": ["MIT"]})
    accepted = make_spec(recipe=recipe, models={"accept": ["LicenseRef-S-Lab-1.0"]})
    assert accepted.model_source().accepted == {"LicenseRef-S-Lab-1.0"}
    assert make_spec(recipe={"stages": ["faces"]}).model_source().accepted == frozenset()


def test_a_model_of_another_task_is_a_fault_of_the_spec(make_spec: Callable[..., JobSpec]) -> None:
    with pytest.raises(SpecError, match="is for 'faces' and cannot be used for 'upscale'"):
        make_spec(recipe={"stages": ["upscale"], "upscale": {"model": "gfpgan-v1.4"}})


def test_the_source_folder_is_the_root_where_none_is_named(make_spec: Merge, tmp_path: Path) -> None:
    assert make_spec().collection.allowed_roots == (str(tmp_path / "scans"),)
    assert make_spec(collection={"source": "lists/jan.csv"}).collection.allowed_roots == (str(tmp_path / "lists"),)
    assert make_spec(collection={"source": "s3://bucket/scans/"}).collection.allowed_roots == ("s3://bucket/scans",)


def test_named_roots_are_exactly_what_is_allowed(make_spec: Merge, tmp_path: Path) -> None:
    spec = make_spec(collection={"source": "list.csv", "roots": ["boxes", "/archive", "s3://bucket/scans"]})
    assert spec.collection.allowed_roots == (str(tmp_path / "boxes"), "/archive", "s3://bucket/scans")
    assert parse_spec(json.loads(spec.to_json()), Path("/elsewhere")) == spec


@pytest.mark.parametrize("roots", [["other"], ["s3://bucket"]])
def test_a_source_folder_lies_below_its_roots(make_spec: Merge, roots: list[str]) -> None:
    with pytest.raises(SpecError, match=r"collection\.roots: the source"):
        make_spec(collection={"roots": roots})


def test_a_root_in_a_store_that_is_not_read_is_a_fault(make_spec: Merge) -> None:
    with pytest.raises(SpecError, match=r"collection\.roots: gs://bucket"):
        make_spec(collection={"source": "list.csv", "roots": ["gs://bucket"]})
    with pytest.raises(SpecError, match=r"collection\.roots"):
        make_spec(collection={"source": "list.csv", "roots": [""]})


MINE = {"id": "mine", "file": "m.pth", "sha256": "0" * 64, "architecture": "rrdbnet", "task": "upscale", "scale": 4}


def test_models_that_are_not_known_to_be_free_are_all_refused_at_once(make_spec: Merge, tmp_path: Path) -> None:
    """Optional or not, installed or not, of the catalogue or the job's own; and nothing is written."""
    recipe = {"stages": ["faces", "upscale"], "upscale": {"model": "mine"}}
    models = {"licences": "commercial-safe", "local": [MINE | {"licence": "free for research"}]}
    with pytest.raises(SpecError) as caught:
        make_spec(recipe=recipe, models=models)
    named = [fault for fault in caught.value.faults if fault.startswith("models.licences: ")]
    assert len(named) == len(caught.value.faults) == 2
    assert "'gfpgan-v1.4'" in named[0]
    assert "does not allow commercial use" in named[0]
    assert "'mine', free for research, is not known to allow commercial use" in named[1]
    assert not (tmp_path / "run").exists()


def test_models_that_are_free_are_not_refused(make_spec: Merge) -> None:
    recipe = {"stages": ["analyse", "upscale"], "upscale": {"model": "mine"}}
    models = {"licences": "commercial-safe", "local": [MINE | {"licence": "MIT OR LicenseRef-mine"}]}
    assert make_spec(recipe=recipe, models=models).models.licences == "commercial-safe"
    assert make_spec().models.licences == "any"
    with pytest.raises(SpecError, match=r"models\.licences: input should be 'any' or 'commercial-safe'"):
        make_spec(models={"licences": "free"})
