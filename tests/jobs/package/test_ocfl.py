"""OCFL: ocfl-py validates root and objects; a second run adds versions; what was cut off is finished by the next."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import ocfl
import pytest

from jobs.choices import PackageKind
from jobs.package import Report, package
from jobs.package.ocfl_objects import object_id
from pipeline import provenance
from pipeline.errors import JobError
from pipeline.storage import Store


def made(run: Path | str, target: Path) -> Report:
    return package(str(run), PackageKind.OCFL, str(target))


@pytest.fixture(scope="module")
def _root(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("out") / "root"
    assert made(sound, target).counts == {"objects": 8, "versions": 0, "unchanged": 0}
    return target


@pytest.fixture
def root(_root: Path, tmp_path: Path) -> Path:
    """A storage root of the first run."""
    shutil.copytree(_root, tmp_path / "root")
    return tmp_path / "root"


def validated(root: Path) -> Any:
    """ocfl-py's opinion of a storage root with all that is in it, digests included."""
    storage = ocfl.StorageRoot(root=str(root))
    good = storage.validate(validate_objects=True, check_digests=True)
    assert good, storage.errors
    assert storage.good_objects == storage.num_objects
    return storage


def object_of(root: Path, item_id: str) -> tuple[Path, dict[str, Any]]:
    storage = ocfl.StorageRoot(root=str(root))
    path = root / storage.object_path(object_id(item_id))
    return path, json.loads((path / "inventory.json").read_text())


def rows(run: Path | str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = provenance.live(Store(), str(run)).to_pylist()
    return found


def test_the_library_validates_root_and_objects(root: Path) -> None:
    assert validated(root).num_objects == 8


def test_nothing_is_said_about_single_objects(sound: Path, tmp_path: Path) -> None:
    """In a process of its own: a library opens the root logger when it is imported, which is once."""
    asked = [sys.executable, "-m", "jobs", "package", str(sound), "--as", "ocfl", "--output", str(tmp_path / "root")]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 3


def test_one_flipped_bit_in_an_object_is_found(root: Path) -> None:
    path = next(root.rglob("content/restored/*"))
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    storage = ocfl.StorageRoot(root=str(root))
    storage.validate(log_errors=False)
    assert storage.good_objects == storage.num_objects - 1


def test_an_object_holds_original_restored_mask_and_provenance(sound: Path, root: Path) -> None:
    for row in rows(sound):
        path, inventory = object_of(root, row["item_id"])
        version = inventory["versions"]["v1"]
        assert inventory["id"] == object_id(row["item_id"])
        logical = {path for paths in version["state"].values() for path in paths}
        kinds = {path.split("/")[0] for path in logical}
        restored = {"original", "restored", "mask.png"} if row["status"] == "restored" else set()
        assert kinds == {"provenance.json", "provenance.parquet"} | restored
        assert row["recipe_id"] in version["message"]
        if row["status"] == "restored":
            content = {hashlib.sha256(file.read_bytes()).hexdigest() for file in path.rglob("content/*/*")}
            assert content == {row["source_sha256"], row["output_sha256"]}
        else:
            assert row["reason"] in version["message"]


def test_the_same_run_again_adds_nothing(sound: Path, root: Path) -> None:
    assert made(sound, root).counts == {"objects": 0, "versions": 0, "unchanged": 8}
    validated(root)


def test_a_second_run_adds_a_version_that_shares_the_original(second: Path, root: Path) -> None:
    assert made(second, root).counts == {"objects": 0, "versions": 8, "unchanged": 0}
    validated(root)
    row = next(row for row in rows(second) if row["status"] == "restored")
    path, inventory = object_of(root, row["item_id"])
    assert inventory["head"] == "v2"
    states = [inventory["versions"][version]["state"] for version in ("v1", "v2")]
    originals = [
        next(digest for digest, [name, *_] in state.items() if name.startswith("original/")) for state in states
    ]
    assert originals[0] == originals[1]
    assert (path / "v1/content/original").exists()
    assert not (path / "v2/content/original").exists()
    assert (path / f"v2/content/restored/{row['item_id']}.tif").exists()
    assert [entry.name for entry in root.parent.iterdir()] == ["root"]


def test_a_root_gets_photographs_that_it_does_not_have(second: Path, root: Path) -> None:
    for row in rows(second)[:3]:
        shutil.rmtree(object_of(root, row["item_id"])[0])
    assert made(second, root).counts == {"objects": 3, "versions": 5, "unchanged": 0}
    assert validated(root).num_objects == 8


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_a_publication_that_was_cut_off_is_finished(
    second: Path, root: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    """cut: the power goes before this one of the renames. Three belong to an object."""
    calls = [0]

    def counted(work: Any) -> Any:
        def call(*names: Any) -> Any:
            calls[0] += 1
            if calls[0] == cut:
                raise KeyboardInterrupt
            return work(*names)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counted(os.replace))
        patch.setattr(Path, "rename", counted(Path.rename))
        with pytest.raises(KeyboardInterrupt):
            made(second, root)
    # An object whose publication had begun is finished, not done again.
    begun = 0 if cut == 1 else 1
    assert made(second, root).counts == {"objects": 0, "versions": 8 - begun, "unchanged": begun}
    validated(root)
    assert all(object_of(root, row["item_id"])[1]["head"] == "v2" for row in rows(second))


def test_a_damaged_object_takes_no_version(second: Path, root: Path) -> None:
    path, _ = object_of(root, rows(second)[0]["item_id"])
    shutil.rmtree(path / "v1" / "content")
    with pytest.raises(JobError, match="takes no version"):
        made(second, root)
    # And none of the others got one.
    assert not list(root.rglob("v2"))


def test_a_fault_in_a_file_leaves_an_existing_root_alone(run: Path, root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    next((run / "images").rglob("*.tif")).write_bytes(b"other")
    with pytest.raises(JobError, match="has changed"):
        made(run, root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_folder_that_is_no_root_is_refused(sound: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(JobError, match=r"no OCFL 1\.1 storage root"):
        made(sound, tmp_path / "other")
    (tmp_path / "other" / "0=ocfl_1.1").write_text("ocfl_1.0\n")
    with pytest.raises(JobError, match="no OCFL storage root that objects can be added to"):
        made(sound, tmp_path / "other")
