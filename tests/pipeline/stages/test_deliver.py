from __future__ import annotations

import errno
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.codecs import decode
from pipeline.errors import ItemError, Reason, StoreError
from pipeline.photograph import Container, Photograph
from pipeline.record import Record
from pipeline.stages.deliver import Deliver, DeliverParameters, image_uri
from pipeline.storage import Store

ITEM = "abcdef"


class Forgetful(Store):
    """A store whose bytes come back altered."""

    def read(self, uri: str) -> bytes:
        return super().read(uri)[:-1] + b"?"


class Full(Store):
    """A store without room."""

    def create(self, uri: str, data: bytes) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")


def record(scale: int = 1, dtype: str = "uint8", dpi: tuple[float, float] | None = None) -> Record:
    pixels = np.arange(20 * 30 * 3).astype(dtype).reshape(20, 30, 3)
    photograph = Photograph(ITEM, pixels, Container("JPEG", dpi=dpi), scale=scale)
    return Record(1, ITEM, "/scans/a.jpg", photograph=photograph)


def deliver(run: Path, file_format: str = "tiff", store: Store | None = None) -> Deliver:
    return Deliver(DeliverParameters(format=file_format), store or Store(), str(run))  # type: ignore[arg-type]


@pytest.mark.parametrize(("file_format", "suffix"), [("tiff", "tif"), ("png", "png"), ("jpeg", "jpg")])
def test_the_file_lies_under_its_digest_and_name(tmp_path: Path, file_format: str, suffix: str) -> None:
    after = deliver(tmp_path, file_format).write(record())
    path = tmp_path / "images" / "ab" / f"{ITEM}.{suffix}"
    assert after.output_uri == str(path) == image_uri(str(tmp_path), ITEM, file_format)
    data = path.read_bytes()
    assert after.output_sha256 == hashlib.sha256(data).hexdigest()
    assert (after.output_bytes, after.output_width, after.output_height) == (len(data), 30, 20)
    assert decode(data, ITEM, 10**6).pixels.shape == (20, 30, 3)


def test_a_second_delivery_writes_the_same_file(tmp_path: Path) -> None:
    first, second = deliver(tmp_path).write(record()), deliver(tmp_path).write(record())
    assert first == second
    assert [path.name for path in (tmp_path / "images" / "ab").iterdir()] == [f"{ITEM}.tif"]


def test_more_pixels_on_the_same_paper(tmp_path: Path) -> None:
    after = deliver(tmp_path).write(record(scale=4, dpi=(300.0, 150.0)))
    assert after.output_uri is not None
    found = Image.open(io.BytesIO(Path(after.output_uri).read_bytes()))
    assert tuple(float(d) for d in found.info["dpi"]) == (1200.0, 600.0)


def test_what_comes_back_altered_is_not_delivered(tmp_path: Path) -> None:
    with pytest.raises(ItemError) as caught:
        deliver(tmp_path, store=Forgetful()).write(record())
    assert caught.value.reason is Reason.DELIVERY_FAILED


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """And it stops the run: no photograph's row may say for ever that it failed."""
    with pytest.raises(StoreError, match="No space left"):
        deliver(tmp_path, store=Full()).write(record())


def test_what_the_format_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ItemError) as caught:
        deliver(tmp_path, "jpeg").write(record(dtype="uint16"))
    assert caught.value.reason is Reason.UNSUPPORTED
    assert list(tmp_path.iterdir()) == []


def test_equal_bytes_that_are_there_already_count_as_delivered_and_are_not_written_again(tmp_path: Path) -> None:
    first = deliver(tmp_path).write(record())
    assert first.output_uri is not None
    before = Path(first.output_uri).stat().st_mtime_ns
    assert deliver(tmp_path).write(record()) == first
    assert Path(first.output_uri).stat().st_mtime_ns == before


def test_other_bytes_are_not_touched_and_the_name_says_the_digest(tmp_path: Path) -> None:
    """Left by an attempt that was never committed, with another library's encoder perhaps."""
    old = tmp_path / "images" / "ab" / f"{ITEM}.tif"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"of another attempt")
    after = deliver(tmp_path).write(record())
    assert old.read_bytes() == b"of another attempt"
    assert after.output_sha256 is not None
    assert after.output_uri == str(old.with_name(f"{ITEM}-{after.output_sha256[:12]}.tif"))
    assert hashlib.sha256(Path(after.output_uri).read_bytes()).hexdigest() == after.output_sha256
    assert deliver(tmp_path).write(record()) == after


def test_where_both_names_hold_other_bytes_nothing_is_delivered(tmp_path: Path) -> None:
    after = deliver(tmp_path).write(record())
    folder = tmp_path / "images" / "ab"
    (folder / f"{ITEM}.tif").write_bytes(b"one")
    assert after.output_sha256 is not None
    (folder / f"{ITEM}-{after.output_sha256[:12]}.tif").write_bytes(b"two")
    with pytest.raises(ItemError) as caught:
        deliver(tmp_path).write(record())
    assert caught.value.reason is Reason.DELIVERY_FAILED
    assert sorted(path.read_bytes() for path in folder.iterdir()) == [b"one", b"two"]
