"""BagIt: bagit-python's full validation says yes, and what is in the bag is what the record says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import bagit
import pyarrow.parquet as pq
import pytest

from jobs.choices import PackageKind
from jobs.package import bag as bags
from jobs.package import package
from pipeline import provenance
from pipeline.errors import JobError
from pipeline.storage import Store


def made(run: Path, target: Path) -> list[Path]:
    package(str(run), PackageKind.BAGIT, str(target))
    return sorted(target.iterdir())


def test_the_library_validates_the_bag_in_full(sound: Path, tmp_path: Path) -> None:
    [folder] = made(sound, tmp_path / "bags")
    bag = bagit.Bag(str(folder))
    assert bag.validate()
    assert set(bag.algorithms) == {"sha256", "sha512"}
    assert bag.info["Bag-Count"] == "1 of 1"
    assert bag.info["Bag-Group-Identifier"] == json.loads((sound / "run.json").read_text())["run_id"]


def test_one_flipped_bit_in_the_payload_is_found(sound: Path, tmp_path: Path) -> None:
    [folder] = made(sound, tmp_path / "bags")
    path = next(folder.rglob("original/*.jpg"))
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    with pytest.raises(bagit.BagValidationError):
        bagit.Bag(str(folder)).validate()


def test_every_file_is_the_run_s_own_byte_for_byte(sound: Path, tmp_path: Path) -> None:
    [folder] = made(sound, tmp_path / "bags")
    rows = provenance.live(Store(), str(sound)).to_pylist()
    for row in rows:
        place = folder / "data" / "photographs" / row["item_id"]
        held = {
            path.relative_to(place).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in place.rglob("*")
            if path.is_file() and not path.name.startswith("provenance.")
        }
        if row["status"] != "restored":
            assert held == {}
            continue
        [original] = [path for path in held if path.startswith("original/")]
        expected = {original: row["source_sha256"], f"restored/{row['item_id']}.tif": row["output_sha256"]}
        assert held == expected | ({"mask.png": row["mask_sha256"]} if row["mask_sha256"] else {})
    assert sum(row["mask_sha256"] is not None for row in rows) == 6


def test_the_row_as_parquet_is_the_run_s_row(sound: Path, tmp_path: Path) -> None:
    [folder] = made(sound, tmp_path / "bags")
    for row in provenance.live(Store(), str(sound)).to_pylist():
        place = folder / "data" / "photographs" / row["item_id"]
        assert pq.read_table(place / "provenance.parquet").to_pylist() == [row]
        text = json.loads((place / "provenance.json").read_text())
        assert (text["item_id"], text["status"], text["reason"]) == (row["item_id"], row["status"], row["reason"])
        assert [event["stage"] for event in text["events"]] == [event["stage"] for event in row["events"]]
        assert isinstance(text["events"][0]["parameters"], dict)


def test_refused_photographs_are_listed_with_their_reason(sound: Path, tmp_path: Path) -> None:
    [folder] = made(sound, tmp_path / "bags")
    lines = [json.loads(line) for line in (folder / "data/run/photographs.jsonl").read_text().splitlines()]
    assert {(Path(line["source_uri"]).name, line["reason"]) for line in lines if line["status"] == "refused"} == {
        ("7-broken.jpg", "truncated"),
        ("8-none.png", "not-an-image"),
    }
    assert len(lines) == 8


def test_large_runs_become_several_bags(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bags, "PHOTOGRAPHS", 3)
    folders = made(sound, tmp_path / "bags")
    assert [folder.name for folder in folders] == ["bag-00001", "bag-00002", "bag-00003"]
    assert [bagit.Bag(str(folder)).info["Bag-Count"] for folder in folders] == ["1 of 3", "2 of 3", "3 of 3"]
    assert all(bagit.Bag(str(folder)).validate() for folder in folders)
    held = [sorted(path.name for path in (folder / "data/photographs").iterdir()) for folder in folders]
    assert [len(names) for names in held] == [3, 3, 2]
    assert len({name for names in held for name in names}) == 8


def test_what_the_disk_holds_is_compared_with_the_record(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that gives back other bytes than were written is noticed while the bag is made."""
    whole = bagit.make_bag

    def spoilt(folder: str, *arguments: object, **options: object) -> object:
        path = next(Path(folder).rglob("restored/*.tif"))
        path.write_bytes(path.read_bytes()[:-1])
        return whole(folder, *arguments, **options)

    monkeypatch.setattr(bagit, "make_bag", spoilt)
    with pytest.raises(JobError, match="what was written is not what was copied"):
        made(sound, tmp_path / "bags")
    assert list(tmp_path.iterdir()) == []
