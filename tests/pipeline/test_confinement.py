from __future__ import annotations

import posixpath
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.confinement import refusal, target_refusal

ROOTS = ("/archive", "s3://bucket/prefix")


@pytest.mark.parametrize(
    "uri",
    [
        "/archive/a.tif",
        "/archive/box 1/../box 2/ä.tif",
        "//archive/a.tif",
        "/archive/./a.tif",
        "/archive/..hidden/a.tif",
        "file:///archive/a.tif",
        "s3://bucket/prefix/a.tif",
        "s3a://bucket/prefix/b/a.tif",
        "s3://bucket/prefix/a..b.tif",
    ],
)
def test_what_lies_below_a_root_is_allowed(uri: str) -> None:
    assert refusal(uri, ROOTS) is None


@pytest.mark.parametrize(
    "uri",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "file:///archive/../etc/passwd",
        "/archive/../etc/passwd",
        "/archive/box/../../etc/passwd",
        "/archives/a.tif",
        "/arch",
        "archive/a.tif",
        "file://archive/a.tif",
        "file://host/archive/a.tif",
        "../archive/a.tif",
        "",
        "s3://bucket/other/a.tif",
        "s3://bucket/prefixed/a.tif",
        "s3://bucket/prefix/../other/a.tif",
        "s3://bucket/prefix/./a.tif",
        "s3://bucket2/prefix/a.tif",
        "s3://user@bucket/prefix/a.tif",
        "s3://BUCKET/prefix/a.tif",
        "http://bucket/prefix/a.tif",
        "https://169.254.169.254/latest/meta-data",
        "gs://bucket/prefix/a.tif",
        "FILE:///archive/a.tif",
        "ftp://archive/a.tif",
        "simplecache::s3://bucket/prefix/a.tif",
        "/archive/a.tif\0.png",
    ],
)
def test_all_else_is_refused_with_a_sentence(uri: str) -> None:
    said = refusal(uri, ROOTS)
    assert said is not None
    assert len(said) > 20


def test_the_sentence_says_how_to_allow_it() -> None:
    said = refusal("/etc/passwd", ROOTS)
    assert said is not None
    assert "/archive" in said
    assert "[collection] roots" in said


@pytest.mark.parametrize("root", ["/", "file:///", "/archive/", "file:///archive", "//archive"])
def test_a_root_may_be_written_in_several_ways(root: str) -> None:
    assert refusal("/archive/a.tif", [root]) is None


def test_a_bucket_may_be_a_root() -> None:
    for root in ("s3://bucket", "s3://bucket/", "s3a://bucket"):
        assert refusal("s3://bucket/anything/a.tif", [root]) is None
        assert refusal("s3://bucket2/a.tif", [root]) is not None


def test_without_roots_nothing_is_allowed() -> None:
    assert refusal("/archive/a.tif", ()) is not None
    assert target_refusal("/archive/a.tif", ()) is not None


@given(st.lists(st.sampled_from(["..", ".", "a", "", "b c", "archive"]), max_size=8))
def test_no_path_of_steps_leaves_the_root(parts: list[str]) -> None:
    path = "/archive/" + "/".join(parts)
    inside = (posixpath.normpath(path) + "/").startswith("/archive/")
    assert (refusal(path, ROOTS) is None) == inside


def test_a_link_is_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "archive", tmp_path / "elsewhere"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a.tif").write_bytes(b"x")
    (inside / "good.tif").symlink_to(inside / "a.tif")
    (inside / "bad.tif").symlink_to(outside / "a.tif")
    (inside / "folder").symlink_to(outside)
    (inside / "loop").symlink_to(inside / "loop")
    roots = [str(inside)]
    assert target_refusal(str(inside / "a.tif"), roots) is None
    assert target_refusal(str(inside / "good.tif"), roots) is None
    for name in ("bad.tif", "folder/a.tif"):
        said = target_refusal(str(inside / name), roots)
        assert said is not None
        assert str(outside) in said
    assert target_refusal(str(inside / "loop"), roots) is None  # leads nowhere: for the reader to say so


def test_a_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    assert target_refusal(str(tmp_path / "alias/a.tif"), [str(tmp_path / "alias")]) is None
    assert target_refusal(str(tmp_path / "real/a.tif"), [str(tmp_path / "alias")]) is None


def test_a_long_or_odd_name_is_refused_and_raises_nothing() -> None:
    assert target_refusal("/archive/\0", ROOTS) is not None
    assert target_refusal("/elsewhere/" + "x" * 10_000, ROOTS) is not None
