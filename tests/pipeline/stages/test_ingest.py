from __future__ import annotations

import hashlib
import io
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pipeline.admission import SHARES, Admission
from pipeline.codecs import encode
from pipeline.errors import ItemError, Reason, Status
from pipeline.guard import Decoder
from pipeline.photograph import Container, Photograph
from pipeline.record import Record
from pipeline.stages.ingest import Ingest, IngestParameters
from pipeline.storage import Store
from pipeline.supervision import run_end

Maker = Callable[..., Ingest]


def scan(folder: Path, pixels: NDArray[np.uint8]) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG", dpi=(300, 300))
    (folder / "scan.png").write_bytes(target.getvalue())
    return target.getvalue()


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    made = Decoder()
    yield made
    made.close()


@pytest.fixture
def ingest(decoder: Decoder) -> Maker:
    """Makes an Ingest; all of them share one decoder, which takes a second to start."""

    def make(
        roots: Sequence[str] | None = None, admission: Admission | None = None, **parameters: float | str
    ) -> Ingest:
        made = Ingest(IngestParameters(**parameters), Store(), roots, admission)
        made.decoder = decoder
        return made

    return make


def record(folder: Path, size: int | None = None) -> Record:
    return Record(1, "item", str(folder / "scan.png"), source_bytes=size)


def test_a_scan_is_read_with_its_digest(tmp_path: Path, rng: np.random.Generator, ingest: Maker) -> None:
    pixels = rng.integers(0, 256, (20, 31, 4), dtype=np.uint8)
    data = scan(tmp_path, pixels)
    found = ingest().read(record(tmp_path, len(data)))
    assert found.photograph is not None
    assert found.photograph.item_id == "item"
    assert np.array_equal(found.photograph.pixels, pixels[..., :3])
    assert (found.source_sha256, found.source_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert (found.source_format, found.source_width, found.source_height) == ("PNG", 31, 20)
    assert (found.source_channels, found.depth, found.status) == (4, 8, Status.PENDING)


def test_a_source_that_changed_since_the_plan_is_refused(
    tmp_path: Path, rng: np.random.Generator, ingest: Maker
) -> None:
    data = scan(tmp_path, rng.integers(0, 256, (20, 31, 3), dtype=np.uint8))
    with pytest.raises(ItemError) as caught:
        ingest().read(record(tmp_path, len(data) + 1))
    assert caught.value.reason is Reason.SOURCE_CHANGED


def test_what_cannot_be_decoded_keeps_its_digest(tmp_path: Path, ingest: Maker) -> None:
    (tmp_path / "scan.png").write_bytes(b"a letter")
    found = ingest().read(record(tmp_path))
    assert (found.status, found.reason, found.photograph) == (Status.REFUSED, "not-an-image", None)
    assert found.source_sha256 == hashlib.sha256(b"a letter").hexdigest()


def test_too_many_pixels_are_refused(tmp_path: Path, rng: np.random.Generator, ingest: Maker) -> None:
    scan(tmp_path, rng.integers(0, 256, (20, 31, 3), dtype=np.uint8))
    assert ingest(megapixels=0.0006).read(record(tmp_path)).reason == "too-large"
    assert ingest(megapixels=0.00062).read(record(tmp_path)).reason is None


def test_too_many_bytes_are_refused_unread(tmp_path: Path, ingest: Maker) -> None:
    (tmp_path / "scan.png").write_bytes(b"x" * 1001)
    with pytest.raises(ItemError) as caught:
        ingest(gigabytes=1e-6).read(record(tmp_path))
    assert caught.value.reason is Reason.TOO_LARGE


def two_pages(folder: Path) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "scan.png", "TIFF", save_all=True, append_images=frames[1:])


def test_pages_are_in_the_findings(tmp_path: Path, ingest: Maker) -> None:
    two_pages(tmp_path)
    stage = ingest()
    found = run_end(stage, stage.parameters, stage.read, record(tmp_path))
    assert json.loads(found.events[0].findings) == {"pages": 2}
    assert found.photograph is not None
    assert tuple(found.photograph.pixels[0, 0]) == (255, 0, 0)


def test_a_conversion_is_in_the_findings(tmp_path: Path, ingest: Maker) -> None:
    tifffile.imwrite(tmp_path / "scan.png", np.zeros((6, 8, 3), np.uint8), photometric="cielab")
    stage = ingest()
    found = run_end(stage, stage.parameters, stage.read, record(tmp_path))
    assert json.loads(found.events[0].findings) == {"conversion": "CIELAB to 16-bit ROMM RGB, nothing clipped"}


