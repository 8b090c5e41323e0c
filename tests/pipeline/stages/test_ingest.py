from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import ItemError, Reason, Status
from pipeline.record import Record
from pipeline.stages.ingest import Ingest, IngestParameters
from pipeline.storage import Store
from pipeline.supervision import run_end


def scan(folder: Path, pixels: NDArray[np.uint8]) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG", dpi=(300, 300))
    (folder / "scan.png").write_bytes(target.getvalue())
    return target.getvalue()


def ingest(**parameters: float | str) -> Ingest:
    return Ingest(IngestParameters(**parameters), Store())


def record(folder: Path, size: int | None = None) -> Record:
    return Record(1, "item", str(folder / "scan.png"), source_bytes=size)


def test_a_scan_is_read_with_its_digest(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (20, 31, 4), dtype=np.uint8)
    data = scan(tmp_path, pixels)
    found = ingest().read(record(tmp_path, len(data)))
    assert found.photograph is not None
    assert found.photograph.item_id == "item"
    assert np.array_equal(found.photograph.pixels, pixels[..., :3])
    assert (found.source_sha256, found.source_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert (found.source_format, found.source_width, found.source_height) == ("PNG", 31, 20)
    assert (found.source_channels, found.depth, found.status) == (4, 8, Status.PENDING)


def test_a_source_that_changed_since_the_plan_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    data = scan(tmp_path, rng.integers(0, 256, (20, 31, 3), dtype=np.uint8))
    with pytest.raises(ItemError) as caught:
        ingest().read(record(tmp_path, len(data) + 1))
    assert caught.value.reason is Reason.SOURCE_CHANGED


def test_what_cannot_be_decoded_keeps_its_digest(tmp_path: Path) -> None:
    (tmp_path / "scan.png").write_bytes(b"a letter")
    found = ingest().read(record(tmp_path))
    assert (found.status, found.reason, found.photograph) == (Status.REFUSED, "not-an-image", None)
    assert found.source_sha256 == hashlib.sha256(b"a letter").hexdigest()


def test_too_many_pixels_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    scan(tmp_path, rng.integers(0, 256, (20, 31, 3), dtype=np.uint8))
    assert ingest(megapixels=0.0006).read(record(tmp_path)).reason == "too-large"
    assert ingest(megapixels=0.00062).read(record(tmp_path)).reason is None


def test_too_many_bytes_are_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "scan.png").write_bytes(b"x" * 1001)
    with pytest.raises(ItemError) as caught:
        ingest(gigabytes=1e-6).read(record(tmp_path))
    assert caught.value.reason is Reason.TOO_LARGE


def two_pages(folder: Path) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "scan.png", "TIFF", save_all=True, append_images=frames[1:])


def test_pages_are_in_the_findings(tmp_path: Path) -> None:
    two_pages(tmp_path)
    stage = ingest()
    found = run_end(stage, stage.parameters, stage.read, record(tmp_path))
    assert json.loads(found.events[0].findings) == {"pages": 2}
    assert found.photograph is not None
    assert tuple(found.photograph.pixels[0, 0]) == (255, 0, 0)


def test_a_conversion_is_in_the_findings(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "scan.png", np.zeros((6, 8, 3), np.uint8), photometric="cielab")
    stage = ingest()
    found = run_end(stage, stage.parameters, stage.read, record(tmp_path))
    assert json.loads(found.events[0].findings) == {"conversion": "CIELAB to 16-bit ROMM RGB, nothing clipped"}


def test_several_pages_may_be_refused(tmp_path: Path) -> None:
    two_pages(tmp_path)
    assert ingest(pages="refuse").read(record(tmp_path)).reason == "unsupported"
