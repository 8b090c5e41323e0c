"""The same job from bucket to bucket, over S3's real protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
import s3fs

from jobs import lease, manifest
from jobs.query import STATUS, ask, open_run
from jobs.run import execute
from jobs.rundir import prepare
from jobs.spec import check_places, parse_spec
from jobs.verify import verify
from pipeline import provenance
from pipeline.errors import ItemError, Reason, SpecError
from pipeline.models.store import ModelSource, ModelStore
from pipeline.provenance import Compactor
from pipeline.record import from_manifest
from pipeline.storage import Store, StoreOptions


@pytest.fixture
def bucket(s3: str, request: pytest.FixtureRequest) -> str:
    name = f"b{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"
    s3fs.S3FileSystem(endpoint_url=s3, use_listings_cache=False).mkdir(name)
    return name


def spec(bucket: str, tmp_path: Any, **collection: Any) -> Any:
    return parse_spec(
        {
            "collection": {"name": "bucket", "source": f"s3://{bucket}/scans"} | collection,
            "output": {"uri": f"s3://{bucket}/restored", "format": "png"},
            "recipe": {"stages": ["analyse", "repair", "colour"], "analyse": {"damage": "classical"}},
        },
        tmp_path,
    )


@pytest.mark.cluster
def test_a_run_from_bucket_to_bucket_verifies_and_resumes(
    bucket: str, photo: Callable[[int], bytes], ray_session: None, tmp_path: Any
) -> None:
    store = Store()
    for number in range(3):
        store.put(f"s3://{bucket}/scans/album {number}/été {number}.png", photo(40 + number))
    store.put(f"s3://{bucket}/scans/broken.jpg", b"not a photograph")
    plan = prepare(spec(bucket, tmp_path))
    summary = execute(plan, lambda counts, total: None)
    assert (summary.restored, summary.refused, summary.failed) == (3, 1, 0)
    report = verify(plan.run, sources=True)
    assert (report.outputs, report.sources, report.faults) == (3, 4, ())
    assert ask(open_run(plan.run), STATUS).to_pylist() == [
        {"status": "refused", "reason": "not-an-image", "photographs": 1},
        {"status": "restored", "reason": "", "photographs": 3},
    ]
    # The secret that was used is in nothing that the run wrote.
    for entry in store.list(plan.run):
        assert b"test-secret" not in store.read(entry.uri)

    # A run ends with a seal: one part, and no loose commit. A run that is done is not worked on again.
    assert [entry.uri for entry in store.list(f"{plan.run}/provenance/terms")] == []
    assert len(list(store.list(f"{plan.run}/provenance/parts"))) == 1
    again = execute(prepare(plan.spec), lambda counts, total: None)
    assert (again.worked_on, again.restored, again.refused) == (0, 3, 1)

    # A driver that was killed before its last commit leaves a run in which one photograph has no row, and its image is there.
    before = provenance.live(store, plan.run)
    [lost] = before.filter(pc.equal(before["item_no"], LOST)).to_pylist()
    _forget(store, plan.run)
    images = {entry.uri: (entry.etag, entry.modified) for entry in store.list(f"{plan.run}/images")}
    assert provenance.committed_numbers(store, plan.run).tolist() == [0, 1, 3]
    last = execute(prepare(plan.spec), lambda counts, total: None)
    assert (last.worked_on, last.restored, last.refused, last.failed) == (1, 3, 1, 0)
    # It is done again alone; equal bytes under its name count as delivered, and nothing is delivered anew.
    assert {entry.uri: (entry.etag, entry.modified) for entry in store.list(f"{plan.run}/images")} == images
    after = provenance.live(store, plan.run)
    others = pc.not_equal(after["item_no"], LOST)
    assert after.filter(others).equals(before.filter(others))
    [found] = after.filter(pc.invert(others)).to_pylist()
    assert found["term"] > lost["term"]
    for name in ("item_id", "source_sha256", "output_uri", "output_sha256"):
        assert found[name] == lost[name]
    assert verify(plan.run, sources=True).faults == ()


# The photograph whose row goes missing.
LOST = 2


def _forget(store: Store, run: str) -> None:
    """Seal the run as it was before the last photograph was committed. Nothing is deleted."""
    held = lease.current(store, run)
    assert held is not None
    compactor = Compactor(store, run, held.term)
    rows = provenance.live(store, run)
    part = compactor._put_part(rows.filter(pc.not_equal(rows["item_no"], LOST)))
    compactor._put_seal((part,), compactor.seal.term)


def test_a_forgotten_row_is_what_the_next_driver_works_on(bucket: str, tmp_path: Any) -> None:
    """What the test above relies on, without Ray."""
    store = Store()
    for name in "abcd":
        store.put(f"s3://{bucket}/scans/{name}.png", b"not looked at")
    plan = prepare(spec(bucket, tmp_path))
    records = [
        record.ended(ItemError(Reason.NOT_AN_IMAGE, "no image"))
        for part in manifest.parts(store, plan.run)
        for record in from_manifest(part)
    ]
    with lease.hold(store, plan.run, "run") as held:
        provenance.commit(store, plan.run, plan.stamp(held.term), records)
        Compactor(store, plan.run, held.term).compact()
    assert provenance.committed_numbers(store, plan.run).tolist() == [0, 1, 2, 3]
    _forget(store, plan.run)
    assert provenance.committed_numbers(store, plan.run).tolist() == [0, 1, 3]
    with lease.hold(store, plan.run, "run") as held:
        compactor = Compactor(store, plan.run, held.term)
        compactor.compact()
        assert compactor.terms(4).astype(bool).tolist() == [True, True, False, True]


def test_a_missing_bucket_is_one_clear_fault_and_nothing_is_written(s3: str, tmp_path: Any) -> None:
    faults = check_places(spec("no-such-bucket", tmp_path))
    assert len(faults) == 2
    assert "collection.source: s3://no-such-bucket/scans: there is no bucket 'no-such-bucket'" in faults[0]
    with pytest.raises(SpecError, match="no bucket"):
        prepare(spec("no-such-bucket", tmp_path))


def test_the_spec_can_name_the_service(
    s3: str, bucket: str, photo: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    store = Store(StoreOptions(endpoint=s3))
    store.put(f"s3://{bucket}/scans/one.png", photo(32))
    [entry] = store.list(f"s3://{bucket}/scans")
    assert (entry.key, entry.size) == ("one.png", len(photo(32)))
    assert entry.etag == hashlib.md5(photo(32), usedforsecurity=False).hexdigest()
    named = spec(bucket, tmp_path, endpoint=s3)
    named = named.model_copy(update={"output": named.output.model_copy(update={"endpoint": s3})})
    assert check_places(named) == []


def test_a_service_that_does_not_answer_is_a_clear_fault(s3: str, tmp_path: Any) -> None:
    [source, *_] = check_places(spec("any", tmp_path, endpoint="http://127.0.0.1:9"))
    assert source.startswith("collection.source: s3://any/scans: ")
    assert "127.0.0.1:9" in source


def test_a_mirror_in_a_bucket_serves_models(bucket: str, shared: Path, tmp_path: Path) -> None:
    """An air-gapped site: half of the file is there from an earlier try, the rest comes from the bucket."""
    file = shared / "weights" / "face_detection_yunet_2023mar.onnx"
    Store().put(f"s3://{bucket}/models/{file.name}", file.read_bytes())
    (tmp_path / f"{file.name}.part").write_bytes(file.read_bytes()[:100_000])
    store = ModelStore(ModelSource(cache=str(tmp_path), mirror=f"s3://{bucket}/models"))
    assert store.obtainable("yunet-2023mar")
    assert store.ensure("yunet-2023mar").read_bytes() == file.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert not store.obtainable("sface-2021dec")
