"""Folders: creation that excludes others, the order of listings, kills, full disks, weaker file systems."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ItemError, Reason, StoreError
from pipeline.storage import Patience, Store, StoreOptions, is_temporary, local, sorting

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def store() -> Store:
    return Store()


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class TestCreate:
    def test_the_second_is_refused_and_changes_nothing(self, store: Store, tmp_path: Path) -> None:
        uri = str(tmp_path / "a" / "one")
        assert store.create(uri, b"first") is True
        assert store.create(uri, b"second") is False
        assert store.read(uri) == b"first"
        assert below(tmp_path) == ["a/one"]
        assert (tmp_path / "a" / "one").stat().st_nlink == 1

    @pytest.mark.parametrize("kind", ["folder", "dangling link"])
    def test_whatever_has_the_name_keeps_it(self, store: Store, tmp_path: Path, kind: str) -> None:
        target = tmp_path / "one"
        target.mkdir() if kind == "folder" else target.symlink_to(tmp_path / "nowhere")
        assert store.create(str(target), b"x") is False
        assert target.is_dir() if kind == "folder" else target.is_symlink()

    def test_the_name_appears_only_when_all_bytes_are_on_disk(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[tuple[bool, int]] = []
        real = os.fsync

        def watch(handle: int) -> None:
            seen.append(((tmp_path / "one").exists(), os.fstat(handle).st_size))
            real(handle)

        monkeypatch.setattr(os, "fsync", watch)
        assert store.create(str(tmp_path / "one"), b"x" * 5000)
        assert seen[0] == (False, 5000)
        assert [there for there, _ in seen] == [False, True]

    def test_of_many_threads_one_is_told_true(self, store: Store, tmp_path: Path) -> None:
        with ThreadPoolExecutor(8) as pool:
            for number in range(30):
                uri = str(tmp_path / str(number))
                told = list(pool.map(lambda i, uri=uri: store.create(uri, b"%d" % i), range(8)))
                assert sum(told) == 1
                assert store.read(uri) == b"%d" % told.index(True)

    @pytest.mark.parametrize("links", [True, False])
    def test_of_many_processes_one_is_told_true(
        self, store: Store, tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not links:
            monkeypatch.setattr(os, "link", _no_link)
        with multiprocessing.get_context("fork").Pool(6) as pool:
            for number in range(30):
                uri = str(tmp_path / str(number))
                told = pool.starmap(store.create, [(uri, b"%d" % i) for i in range(6)], chunksize=1)
                assert sum(told) == 1
                assert store.read(uri) == b"%d" % told.index(True)
        assert below(tmp_path) == sorted(map(str, range(30)))

    def test_without_hard_links_it_is_weaker_and_says_so(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert store.conditional(str(tmp_path / "not" / "yet" / "there")) is True
        monkeypatch.setattr(os, "link", _no_link)
        assert store.conditional(str(tmp_path)) is False
        assert store.create(str(tmp_path / "one"), b"first") is True
        assert store.create(str(tmp_path / "one"), b"second") is False
        assert store.read(str(tmp_path / "one")) == b"first"
        assert below(tmp_path) == ["one"]

    def test_a_name_that_was_given_although_the_server_says_it_is_taken_is_ours(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """NFS: the request was carried out, its answer was lost, and the system asked again."""
        real = os.link

        def twice(source: Path, target: Path) -> None:
            real(source, target)
            real(source, target)

        monkeypatch.setattr(os, "link", twice)
        assert store.create(str(tmp_path / "one"), b"x") is True


def _no_link(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


_KILLED = """
import sys
from pipeline.storage import Store
store, folder = Store(), sys.argv[1]
print("ready", flush=True)
number = 0
while True:
    body = bytes([number % 251]) * 200_000
    store.put(f"{folder}/put/{number % 3}", body)
    store.create(f"{folder}/create/{number}", body)
    number += 1
