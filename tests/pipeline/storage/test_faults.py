"""Every way in which a store misbehaves, and what comes of it."""

from __future__ import annotations

import errno
import hashlib
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from pipeline.errors import ItemError, Reason, StoreError
from pipeline.storage import CredentialsError, GaveUpError, Patience, Store, StoreOptions
from tests.fault_kinds import AFTER, BEFORE, KINDS
from tests.faults import Faults

BODY = bytes(range(256)) * 4_000  # 1 MB: several pieces on the wire


def place(uri: str) -> str:
    return uri.removeprefix("s3://")


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.fixture
def uri(root: str) -> str:
    return f"{root}/one.tif"


class TestWhatPasses:
    """Twice in a row, then well: the caller notices nothing."""

    @pytest.mark.parametrize("kind", KINDS["get"])
    def test_read(self, store: Store, direct: Store, faulty_s3: Faults, uri: str, kind: str) -> None:
        direct.put(uri, BODY)
        faulty_s3.fail(place(uri), kind, times=2)
        assert store.read(uri) == BODY
        assert faulty_s3.injected[kind] == 2

    @pytest.mark.parametrize("kind", KINDS["get"])
    def test_read_source(self, store: Store, direct: Store, faulty_s3: Faults, uri: str, kind: str) -> None:
        direct.put(uri, BODY)
        faulty_s3.fail(place(uri), kind)
        assert store.read_source(uri, 10**8, md5(BODY)) == BODY
        assert faulty_s3.injected[kind] == 1

    @pytest.mark.parametrize("kind", KINDS["put"])
    def test_put(self, store: Store, direct: Store, faulty_s3: Faults, uri: str, kind: str) -> None:
        direct.put(uri, b"old")
        faulty_s3.fail(place(uri), kind, times=2)
        store.put(uri, BODY)
        assert direct.read(uri) == BODY
        assert faulty_s3.injected[kind] == 2

    @pytest.mark.parametrize("kind", KINDS["put"])
    def test_create(self, store: Store, direct: Store, faulty_s3: Faults, root: str, uri: str, kind: str) -> None:
        assert store.conditional(root)
        faulty_s3.fail(place(uri), kind, op="put", times=2)
        assert store.create(uri, BODY) is True
        assert direct.read(uri) == BODY
        assert faulty_s3.injected[kind] == 2
        faulty_s3.fail(place(uri), kind, op="put")
        assert store.create(uri, b"other") is False
        assert direct.read(uri) == BODY

    @pytest.mark.parametrize("kind", KINDS["delete"])
    def test_delete(self, store: Store, direct: Store, faulty_s3: Faults, uri: str, kind: str) -> None:
        direct.put(uri, b"x")
        faulty_s3.fail(place(uri), kind, times=2)
        store.delete(uri)
        assert not direct.exists(uri)
        assert faulty_s3.injected[kind] == 2

    @pytest.mark.parametrize("kind", KINDS["delete-many"])
    def test_delete_many(
        self, store: Store, direct: Store, faulty_s3: Faults, root: str, bucket: str, kind: str
    ) -> None:
        uris = [f"{root}/{number}&<é>" for number in range(7)]
        for name in uris:
            direct.put(name, b"x")
        faulty_s3.fail(bucket, kind, times=2)
        store.delete_many(uris[:6])
        assert [entry.uri for entry in direct.list(root)] == uris[6:]
        assert faulty_s3.injected[kind] == 2

    @pytest.mark.parametrize("kind", KINDS["list"])
    def test_list(self, store: Store, direct: Store, faulty_s3: Faults, root: str, bucket: str, kind: str) -> None:
        for number in range(5):
            direct.put(f"{root}/{number}", b"x")
        faulty_s3.fail(bucket, kind, times=2)
        assert [entry.key for entry in store.list(root)] == ["0", "1", "2", "3", "4"]
        assert faulty_s3.injected[kind] == 2

    @pytest.mark.parametrize("asked", [Store.exists, Store.has])
    @pytest.mark.parametrize("kind", KINDS["head"])
    def test_exists_and_has(
        self,
        store: Store,
        direct: Store,
        faulty_s3: Faults,
        uri: str,
        kind: str,
        asked: Callable[[Store, str], bool],
    ) -> None:
        direct.put(uri, b"x")
        faulty_s3.fail(place(uri), kind, times=2)
        assert asked(store, uri)
        faulty_s3.fail(f"{place(uri)}.gone", kind, times=2)
        assert not asked(store, f"{uri}.gone")
        assert faulty_s3.injected[kind] == 4

    @pytest.mark.parametrize("kind", [kind for kind in KINDS["get"] if kind != "corrupt"])
    def test_open(self, store: Store, direct: Store, faulty_s3: Faults, uri: str, kind: str) -> None:
        direct.put(uri, BODY)
        faulty_s3.fail(place(uri), kind, op="get", times=2)
        with store.open(uri) as reader:
            reader.seek(-1000, 2)
            assert reader.read() == BODY[-1000:]
            reader.seek(100)
            assert reader.read(10_000) == BODY[100:10_100]
        assert faulty_s3.injected[kind] == 2


