"""What holds for packages of every kind: whole or not at all, only what counts, and every fault by its name."""

from __future__ import annotations

import errno
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import package as packages
from jobs.choices import PackageKind
from jobs.package import package
from jobs.package.contents import Contents, original_name
from pipeline import provenance
from pipeline.errors import JobError, SpecError, StoreError
from pipeline.provenance import Compactor
from pipeline.storage import Store

if TYPE_CHECKING:
    from tests.jobs.package.conftest import Maker

Call = Callable[..., tuple[int, str, str]]
FOLDERS = [kind for kind in PackageKind if kind is not PackageKind.IIIF]
EVERY = list(PackageKind)


def made(run: Path | str, kind: PackageKind, target: Path, **options: object) -> packages.Report:
    base = "https://archive.example" if kind is PackageKind.IIIF else None
    return package(str(run), kind, str(target), base=base, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", FOLDERS)
def test_every_fault_of_files_is_named_and_nothing_is_left(run: Path, tmp_path: Path, kind: PackageKind) -> None:
    images = sorted((run / "images").rglob("*.tif"))
    images[0].write_bytes(images[0].read_bytes()[:-1])
    images[1].unlink()
    mask = next(path for path in (run / "masks").rglob("*.png") if path.stem not in (images[0].stem, images[1].stem))
    mask.write_bytes(b"other")
    with pytest.raises(JobError) as caught:
        made(run, kind, tmp_path / "out")
    faults = caught.value.faults
    assert len(faults) == 3
    assert any(str(images[0]) in fault and "has changed" in fault for fault in faults)
    assert any(str(images[1]) in fault and "is not there" in fault for fault in faults)
    assert any(str(mask) in fault and "the mask has changed" in fault for fault in faults)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_original_that_has_changed_is_named(maker: Maker, tmp_path: Path) -> None:
    plan = maker.run(stages=("analyse",))
    path = tmp_path / "scans" / "6.bmp"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(JobError, match=r"6\.bmp: the original has changed") as caught:
        made(plan.run, PackageKind.BAGIT, tmp_path / "out")
    assert len(caught.value.faults) == 1
    assert not (tmp_path / "out").exists()


def test_a_part_of_the_record_with_a_flipped_bit_is_not_packaged(run: Path, tmp_path: Path) -> None:
    [part] = (run / "provenance" / "parts").iterdir()
    data = bytearray(part.read_bytes())
    data[-3000] ^= 1
    part.write_bytes(data)
    # A reader says so, or the digest does: that goes by where the bit lies.
    with pytest.raises(JobError, match=rf"{part.name}.*(damaged|the seal says)"):
        made(run, PackageKind.BAGIT, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", EVERY)
def test_an_output_that_exists_is_refused(sound: Path, tmp_path: Path, kind: PackageKind) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(JobError, match="there is something already"):
        made(sound, kind, tmp_path / "out")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(JobError, match="there is something already"):
        made(sound, kind, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("kind", FOLDERS)
def test_an_interruption_leaves_nothing_that_looks_whole(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: PackageKind
) -> None:
    entries = Contents.entries

    def some(contents: Contents) -> object:
        for number, entry in enumerate(entries(contents)):
            if number == 3:
                assert not (tmp_path / "out").exists()
                raise KeyboardInterrupt
            yield entry

    monkeypatch.setattr(Contents, "entries", some)
    with pytest.raises(KeyboardInterrupt):
        made(sound, kind, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_says_how_much_is_missing(maker: Maker, tmp_path: Path) -> None:
    plan = maker.run(leave=6, stages=("analyse",), compact=False)
    with pytest.raises(JobError, match="6 of 8 photographs have no row yet"):
        made(plan.run, PackageKind.BAGIT, tmp_path / "out")
    report = made(plan.run, PackageKind.BAGIT, tmp_path / "out", unfinished=True)
    assert (report.photographs, report.missing) == ({"restored": 2}, 6)


def test_only_the_row_that_counts_is_packaged(run: Path, tmp_path: Path) -> None:
    """A photograph that was worked on again in a later term: its newer row, once."""
    row = next(row for row in provenance.live(Store(), str(run)).to_pylist() if row["status"] == "refused")
    newer = dict(row) | {"term": 9, "reason": "source-missing", "detail": "gone meanwhile"}
    (run / "provenance/terms/00000009").mkdir(parents=True)
    data = packages.contents.parquet_bytes(pa.Table.from_pylist([newer], provenance.PROVENANCE))
    (run / "provenance/terms/00000009" / "a.parquet").write_bytes(data)
    with pytest.raises(JobError, match="its digest of itself"):
        made(run, PackageKind.BAGIT, tmp_path / "torn")
    from pipeline.parquet import parquet_with_digest

    sound = parquet_with_digest(pa.Table.from_pylist([newer], provenance.PROVENANCE))
    (run / "provenance/terms/00000009" / "a.parquet").write_bytes(sound)
    report = made(run, PackageKind.BAGIT, tmp_path / "out")
    assert report.photographs == {"restored": 6, "refused": 2}
    lines = (tmp_path / "out/bag-00001/data/run/photographs.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["reason"] or "" for line in lines)[-2:] == sorted(
        [_other(run, row), "source-missing"]
    )


def _other(run: Path, row: dict[str, object]) -> str:
    rows = provenance.live(Store(), str(run)).to_pylist()
    return next(str(one["reason"]) for one in rows if one["reason"] and one["item_id"] != row["item_id"])


def test_a_full_disk_is_no_fault_of_the_photographs(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, mode="r", **more: Full() if mode == "xb" else opened(path, mode, **more)
    )
    with pytest.raises(StoreError, match="No space left"):
        made(sound, PackageKind.BAGIT, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_moved_is_packaged_from_where_it_is(run: Path, tmp_path: Path) -> None:
    run.rename(tmp_path / "elsewhere")
    report = made(tmp_path / "elsewhere", PackageKind.METS, tmp_path / "out")
    assert report.photographs == {"restored": 6, "refused": 2}


def test_nothing_is_written_among_run_or_originals(run: Path, sound: Path) -> None:
    for place in (run / "packages", sound.parent / "scans" / "packages"):
        with pytest.raises(SpecError, match="lies among the"):
            made(run, PackageKind.BAGIT, place)


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="is no run of Albumen"):
        made(tmp_path, PackageKind.BAGIT, tmp_path / "out")


def test_the_output_must_be_on_this_machine(sound: Path) -> None:
    with pytest.raises(SpecError, match="no folder of this machine"):
        package(str(sound), PackageKind.BAGIT, "s3://bucket/out")


def test_a_run_in_a_bucket_is_packaged_as_one_in_a_folder(sound: Path, tmp_path: Path, s3: str) -> None:
    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket="packages")
    for path in sound.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "packages", f"run/{path.relative_to(sound).as_posix()}")
    here, there = tmp_path / "here", tmp_path / "there"
    made(sound, PackageKind.OCFL, here)
    package("s3://packages/run", PackageKind.OCFL, str(there), endpoint=s3)
    contents = [
        {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("content/**/*") if path.is_file()}
        for root in (here, there)
    ]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 6 * 5 + 2 * 2


def test_on_the_command_line(albumen: Call, sound: Path, tmp_path: Path) -> None:
    code, out, err = albumen("package", sound, "--as", "premis", "--output", tmp_path / "premis")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["Packaged", "6", "restored,", "2", "refused"]
    code, out, _ = albumen("package", sound, "--as", "ocfl", "--output", tmp_path / "root", "--json")
    assert code == 0
    assert json.loads(out)["counts"] == {"objects": 8, "versions": 0, "unchanged": 0}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--as", "zip"], 2, "'zip' is not one of"),
        (["--as", "iiif"], 2, "--base"),
        (["--as", "bagit", "--base", "https://x"], 2, "bagit has no addresses"),
        (["--as", "bagit", "--certificate", "c.pem"], 2, "--certificate and --key go together"),
        (["--as", "bagit", "--timestamps", "http://127.0.0.1"], 2, "--timestamps goes with"),
        (["--as", "bagit", "--certificate", "c.pem", "--key", "k.pem"], 2, "c.pem cannot be read"),
    ],
)
def test_wrong_words_on_the_command_line(
    albumen: Call, sound: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    answer = albumen("package", sound, *arguments, "--output", tmp_path / "out")
    assert answer[0] == code
    assert words in answer[2]
    assert list(tmp_path.iterdir()) == []


@given(st.text(st.characters(codec=None), min_size=1))
def test_any_name_of_an_original_becomes_one_that_can_be_written(name: str) -> None:
    safe = original_name(f"s3://bucket/{name}")
    assert safe
    assert len(safe) <= 130
    assert not set(safe) & set('/\\:*?"<>|%\0\n\r')
    assert safe.isprintable()
    assert not safe.startswith(".")
    assert safe.encode().decode() == safe


def test_a_plain_name_stays() -> None:
    assert original_name("/scans/Bild 7 (Übersicht).tif") == "Bild 7 (Übersicht).tif"
    assert original_name("/scans/" + "x" * 300 + ".tiff").endswith(".tiff")


def test_an_original_that_a_later_version_replaced_is_left_out(maker: Maker, tmp_path: Path) -> None:
    """Its bytes are gone; what was made of them, and the record, are handed over."""
    from jobs import lease, manifest
    from jobs.choices import Changed
    from jobs.update import update
    from pipeline.record import from_manifest
    from tests.jobs.package.conftest import _worked

    plan = maker.run(stages=("analyse",))
    shutil.copy(tmp_path / "scans" / "4.webp", tmp_path / "scans" / "6.bmp")
    update(plan.spec, Changed.APPEND)
    [*_, newest] = [record for table in manifest.parts(Store(), plan.run) for record in from_manifest(table)]
    assert newest.supersedes is not None
    with lease.hold(Store(), plan.run, "run") as held:
        provenance.commit(Store(), plan.run, plan.stamp(held.term), list(_worked(plan, [newest], maker.decoder)))
        Compactor(Store(), plan.run, held.term).compact()
    report = made(plan.run, PackageKind.BAGIT, tmp_path / "out")
    assert report.photographs == {"restored": 7, "refused": 2}
    folder = tmp_path / "out/bag-00001/data/photographs" / newest.supersedes
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["restored"]
    assert (tmp_path / "out/bag-00001/data/photographs" / newest.item_id / "original/6.bmp").exists()
