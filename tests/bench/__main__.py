"""`make bench`: our upscaler and face restorer beside the reference packages', same weights, same photograph, alternating runs.

Prints a table and, with --json FILE, writes what was measured. Ratios and medians; absolute times belong to the machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data
import torch
from rich.console import Console

from jobs.demo import draw_dust, draw_scratches
from pipeline.codecs import decode
from pipeline.damage import DetectorSettings, find_damage, fraction_of
from pipeline.models import compat
from pipeline.models.catalogue import ModelCard
from pipeline.models.store import ModelSource, ModelStore
from pipeline.models.upscalers import open_upscaler
from pipeline.photograph import Container, Photograph, luma, narrowed
from pipeline.policy import POLICIES
from pipeline.stage import Stage, Step
from pipeline.stages.analyse import Analyse
from pipeline.stages.colour import Colour
from pipeline.stages.repair import Repair
from pipeline.stages.upscale import Upscale, UpscaleParameters
from tests.bench_faces import device, face_rows
from tests.tables import Row, alternate, compared, show

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def upscaler_row(name: str, store: ModelStore, model_id: str, precision: str, pixels: Pixels, runs: int) -> Row:
    tile = max(pixels.shape[:2])
    # Back-projection is ours alone: what is compared is the bare network.
    parameters = UpscaleParameters(model=model_id, precision=precision, tile=tile, consistency=0)  # type: ignore[arg-type]
    stage = Upscale(parameters, POLICIES["conservation"])
    stage.open(store, device())
    reference = reference_upscaler(store, model_id)
    photograph = Photograph("bench", pixels, Container("PNG"))
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    times = alternate(lambda: reference.enhance(bgr), lambda: stage.restore([photograph]), runs)
    expected = reference.enhance(bgr)[0][..., ::-1].astype(np.float32)
    step = stage.restore([photograph])[0]
    assert isinstance(step, Step)
    difference = (narrowed(step.photograph.pixels).astype(np.float32) - expected) / 255
    return compared(f"{name}, {precision} ({step.precision})", 1, times, difference)


def reference_upscaler(store: ModelStore, model_id: str) -> Any:
    """RealESRGANer, untiled, fp32, with the weights that our stage uses."""
    compat.install()
    from realesrgan import RealESRGANer

    network = open_upscaler(store, model_id)
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save({"params_ema": network.state_dict()}, file.name)
        return RealESRGANer(
            scale=store.card(model_id).scale, model_path=file.name, model=network, tile=0, pre_pad=0, half=False
        )


def stage_rates(runs: int) -> dict[str, float]:
    """Megapixels a second of the light stages on one 512 x 512 photograph, medians."""
    photograph = Photograph("bench", skimage.data.astronaut(), Container("PNG"))
    rates = {}
    for kind in (Analyse, Repair, Colour):
        stage: Stage = kind(kind.Parameters(), POLICIES["presentation"])
        stage.open(ModelStore(), device())
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            [step] = stage.restore([photograph])
            times.append(time.perf_counter() - started)
        assert isinstance(step, Step)
        photograph = step.photograph
        rates[kind.name] = 512 * 512 / 1e6 / statistics.median(times)
    return rates


def damage_quality() -> dict[str, float] | None:
    """The classical detector on clean photographs, and on the same with drawn scratches and dust; None without shared data.

    flagged_clean: mean share of clean pixels that it flags. recall, precision: of pixels, the latter with 2 pixels' grace.
    """
    files = sorted((shared() / "photos" / "clean").glob("*.jpg"))
    if not files:
        return None
    photographs = [luma(decode(file.read_bytes(), "", 10**9).pixels) for file in files]
    rng = np.random.default_rng(0)
    settings = DetectorSettings()
    recall, precision = [], []
    for photograph in photographs[:12]:
        clean = (0.15 + 0.65 * photograph[:300, :300])[..., None].astype(np.float32)
        aged = draw_dust(draw_scratches(clean, rng, 3), rng, 20)
        truth = np.abs(aged - clean)[..., 0] > 0.1
        found = find_damage(aged[..., 0], settings).kinds > 0
        near = cv2.dilate(truth.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        recall.append((found & truth).sum() / truth.sum())
        precision.append((found & near).sum() / max(1, found.sum()))
    return {
        "flagged_clean": float(
            np.mean([fraction_of(find_damage(photograph, settings).kinds) for photograph in photographs])
        ),
        "recall": float(np.mean(recall)),
        "precision": float(np.mean(precision)),
    }


def shared() -> Path:
    return Path(os.environ.get("ALBUMEN_SHARED") or Path(__file__).resolve().parents[2] / "shared")


def compact_store() -> tuple[ModelStore, str] | None:
    """The compact network: the installed official file, else the shared test weights."""
    store = ModelStore()
    if store.installed("realesr-general-x4v3"):
        return store, "realesr-general-x4v3"
    file = shared() / "weights" / "realesr-general-x4v3.fp16derived.pth"
    if not file.is_file():
        return None
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    card = ModelCard("compact", file.name, None, digest, str(file), "BSD-3-Clause", "srvggnet-compact", "upscale", 4)
    return ModelStore(ModelSource(cache="", local=(card,))), "compact"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    photo = skimage.data.astronaut()[0:320, 60:380]
    cases = [("RRDBNet x4plus", ModelStore(), "realesrgan-x4plus-embedded", 96)]
    compact = compact_store()
    if compact is not None:
        cases.append(("compact general-x4v3", *compact, 256))
    rows = [
        upscaler_row(
            name, store, model, precision, cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA), options.runs
        )
        for name, store, model, side in cases
        for precision in ("exact", "fast")
    ]
    faces = face_rows(options.runs, 8 if torch.cuda.is_available() else 1)
    rates = stage_rates(options.runs)
    damage = damage_quality()
    machine = {
        "processor": platform.processor() or platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
    }
    console = Console()
    console.print(", ".join(f"{key} {value}" for key, value in machine.items() if value is not None))
    show("upscaler", "RealESRGANer", rows)
    for name, rate in rates.items():
        console.print(f"{name:<8} {rate:.1f} megapixels/s")
    show("faces", "GFPGANer", faces)
    if damage is not None:
        console.print("damage detector: " + ", ".join(f"{name} {value:.4f}" for name, value in damage.items()))
    if options.json:
        found = {
            "machine": machine,
            "upscalers": [asdict(row) for row in rows],
            "faces": [asdict(row) for row in faces],
            "megapixels_per_second": rates,
            "damage": damage,
        }
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