class TestTimeouts:
    PATIENCE = Patience(connect=0.3, answer=0.3, pause=0.01, longest_pause=0.02, total=30.0)

    def test_an_answer_that_does_not_come(
        self, direct: Store, faulty_s3: Faults, root: str, uri: str, bucket: str
    ) -> None:
        direct.put(uri, BODY)
        store = Store(StoreOptions(faulty_s3.address, self.PATIENCE))
        faulty_s3.hold = 60.0
        for key in (place(uri), place(uri), place(uri), bucket):
            faulty_s3.fail(key, "timeout")
        assert store.read(uri) == BODY
        store.put(uri, b"new")
        assert [entry.key for entry in store.list(root)] == ["one.tif"]
        store.delete(uri)
        assert not direct.exists(uri)
        assert faulty_s3.injected["timeout"] >= 2

    def test_a_connection_that_does_not_come(self, uri: str) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as waiting:
            # Nobody accepts; once the queue is full, the system leaves further callers without any answer.
            for _ in range(3):
                caller = waiting.enter_context(socket.socket())
                caller.setblocking(False)
                caller.connect_ex(server.getsockname())
            hasty = replace(self.PATIENCE, total=0.1)
            store = Store(StoreOptions(f"http://127.0.0.1:{server.getsockname()[1]}", hasty))
            with pytest.raises(GaveUpError, match="onnect timeout"):
                store.read(uri)


def test_a_read_goes_on_where_it_broke_off(store: Store, direct: Store, faulty_s3: Faults, uri: str) -> None:
    """As a line that breaks again and again: reading from the start again would never end."""
    direct.put(uri, BODY)
    faulty_s3.fail(place(uri), "short", times=1000, after=400_000)
    assert store.read(uri) == BODY
    assert faulty_s3.injected["short"] > 1
    assert faulty_s3.served[place(uri)] < 2 * len(BODY)


