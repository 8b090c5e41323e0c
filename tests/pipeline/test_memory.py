"""What a photograph is said to need is more than what it was seen to take, and not absurdly more."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import skimage.data
import tifffile

from pipeline import memory
from pipeline.memory import Size
from pipeline.models import face_detectors
from pipeline.stages import FOOTPRINTS
from tests.audit import network_memory


def need(size: Size, stages: Iterable[str], networks: Iterable[str] = ()) -> int:
    return memory.need(size, [FOOTPRINTS[name].working for name in stages], networks)


# Prints the peak memory of the worker and of its decoder above what they take idle, after one photograph.
WORKER = """
import sys
from dataclasses import replace
from pathlib import Path
from pipeline.models.store import ModelSource, ModelStore
from pipeline.policy import POLICIES
from pipeline.record import Record
from pipeline.stage import Device
from pipeline.stages import STAGES
from pipeline.stages.deliver import Deliver, DeliverParameters
from pipeline.stages.ingest import Ingest, IngestParameters
from pipeline.storage import Store
from pipeline.supervision import run_end, run_stage

def peak(name, pid="self"):
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) * 1024

source, folder, *names = sys.argv[1:]
models = ModelStore(ModelSource(cache=folder))
ingest = Ingest(IngestParameters(), Store())
deliver = Deliver(DeliverParameters(), Store(), folder, "cd" * 32)
stages = [STAGES[name](STAGES[name].Parameters(), POLICIES["presentation"]) for name in names]
for stage in stages:
    stage.open(models, Device())
ingest.open()
idle = peak("VmRSS") + peak("VmRSS", ingest.decoder.pid)
record = run_end(ingest, ingest.parameters, ingest.read, Record(0, "ab" * 16, source))
assert record.photograph is not None, record.detail
decoder = peak("VmHWM", ingest.decoder.pid)
for stage in stages:
    [record] = run_stage(stage, stage.Parameters(), [record], models, Device())