"""


def test_sigkill_leaves_whole_files_and_temporaries_that_are_swept_up(store: Store, tmp_path: Path) -> None:
    for kill in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", _KILLED, str(tmp_path / str(kill))], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        while len(below(tmp_path / str(kill))) < 4 + 5 * kill:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    left = [path for path in below(tmp_path) if is_temporary(path)]
    for path in below(tmp_path):
        if path not in left:
            data = (tmp_path / path).read_bytes()
            assert len(data) == 200_000
            assert len(set(data)) == 1
    store.delete_many(entry.uri for entry in list(store.list(str(tmp_path))) if is_temporary(entry.key))
    assert [path for path in below(tmp_path) if is_temporary(path)] == []


def test_listings_keep_temporaries_and_callers_decide(store: Store, tmp_path: Path) -> None:
    for name in (".a.tif.0011aabb.part", "b/.c.part", ".hidden", "model.bin.part", "d.tif"):
        store.put(str(tmp_path / name), b"x")
    found = [entry.key for entry in store.list(str(tmp_path)) if is_temporary(entry.key)]
    assert found == [".a.tif.0011aabb.part", "b/.c.part"]


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=4).filter(
    lambda name: name not in (".", "..")
)
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


def _without_conflicts(found: set[str]) -> list[str]:
    folders = {path[:i] for path in found for i, letter in enumerate(path) if letter == "/"}
    return sorted(found - folders, key=os.fsencode)


@settings(max_examples=80, deadline=None)
@given(found=st.sets(paths, max_size=12), after=st.one_of(st.none(), paths))
def test_a_folder_is_listed_in_the_order_of_a_bucket(
    found: set[str], after: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("tree")
    expected = _without_conflicts(found)
    for path in expected:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    behind = [path for path in expected if after is None or path.encode() > after.encode()]
    assert [entry.key for entry in Store().list(str(root), after)] == behind


def test_the_order_of_whole_keys_and_not_of_folders(store: Store, tmp_path: Path) -> None:
    for name in ("a/x", "a-b/x", "a.tif", "a0", "a"[:0] + "B/1"):
        store.put(str(tmp_path / name), b"")
    assert [entry.key for entry in store.list(str(tmp_path))] == ["B/1", "a-b/x", "a.tif", "a/x", "a0"]


def test_names_that_are_no_text_keep_their_place(store: Store, tmp_path: Path) -> None:
    raw = [b"\x80", "é".encode(), "\U0001f600".encode(), b"\xff", "\uffee".encode()]
    for name in raw:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    assert [os.fsencode(entry.key) for entry in store.list(str(tmp_path))] == sorted(raw)


def test_a_folder_with_more_names_than_are_kept_in_memory(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = sorted(f"{number * 7919 % 5003:x}\n{number % 3}" for number in range(3000))
    for name in expected:
        (tmp_path / name).touch()
    monkeypatch.setattr(sorting, "RUN", 250)
    monkeypatch.setattr(sorting, "_BLOCK", 64)
    assert [entry.key for entry in store.list(str(tmp_path))] == expected
    assert [entry.key for entry in store.list(str(tmp_path), expected[1234])] == expected[1235:]


@dataclass
class _Name:
    name: bytes

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        return follow_symlinks


class _Folder(list[_Name]):
    """A folder of 60,000 names, made as they are asked for."""

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __iter__(self) -> Iterator[_Name]:
        return (_Name(b"%032d" % (number * 7919 % 60_013)) for number in range(60_000))


def test_not_all_names_of_a_folder_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting.os, "scandir", lambda _: _Folder())
    monkeypatch.setattr(sorting, "RUN", 3000)
    monkeypatch.setattr(sorting, "_BLOCK", 4096)
    tracemalloc.start()
    count, last = 0, b""
    for name in sorting.names_in_order(b"x", Patience()):
        assert name > last
        count, last = count + 1, name
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 60_000
    assert peak < 60_000 * 33  # the bare letters of all names


def test_an_entry_says_when_the_file_was_written(store: Store, tmp_path: Path) -> None:
    store.put(str(tmp_path / "x"), b"12")
    os.utime(tmp_path / "x", (1_000_000_000, 1_000_000_000))
    [entry] = store.list(str(tmp_path))
    assert (entry.size, entry.etag, entry.modified) == (2, None, datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC))


_FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from pipeline.storage import Store
for call in (Store().put, Store().create):
    try:
        call(sys.argv[1] + "/x", b"y" * 200_000)
    except OSError as error:
        print(error.errno)
"""


