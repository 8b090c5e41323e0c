"""A source that has grown or changed: what is appended, what is refused, and what stays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs

from jobs import lease, manifest
from jobs.choices import Changed
from jobs.manifest import item_id
from jobs.rundir import Plan, prepare
from jobs.spec import JobSpec
from jobs.update import Difference, update
from pipeline.errors import JobError
from pipeline.storage import Store

Merge = Callable[..., JobSpec]
Scan = Callable[..., bytes]


def rows(spec: JobSpec) -> list[dict[str, Any]]:
    store = Store(spec.output_options)
    return [row for part in manifest.parts(store, spec.output.uri) for row in part.to_pylist()]


def counted(found: tuple[Difference, manifest.Index]) -> tuple[int, int, int, int]:
    return found[0].added, found[0].changed, found[0].gone, found[1].photographs


def touch(path: Path, seconds: float = 3600.0) -> None:
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + int(seconds * 1e9)))


def tree(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.parent.name != "lease"
    }


def test_nothing_new_appends_nothing(make_spec: Merge, scans: Path, tmp_path: Path) -> None:
    spec = make_spec()
    prepare(spec)
    before = tree(tmp_path / "run")
    assert counted(update(spec, Changed.REFUSE)) == (0, 0, 0, 4)
    assert tree(tmp_path / "run") == before


def test_new_photographs_go_behind_the_old_ones(make_spec: Merge, scans: Path, scan: Scan) -> None:
    spec = make_spec()
    prepare(spec)
    before = rows(spec)
    for name in ("0.png", "c2.png", "z.png"):
        (scans / name).write_bytes(scan(9))
    assert counted(update(spec, Changed.REFUSE)) == (3, 0, 0, 7)
    after = rows(spec)
    assert after[:4] == before
    assert [Path(row["source_uri"]).name for row in after[4:]] == ["0.png", "c2.png", "z.png"]
    assert [row["item_no"] for row in after] == list(range(7))
    assert [row["supersedes"] for row in after] == [None] * 7
    assert after[4]["item_id"] == item_id("albums", "0.png")
    assert counted(update(spec, Changed.REFUSE)) == (0, 0, 0, 7)
    assert prepare(spec).photographs == 7


def test_what_is_gone_stays_in_the_manifest(make_spec: Merge, scans: Path) -> None:
    spec = make_spec()
    prepare(spec)
    (scans / "b.png").unlink()
    assert counted(update(spec, Changed.REFUSE)) == (0, 0, 1, 4)
    assert len(rows(spec)) == 4


def test_another_size_is_a_change(make_spec: Merge, scans: Path, tmp_path: Path) -> None:
    spec = make_spec()
    prepare(spec)
    before = tree(tmp_path / "run")
    with (scans / "b.png").open("ab") as file:
        file.write(b"more")
    (scans / "late.png").write_bytes(b"x")
    with pytest.raises(JobError, match=r"1 originals have changed since they were planned: b\.png") as caught:
        update(spec, Changed.REFUSE)
    assert caught.value.hint is not None
    assert "--changed append" in caught.value.hint
    assert "Nothing was appended." in caught.value.hint
    assert tree(tmp_path / "run") == before


def test_a_new_version_follows_the_one_it_supersedes(make_spec: Merge, scans: Path) -> None:
    spec = make_spec()
    prepare(spec)
    ids = {Path(row["source_uri"]).name: row["item_id"] for row in rows(spec)}
    for version in range(3):
        with (scans / "b.png").open("ab") as file:
            file.write(b"more")
        assert counted(update(spec, Changed.APPEND)) == (0, 1, 0, 5 + version)
        assert counted(update(spec, Changed.APPEND)) == (0, 0, 0, 5 + version)
        last = rows(spec)[-1]
        assert last["supersedes"] == ids["b.png"]
        assert last["source_bytes"] == (scans / "b.png").stat().st_size
        ids["b.png"] = last["item_id"]
    assert len({row["item_id"] for row in rows(spec)}) == 7
    (scans / "b.png").unlink()
    assert counted(update(spec, Changed.REFUSE)) == (0, 0, 1, 7)


def test_a_change_that_is_ignored_leaves_what_is_new(make_spec: Merge, scans: Path, scan: Scan) -> None:
    spec = make_spec()
    prepare(spec)
    (scans / "b.png").write_bytes(b"others")
    (scans / "late.png").write_bytes(scan(9))
    assert counted(update(spec, Changed.IGNORE)) == (1, 1, 0, 5)
    assert rows(spec)[4]["source_uri"].endswith("late.png")
    assert counted(update(spec, Changed.IGNORE)) == (0, 1, 0, 5)


def test_touched_and_the_same_bytes_is_no_change(finished: Plan, scans: Path) -> None:
    for path in scans.iterdir():
        touch(path)
    assert counted(update(finished.spec, Changed.REFUSE)) == (0, 0, 0, 4)


def test_touched_and_other_bytes_of_the_same_size_is_a_change(finished: Plan, scans: Path) -> None:
    data = bytearray((scans / "c.png").read_bytes())
    data[-1] ^= 1
    (scans / "c.png").write_bytes(data)
    touch(scans / "c.png")
    assert counted(update(finished.spec, Changed.APPEND)) == (0, 1, 0, 5)
    assert rows(finished.spec)[4]["source_uri"] == str(scans / "c.png")


def test_touched_before_it_was_read_will_be_read_as_it_is(make_spec: Merge, scans: Path) -> None:
    spec = make_spec()
    prepare(spec)
    data = bytearray((scans / "c.png").read_bytes())
    data[-1] ^= 1
    (scans / "c.png").write_bytes(data)
    touch(scans / "c.png")
    assert counted(update(spec, Changed.REFUSE)) == (0, 0, 0, 4)


def test_a_file_of_the_first_of_january_1970_can_change(
    make_spec: Merge, scans: Path, request: pytest.FixtureRequest
) -> None:
    """Archives are unpacked with such times."""
    os.utime(scans / "c.png", (0, 0))
    plan: Plan = request.getfixturevalue("finished")
    data = bytearray((scans / "c.png").read_bytes())
    data[-1] ^= 1
    (scans / "c.png").write_bytes(data)
    assert counted(update(plan.spec, Changed.APPEND)) == (0, 1, 0, 5)


def test_an_id_that_ends_in_zeros_is_found_again(make_spec: Merge, scans: Path, scan: Scan) -> None:
    """One id in 256 ends in a zero byte."""
    name = next(f"{n}.png" for n in range(10_000) if item_id("albums", f"{n}.png").endswith("00"))
    (scans / name).write_bytes(scan(9))
    spec = make_spec()
    prepare(spec)
    assert counted(update(spec, Changed.REFUSE)) == (0, 0, 0, 5)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_manifest_file_that_has_grown(make_spec: Merge, tmp_path: Path, kind: str) -> None:
    def names(*found: str) -> None:
        path = tmp_path / f"list.{kind}"
        if kind == "csv":
            path.write_text("source_uri\n" + "".join(f"originals/{name}\n" for name in found))
        elif kind == "jsonl":
            path.write_text("".join(json.dumps({"source_uri": f"originals/{name}"}) + "\n" for name in found))
        else:
            pq.write_table(pa.table({"source_uri": [f"originals/{name}" for name in found]}), path)

    names("a.png", "b.png", "a.png")
    spec = make_spec(collection={"source": f"list.{kind}"})
    prepare(spec)
    assert counted(update(spec, Changed.REFUSE)) == (0, 0, 0, 3)
    names("late.png", "b.png", "a.png", "a.png", "late.png", "late.png")
    assert counted(update(spec, Changed.REFUSE)) == (3, 0, 0, 6)
    assert [row["reason"] for row in rows(spec)] == [None, None, "duplicate", None, "duplicate", "duplicate"]
    assert len({row["item_id"] for row in rows(spec)}) == 6
    assert counted(update(spec, Changed.REFUSE)) == (0, 0, 0, 6)
    names("late.png")
    assert counted(update(spec, Changed.REFUSE)) == (0, 0, 2, 6)


def test_a_duplicate_of_another_spelling_is_no_new_photograph(make_spec: Merge, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("source_uri\noriginals/a.png\noriginals/./a.png\n")
    spec = make_spec(collection={"source": "list.csv"})
    prepare(spec)
    assert [row["reason"] for row in rows(spec)] == [None, "duplicate"]
    assert counted(update(spec, Changed.REFUSE)) == (0, 0, 0, 2)


def test_another_spelling_of_what_is_known_is_not_appended(make_spec: Merge, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("source_uri\noriginals/a.png\n")
    spec = make_spec(collection={"source": "list.csv"})
    prepare(spec)
    (tmp_path / "list.csv").write_text("source_uri\noriginals/a.png\noriginals/./a.png\n")
    assert counted(update(spec, Changed.REFUSE)) == (0, 0, 0, 1)
    (tmp_path / "list.csv").write_text("source_uri\noriginals/./a.png\n")
    assert counted(update(spec, Changed.REFUSE)) == (0, 0, 0, 1)
    assert [row["reason"] for row in rows(spec)] == [None]


def test_what_is_new_and_named_twice_is_appended_with_its_duplicate(make_spec: Merge, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("source_uri\noriginals/a.png\n")
    spec = make_spec(collection={"source": "list.csv"})
    prepare(spec)
    (tmp_path / "list.csv").write_text("source_uri\noriginals/b.png\noriginals/a.png\noriginals/./b.png\n")
    assert counted(update(spec, Changed.REFUSE)) == (2, 0, 0, 3)
    assert [row["reason"] for row in rows(spec)] == [None, None, "duplicate"]
    assert counted(update(spec, Changed.REFUSE)) == (0, 0, 0, 3)


@pytest.mark.parametrize("section", [{"name": "plates"}, {"source": "others"}])
def test_another_collection_is_not_appended(
    make_spec: Merge, scans: Path, tmp_path: Path, scan: Scan, section: dict[str, Any]
) -> None:
    prepare(make_spec())
    (tmp_path / "others").mkdir()
    (tmp_path / "others/x.png").write_bytes(scan(8))
    with pytest.raises(JobError, match="holds a run of another job"):
        update(make_spec(collection=section), Changed.REFUSE)
    assert len(rows(make_spec())) == 4


def test_originals_among_the_outputs_are_not_appended(make_spec: Merge, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("source_uri\noriginals/a.png\n")
    spec = make_spec(collection={"source": "list.csv"})
    prepare(spec)
    (tmp_path / "list.csv").write_text("source_uri\noriginals/a.png\nrun/images/aa/a.png\n")
    with pytest.raises(JobError, match="originals"):
        update(spec, Changed.REFUSE)


def test_without_a_run_there_is_nothing_to_update(make_spec: Merge, scans: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="is no run of Albumen"):
        update(make_spec(), Changed.REFUSE)
    assert not (tmp_path / "run").exists()


def test_a_run_that_somebody_works_on_is_not_updated(make_spec: Merge, scans: Path, scan: Scan) -> None:
    plan = prepare(make_spec())
    (scans / "late.png").write_bytes(scan(9))
    with lease.hold(Store(), plan.run, "run"), pytest.raises(lease.LeaseHeldError):
        update(plan.spec, Changed.REFUSE)
    assert len(rows(plan.spec)) == 4


@pytest.fixture
def objects(s3: str, tmp_path: Path, make_spec: Merge, scan: Scan) -> tuple[JobSpec, Callable[[str, int], None]]:
    """A planned run over two objects of a bucket, and what puts another one there."""
    bucket = f"u{abs(hash(tmp_path)) % 10**12}"
    s3fs.S3FileSystem(endpoint_url=s3, use_listings_cache=False).mkdir(bucket)

    def put(name: str, seed: int) -> None:
        Store().put(f"s3://{bucket}/scans/{name}", scan(seed))

    put("a.png", 1)
    put("b.png", 2)
    spec = make_spec(collection={"source": f"s3://{bucket}/scans"})
    prepare(spec)
    return spec, put


def test_an_object_with_another_tag_has_changed(objects: tuple[JobSpec, Callable[[str, int], None]]) -> None:
    spec, put = objects
    put("b.png", 2)
    put("c.png", 3)
    assert counted(update(spec, Changed.REFUSE)) == (1, 0, 0, 3)
    put("b.png", 5)
    assert counted(update(spec, Changed.APPEND)) == (0, 1, 0, 4)
    last = rows(spec)[-1]
    assert last["supersedes"] == item_id("albums", "b.png")
    assert last["source_etag"] not in [row["source_etag"] for row in rows(spec)[:-1]]
    assert counted(update(spec, Changed.REFUSE)) == (0, 0, 0, 4)


def test_an_object_that_goes_back_and_forth_has_a_new_id_each_time(
    objects: tuple[JobSpec, Callable[[str, int], None]],
) -> None:
    spec, put = objects
    for seed in (5, 2, 5, 2):
        put("b.png", seed)
        update(spec, Changed.APPEND)
    assert len(rows(spec)) == 6
    assert len({row["item_id"] for row in rows(spec)}) == 6


JOB = """
[collection]
name = "albums"
source = "scans"
[output]
uri = "run"
format = "png"
[recipe]
stages = ["analyse", "repair", "colour"]
"""


def test_the_command_and_its_choices(
    albumen: Callable[..., tuple[int, str, str]], no_models: Path, scans: Path, scan: Scan, tmp_path: Path
) -> None:
    job = tmp_path / "job.toml"
    job.write_text(JOB)
    code, out, err = albumen("update", job)
    assert (code, out) == (1, "")
    assert "is no run of Albumen" in err
    assert albumen("plan", job)[0] == 0
    (scans / "late.png").write_bytes(scan(9))
    (scans / "a.png").write_bytes(b"others")
    code, out, err = albumen("update", job)
    assert (code, out) == (1, "")
    assert "1 originals have changed" in err
    assert "--changed append" in err
    code, out, _ = albumen("update", job, "--changed", "ignore", "--json")
    facts = {"run": str(tmp_path / "run"), "photographs": 5, "added": 1, "changed": 1, "gone": 0, "appended": 1}
    assert (code, json.loads(out)) == (0, facts)
    code, out, _ = albumen("update", job, "--changed", "append", "--json")
    assert (code, json.loads(out)["appended"], json.loads(out)["photographs"]) == (0, 1, 6)
    code, out, _ = albumen("update", job)
    assert code == 0
    assert "Manifest  6 photographs" in out
    code, _, err = albumen("update", job, "--changed", "sometimes")
    assert code == 2
    assert "sometimes" in err
    with lease.hold(Store(), str(tmp_path / "run"), "run"):
        code, _, err = albumen("update", job)
    assert code == 1
    assert "is at work on it since" in err
