"""What a source holds: which photographs are found, which are left out, and why."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.manifest import item_id
from jobs.spec import JobSpec
from pipeline.errors import SpecError, StoreError
from pipeline.record import MANIFEST, from_manifest
from pipeline.storage import Store

Merge = Callable[..., JobSpec]
Freeze = Callable[[JobSpec], Any]

ROWS = [
    {"source_uri": "box 1/ä.png", "title": "Grüße aus Köln", "year": "1911"},
    {"source_uri": "/elsewhere/b.png", "title": "", "year": "1912"},
    {"source_uri": "s3://bucket/c.png", "title": None, "year": None},
]


def put(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def uris(listing: Any) -> list[str]:
    return [row["source_uri"] for row in listing.rows]


def write_csv(rows: list[dict[str, Any]]) -> bytes:
    lines = [",".join(rows[0]), *(",".join(str(value or "") for value in row.values()) for row in rows)]
    return "\n".join(lines).encode()


def write_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def write_parquet(rows: list[dict[str, Any]]) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), target)
    return target.getvalue()


WRITERS = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}


@pytest.fixture(params=list(WRITERS))
def write(
    request: pytest.FixtureRequest, make_spec: Merge, tmp_path: Path
) -> Callable[[list[dict[str, Any]]], JobSpec]:
    """Writes rows as a manifest file of one kind and gives the spec that names it."""

    def make(rows: list[dict[str, Any]]) -> JobSpec:
        (tmp_path / f"list.{request.param}").write_bytes(WRITERS[request.param](rows))
        return make_spec(collection={"source": f"list.{request.param}"})

    return make


@pytest.fixture
def from_file(freeze: Freeze, make_spec: Merge, tmp_path: Path) -> Callable[[str, bytes], Any]:
    """Freezes a manifest file of the given name and bytes."""

    def make(name: str, data: bytes) -> Any:
        (tmp_path / name).write_bytes(data)
        return freeze(make_spec(collection={"source": name}))

    return make


def test_a_folder_is_listed_with_all_below_it(freeze: Freeze, make_spec: Merge, tmp_path: Path) -> None:
    names = ["a.png", "box 1/Ansichtskarte Köln, Dom.tif", "box 1/sub/写真.JPG", "z.jpeg"]
    for name in names:
        put(tmp_path / "scans" / name)
    listing = freeze(make_spec())
    assert uris(listing) == [str(tmp_path / "scans" / name) for name in names]
    assert [row["reason"] for row in listing.rows] == [None] * 4
    assert not listing.ignored


def test_sizes_are_known_before_a_file_is_opened(freeze: Freeze, make_spec: Merge, tmp_path: Path) -> None:
    put(tmp_path / "scans/a.png", b"12345")
    put(tmp_path / "scans/b.png", b"123")
    assert [row["source_bytes"] for row in freeze(make_spec()).rows] == [5, 3]


def test_a_listing_comes_in_the_same_order_every_time(freeze: Freeze, make_spec: Merge, tmp_path: Path) -> None:
    for name in ("c.png", "b/z.png", "a.png", "B.png"):
        put(tmp_path / "scans" / name)
    found = [str(Path(uri).relative_to(tmp_path / "scans")) for uri in uris(freeze(make_spec()))]
    assert found == ["B.png", "a.png", "b/z.png", "c.png"]


def test_what_is_no_photograph_is_left_out_and_counted(freeze: Freeze, make_spec: Merge, tmp_path: Path) -> None:
    names = ("a.png", ".hidden.png", "._a.png", ".DS_Store", "notes.txt", "sub/more.TXT", "mets.xml", "README")
    for name in names:
        put(tmp_path / "scans" / name)
    listing = freeze(make_spec())
    assert uris(listing) == [str(tmp_path / "scans/a.png")]
    assert listing.ignored == Counter({".png": 2, ".txt": 2, ".DS_Store": 1, ".xml": 1, "README": 1})


def test_a_linked_file_is_a_photograph(freeze: Freeze, make_spec: Merge, tmp_path: Path) -> None:
    target = put(tmp_path / "elsewhere/original.png", b"1234567")
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans/a.png").symlink_to(target)
    (row,) = freeze(make_spec()).rows
    assert (row["source_uri"], row["source_bytes"]) == (str(tmp_path / "scans/a.png"), 7)


def test_a_link_to_nowhere_is_kept_for_ingest_to_refuse(freeze: Freeze, make_spec: Merge, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans/a.png").symlink_to(tmp_path / "gone.png")
    (row,) = freeze(make_spec()).rows
    assert (row["source_bytes"], row["reason"]) == (None, None)


def test_a_link_to_a_folder_is_not_followed(freeze: Freeze, make_spec: Merge, tmp_path: Path) -> None:
    put(tmp_path / "scans/a.png")
    (tmp_path / "scans/loop").symlink_to(tmp_path / "scans")
    listing = freeze(make_spec())
    assert (len(listing.rows), listing.ignored) == (1, Counter({"loop": 1}))


def test_a_name_that_is_not_utf_8_leads_to_its_file_or_is_refused_for_it(
    freeze: Freeze, make_spec: Merge, tmp_path: Path
) -> None:
    (tmp_path / "scans").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "scans") + b"/caf\xe9.png")).write_bytes(b"x")
    (row,) = freeze(make_spec()).rows
    if row["reason"] is None:
        assert Store().read_source(row["source_uri"], 100) == b"x"
    else:
        assert "UTF-8" in row["detail"]


def test_a_folder_that_may_not_be_read_is_one_refused_row(freeze: Freeze, make_spec: Merge, open_folder: Path) -> None:
    put(open_folder / "scans/a.png")
    put(open_folder / "scans/closed/b.png")
    put(open_folder / "scans/later.png")
    spec = make_spec(open_folder)
    (open_folder / "scans/closed").chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        listing = freeze(spec)
    finally:
        if root:
            os.seteuid(0)
        (open_folder / "scans/closed").chmod(0o755)
    assert [row["reason"] for row in listing.rows] == [None, "source-unreadable", None]
    assert listing.rows[1]["source_uri"] == str(open_folder / "scans/closed")
    assert "cannot be read" in listing.rows[1]["detail"]


def test_a_source_that_may_not_be_read_is_an_error(freeze: Freeze, make_spec: Merge, open_folder: Path) -> None:
    put(open_folder / "scans/a.png")
    spec = make_spec(open_folder)
    (open_folder / "scans").chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        with pytest.raises(StoreError, match=r"collection\.source"):
            freeze(spec)
    finally:
        if root:
            os.seteuid(0)
        (open_folder / "scans").chmod(0o755)


def test_a_folder_without_photographs_says_what_was_left_out(freeze: Freeze, make_spec: Merge, tmp_path: Path) -> None:
    put(tmp_path / "scans/a.txt")
    put(tmp_path / "scans/b.txt")
    with pytest.raises(SpecError, match=r"^collection.source: .*/scans holds no photograph; left out: 2 .txt$"):
        freeze(make_spec())


def test_an_empty_folder(freeze: Freeze, make_spec: Merge, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    with pytest.raises(SpecError, match=r"scans holds no photograph$"):
        freeze(make_spec())


def test_a_manifest_file_names_photographs(freeze: Freeze, write: Callable[..., JobSpec], tmp_path: Path) -> None:
    listing = freeze(write(ROWS))
    assert uris(listing) == [str(tmp_path / "box 1/ä.png"), "/elsewhere/b.png", "s3://bucket/c.png"]
    assert [row["item_id"] for row in listing.rows] == [item_id("albums", str(row["source_uri"])) for row in ROWS]


def test_other_columns_are_carried_as_json(freeze: Freeze, write: Callable[..., JobSpec]) -> None:
    descriptions = [row["description"] for row in freeze(write(ROWS)).rows]
    assert json.loads(descriptions[0]) == {"title": "Grüße aus Köln", "year": "1911"}
    assert "Köln" in descriptions[0]
    assert descriptions[1:] == ['{"year": "1912"}', None]


def test_a_photograph_named_twice_is_refused_the_second_time(freeze: Freeze, write: Callable[..., JobSpec]) -> None:
    listing = freeze(write([{"source_uri": name} for name in ("a.png", "b.png", "a.png", "a.png")]))
    assert [row["reason"] for row in listing.rows] == [None, None, "duplicate", "duplicate"]
    assert [row["item_no"] for row in listing.rows] == [0, 1, 2, 3]
    assert len({row["item_id"] for row in listing.rows}) == 4
    assert "named 3 times" in listing.rows[3]["detail"]


def test_a_duplicate_is_refused_before_it_is_read(freeze: Freeze, write: Callable[..., JobSpec]) -> None:
    listing = freeze(write([{"source_uri": "a.png"}, {"source_uri": "a.png"}]))
    records = from_manifest(pa.Table.from_pylist(listing.rows, MANIFEST))
    assert [str(record.status) for record in records] == ["pending", "refused"]


def test_a_row_without_a_source_is_named(freeze: Freeze, write: Callable[..., JobSpec]) -> None:
    with pytest.raises(SpecError, match="row 2 has no source_uri"):
        freeze(write([{"source_uri": "a.png", "n": "1"}, {"source_uri": "", "n": "2"}]))


@pytest.mark.parametrize("name", ["list.csv", "list.parquet"])
def test_a_manifest_file_without_the_column(from_file: Callable[..., Any], name: str) -> None:
    data = WRITERS[name.split(".")[1]]([{"path": "a.png", "title": "x"}])
    with pytest.raises(SpecError, match=f"{name} has no column 'source_uri'; its columns are path, title"):
        from_file(name, data)


def test_a_jsonl_manifest_without_the_column(from_file: Callable[..., Any]) -> None:
    with pytest.raises(SpecError, match="row 1 has no source_uri"):
        from_file("list.jsonl", b'{"path": "a.png"}')


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("list.csv", b"", "has no column 'source_uri'; its columns are none"),
        ("list.csv", b"source_uri,title\n", "holds no photograph"),
        ("list.jsonl", b"", "holds no photograph"),
        ("list.jsonl", b"\n\n", "holds no photograph"),
        ("list.parquet", b"", "list.parquet"),
        ("list.parquet", write_parquet([{"source_uri": "a"}])[:-9], "list.parquet"),
        ("list.jsonl", b'{"source_uri": "a.png"}\n{', "line 2 is not JSON"),
        ("list.jsonl", b'["a.png"]', "line 1 is no JSON object"),
        ("list.csv", "source_uri\nä.png".encode("latin-1"), "list.csv is not UTF-8 text"),
        ("list.jsonl", '{"source_uri": "ä"}'.encode("utf-16"), "list.jsonl"),
        ("list.jsonl", '{"source_uri": "a"}'.encode("utf-16-le"), "list.jsonl"),
    ],
)
def test_a_manifest_file_that_cannot_be_used(
    from_file: Callable[..., Any], name: str, data: bytes, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        from_file(name, data)


def test_an_empty_parquet_manifest(from_file: Callable[..., Any]) -> None:
    target = io.BytesIO()
    pq.write_table(pa.table({"source_uri": pa.array([], pa.string())}), target)
    with pytest.raises(SpecError, match="holds no photograph"):
        from_file("list.parquet", target.getvalue())


@pytest.mark.parametrize(("name", "data"), [("l.csv", b"source_uri\na.png"), ("l.jsonl", b'{"source_uri": "a.png"}')])
def test_a_byte_order_mark_is_no_part_of_the_text(
    from_file: Callable[..., Any], tmp_path: Path, name: str, data: bytes
) -> None:
    assert uris(from_file(name, b"\xef\xbb\xbf" + data)) == [str(tmp_path / "a.png")]


def test_csv_quoting_and_line_ends_of_windows(from_file: Callable[..., Any], tmp_path: Path) -> None:
    listing = from_file("l.csv", b'source_uri,title\r\n"a, b.png","line one\r\nline two"\r\n\r\nc.png\r\n')
    assert uris(listing) == [str(tmp_path / "a, b.png"), str(tmp_path / "c.png")]
    assert json.loads(listing.rows[0]["description"]) == {"title": "line one\r\nline two"}


def test_blanks_around_a_name_do_not_count(from_file: Callable[..., Any], tmp_path: Path) -> None:
    assert uris(from_file("l.csv", b"source_uri,t\n a.png ,x\n")) == [str(tmp_path / "a.png")]


def test_a_file_uri_becomes_a_path(from_file: Callable[..., Any]) -> None:
    assert uris(from_file("l.csv", b"source_uri\nfile:///scans/a.png\n")) == ["/scans/a.png"]


def test_a_csv_row_with_too_many_cells(from_file: Callable[..., Any]) -> None:
    with pytest.raises(SpecError, match="row 2"):
        from_file("l.csv", b"source_uri,title\na.png,x\nb.png,Smith, John\n")


def test_a_csv_with_a_cell_beyond_the_readers_limit(from_file: Callable[..., Any]) -> None:
    with pytest.raises(SpecError, match=r"l\.csv"):
        from_file("l.csv", b'source_uri,title\na.png,"' + b"x" * 200_000 + b'"\n')


def test_a_line_separator_inside_a_jsonl_string(from_file: Callable[..., Any]) -> None:
    listing = from_file("l.jsonl", '{"source_uri": "a.png", "title": "one\u2028two"}\n'.encode())
    assert json.loads(listing.rows[0]["description"]) == {"title": "one\u2028two"}


@pytest.mark.parametrize("line", [b'{"source_uri": "a\\ud800.png"}', b'{"source_uri": "a.png", "title": "\\ud800"}'])
def test_a_jsonl_string_that_is_no_unicode(freeze: Freeze, make_spec: Merge, tmp_path: Path, line: bytes) -> None:
    (tmp_path / "l.jsonl").write_bytes(line)
    with pytest.raises(SpecError, match="line 1"):
        freeze(make_spec(collection={"source": "l.jsonl"}))


def test_a_missing_number_keeps_the_description_json(from_file: Callable[..., Any]) -> None:
    target = io.BytesIO()
    pq.write_table(pa.table({"source_uri": ["a.png"], "year": [float("nan")], "box": [3]}), target)
    (row,) = from_file("l.parquet", target.getvalue()).rows
    assert "NaN" not in row["description"]
