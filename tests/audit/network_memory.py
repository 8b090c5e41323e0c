"""`python -m tests.audit.network_memory`: what networks for faces, damage, noise and size take at their peak beyond their
weights, in fp32 on the CPU, each in a process of its own. The weights are random: what is taken depends on shapes alone."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.watched import forget, held

# By what they are given: a copy of so many pixels, so many faces at once, one face, a photograph in tiles.
DETECTORS = ("retinaface-resnet50", "retinaface-mobile0.25")
RESTORERS = ("gfpgan-clean", "restoreformer", "codeformer")
PARSERS = ("parsenet", "bisenet")
DENOISERS = ("noise-net",)
UPSCALERS = ("rrdbnet", "srvggnet-compact")
DAMAGE = ("damage-unet",)


def one(architecture: str, count: int) -> None:
    """Prints bytes. count: longer side for a detector of faces or damage or a denoiser, else faces at once."""
    call = _ready(architecture, count)
    forget()
    before = held("VmRSS")
    call()
    print(held("VmHWM") - before)


def _ready(architecture: str, count: int) -> Callable[[], object]:
    import torch

    from pipeline.models import compat
    from pipeline.stage import Device

    compat.install()
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    if architecture in DETECTORS:
        from facexlib.detection.retinaface import RetinaFace

        from pipeline.models.retinaface import BACKBONES, RetinaFaceNetwork

        network = RetinaFace(network_name=BACKBONES[architecture], device=torch.device("cpu")).eval()
        pixels = rng.integers(0, 256, (count, count, 3), dtype=np.uint8)
        return lambda: RetinaFaceNetwork(network, Device()).detect(pixels)
    if architecture in DENOISERS:
        return _denoising(rng.integers(0, 256, (count, count, 3), dtype=np.uint8))
    if architecture in UPSCALERS:
        return _upscaling(architecture, rng.random((1, 3, count, count), np.float32))
    if architecture in DAMAGE:
        return _marking(rng.integers(0, 256, (count, count, 3), dtype=np.uint8))
    faces = rng.random((count, 512, 512, 3), np.float32)
    if architecture in PARSERS:
        from pipeline.models.parsing import FaceParser, network_of

        parser = FaceParser(architecture, architecture, network_of(architecture).eval(), Device())
        return lambda: parser.parse(faces)
    restorer = _restorer(architecture, Device())
    restorer.batch = count
    return lambda: restorer.restore(faces)


def _upscaling(architecture: str, planes: Any) -> Callable[[], object]:
    """With fewer layers: memory does not depend on their number."""
    import torch
    from basicsr.archs.rrdbnet_arch import RRDBNet
    from realesrgan.archs.srvgg_arch import SRVGGNetCompact

    from pipeline.models.store import ModelStore
    from pipeline.models.upscalers import in_windows

    model = {"rrdbnet": "realesrgan-x4plus-embedded", "srvggnet-compact": "realesr-general-x4v3"}[architecture]
    network = (
        RRDBNet(3, 3, scale=4, num_feat=64, num_block=1, num_grow_ch=32)
        if architecture == "rrdbnet"
        else SRVGGNetCompact(3, 3, num_feat=64, num_conv=12, upscale=4, act_type="prelu")
    )
    network = network.eval().requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)
    windows = in_windows(network, ModelStore().card(model), "cpu")

    def call() -> object:
        with torch.inference_mode():
            return windows(torch.from_numpy(planes).contiguous(memory_format=torch.channels_last))

    return call


def _denoising(pixels: Any) -> Callable[[], object]:
    import torch

    from pipeline.models.noise_net import NoiseNet
    from pipeline.photograph import Container, Photograph
    from pipeline.removal import Denoiser

    network = NoiseNet().eval().to(memory_format=torch.channels_last)
    denoiser, photograph = Denoiser(network, "noise-net", "cpu"), Photograph("noise", pixels, Container("PNG"))
    return lambda: denoiser.denoise(photograph, denoiser.find(photograph), 1.0)


def _marking(pixels: Any) -> Callable[[], object]:
    import torch

    from pipeline.damage.learned import LearnedDetector, LearnedSettings
    from pipeline.models.damage_net import DamageNet
    from pipeline.photograph import Container, Photograph

    network = DamageNet().eval().to(memory_format=torch.channels_last)
    detector = LearnedDetector(network, "damage-unet", "cpu", LearnedSettings())
    photograph = Photograph("damage", pixels, Container("PNG"))
    return lambda: detector.find(photograph)


def _restorer(architecture: str, device: Any) -> Any:
    from pipeline.models.codeformer import codeformer
    from pipeline.models.face_restorers import gfpgan_clean, of_codes, shared_gfpgan

    if architecture == "gfpgan-clean":
        return shared_gfpgan(architecture, gfpgan_clean().eval(), device)
    if architecture == "codeformer":
        return of_codes(codeformer(architecture).eval(), architecture, device, weight=0.5)
    from gfpgan.archs.restoreformer_arch import RestoreFormer

    return of_codes(RestoreFormer().eval(), architecture, device)


def measured(architecture: str, count: int) -> int:
    """Bytes, from a process of its own."""
    call = f"from tests.audit.network_memory import one; one({architecture!r}, {count})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ran = subprocess.run([sys.executable, "-c", call], env=environment, capture_output=True, text=True, check=True)
    return int(ran.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    everything = (*UPSCALERS, *DENOISERS, *DAMAGE, *DETECTORS, *PARSERS, *RESTORERS)
    parser.add_argument("--only", choices=everything)
    parser.add_argument("--faces", type=int, nargs="+", default=[1, 2, 4, 8])
    options = parser.parse_args()
    tiled = {UPSCALERS: [512, 1024], DENOISERS: [384, 1024], DAMAGE: [1024, 3000]}
    counts = {**tiled, DETECTORS: [1024, 2048], PARSERS: [1], RESTORERS: options.faces}
    for architecture in (options.only,) if options.only else everything:
        for count in next(found for known, found in counts.items() if architecture in known):
            try:
                print(f"{architecture} {count}: {measured(architecture, count) / 2**20:.0f} MiB", flush=True)
            except subprocess.CalledProcessError as error:
                print(f"{architecture} {count}: {error.stderr.strip().splitlines()[-1]}", flush=True)


if __name__ == "__main__":
    main()
