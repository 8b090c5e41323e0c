from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.errors import ItemError, Reason, StoreError
from pipeline.storage import Entry, Store, canonical, contains, is_local, join

NOBODY = 65534


@pytest.fixture
def store() -> Store:
    return Store()


@contextmanager
def as_nobody() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user, and root may read everything")
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def refusal(store: Store, uri: str, limit: int = 1000) -> Reason:
    with pytest.raises(ItemError) as caught:
        store.read_source(uri, limit)
    assert uri in caught.value.detail
    return caught.value.reason


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_put_makes_the_folders_and_keeps_the_bytes(store: Store, tmp_path: Path) -> None:
    store.put(str(tmp_path / "a" / "b" / "c.bin"), b"one")
    assert store.read(str(tmp_path / "a" / "b" / "c.bin")) == b"one"
    assert files_below(tmp_path) == ["a", "a/b", "a/b/c.bin"]


def test_put_replaces_what_was_there(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "c.bin"
    store.put(str(target), b"a longer text")
    store.put(f"file://{target}", b"two")
    assert target.read_bytes() == b"two"
    assert files_below(tmp_path) == ["c.bin"]


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_put_that_fails_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        store.put(str(tmp_path / "c.bin"), b"one")
    assert files_below(tmp_path) == []


def test_a_put_that_fails_leaves_the_old_file(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(str(tmp_path / "c.bin"), b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="Input/output error"):
        store.put(str(tmp_path / "c.bin"), b"new")
    assert (tmp_path / "c.bin").read_bytes() == b"old"
    assert files_below(tmp_path) == ["c.bin"]


def test_the_final_name_appears_only_when_all_bytes_are_on_disk(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, int]] = []
    real_fsync = os.fsync

    def watch(handle: int) -> None:
        seen.append(((tmp_path / "c.bin").exists(), os.fstat(handle).st_size))
        real_fsync(handle)

    monkeypatch.setattr(os, "fsync", watch)
    store.put(str(tmp_path / "c.bin"), b"x" * 5000)
    assert seen[0] == (False, 5000)
    assert len(seen) == 2  # the file, then the folder that holds its name


def test_a_source_is_read_whole(store: Store, tmp_path: Path) -> None:
    (tmp_path / "scan.tif").write_bytes(b"x" * 1000)
    assert store.read_source(str(tmp_path / "scan.tif"), 1000) == b"x" * 1000
    assert store.read_source(f"file://{tmp_path}/scan.tif", 1000) == b"x" * 1000


def test_a_source_through_a_link_is_read(store: Store, tmp_path: Path) -> None:
    (tmp_path / "scan.tif").write_bytes(b"x")
    (tmp_path / "link.tif").symlink_to(tmp_path / "scan.tif")
    assert store.read_source(str(tmp_path / "link.tif"), 10) == b"x"


def test_a_missing_source_says_so(store: Store, tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    assert refusal(store, str(tmp_path / "gone.tif")) is Reason.SOURCE_MISSING
    assert refusal(store, str(tmp_path / "dangling")) is Reason.SOURCE_MISSING


def test_an_empty_source_says_so(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    assert refusal(store, str(tmp_path / "empty.tif")) is Reason.SOURCE_EMPTY


def test_a_source_over_the_limit_is_not_read(store: Store, tmp_path: Path) -> None:
    with (tmp_path / "large.tif").open("wb") as file:
        file.truncate(1 << 42)  # no bytes on disk, and more than any memory holds
    assert refusal(store, str(tmp_path / "large.tif"), 1000) is Reason.TOO_LARGE


def test_a_folder_is_no_source(store: Store, tmp_path: Path) -> None:
    assert refusal(store, str(tmp_path)) is Reason.SOURCE_UNREADABLE


@pytest.mark.timeout(20)
def test_a_pipe_is_refused_without_waiting(store: Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "scan.tif")
    assert refusal(store, str(tmp_path / "scan.tif")) is Reason.SOURCE_UNREADABLE


@pytest.mark.timeout(20)
def test_a_device_is_refused(store: Store) -> None:
    assert refusal(store, "/dev/zero") is Reason.SOURCE_UNREADABLE


def test_a_source_that_may_not_be_read_says_so(store: Store, public_folder: Path) -> None:
    (public_folder / "scan.tif").write_bytes(b"x")
    (public_folder / "scan.tif").chmod(0)
    with as_nobody():
        assert refusal(store, str(public_folder / "scan.tif")) is Reason.SOURCE_UNREADABLE


def test_a_source_in_a_locked_folder_says_so(store: Store, public_folder: Path) -> None:
    (public_folder / "locked").mkdir(mode=0o700)
    (public_folder / "locked" / "scan.tif").write_bytes(b"x")
    with as_nobody():
        assert refusal(store, str(public_folder / "locked" / "scan.tif")) is Reason.SOURCE_UNREADABLE


def test_an_unknown_scheme_is_a_store_error(store: Store) -> None:
    with pytest.raises(StoreError, match="nope://bucket/x"):
        store.filesystem("nope://bucket/x")


def test_a_source_of_an_unknown_scheme_is_refused(store: Store) -> None:
    assert refusal(store, "nope://bucket/x") is Reason.SOURCE_UNREADABLE


def test_a_listing_has_a_stable_order_and_keys_below_the_root(store: Store, tmp_path: Path) -> None:
    for name in ("b/2.tif", "b/1.tif", "a.tif", "B.tif", "b/deep/x.tif"):
        store.put(str(tmp_path / name), name.encode())
    found = list(store.list(str(tmp_path)))
    assert [entry.key for entry in found] == ["B.tif", "a.tif", "b/1.tif", "b/2.tif", "b/deep/x.tif"]
    assert [entry.size for entry in found] == [5, 5, 7, 7, 12]
    assert all(store.read(entry.uri) == entry.key.encode() for entry in found)
    assert list(store.list(str(tmp_path))) == found


def test_a_linked_folder_is_not_walked(store: Store, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "loop").symlink_to(tmp_path)
    found = list(store.list(str(tmp_path)))
    assert [entry.key for entry in found] == ["in/loop"]
    assert refusal(store, found[0].uri) is Reason.SOURCE_UNREADABLE


def test_a_dangling_link_is_listed_without_a_size(store: Store, tmp_path: Path) -> None:
    (tmp_path / "gone.tif").symlink_to(tmp_path / "nowhere")
    assert [(entry.key, entry.size) for entry in store.list(str(tmp_path))] == [("gone.tif", None)]


def test_a_folder_that_cannot_be_read_is_listed_with_its_fault(store: Store, public_folder: Path) -> None:
    (public_folder / "a.tif").write_bytes(b"x")
    (public_folder / "locked").mkdir(mode=0o700)
    (public_folder / "z.tif").write_bytes(b"x")
    with as_nobody():
        found = list(store.list(str(public_folder)))
    assert [entry.key for entry in found] == ["a.tif", "locked/", "z.tif"]
    assert found[1].fault is not None
    assert "Permission denied" in found[1].fault
    assert (found[0].fault, found[2].fault) == (None, None)


def test_list_if_there_is_empty_where_nothing_is(store: Store, tmp_path: Path) -> None:
    assert list(store.list_if_there(str(tmp_path / "gone"))) == []
    store.put(str(tmp_path / "here" / "x"), b"1")
    assert [entry.key for entry in store.list_if_there(str(tmp_path / "here"))] == ["x"]


def test_check_folder_names_the_fault(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert store.check_folder(str(tmp_path)) is None
    assert store.check_folder(str(tmp_path / "gone")) == f"{tmp_path}/gone is not there"
    assert store.check_folder(str(tmp_path / "file")) == f"{tmp_path}/file is no folder"
    assert "nope" in (store.check_folder("nope://bucket") or "")


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        ("/scans", "/scans", True),
        ("/scans", "/scans/1900/a", True),
        ("/scans/", "/scans", True),
        ("/scans", "/scans-restored", False),
        ("/scans/a", "/scans", False),
        ("/scans/a/../b", "/scans/b/c", True),
        ("file:///scans", "/scans/b", True),
        ("/", "/anything", True),
        ("s3://bucket/scans", "s3://bucket/scans/a", True),
        ("s3://bucket/scans/", "s3://bucket/scans", True),
        ("s3://bucket/scans", "s3://bucket/scans-restored", False),
        ("s3://bucket", "s3://bucket/scans", True),
        ("s3://bucket", "s3://bucket2/scans", False),
        ("/bucket/scans", "s3://bucket/scans", False),
    ],
)
def test_contains_knows_what_lies_below(outer: str, inner: str, expected: bool) -> None:
    assert contains(outer, inner) is expected


def test_both_spellings_of_s3_are_one_place() -> None:
    assert contains("s3://bucket/scans", "s3a://bucket/scans/restored")


def test_contains_sees_through_links(tmp_path: Path) -> None:
    (tmp_path / "scans" / "deep").mkdir(parents=True)
    (tmp_path / "alias").symlink_to(tmp_path / "scans")
    assert contains(str(tmp_path / "scans"), str(tmp_path / "alias" / "deep" / "new"))
    assert contains(str(tmp_path / "alias"), str(tmp_path / "scans" / "new"))
    assert not contains(str(tmp_path / "alias" / "deep"), str(tmp_path / "scans"))


def test_canonical_resolves_links_dots_and_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    expected = str((tmp_path / "real" / "x").resolve())
    spellings = ("alias/x", "./real/../alias/x", str(tmp_path / "alias/x"), f"file://{tmp_path}/alias/x")
    assert {canonical(spelling) for spelling in spellings} == {expected}
    assert canonical("s3://bucket/a/") == "s3://bucket/a"


def test_join_never_doubles_a_slash() -> None:
    assert join("/run/", "images", "a.tif") == "/run/images/a.tif"
    assert join("s3://bucket", "images") == "s3://bucket/images"
    assert join("/", "images") == "/images"


def test_is_local_knows_paths_and_file_uris() -> None:
    assert is_local("scans/a b.tif")
    assert is_local("file:///scans")
    assert not is_local("s3://bucket/scans")


@pytest.mark.parametrize("name", ["per%20cent.tif", "ha#sh?.tif", "Umlaut ü.tif", "~tilde.tif"])
def test_odd_names_are_plain_names(store: Store, tmp_path: Path, name: str) -> None:
    uri = str(tmp_path / name)
    store.put(uri, b"x")
    assert store.exists(uri)
    assert store.read_source(uri, 10) == b"x"
    with store.open(uri) as reader:
        assert reader.read() == b"x"


def test_has_knows_files_alone(store: Store, tmp_path: Path) -> None:
    store.put(str(tmp_path / "a/b.tif"), b"x")
    assert [store.has(str(tmp_path / name)) for name in ("a/b.tif", "a", "a/c.tif")] == [True, False, False]
    assert store.exists(str(tmp_path / "a"))


def test_two_colons_in_a_path_are_plain(store: Store, tmp_path: Path) -> None:
    store.put(str(tmp_path / "a::b.tif"), b"x")
    assert store.exists(str(tmp_path / "a::b.tif"))


class TestObjects:
    """The branches for buckets, on fsspec's store in memory."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> str:
        return f"memory://{tmp_path.name}"

    def test_what_is_put_can_be_read(self, store: Store, root: str) -> None:
        store.put(f"{root}/a/b.bin", b"one")
        assert store.read(f"{root}/a/b.bin") == b"one"
        assert store.exists(f"{root}/a/b.bin")
        assert not store.exists(f"{root}/a/c.bin")

    def test_has_knows_objects_alone(self, store: Store, root: str) -> None:
        store.put(f"{root}/a/b.bin", b"one")
        assert [store.has(f"{root}/{name}") for name in ("a/b.bin", "a", "a/c.bin")] == [True, False, False]
        assert store.exists(f"{root}/a")

    def test_has_does_not_take_an_error_for_a_no(
        self, store: Store, root: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(filesystem: object, path: str) -> dict[str, object]:
            raise PermissionError("not for you")

        monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.info", broken)
        with pytest.raises(PermissionError, match="not for you"):
            store.has(f"{root}/a")

    def test_sources_are_refused_by_type(self, store: Store, root: str) -> None:
        store.put(f"{root}/empty", b"")
        store.put(f"{root}/large", b"x" * 11)
        assert refusal(store, f"{root}/gone") is Reason.SOURCE_MISSING
        assert refusal(store, f"{root}/empty") is Reason.SOURCE_EMPTY
        assert refusal(store, f"{root}/large", 10) is Reason.TOO_LARGE
        assert store.read_source(f"{root}/large", 11) == b"x" * 11

    def test_a_listing_is_sorted_by_name(self, store: Store, root: str) -> None:
        for name in ("b/2", "b/1", "a"):
            store.put(f"{root}/{name}", name.encode())
        found = list(store.list(root))
        assert [(entry.key, entry.size) for entry in found] == [("a", 1), ("b/1", 3), ("b/2", 3)]
        assert all(isinstance(entry, Entry) and store.read(entry.uri) == entry.key.encode() for entry in found)
