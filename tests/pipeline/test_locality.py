"""From file to file: outside the stored mask the delivered photograph is the scan, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pipeline.damage import REPAIRED, Kind
from pipeline.models.store import ModelSource, ModelStore
from pipeline.policy import POLICIES
from pipeline.record import Record
from pipeline.stage import Device
from pipeline.stages import STAGES
from pipeline.stages.deliver import Deliver, DeliverParameters
from pipeline.stages.ingest import Ingest, IngestParameters
from pipeline.storage import Store
from pipeline.supervision import run_end, run_stage
from pipeline.transit import pack, unpack

ITEM = "ab" * 16


def restored(scan: Path, run: Path) -> Record:
    """Through two workers, as the graph would: what travels between them is packed and unpacked."""
    models = ModelStore(ModelSource(cache=str(run / "models")))
    ingest = Ingest(IngestParameters(), Store())
    record = run_end(ingest, ingest.parameters, ingest.read, Record(0, ITEM, str(scan)))
    ingest.close()
    for name, parameters in (("analyse", {"detector": "none"}), ("repair", {})):
        chosen = STAGES[name].Parameters.model_validate(parameters)
        stage = STAGES[name](chosen, POLICIES["conservation"])
        stage.open(models, Device())
        [record] = run_stage(stage, chosen, [record], models, Device())
        [record] = unpack(pack([record]))
    deliver = Deliver(DeliverParameters(), Store(), str(run), "cd" * 32)
    return run_end(deliver, deliver.parameters, deliver.write, record)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_outside_the_stored_mask_the_delivered_file_is_the_scan(
    tmp_path: Path, real_photo: NDArray[np.uint8], dtype: str, channels: int
) -> None:
    pixels = cv2.GaussianBlur(real_photo[:256, :300], (0, 0), 2)
    drawn = np.zeros(pixels.shape[:2], np.uint8)
    cv2.line(drawn, (40, 10), (90, 240), 1, 2)
    cv2.circle(drawn, (200, 60), 2, 1, -1)
    scan = pixels.astype(dtype) * (1 if dtype == "uint8" else 257)
    scan[drawn > 0] = np.iinfo(dtype).max
    scan = np.ascontiguousarray(scan[..., :channels])
    tifffile.imwrite(tmp_path / "scan.tif", scan if channels == 3 else scan[..., 0])
    record = restored(tmp_path / "scan.tif", tmp_path / "run")
    assert record.output_uri is not None
    assert record.mask_uri is not None
    after = tifffile.imread(record.output_uri).reshape(scan.shape)
    mask = np.asarray(Image.open(record.mask_uri))
    assert (after.dtype, mask.shape) == (scan.dtype, scan.shape[:2])
    repaired = mask >= REPAIRED
    assert repaired[drawn > 0].mean() > 0.8
    assert repaired.mean() < 0.1
    assert np.array_equal(after[~repaired], scan[~repaired])
    assert not np.array_equal(after[repaired], scan[repaired])
    findings = {event.stage: json.loads(event.findings) for event in record.events}
    assert findings["repair"]["repaired"]["line"] == (mask == Kind.LINE | REPAIRED).mean() > 0
    assert findings["analyse"]["damage"]["line"]["fraction"] >= findings["repair"]["repaired"]["line"]


def test_a_scan_without_damage_leaves_no_mask(tmp_path: Path) -> None:
    slope = np.linspace(60, 180, 300, dtype=np.uint8)[None].repeat(200, 0)
    tifffile.imwrite(tmp_path / "scan.tif", slope)
    record = restored(tmp_path / "scan.tif", tmp_path / "run")
    assert record.output_uri is not None
    assert (record.mask_uri, record.mask_sha256) == (None, None)
    assert not (tmp_path / "run" / "masks").exists()
    assert np.array_equal(tifffile.imread(record.output_uri), slope)
