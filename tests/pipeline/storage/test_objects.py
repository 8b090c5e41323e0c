"""Buckets: creation that excludes others, listings by pages, the weaker stores, and many operations at random."""

from __future__ import annotations

import errno
import io
import multiprocessing
import random
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ItemError, Reason
from pipeline.storage import Patience, Store, StoreOptions, is_temporary, objects
from pipeline.storage.objects import Objects
from tests.faults import Faults


def keys(store: Store, root: str, after: str | None = None) -> list[str]:
    return [entry.key for entry in store.list(root, after)]


def test_an_entry_says_what_the_store_knows(direct: Store, root: str) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    direct.put(f"{root}/a b/é.tif", b"hello")
    [entry] = direct.list(root)
    assert (entry.key, entry.uri, entry.size) == ("a b/é.tif", f"{root}/a b/é.tif", 5)
    assert entry.etag == "5d41402abc4b2a76b9719d911017c592"
    assert entry.modified is not None
    assert entry.modified.tzinfo is UTC
    assert before < entry.modified < datetime.now(UTC) + timedelta(seconds=2)


@pytest.mark.parametrize("key", ["a+b%20c", "ü&<>\"'", "?versionId=1", "#x", "a//b", "back\\slash", "tab\tkey", "é/é"])
def test_odd_keys_are_plain_keys(direct: Store, root: str, key: str) -> None:
    direct.put(f"{root}/{key}", b"x")
    assert keys(direct, root) == [key]
    [entry] = direct.list(root)
    assert direct.read_source(entry.uri, 10, entry.etag) == b"x"
    with direct.open(entry.uri) as reader:
        assert reader.read() == b"x"
    direct.delete_many([entry.uri])
    assert not direct.exists(entry.uri)


def test_a_listing_goes_on_behind_any_key(direct: Store, root: str) -> None:
    names = ["a", "a-b/x", "a/x", "a/y", "b", "ä"]
    for name in names:
        direct.put(f"{root}/{name}", b"")
    direct.put(f"{root}-not", b"")
    direct.put(f"{root}/", b"")
    assert keys(direct, root) == names
    for after in [*names, "a-c", "a/", "", "zzz"]:
        assert keys(direct, root, after) == [name for name in names if name > after]