def test_an_object_that_is_replaced_while_it_is_read_is_read_anew(
    store: Store, direct: Store, faulty_s3: Faults, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct.put(uri, BODY)
    faulty_s3.fail(place(uri), "short", after=700_000)
    from pipeline.storage import transfer

    go_on, calls = transfer.Transfer._ask_for_rest, []

    def replaced_first(self: Any, done: int) -> None:
        calls.append(done)
        direct.put(uri, b"new" * 1_000_000)
        go_on(self, done)

    monkeypatch.setattr(transfer.Transfer, "_ask_for_rest", replaced_first)
    assert store.read(uri) == b"new" * 1_000_000
    assert len(calls) == 1


def test_a_source_that_is_replaced_while_it_is_read_has_changed(
    store: Store, direct: Store, faulty_s3: Faults, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct.put(uri, BODY)
    faulty_s3.fail(place(uri), "short", after=700_000)
    from pipeline.storage import transfer

    go_on = transfer.Transfer._ask_for_rest
    monkeypatch.setattr(
        transfer.Transfer, "_ask_for_rest", lambda self, done: (direct.put(uri, b"new"), go_on(self, done))[1]
    )
    with pytest.raises(ItemError) as caught:
        store.read_source(uri, 10**8, md5(BODY))
    assert caught.value.reason is Reason.SOURCE_CHANGED


class TestChecksums:
    @pytest.mark.parametrize("kind", ["trim", "corrupt"])
    def test_an_object_without_a_stored_checksum_is_compared_with_its_etag(
        self, store: Store, s3: str, faulty_s3: Faults, bucket: str, kind: str
    ) -> None:
        import s3fs

        other = s3fs.S3FileSystem(
            endpoint_url=s3, use_listings_cache=False, config_kwargs={"request_checksum_calculation": "when_required"}
        )
        other.pipe_file(f"{bucket}/one.tif", BODY)
        faulty_s3.fail(f"{bucket}/one.tif", kind, times=1)
        assert store.read(f"s3://{bucket}/one.tif") == BODY
        assert faulty_s3.injected[kind] == 1

    def test_an_etag_that_is_no_md5_is_believed_after_two_equal_transfers(
        self, store: Store, s3: str, faulty_s3: Faults, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from pipeline.storage.transfer import Transfer

        answers = []

        def get(**_: Any) -> dict[str, Any]:
            import io

            answers.append(1)
            return {"Body": io.BytesIO(BODY), "ContentLength": len(BODY), "ETag": f'"{"0" * 32}"'}

        transfer = Transfer(get, "s3://b/k", None)
        with pytest.raises(OSError, match="MD5 that its ETag names"):
            transfer.go_on()
        assert transfer.go_on() == BODY
        assert len(answers) == 2

    def test_every_put_carries_a_checksum_and_what_does_not_have_it_is_never_stored(
        self, store: Store, direct: Store, faulty_s3: Faults, uri: str
    ) -> None:
        faulty_s3.fail(place(uri), "corrupt", times=10**9)
        with pytest.raises(GaveUpError, match="BadDigest"):
            impatient(store).put(uri, BODY)
        assert not direct.exists(uri)
        assert faulty_s3.unchecked == []


def impatient(store: Store) -> Store:
    patience = Patience(pause=0.01, longest_pause=0.05, total=0.2)
    return Store(StoreOptions(store.options.endpoint, patience))


class TestWhatDoesNotPass:
    """For as long as the store is asked."""

    @pytest.mark.parametrize("kind", ["500", "slowdown", "reset", "cut", "short", "trim"])
    def test_a_source_is_unreadable_while_others_can_be_read(
        self, store: Store, direct: Store, faulty_s3: Faults, uri: str, kind: str
    ) -> None:
        direct.put(uri, BODY)
        faulty_s3.fail(place(uri), kind, times=10**9, after=0)
        with pytest.raises(ItemError) as caught:
            impatient(store).read_source(uri, 10**8)
        assert caught.value.reason is Reason.SOURCE_UNREADABLE
        assert "tried" in caught.value.detail

    def test_a_store_that_is_away_is_the_runs_trouble(
        self, store: Store, direct: Store, uri: str, faulty_s3: Faults
    ) -> None:
        direct.put(uri, BODY)
        faulty_s3.switches.rate = 1.0
        with pytest.raises(StoreError, match="cannot be listed either"):
            impatient(store).read_source(uri, 10**8)
        nobody = Store(StoreOptions("http://127.0.0.1:9", impatient(store).options.patience))
        with pytest.raises(StoreError, match=r"127\.0\.0\.1:9"):
            nobody.read_source(uri, 10**8)

    def test_other_calls_say_what_happened_and_how_often_it_was_tried(
        self, store: Store, faulty_s3: Faults, uri: str, root: str, bucket: str
    ) -> None:
        for key in (place(uri), bucket):
            faulty_s3.fail(key, "slowdown", times=10**9)
        hasty = impatient(store)
        for call in (
            lambda: hasty.put(uri, b"x"),
            lambda: hasty.read(uri),
            lambda: hasty.delete(uri),
            lambda: hasty.delete_many([uri]),
            lambda: list(hasty.list(root)),
            lambda: hasty.create(uri, b"x"),
        ):
            with pytest.raises(GaveUpError, match=r"reduce your request rate.*tried \d+ times"):
                call()


def once(faulty_s3: Faults) -> None:
    """The store was asked one thing, and nothing was tried again."""
    assert sum(faulty_s3.injected.values()) == 1


class TestStops:
    """What trying again cannot help is said at once."""

    @pytest.mark.parametrize(
        "call", ["read", "put", "delete", "list", "create", "delete_many", "exists", "has", "open"]
    )
    def test_credentials(self, store: Store, direct: Store, faulty_s3: Faults, root: str, uri: str, call: str) -> None:
        direct.put(uri, b"x")
        assert store.conditional(root)
        faulty_s3.switches.credentials = "expired"
        calls = {
            "read": lambda: store.read(uri),
            "put": lambda: store.put(uri, b"y"),
            "delete": lambda: store.delete(uri),
            "list": lambda: list(store.list(root)),
            "create": lambda: store.create(uri, b"y"),
            "delete_many": lambda: store.delete_many([uri]),
            "exists": lambda: store.exists(uri),
            "has": lambda: store.has(uri),
            "open": lambda: store.open(uri),
        }
        with pytest.raises(CredentialsError, match="credentials have expired"):
            calls[call]()
        # A bare answer to HEAD is asked after: by botocore for the region, by us for the reason.
        assert sum(faulty_s3.injected.values()) <= (3 if call in ("exists", "has", "open") else 1)
        assert direct.read(uri) == b"x"

    @pytest.mark.parametrize("kind", ["expired", "unknown-key", "bad-signature"])
    def test_credentials_stop_the_run_and_not_one_photograph(
        self, store: Store, direct: Store, faulty_s3: Faults, uri: str, kind: str
    ) -> None:
        direct.put(uri, b"x")
        faulty_s3.switches.credentials = kind
        with pytest.raises(StoreError, match="have expired" if kind == "expired" else "does not accept"):
            store.read_source(uri, 100)
        once(faulty_s3)

    def test_no_credentials_at_all(
        self, store: Store, uri: str, monkeypatch: pytest.MonkeyPatch, faulty_s3: Faults, tmp_path: Any
    ) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        with pytest.raises(StoreError, match="Unable to locate credentials"):
            store.read_source(uri, 100)

    def test_credentials_that_were_renewed_in_their_file_are_found(
        self, store: Store, direct: Store, uri: str, monkeypatch: pytest.MonkeyPatch, faulty_s3: Faults, tmp_path: Any
    ) -> None:
        file = tmp_path / "credentials"
        text = "[default]\naws_access_key_id = {}\naws_secret_access_key = x\n"
        file.write_text(text.format("old"))
        direct.put(uri, b"x")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
        assert store.read(uri) == b"x"
        faulty_s3.fail(place(uri), "expired")
        with pytest.raises(CredentialsError):
            store.read(uri)
        file.write_text(text.format("new"))
        faulty_s3.fail(place(uri), "expired")
        assert store.read(uri) == b"x"

    def test_one_object_that_may_not_be_read_is_that_photographs_refusal(
        self, store: Store, direct: Store, faulty_s3: Faults, uri: str
    ) -> None:
        direct.put(uri, b"x")
        faulty_s3.switches.denied = [place(uri)]
        with pytest.raises(ItemError) as caught:
            store.read_source(uri, 100)
        assert caught.value.reason is Reason.SOURCE_UNREADABLE
        assert caught.value.detail == f"{uri}: Access Denied (AccessDenied)"
        once(faulty_s3)

    def test_a_folder_is_checked_in_one_sentence(self, store: Store, faulty_s3: Faults, root: str, bucket: str) -> None:
        assert store.check_folder(root) is None
        faulty_s3.switches.denied = [bucket]
        assert store.check_folder(root) == (
            f"these credentials may not list the bucket {bucket!r}: {root}: Access Denied (AccessDenied)"
        )
        faulty_s3.switches.credentials = "expired"
        assert (store.check_folder(root) or "").startswith(
            f"{root}: the credentials have expired (ExpiredToken). Renew"
        )

    def test_a_bucket_that_may_not_be_touched_stops_the_run(
        self, store: Store, direct: Store, faulty_s3: Faults, uri: str, bucket: str
    ) -> None:
        direct.put(uri, b"x")
        faulty_s3.switches.denied = [place(uri), bucket]
        with pytest.raises(StoreError, match="cannot be listed either") as caught:
            store.read_source(uri, 100)
        assert "s3:ListBucket" in (caught.value.hint or "")

    def test_a_refused_put_is_not_tried_again(self, store: Store, faulty_s3: Faults, uri: str) -> None:
        faulty_s3.switches.denied = [place(uri)]
        with pytest.raises(PermissionError, match="Access Denied"):
            store.put(uri, b"x")
        once(faulty_s3)

    def test_a_bucket_that_is_gone(self, store: Store, faulty_s3: Faults, uri: str, root: str, bucket: str) -> None:
        faulty_s3.switches.no_bucket = [bucket]
        with pytest.raises(FileNotFoundError, match="no such bucket"):
            store.put(uri, b"x")
        once(faulty_s3)
        with pytest.raises(FileNotFoundError, match="no such bucket"):
            list(store.list(root))
        with pytest.raises(ItemError, match="no such bucket") as caught:
            store.read_source(uri, 100)
        assert caught.value.reason is Reason.SOURCE_MISSING
        assert not store.exists(uri)

    def test_a_full_store(self, store: Store, direct: Store, faulty_s3: Faults, uri: str, root: str) -> None:
        assert store.conditional(root)
        direct.put(uri, b"old")
        faulty_s3.switches.full = True
        with pytest.raises(OSError, match="the store is full") as caught:
            store.put(uri, BODY)
        assert caught.value.errno == errno.ENOSPC
        once(faulty_s3)
        with pytest.raises(OSError, match="the store is full"):
            store.create(f"{uri}.new", BODY)
        assert [(entry.key, entry.size) for entry in direct.list(root)] == [("one.tif", 3)]


def test_what_was_just_written_is_there_by_name_however_late_listings_are(
    store: Store, direct: Store, faulty_s3: Faults, root: str
) -> None:
    store.put(f"{root}/a", b"x")
    assert store.conditional(root)
    faulty_s3.switches.lag = 2
    store.put(f"{root}/b", b"x")
    assert store.create(f"{root}/c", b"x") is True
    assert [entry.key for entry in store.list(root)] == ["a"]
    assert store.exists(f"{root}/b")
    assert store.read(f"{root}/b") == b"x"
    assert store.create(f"{root}/b", b"y") is False
    assert [entry.key for entry in store.list(root)] == ["a"]
    assert [entry.key for entry in store.list(root)] == ["a", "b", "c"]


@pytest.mark.parametrize("kind", [*AFTER, *BEFORE])
def test_an_answer_lost_after_anothers_create_does_not_make_it_ours(
    store: Store, direct: Store, faulty_s3: Faults, root: str, uri: str, kind: str
) -> None:
    """The same bytes, put by somebody else: the object's mark tells the two apart."""
    assert store.conditional(root)
    assert direct.create(uri, b"same")
    faulty_s3.fail(place(uri), kind, op="put")
    assert store.create(uri, b"same") is False
