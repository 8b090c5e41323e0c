"""IIIF Presentation 3: manifests that iiif-prezi3 reads back as they were, with choice, faces and damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import iiif_prezi3
import numpy as np
import pytest
from PIL import Image

from jobs.choices import PackageKind
from jobs.package import iiif, package
from pipeline import provenance
from pipeline.damage import REPAIRED, Kind
from pipeline.errors import SpecError
from pipeline.storage import Store

BASE = "https://archive.example/iiif"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sound: Path) -> Path:
    target = tmp_path_factory.mktemp("out") / "iiif"
    report = package(str(sound), PackageKind.IIIF, str(target), base=BASE + "/")
    assert report.counts == {"manifests": 6}
    return target


def manifests(folder: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in (folder / "manifests").iterdir()}


def rows(run: Path) -> dict[str, dict[str, Any]]:
    found = provenance.live(Store(), str(run)).to_pylist()
    return {row["item_id"]: row for row in found if row["status"] == "restored"}


def test_the_library_reads_back_what_was_written(made: Path) -> None:
    documents = [made / "collection.json", *made.glob("collection-*.json"), *(made / "manifests").iterdir()]
    assert len(documents) == 8
    for path in documents:
        text = path.read_text()
        kind = getattr(iiif_prezi3, json.loads(text)["type"])
        model = kind(**json.loads(text))
        assert json.loads(model.json()) == json.loads(text)


def test_original_and_restored_are_a_choice_on_one_canvas_of_the_scan(made: Path, sound: Path) -> None:
    for item, row in rows(sound).items():
        document = manifests(made)[item]
        [canvas] = document["items"]
        assert (canvas["width"], canvas["height"]) == (row["source_width"], row["source_height"])
        [[painting]] = [page["items"] for page in canvas["items"]]
        assert painting["target"] == canvas["id"]
        assert painting["body"]["type"] == "Choice"
        assert [body["label"]["en"] for body in painting["body"]["items"]] == [["Original"], ["Restored"]]
        for body in painting["body"]["items"]:
            with Image.open(made / body["id"].removeprefix(BASE + "/")) as picture:
                assert (picture.format, picture.size) == ("JPEG", (body["width"], body["height"]))


def test_pictures_are_upright(made: Path, sound: Path) -> None:
    [row] = [row for row in rows(sound).values() if row["source_uri"].endswith("/2.jpg")]
    with Image.open(made / "images" / row["item_id"] / "original.jpg") as picture:
        assert picture.size == (32, 40)


def test_faces_are_noted_where_they_are(made: Path, sound: Path) -> None:
    item = next(item for item, row in rows(sound).items() if row["item_no"] == 0)
    [page] = manifests(made)[item]["items"][0]["annotations"]
    faces = [note for note in page["items"] if "/faces/" in note["id"]]
    assert [note["target"].rsplit("#", 1)[1] for note in faces] == ["xywh=4,5,16,20", "xywh=30,2,8,10"]
    assert faces[0]["body"]["value"] == "face, restored by gfpgan-v1.4, likeness 0.88"
    assert faces[1]["body"]["value"] == "face, left: too-small"


def test_damage_is_noted_where_the_mask_has_it(made: Path, sound: Path) -> None:
    for item, row in rows(sound).items():
        with Image.open(row["mask_uri"]) as image:
            codes = np.array(image)
        [page] = manifests(made)[item]["items"][0]["annotations"]
        covered = np.zeros(codes.shape, bool)
        for note in page["items"]:
            if "/damage/" in note["id"] and isinstance(note["target"], str):
                x, y, width, height = map(int, note["target"].rsplit("=", 1)[1].split(","))
                covered[y : y + height, x : x + width] = True
        assert covered[codes > 0].all()


def test_areas_have_their_outline_and_the_largest_come_first() -> None:
    codes = np.zeros((400, 300), np.uint8)
    codes[10:60, 20:90] = Kind.STAIN | REPAIRED
    codes[100:300, 100:290] = Kind.MISSING
    codes[350, 5:200] = Kind.LINE
    notes = list(iiif._damage(codes, "https://x/canvas"))
    assert [note["body"]["value"] for note in notes] == [
        "missing, left as it is",
        "stain, repaired",
        "line, left as it is",
    ]
    assert notes[0]["target"]["selector"]["value"].count(",") == 4
    assert notes[2]["target"] == "https://x/canvas#xywh=5,350,195,1"


def test_a_photograph_full_of_dust_gets_no_endless_list() -> None:
    codes = np.zeros((300, 300), np.uint8)
    codes[::4, ::4] = Kind.SPOT
    notes = list(iiif._damage(codes, "https://x/canvas"))
    assert len(notes) == iiif.MOST_AREAS + 1
    assert notes[-1]["body"]["value"].startswith("5,625 areas")


def test_collections_by_pages_and_pictures_by_size(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iiif, "_PAGE", 4)
    monkeypatch.setattr(iiif, "SIDE", 20)
    package(str(sound), PackageKind.IIIF, str(tmp_path / "iiif"), base=BASE)
    top = json.loads((tmp_path / "iiif/collection.json").read_text())
    named = []
    for page in top["items"]:
        part = json.loads((tmp_path / "iiif" / page["id"].removeprefix(BASE + "/")).read_text())
        named += [item["id"].removeprefix(BASE + "/") for item in part["items"]]
    assert sorted(named) == sorted(f"manifests/{name}.json" for name in manifests(tmp_path / "iiif"))
    assert len(top["items"]) == 2
    for path in (tmp_path / "iiif/images").rglob("*.jpg"):
        with Image.open(path) as picture:
            assert max(picture.size) == 20


@pytest.mark.parametrize("base", [None, "", "archive.example", "file:///tmp"])
def test_without_an_address_nothing_is_made(sound: Path, tmp_path: Path, base: str | None) -> None:
    with pytest.raises(SpecError, match="--base"):
        package(str(sound), PackageKind.IIIF, str(tmp_path / "iiif"), base=base)