def test_a_disk_that_takes_no_more_bytes_keeps_what_it_had(store: Store, tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the system's write fails half-way in the same manner."""
    assert resource.RLIMIT_FSIZE
    store.put(str(tmp_path / "x"), b"old")
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(errno.EFBIG)] * 2
    assert below(tmp_path) == ["x"]
    assert store.read(str(tmp_path / "x")) == b"old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_not_asked_twice(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    calls: list[int] = []

    def fail(handle: int) -> None:
        calls.append(handle)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    for call in (store.put, store.create):
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            call(str(tmp_path / "x"), b"y")
        assert caught.value.errno == number
    assert len(calls) == 2
    assert below(tmp_path) == []


def test_a_file_server_that_was_away_for_a_moment_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(StoreOptions(patience=Patience(pause=0.001, total=5.0)))
    left = [errno.ESTALE, errno.ETIMEDOUT, errno.ESTALE]
    for name, real in (("replace", os.replace), ("fstat", os.fstat)):

        def fail(*given: object, real: object = real) -> object:
            if left:
                number = left.pop()
                raise OSError(number, os.strerror(number))
            return real(*given)  # type: ignore[operator]

        left[:] = [errno.ESTALE, errno.ETIMEDOUT]
        monkeypatch.setattr(local.os, name, fail)
        store.put(str(tmp_path / "x"), b"y")
        assert store.read(str(tmp_path / "x")) == b"y"
        assert left == []
    assert below(tmp_path) == ["x"]


def test_a_mount_that_is_gone_is_the_runs_trouble(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_bytes(b"y")
    number = errno.EIO

    def fail(*_: object) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(local.Folders, "read", fail)
    with pytest.raises(ItemError) as caught:
        store.read_source(str(tmp_path / "x"), 10)
    assert caught.value.reason is Reason.SOURCE_UNREADABLE
    number = errno.ENOTCONN
    with pytest.raises(StoreError, match="Transport endpoint is not connected"):
        store.read_source(str(tmp_path / "x"), 10)


def test_a_file_that_grows_while_it_is_read_is_not_taken_for_whole(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_bytes(b"y" * 1000)
    real, calls = os.fstat, []

    def grow(handle: int) -> os.stat_result:
        calls.append(handle)
        if len(calls) == 2:
            with (tmp_path / "x").open("ab") as file:
                file.write(b"z")
        return real(handle)

    monkeypatch.setattr(local.os, "fstat", grow)
    with pytest.raises(OSError, match="being written while it was read"):
        store.read(str(tmp_path / "x"))


def test_deleting_what_is_not_there_is_no_error(store: Store, tmp_path: Path) -> None:
    store.put(str(tmp_path / "x"), b"")
    store.delete(str(tmp_path / "x"))
    store.delete(str(tmp_path / "x"))
    store.delete(str(tmp_path / "no" / "folder"))
    assert below(tmp_path) == []


def test_names_that_cannot_be_deleted_are_said_and_the_others_are_gone(store: Store, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("a", "b"):
        store.put(str(tmp_path / name), b"")
    with pytest.raises(OSError, match=r"1 files could not be deleted: .*folder") as caught:
        store.delete_many(str(tmp_path / name) for name in ("a", "folder", "b"))
    assert "/a" not in str(caught.value)
    assert below(tmp_path) == []


def test_new_folders_are_durable_before_the_file_is_named(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    real = local._sync_folder
    monkeypatch.setattr(local, "_sync_folder", lambda folder: (synced.append(folder), real(folder))[1])
    store.put(str(tmp_path / "a" / "b" / "x"), b"")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