record = run_end(deliver, deliver.parameters, deliver.write, record)
assert record.output_sha256, record.detail
print(peak("VmHWM") + decoder - idle)
"""


def measured(folder: Path, width: int, height: int, stages: list[str]) -> int:
    """Bytes that a 16-bit RGB TIFF of this size takes from ingest to deliver, at the peak, in processes of their own."""
    import cv2

    pixels = cv2.resize(skimage.data.astronaut(), (width, height)).astype("uint16") * 257
    source = folder / "scan.tif"
    tifffile.imwrite(source, pixels, photometric="rgb", compression="zlib", rowsperstrip=64)
    del pixels
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ran = subprocess.run(
        [sys.executable, "-c", WORKER, str(source), str(folder), *stages],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(ran.stdout)


def test_what_is_needed_bounds_what_is_taken(tmp_path: Path) -> None:
    size = Size(2400, 2000, 3, 16)
    taken = measured(tmp_path, size.width, size.height, ["colour"])
    assert taken <= need(size, ["ingest", "colour", "deliver"])
    assert taken >= size.pixels * size.stored


@pytest.mark.audit
@pytest.mark.parametrize("stages", [[], ["colour"], ["analyse", "repair"]], ids=["null", "colour", "repair"])
def test_what_is_needed_bounds_what_twenty_megapixels_take(tmp_path: Path, stages: list[str]) -> None:
    size = Size(5000, 4000, 3, 16)
    taken = measured(tmp_path, size.width, size.height, stages)
    bound = need(size, ["ingest", *stages, "deliver"], ["damage-unet"] if "analyse" in stages else [])
    assert taken <= bound
    assert bound <= 5 * taken


def test_a_pool_needs_what_its_hungriest_stage_needs() -> None:
    size = Size(1000, 1000, 3, 16)
    assert need(size, ["ingest", "colour", "deliver"]) == max(need(size, [n]) for n in ("ingest", "colour", "deliver"))


def test_networks_need_more_and_only_the_hungriest_counts() -> None:
    size, stages = Size(4000, 3000, 3, 16), ["analyse", "faces"]
    bare = need(size, stages)
    detector, restorer = (need(size, stages, [name]) for name in ("retinaface-resnet50", "gfpgan-clean"))
    assert min(detector, restorer) > bare + (500 << 20)
    assert need(size, stages, ["gfpgan-clean", "retinaface-resnet50"]) == max(detector, restorer)
    assert need(size, stages, ["mobilefacenet"]) == bare


def test_an_upscaler_is_given_a_bounded_tile() -> None:
    def extra(width: int, height: int) -> int:
        size = Size(width, height, 3, 8)
        return need(size, ["upscale"], ["rrdbnet"]) - need(size, ["upscale"])

    assert extra(20000, 10000) == extra(1024, 1024) > extra(20000, 100) == extra(1024, 100)


def test_photographs_that_are_in_hand_together_share_what_is_needed_one_by_one() -> None:
    sizes, working = [Size(600, 400, 3, 8), Size(300, 200, 1, 16)], [FOOTPRINTS["upscale"].working]
    alone = [memory.need(size, working, ["rrdbnet"]) for size in sizes]
    together = memory.need_together(sizes, working, ["rrdbnet"])
    assert max(alone) < together < sum(alone)
    assert memory.need_together(sizes[:1], working, ["rrdbnet"]) == alone[0]


def test_a_detector_is_given_a_bounded_copy() -> None:
    def extra(width: int, height: int) -> int:
        size = Size(width, height, 3, 8)
        return need(size, ["analyse"], ["retinaface-resnet50"]) - need(size, ["analyse"])

    assert memory._SEARCHED == face_detectors.LONGEST
    assert extra(20000, 10000) == extra(2048, 1024) > extra(1000, 500)


@pytest.mark.parametrize(
    ("architecture", "count"),
    [
        ("retinaface-mobile0.25", 1024),
        ("noise-net", 700),
        ("srvggnet-compact", 600),
        ("rrdbnet", 300),
        ("damage-unet", 1024),
        *(
            pytest.param(*case, marks=pytest.mark.audit)
            for case in (
                ("retinaface-resnet50", 2048),
                ("gfpgan-clean", 1),
                ("rrdbnet", 1024),
                ("srvggnet-compact", 1024),
            )
        ),
        *(pytest.param(name, 1, marks=pytest.mark.audit) for name in ("restoreformer", "parsenet", "bisenet")),
    ],
)
def test_what_networks_take_is_counted(architecture: str, count: int) -> None:
    size = Size(count, count, 3, 8)
    taken, counted = network_memory.measured(architecture, count), memory._NETWORKS[architecture](size)
    assert counted / 5 <= taken <= counted


def test_more_pixels_and_deeper_ones_need_more() -> None:
    for name in ("ingest", "analyse", "repair", "faces", "upscale", "compose", "colour", "deliver"):
        small, grey, deep = (Size(1000, side, c, d) for side, c, d in ((1000, 3, 8), (1000, 1, 8), (1000, 3, 16)))
        assert need(grey, [name]) < need(small, [name]) <= need(deep, [name]) < need(Size(1000, 4000, 3, 16), [name])


def test_every_stage_has_its_figure() -> None:
    from pipeline.stages import STAGES

    assert tuple(FOOTPRINTS) == ("ingest", *STAGES, "deliver")
    for name in FOOTPRINTS:
        assert FOOTPRINTS[name].seconds > 0
        assert need(Size(1, 1, 1, 8), [name]) > 0


def test_a_container_sees_its_own_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = memory.machine_bytes()
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "limit").write_text("2000000000\n")
    monkeypatch.setattr(memory, "_CGROUPS", (tmp_path / "max", tmp_path / "missing"))
    assert memory.machine_bytes() == whole
    monkeypatch.setattr(memory, "_CGROUPS", (tmp_path / "max", tmp_path / "limit"))
    assert memory.machine_bytes() == 2_000_000_000
    assert memory.budget() < 2_000_000_000
