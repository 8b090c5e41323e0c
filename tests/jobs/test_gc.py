"""What nothing explains: listed without a trace, deleted under the lease, and nothing else with it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs import lease, manifest
from jobs.gc import collect, orphans
from jobs.lease import LeaseHeldError
from jobs.manifest import item_id
from jobs.rundir import Plan
from jobs.verify import verify
from pipeline import provenance
from pipeline.errors import ItemError, JobError, Reason, Status
from pipeline.provenance import Compactor
from pipeline.record import Record, from_manifest
from pipeline.storage import Store

Call = Callable[..., tuple[int, str, str]]

A = item_id("albums", "a.png")
B = item_id("albums", "b.png")
C = item_id("albums", "c.png")
# Of a plan that was paused, and woke behind another's.
NO_INDEX = json.dumps(
    {"version": 4, "photographs": 0, "known_bytes": 0, "refused": 0, "ignored": {}, "parts": []}
).encode()
# What kills leave behind, by kind. Terms 1 and 2 are closed once gc has sealed. a.png and b.png are
# restored, and b.png had no damage.
LEFT = {
    f"images/{A[:2]}/{A}-0123456789ab.png": "image",
    f"images/{A[:2]}/{A}.webp": "image",
    "images/ab/.x.png.0badcafe.part": "temporary",
    f"masks/{A[:2]}/{A}-0123456789ab.png": "mask",
    f"masks/{B[:2]}/{B}.png": "mask",
    "masks/ab/.x.png.0badcafe.part": "temporary",
    "provenance/parts/0123.parquet": "part",
    "provenance/parts/.4567.parquet.0badcafe.part": "temporary",
    "provenance/terms/00000002/.89.parquet.0badcafe.part": "temporary",
    "manifest/part-00000007-00000001-0123456789ab.parquet": "manifest",
    "manifest/index-00000004.json": "manifest",
    "manifest/.index-00000001.json.0badcafe.part": "temporary",
    "lease/.00000009.json.0badcafe.part": "temporary",
    "attempts/.00000009.json.0badcafe.part": "temporary",
    "provenance/seals/.00000009.json.0badcafe.part": "temporary",
    ".run.json.0badcafe.part": "temporary",
}
# What no row explains either, and stays: c.png is refused, and its next driver may find its image.
KEPT = (
    f"images/{C[:2]}/{C}.png",
    f"images/{A[:1]}/{A}-0123456789ab.png",
    "images/ab/abcdef.png",
    "images/zz/notes.txt",
    "images/loose.png",
    f"masks/{C[:2]}/{C}.png",
    "masks/zz/notes.txt",
    "notes.txt",
)


def tree(run: str) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(run)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in Path(run).rglob("*")
        if path.is_file()
    }


def found(run: str, orphaned: Any) -> dict[str, str]:
    return {str(Path(orphan.uri).relative_to(run)): orphan.kind for orphan in orphaned}


def leave(run: str, names: Any = LEFT) -> None:
    for name in names:
        path = Path(run, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(NO_INDEX if path.name.startswith("index-") else b"left over")


def test_a_sound_run_has_no_orphan(finished: Plan) -> None:
    before = tree(finished.run)
    assert list(orphans(finished.run)) == []
    assert tree(finished.run) == before


def test_a_dry_run_lists_and_changes_nothing(finished: Plan) -> None:
    leave(finished.run)
    before = tree(finished.run)
    listed = list(orphans(finished.run))
    assert found(finished.run, listed) == LEFT
    assert all(orphan.size == Path(orphan.uri).stat().st_size for orphan in listed)
    assert tree(finished.run) == before


def test_what_is_deleted_is_what_was_listed_and_nothing_else(finished: Plan) -> None:
    rows = provenance.live(Store(), finished.run)
    before = tree(finished.run)
    leave(finished.run)
    assert found(finished.run, collect(finished.run)) == LEFT
    after = tree(finished.run)
    assert not set(LEFT) & set(after)
    kept = {name for name in before if not name.startswith("provenance/")}
    assert kept <= set(after)
    assert all(after[name] == before[name] for name in kept)
    assert provenance.live(Store(), finished.run).equals(rows)
    assert verify(finished.run, sources=True).faults == ()
    assert collect(finished.run) == []


def test_seals_leases_and_indices_stay(finished: Plan) -> None:
    for _ in range(2):
        collect(finished.run)
    names = set(tree(finished.run))
    assert {f"lease/0000000{term}.json" for term in (1, 2, 3, 4)} <= names
    assert {"provenance/seals/00000001.json", "provenance/seals/00000002.json"} <= names
    assert {"manifest/index-00000000.json", "run.json"} <= names


def test_what_a_driver_may_yet_find_stays(finished: Plan) -> None:
    leave(finished.run, KEPT)
    assert collect(finished.run) == []
    assert set(KEPT) <= set(tree(finished.run))


def test_the_image_of_a_photograph_that_ended_otherwise_later_stays(finished: Plan) -> None:
    """a.png is worked on again in term 3 and refused: a later driver that restores it asks for the same name again."""
    [row] = [row for row in provenance.live(Store(), finished.run).to_pylist() if row["item_no"] == 0]
    record = from_manifest(_rows(finished))[0].ended(ItemError(Reason.TRUNCATED, "half"))
    with lease.hold(Store(), finished.run, "run") as held:
        provenance.commit(Store(), finished.run, finished.stamp(held.term), [record])
    assert list(orphans(finished.run)) == []
    assert collect(finished.run) == []
    assert Path(row["output_uri"]).exists()


def test_an_image_that_a_later_attempt_replaced_is_an_orphan(finished: Plan) -> None:
    """a.png is restored again in term 3 beside what term 2 delivered, which no live row names."""
    [row] = [row for row in provenance.live(Store(), finished.run).to_pylist() if row["item_no"] == 0]
    before, after = Path(row["output_uri"]), Path(row["output_uri"]).with_name(f"{A}-0123456789ab.png")
    after.write_bytes(before.read_bytes())
    record = _restored(finished, row | {"output_uri": str(after)})
    with lease.hold(Store(), finished.run, "run") as held:
        provenance.commit(Store(), finished.run, finished.stamp(held.term), [record])
    assert [orphan.uri for orphan in orphans(finished.run)] == [str(before)]
    collect(finished.run)
    assert (before.exists(), after.exists()) == (False, True)


@pytest.mark.parametrize("kind", ["edits", "invented"])
def test_a_map_that_a_later_attempt_replaced_is_an_orphan(finished: Plan, kind: str) -> None:
    [row] = [row for row in provenance.live(Store(), finished.run).to_pylist() if row["item_no"] == 0]
    before = Path(row[f"{kind}_uri"])
    after = before.with_name(f"{A}-0123456789ab.png")
    after.write_bytes(before.read_bytes())
    record = _restored(finished, row | {f"{kind}_uri": str(after)})
    with lease.hold(Store(), finished.run, "run") as held:
        provenance.commit(Store(), finished.run, finished.stamp(held.term), [record])
    assert [(orphan.kind, orphan.uri) for orphan in orphans(finished.run)] == [(kind, str(before))]
    collect(finished.run)
    assert (before.exists(), after.exists()) == (False, True)


def test_a_mask_that_a_later_attempt_replaced_is_an_orphan(finished: Plan) -> None:
    [row] = [row for row in provenance.live(Store(), finished.run).to_pylist() if row["item_no"] == 0]
    before, after = Path(row["mask_uri"]), Path(row["mask_uri"]).with_name(f"{A}-0123456789ab.png")
    after.write_bytes(before.read_bytes())
    record = _restored(finished, row | {"mask_uri": str(after)})
    with lease.hold(Store(), finished.run, "run") as held:
        provenance.commit(Store(), finished.run, finished.stamp(held.term), [record])
    assert [(orphan.kind, orphan.uri) for orphan in orphans(finished.run)] == [("mask", str(before))]
    collect(finished.run)
    assert (before.exists(), after.exists()) == (False, True)


def _rows(plan: Plan) -> Any:
    return pa.concat_tables(manifest.parts(Store(), plan.run))


def test_commits_of_closed_terms_are_orphans(finished: Plan) -> None:
    kept = {path: path.read_bytes() for path in Path(finished.run, "provenance/terms").rglob("*.parquet")}
    with lease.hold(Store(), finished.run, "run") as held:
        Compactor(Store(), finished.run, held.term).compact()
    for path, data in kept.items():
        path.write_bytes(data)
    listed = list(orphans(finished.run))
    assert [(orphan.kind, Path(orphan.uri)) for orphan in listed] == [("commit", path) for path in sorted(kept)]
    rows = provenance.live(Store(), finished.run)
    collect(finished.run)
    assert not any(path.exists() for path in kept)
    assert provenance.live(Store(), finished.run).equals(rows)


def test_loose_commits_that_count_are_taken_in_and_not_away(finished: Plan) -> None:
    rows = provenance.live(Store(), finished.run)
    assert collect(finished.run) == []
    assert not list(Path(finished.run, "provenance/terms").rglob("*.parquet"))
    assert provenance.live(Store(), finished.run).equals(rows)


def test_it_refuses_while_somebody_works_on_the_run(finished: Plan) -> None:
    leave(finished.run)
    with lease.hold(Store(), finished.run, "run"):
        before = tree(finished.run)
        with pytest.raises(LeaseHeldError):
            collect(finished.run)
        assert found(finished.run, orphans(finished.run)) == LEFT
        assert tree(finished.run) == before


def test_originals_are_not_looked_at(finished: Plan, scans: Path) -> None:
    before = tree(str(scans))
    leave(finished.run)
    collect(finished.run)
    assert tree(str(scans)) == before


def test_a_run_that_was_moved_keeps_its_images(finished: Plan, tmp_path: Path) -> None:
    Path(finished.run).rename(tmp_path / "moved")
    assert list(orphans(str(tmp_path / "moved"))) == []
    collect(str(tmp_path / "moved"))
    assert verify(str(tmp_path / "moved")).faults == ()


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    leave(str(tmp_path))
    for call in (collect, lambda run: list(orphans(run))):
        with pytest.raises(JobError, match="is no run of Albumen"):
            call(str(tmp_path))
    assert set(tree(str(tmp_path))) == set(LEFT)


def test_a_strange_file_among_the_terms_is_no_traceback(finished: Plan) -> None:
    leave(finished.run, ["provenance/terms/notes.txt"])
    assert list(orphans(finished.run)) == []


def test_who_lost_the_lease_deletes_no_image_that_counts_by_now(
    finished: Plan, monkeypatch: pytest.MonkeyPatch, scan: Callable[..., bytes]
) -> None:
    """An attempt that was killed left an image. gc makes its list and is paused before it deletes; the photograph is worked on
    again, finds equal bytes under its name, and commits. Then gc goes on."""
    [row] = [row for row in provenance.live(Store(), finished.run).to_pylist() if row["item_no"] == 0]
    image, data = Path(row["output_uri"]), Path(row["output_uri"]).read_bytes()
    record = from_manifest(_rows(finished))[0].ended(ItemError(Reason.STAGE_FAILED, "x"))
    with lease.hold(Store(), finished.run, "run") as held:
        provenance.commit(Store(), finished.run, finished.stamp(held.term), [record])
    leave(finished.run, ["provenance/parts/first.parquet", f"images/{A[:2]}/{A}-0123456789ab.png"])
    delete = Store.delete_many
    paused: list[str] = []

    def slow(store: Store, uris: Iterable[str]) -> None:
        names = list(uris)
        if any(name.endswith("first.parquet") for name in names):
            paused.extend(names)
            _overtake(finished, row, data)
        delete(store, names)

    monkeypatch.setattr(Store, "delete_many", slow)
    with contextlib.suppress(JobError):
        collect(finished.run)
    assert paused
    assert image.exists()


def _overtake(plan: Plan, row: dict[str, Any], data: bytes) -> None:
    before = lease.current(Store(), plan.run)
    assert before is not None
    term = before.term + 1
    after = replace(before, term=term, taken_at=datetime.now(UTC), renewed_at=datetime.now(UTC))
    assert Store().create(str(Path(plan.run, f"lease/{term:08d}.json")), after.to_json())
    # As deliver does it: equal bytes under its name count as delivered.
    assert not Store().create(row["output_uri"], data)
    provenance.commit(Store(), plan.run, plan.stamp(term), [_restored(plan, row)])


def _restored(plan: Plan, row: dict[str, Any]) -> Record:
    return replace(
        from_manifest(_rows(plan))[0],
        status=Status.RESTORED,
        output_uri=row["output_uri"],
        output_sha256=row["output_sha256"],
        mask_uri=row["mask_uri"],
        mask_sha256=row["mask_sha256"],
        **{name: row[name] for name in ("edits_uri", "edits_sha256", "invented_uri", "invented_sha256")},
    )


def test_the_command(albumen: Call, finished: Plan) -> None:
    leave(finished.run)
    before = tree(finished.run)
    code, out, _ = albumen("gc", finished.run, "--json")
    answer = json.loads(out)
    assert (code, answer["deleted"], len(answer["orphans"])) == (0, False, len(LEFT))
    assert set(answer["orphans"][0]) == {"kind", "uri", "bytes"}
    code, out, _ = albumen("gc", finished.run)
    assert code == 0
    assert "Left over: " in out
    assert f"gc {finished.run} --delete" in out
    assert tree(finished.run) == before
    with lease.hold(Store(), finished.run, "run"):
        code, _, err = albumen("gc", finished.run, "--delete")
    assert code == 1
    assert "is at work on it since" in err
    code, out, _ = albumen("gc", finished.run, "--delete")
    assert code == 0
    assert "Deleted: " in out
    code, out, _ = albumen("gc", finished.run)
    assert (code, out) == (0, "Left over: nothing, 0.0 MB\n")