def test_several_pages_may_be_refused(tmp_path: Path, ingest: Maker) -> None:
    two_pages(tmp_path)
    assert ingest(pages="refuse").read(record(tmp_path)).reason == "unsupported"


def refusal(ingest: Ingest, path: Path | str) -> Reason:
    with pytest.raises(ItemError) as caught:
        ingest.read(Record(1, "item", str(path)))
    assert caught.value.detail
    return caught.value.reason


def test_what_lies_outside_the_roots_is_refused_unread(tmp_path: Path, ingest: Maker) -> None:
    roots = [str(tmp_path / "archive")]
    for uri in ("/etc/passwd", "file:///etc/passwd", f"{tmp_path}/archive/../scan.png", "http://127.0.0.1:9/a.png"):
        assert refusal(ingest(roots), uri) is Reason.OUTSIDE_ROOTS


def test_a_link_out_of_the_roots_is_refused_and_one_within_is_read(
    tmp_path: Path, rng: np.random.Generator, ingest: Maker
) -> None:
    inside, outside = tmp_path / "archive", tmp_path / "elsewhere"
    for folder in (inside, outside):
        folder.mkdir()
        scan(folder, rng.integers(0, 256, (20, 31, 3), dtype=np.uint8))
    (inside / "in.png").symlink_to(inside / "scan.png")
    (inside / "out.png").symlink_to(outside / "scan.png")
    (inside / "up").symlink_to(outside)
    one = ingest([str(inside)])
    assert one.read(Record(1, "item", str(inside / "in.png"))).photograph is not None
    assert refusal(one, inside / "out.png") is Reason.OUTSIDE_ROOTS
    assert refusal(one, inside / "up" / "scan.png") is Reason.OUTSIDE_ROOTS
    (inside / "loop.png").symlink_to(inside / "loop.png")
    assert refusal(one, inside / "loop.png") in (Reason.SOURCE_MISSING, Reason.SOURCE_UNREADABLE)


def test_pipes_devices_sockets_and_folders_are_not_opened(tmp_path: Path, ingest: Maker) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.png"))
        for name in ("pipe.png", "folder.png", "s.png", "zero.png"):
            assert refusal(ingest(), tmp_path / name) is Reason.SOURCE_UNREADABLE
    assert refusal(ingest(), "/dev/zero") is Reason.SOURCE_UNREADABLE
    (tmp_path / "empty.png").write_bytes(b"")
    assert refusal(ingest(), tmp_path / "empty.png") is Reason.SOURCE_EMPTY


def test_garbage_for_a_profile_is_kept_and_recorded(tmp_path: Path, rng: np.random.Generator, ingest: Maker) -> None:
    pixels = rng.integers(0, 256, (20, 31, 3), dtype=np.uint8)
    (tmp_path / "scan.png").write_bytes(encode(Photograph("item", pixels, Container("PNG", icc=b"no profile")), "png"))
    one = ingest()
    found = run_end(one, one.parameters, one.read, record(tmp_path))
    assert found.photograph is not None
    assert found.photograph.container.icc == b"no profile"
    assert "no profile" in found.events[-1].findings
    assert found.findings == {}


def test_metadata_without_measure_are_left_out_and_recorded(
    tmp_path: Path, rng: np.random.Generator, ingest: Maker
) -> None:
    pixels = rng.integers(0, 256, (20, 31, 3), dtype=np.uint8)
    much = Container("TIFF", icc=bytes(17 << 20), xmp=b"<x/>")
    (tmp_path / "scan.png").write_bytes(encode(Photograph("item", pixels, much), "tiff"))
    one = ingest()
    found = run_end(one, one.parameters, one.read, record(tmp_path))
    assert found.photograph is not None
    assert (found.photograph.container.icc, found.photograph.container.xmp) == (None, b"<x/>")
    assert np.array_equal(found.photograph.pixels, pixels)
    assert "17,825,792 bytes" in found.events[-1].findings


def test_memory_is_held_once_the_size_is_known(tmp_path: Path, rng: np.random.Generator, ingest: Maker) -> None:
    scan(tmp_path, rng.integers(0, 256, (20, 31, 3), dtype=np.uint8))
    with Admission(SHARES << 20, tmp_path / "locks") as admission:
        assert ingest(None, admission).read(record(tmp_path)).photograph is not None
        assert admission.held_bytes >= 64 << 20
        small = Admission(1 << 20, tmp_path / "locks")
        found = ingest(None, small).read(record(tmp_path))
        assert (found.status, found.reason, found.photograph) == (Status.FAILED, "out-of-memory", None)
        assert found.source_sha256
