"""Part a: our upscaler beside RealESRGANer, untiled, with the same weights, on one photograph, in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from pipeline.models import compat
from pipeline.models.precision import Precision
from pipeline.models.store import ModelStore
from pipeline.models.upscalers import open_upscaler
from pipeline.photograph import narrowed
from pipeline.policy import POLICIES
from pipeline.stage import Device, Step
from pipeline.stages.upscale import Upscale, UpscaleParameters
from tests.bench.ground import EMBEDDED, Network, Options, devices, networks, photograph, picture
from tests.tables import Row, alternate, compared

PRECISIONS: tuple[Precision, ...] = ("exact", "fast")


def side_of(network: Network, device: Device) -> int:
    """Of the photograph: a second or so of work on two cores, and enough for a card to be busy."""
    side = 96 if network.model == EMBEDDED else 256
    return side * 4 if device.kind == "cuda" else side


def an_upscaler(network: Network, device: Device, precision: Precision = "exact", **parameters: Any) -> Upscale:
    stage = Upscale(UpscaleParameters(model=network.model, precision=precision, **parameters), POLICIES["conservation"])
    stage.open(network.store, device)
    return stage


def reference_upscaler(store: ModelStore, model_id: str, device: Device, *, half: bool) -> Any:
    """RealESRGANer, untiled, with the weights that our stage uses. half: as it runs by default on a card."""
    compat.install()
    from realesrgan import RealESRGANer

    network = open_upscaler(store, model_id)
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save({"params_ema": network.state_dict()}, file.name)
        return RealESRGANer(
            scale=store.card(model_id).scale,
            model_path=file.name,
            model=network,
            tile=0,
            pre_pad=0,
            half=half,
            device=torch.device(device.kind),
        )


def rows(options: Options) -> Iterator[Row]:
    """`fast` is left out where it would be `exact` again: where the device has no 16-bit floats of its own."""
    for device in devices():
        for network in networks():
            found = [an_upscaler(network, device, precision, tile=1024, consistency=0) for precision in PRECISIONS]
            for precision, stage in zip(PRECISIONS, found, strict=True):
                if precision == "exact" or stage.precision != "fp32":
                    yield _row(network, device, precision, stage, options.runs)


def _row(network: Network, device: Device, precision: Precision, stage: Upscale, runs: int) -> Row:
    # Back-projection is ours alone: what is compared is the bare network.
    pixels = picture(*[side_of(network, device)] * 2)
    given, bgr = photograph(pixels), np.ascontiguousarray(pixels[..., ::-1])
    reference = reference_upscaler(
        network.store, network.model, device, half=precision == "fast" and device.kind == "cuda"
    )
    times = alternate(lambda: reference.enhance(bgr), lambda: stage.restore([given]), runs)
    expected = reference.enhance(bgr)[0][..., ::-1].astype(np.float32)
    [step] = stage.restore([given])
    assert isinstance(step, Step)
    difference = (narrowed(step.photograph.pixels).astype(np.float32) - expected) / 255
    return compared(f"{network.name}, {precision} ({stage.precision}), {device.kind}", 1, times, difference)