def test_pages_join_without_a_seam_and_only_one_is_in_memory(
    faulty_s3: Faults, store: Store, root: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(25):
        store.put(f"{root}/{number:03d}", b"")
    page = Objects._page

    def small(self: Objects, place: str, bucket: str, prefix: str, last: str, most: int = 4) -> object:
        return page(self, place, bucket, prefix, last, min(most, 4))

    monkeypatch.setattr(Objects, "_page", small)
    faulty_s3.fail(bucket, "page", skip=2)
    faulty_s3.fail(bucket, "500", skip=4)
    listing = store.list(root)
    assert next(listing).key == "000"
    assert faulty_s3.requests["list"] == 1
    assert [entry.key for entry in listing] == [f"{number:03d}" for number in range(1, 25)]
    assert faulty_s3.requests["list"] == 7 + 2


def test_a_store_that_lists_in_no_order_is_refused(direct: Store, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Objects._ask
    for name in ("a", "b", "c"):
        direct.put(f"{root}/{name}", b"")

    def reversed_pages(self: Objects, place: str, operation: str, **parameters: object) -> object:
        answer = ask(self, place, operation, **parameters)
        return {**answer, "Contents": answer["Contents"][::-1]}

    monkeypatch.setattr(Objects, "_ask", reversed_pages)
    with pytest.raises(OSError, match="does not list its names in their order"):
        keys(direct, root)


def test_more_names_than_one_request_deletes(direct: Store, faulty_s3: Faults, store: Store, root: str) -> None:
    names = [f"{root}/{number}" for number in range(1005)]
    for name in names[:3] + names[-3:]:
        direct.put(name, b"")
    direct.put(f"{root}/kept", b"")
    store.delete_many(iter(names))
    assert keys(direct, root) == ["kept"]
    assert faulty_s3.requests["delete-many"] == 2


def test_names_that_may_not_be_deleted_are_said(store: Store, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Objects._ask

    def refuse_one(self: Objects, place: str, operation: str, **parameters: object) -> object:
        answer = dict(ask(self, place, operation, **parameters))
        if operation == "delete_objects":
            answer["Deleted"] = [found for found in answer["Deleted"] if not found["Key"].endswith("held")]
            answer["Errors"] = [{"Key": "run/held", "Code": "AccessDenied"}]
        return answer

    monkeypatch.setattr(Objects, "_ask", refuse_one)
    with pytest.raises(OSError, match=r"1 names could not be deleted: run/held \(AccessDenied\)"):
        store.delete_many([f"{root}/held", f"{root}/free"])


def test_a_store_that_cannot_delete_many_deletes_one_by_one(
    store: Store, faulty_s3: Faults, direct: Store, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        direct.put(f"{root}/{name}", b"")
    ask = Objects._ask

    def lack(self: Objects, place: str, operation: str, **parameters: object) -> object:
        if operation == "delete_objects":
            error = OSError("MissingContentMD5")
            error.errno = errno.EINVAL
            raise error
        return ask(self, place, operation, **parameters)

    monkeypatch.setattr(Objects, "_ask", lack)
    store.delete_many([f"{root}/a", f"{root}/b", f"{root}/none"])
    assert keys(direct, root) == []


class TestCreate:
    def test_the_second_is_refused_and_changes_nothing(self, direct: Store, root: str) -> None:
        assert direct.create(f"{root}/one", b"first") is True
        assert direct.create(f"{root}/one", b"second") is False
        assert direct.read(f"{root}/one") == b"first"
        direct.delete(f"{root}/one")
        assert direct.create(f"{root}/one", b"third") is True
        assert keys(direct, root) == ["one"]

    @pytest.mark.parametrize("conditions", ["ignore", "refuse"])
    def test_a_store_without_conditions_is_found_out_before_it_can_do_harm(
        self, faulty_s3: Faults, direct: Store, root: str, conditions: str
    ) -> None:
        faulty_s3.switches.conditions = conditions
        weak = Store(StoreOptions(faulty_s3.address, Patience(total=1.0 if conditions == "ignore" else 1.1)))
        assert weak.conditional(root) is False
        assert keys(direct, root) == []
        assert weak.create(f"{root}/one", b"first") is True
        assert weak.create(f"{root}/one", b"second") is False
        assert direct.read(f"{root}/one") == b"first"

    def test_what_is_probed_is_remembered(self, faulty_s3: Faults, store: Store, root: str) -> None:
        assert store.conditional(root)
        asked = sum(faulty_s3.requests.values())
        assert store.conditional(f"{root}/deeper")
        assert Store(store.options).conditional(root)
        assert sum(faulty_s3.requests.values()) == asked

    def test_of_many_threads_one_is_told_true(self, faulty_s3: Faults, store: Store, direct: Store, root: str) -> None:
        faulty_s3.switches.rate = 0.2
        with ThreadPoolExecutor(8) as pool:
            for number in range(12):
                uri = f"{root}/{number}"
                bodies = [f"creator {i} of {number}".encode() for i in range(8)]
                told = list(pool.map(lambda body, uri=uri: store.create(uri, body), bodies))
                assert sum(told) == 1
                assert direct.read(uri) == bodies[told.index(True)]
        assert sum(faulty_s3.injected.values()) > 5

    def test_of_many_processes_one_is_told_true(self, store: Store, direct: Store, root: str) -> None:
        # Forked, with a connection that is already open: the children must not use it.
        assert store.conditional(root)
        context = multiprocessing.get_context("fork")
        with context.Pool(4) as pool:
            for number in range(5):
                uri = f"{root}/{number}"
                told = pool.starmap(store.create, [(uri, f"{i}".encode()) for i in range(4)], chunksize=1)
                assert sum(told) == 1
                assert direct.read(uri) == f"{told.index(True)}".encode()

    def test_an_object_that_is_too_large_for_one_request_is_refused(
        self, direct: Store, root: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(objects, "LARGEST_PUT", 10)
        for call in (direct.put, direct.create):
            with pytest.raises(OSError, match="11 bytes are more than one object may be given") as caught:
                call(f"{root}/big", b"x" * 11)
            assert caught.value.errno == errno.EFBIG
        assert keys(direct, root) == []

    def test_a_large_object_is_one_request_and_keeps_its_checksum(self, faulty_s3: Faults, root: str) -> None:
        body = random.Random(1).randbytes(30_000_000)
        store = Store(StoreOptions(faulty_s3.address))
        store.put(f"{root}/big", body)
        assert faulty_s3.requests["put"] == 1
        assert store.read(f"{root}/big") == body
        assert faulty_s3.unchecked == []


def test_a_source_costs_one_request_and_one_that_is_refused_none_of_its_bytes(
    faulty_s3: Faults, store: Store, direct: Store, root: str, bucket: str
) -> None:
    direct.put(f"{root}/a.tif", b"x" * 3_000_000)
    [entry] = direct.list(root)
    assert len(store.read_source(entry.uri, 10**7, entry.etag)) == 3_000_000
    assert sum(faulty_s3.requests.values()) == 1
    for limit, etag, reason in ((10**6, entry.etag, Reason.TOO_LARGE), (10**7, "0" * 32, Reason.SOURCE_CHANGED)):
        faulty_s3.served.clear()
        faulty_s3.fail(f"{bucket}/run/a.tif", "short", after=0)
        with pytest.raises(ItemError) as caught:
            store.read_source(entry.uri, limit, etag)
        assert caught.value.reason is reason
        assert sum(faulty_s3.served.values()) == 0
    direct.put(f"{root}/empty.tif", b"")
    with pytest.raises(ItemError) as caught:
        store.read_source(f"{root}/empty.tif", 10)
    assert caught.value.reason is Reason.SOURCE_EMPTY
    with pytest.raises(ItemError) as caught:
        store.read_source(f"{root}/gone.tif", 10)
    assert caught.value.reason is Reason.SOURCE_MISSING


def test_exists_knows_objects_prefixes_and_buckets(direct: Store, root: str, bucket: str) -> None:
    direct.put(f"{root}/a/b", b"x")
    assert [direct.exists(f"{root}{more}") for more in ("", "/a", "/a/", "/a/b", "/a/b/c", "/ab")] == [
        True,
        True,
        True,
        True,
        False,
        False,
    ]
    assert direct.exists(f"s3://{bucket}")
    assert not direct.exists("s3://no-such-bucket-here")


def test_has_knows_objects_alone_and_asks_once(store: Store, direct: Store, faulty_s3: Faults, root: str) -> None:
    direct.put(f"{root}/a/b", b"x")
    found = [store.has(f"{root}{more}") for more in ("/a/b", "", "/a", "/a/", "/a/b/", "/a/b/c", "/ab")]
    assert found == [True] + [False] * 6
    assert faulty_s3.requests == {"head": 7}
    assert not store.has(root.removesuffix("/run"))
    assert not store.has("s3://no-such-bucket-here/a")


def test_a_reader_reads_as_a_file_does(direct: Store, root: str, tmp_path: Path) -> None:
    body = random.Random(2).randbytes(9_000_000)
    direct.put(f"{root}/x", body)
    (tmp_path / "x").write_bytes(body)
    draw = random.Random(3)
    with direct.open(f"{root}/x") as ours, (tmp_path / "x").open("rb") as theirs:
        for _ in range(60):
            offset, whence = draw.choice([(draw.randrange(9_100_000), 0), (-draw.randrange(9_000_000), 2), (0, 1)])
            assert ours.seek(offset, whence) == theirs.seek(offset, whence)
            length = draw.choice([0, 1, 1000, 100_000])
            assert ours.read(length) == theirs.read(length)
            assert ours.tell() == theirs.tell()


def test_pyarrow_reads_through_both_doors(direct: Store, root: str) -> None:
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    table, target = pa.table({"x": list(range(1000))}), io.BytesIO()
    pq.write_table(table, target)
    direct.put(f"{root}/t.parquet", target.getvalue())
    with direct.open(f"{root}/t.parquet") as reader:
        assert pq.read_table(reader).equals(table)
    filesystem, path = direct.filesystem(f"{root}/t.parquet")
    assert ds.dataset([path], format="parquet", filesystem=filesystem).to_table().equals(table)


def test_left_over_probes_are_temporaries_and_nothing_else_is(direct: Store, root: str) -> None:
    for name in ("a/.conditional.00.part", "a/x.part", "a/.hidden", "b"):
        direct.put(f"{root}/{name}", b"")
    assert [e.key for e in direct.list(root) if is_temporary(e.key)] == ["a/.conditional.00.part"]


@pytest.mark.parametrize("size", [10, 2_000_000])
def test_over_tls_too_the_checksums_are_headers(size: int) -> None:
    """Behind the body, as botocore would have it, services other than Amazon's refuse them."""
    from botocore.awsrequest import AWSResponse
    from urllib3 import HTTPResponse

    from pipeline.storage.connection import connect

    options = StoreOptions("https://127.0.0.1:9")
    sent = []

    def answer(request: Any, **_: object) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 200, {"ETag": "x"}, HTTPResponse(io.BytesIO(), preload_content=False))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "tls")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "tls")
        connect(options).client.meta.events.register("before-send.s3", answer)
        Store(options).put("s3://bucket/key", b"x" * size)
    [request] = sent
    assert {"Content-MD5", "x-amz-checksum-crc32"} <= set(request.headers)
    assert "x-amz-trailer" not in request.headers
    body = request.body if isinstance(request.body, bytes) else request.body.read()
    assert body == b"x" * size
    # What is refused is not sent first.
    assert request.headers["Expect"] == b"100-continue"


def _at_random(store: Store, root: str, seed: int, steps: int) -> dict[str, bytes]:
    """Operations drawn by chance; every answer is compared with a dictionary. The dictionary at the end."""
    draw, model = random.Random(seed), dict[str, bytes]()
    for step in range(steps):
        key = f"{draw.choice('abc')}/{draw.randrange(12):02d}"
        uri, body = f"{root}/{key}", draw.randbytes(draw.choice([0, 1, 900, 300_000]))
        match draw.choice(
            ["put", "put", "create", "create", "read", "read", "delete", "delete_many", "list", "exists"]
        ):
            case "put":
                store.put(uri, body)
                model[key] = body
            case "create":
                assert store.create(uri, body) is (key not in model), (step, key)
                model.setdefault(key, body)
            case "read" if key in model:
                assert store.read(uri) == model[key], (step, key)
            case "read":
                with pytest.raises(FileNotFoundError):
                    store.read(uri)
            case "delete":
                store.delete(uri)
                model.pop(key, None)
            case "delete_many":
                gone = draw.sample(sorted(model), min(3, len(model)))
                store.delete_many([*(f"{root}/{name}" for name in gone), f"{root}/never"])
                model = {name: data for name, data in model.items() if name not in gone}
            case "list":
                expected = [(name, len(model[name])) for name in sorted(model) if name > key]
                assert [(entry.key, entry.size) for entry in store.list(root, key)] == expected, step
            case "exists":
                assert store.exists(uri) is (key in model), (step, key)
    return model


def test_nothing_is_torn_lost_or_extra_after_500_operations_at_5_percent(
    faulty_s3: Faults, store: Store, direct: Store, root: str
) -> None:
    assert store.conditional(root)
    faulty_s3.switches.rate = 0.05
    model = _at_random(store, root, 2, 500)
    assert {entry.key: direct.read(entry.uri) for entry in direct.list(root)} == model
    assert sum(faulty_s3.injected.values()) > 10
    assert len(faulty_s3.injected) > 5
    assert faulty_s3.unchecked == []


def test_the_same_500_operations_on_a_folder(tmp_path: Path) -> None:
    model = _at_random(Store(), str(tmp_path), 3, 500)
    assert {entry.key: Path(entry.uri).read_bytes() for entry in Store().list(str(tmp_path))} == model


def test_memory_does_not_grow_with_the_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    def page(self: Objects, place: str, bucket: str, prefix: str, last: str, most: int = 1000) -> dict[str, object]:
        start = int(last.rsplit("/", 1)[1] or -1) + 1
        names = [{"Key": f"{prefix}{start + n:09d}", "Size": 1} for n in range(1000)]
        return {"Contents": names, "IsTruncated": start < 40_000}

    monkeypatch.setattr(Objects, "_page", page)
    seen, last = 0, ""
    assert next(Store().list("s3://bucket/run")).key == "000000000"
    tracemalloc.start()
    for entry in Store().list("s3://bucket/run"):
        assert entry.key > last
        seen, last = seen + 1, entry.key
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == 41_000
    assert peak < 2_000_000


@pytest.mark.parametrize("call", ["list", "check"])
def test_a_missing_bucket(direct: Store, call: Callable[[], None]) -> None:
    if call == "check":
        assert (
            direct.check_folder("s3://no-such-bucket-x/a")
            == "s3://no-such-bucket-x/a: there is no bucket 'no-such-bucket-x'"
        )
    else:
        with pytest.raises(FileNotFoundError, match="no such bucket"):
            keys(direct, "s3://no-such-bucket-x/a")


def test_pauses_grow_and_are_drawn_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.storage import faults

    pauses: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(faults.time, "sleep", sleep)
    monkeypatch.setattr(faults.time, "monotonic", lambda: now[0])

    def fail() -> None:
        raise faults.PassingError("away")

    patience = replace(Patience(), total=300.0)
    with pytest.raises(faults.GaveUpError, match=r"away \(tried \d+ times in"):
        faults.persist(patience, fail)
    assert sum(pauses) <= 300.0
    assert sum(pauses) > 250.0
    assert all(pause <= min(20.0, 0.2 * 2**number) for number, pause in enumerate(pauses))
    assert any(a > b for a, b in pairwise(pauses))


def test_so_many_tries_are_made_however_long_the_first_one_took() -> None:
    from pipeline.storage import faults

    answers = [faults.PassingError("late"), faults.PassingError("late"), "there"]

    def answer() -> str:
        one = answers.pop(0)
        if isinstance(one, faults.PassingError):
            raise one
        return str(one)

    none_left = replace(Patience(), total=0.0)
    assert faults.persist(none_left, answer, least=3) == "there"
    answers[:] = [faults.PassingError("late")] * 2
    with pytest.raises(faults.GaveUpError, match="tried 1 times"):
        faults.persist(none_left, answer)
