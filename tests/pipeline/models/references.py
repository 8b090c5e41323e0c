"""GFPGAN and GFPGANer as their own package builds them, with seeded random weights: what ours is held against."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.models import compat
from pipeline.models.store import ModelStore, state_dict

MOBILE = "retinaface-mobile0.25"

# As v1.3 and v1.4 are built.
PUBLISHED = {"out_size": 512, "num_style_feat": 512, "channel_multiplier": 2, "num_mlp": 8, "narrow": 1}


def a_reference(**changes: Any) -> Any:
    """GFPGANv1Clean with seeded random weights, small unless asked otherwise, and its noise on, whose weights start at zero."""
    compat.install()
    from gfpgan.archs.gfpganv1_clean_arch import GFPGANv1Clean

    torch.manual_seed(7)
    built = {
        "out_size": 64,
        "num_style_feat": 64,
        "channel_multiplier": 1,
        "decoder_load_path": None,
        "fix_decoder": False,
        "num_mlp": 2,
        "input_is_latent": True,
        "different_w": True,
        "narrow": 0.25,
        "sft_half": True,
    }
    network = GFPGANv1Clean(**built | changes).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.numel() == 1:
                parameter.fill_(0.5)
            elif name.endswith("bias"):
                parameter.normal_(std=0.1).add_(1.0 if "modulation" in name else 0.0)
    return network.requires_grad_(requires_grad=False)


def stored_noise(reference: Any, count: int) -> list[torch.Tensor]:
    """What the reference adds where it is asked not to draw noise anew."""
    noises = reference.stylegan_decoder.noises
    layers = reference.stylegan_decoder.num_layers
    return [getattr(noises, f"noise{layer}").expand(count, -1, -1, -1) for layer in range(layers)]


def seed_of(face: NDArray[np.float32]) -> int:
    """What ours seeds the noise of an aligned face with."""
    digest = hashlib.sha256(np.ascontiguousarray(face).data).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


class Labelling(torch.nn.Module):
    """Stands for ParseNet: says of every pixel the class that it was made with."""

    scores: torch.Tensor

    def __init__(self, labels: NDArray[np.uint8]) -> None:
        super().__init__()
        classes = torch.nn.functional.one_hot(torch.from_numpy(labels.astype(np.int64)), 19).permute(2, 0, 1)[None]
        self.register_buffer("scores", classes)

    def forward(self, _: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.scores,)


def labels() -> NDArray[np.uint8]:
    """A face of every class, with hair that reaches the patch's upper border, a neck and clothes."""
    drawn = np.zeros((512, 512), np.uint8)
    cv2.rectangle(drawn, (100, 0), (412, 260), 13, -1)
    cv2.rectangle(drawn, (190, 380), (322, 511), 17, -1)
    cv2.rectangle(drawn, (60, 470), (450, 511), 18, -1)
    cv2.ellipse(drawn, (256, 290), (140, 180), 0, 0, 360, 1, -1)
    for number in range(2, 13):
        cv2.circle(drawn, (150 + 20 * number, 200 + 15 * number), 18, number, -1)
    cv2.circle(drawn, (110, 300), 20, 15, -1)
    cv2.circle(drawn, (60, 60), 25, 14, -1)
    return drawn


def a_helper(scale: int, detector: Any = None, device: str = "cpu") -> Any:
    """facexlib's helper, its masks from `Labelling`. detector: a network in place of the one that it would download."""
    compat.install()
    from facexlib.utils import face_restoration_helper as module

    with (
        patch.object(module, "init_detection_model", lambda *_, **__: detector),
        patch.object(module, "init_parsing_model", lambda *_, **__: Labelling(labels()).to(device)),
    ):
        return module.FaceRestoreHelper(scale, face_size=512, use_parse=True, device=torch.device(device))


class _Seeded(torch.nn.Module):
    """A network whose noise is drawn from these seeds, one for each face of a photograph; GFPGANer seeds none."""

    def __init__(self, network: Any, seeds: Sequence[int]) -> None:
        super().__init__()
        self.network, self.seeds, self.calls = network, tuple(seeds), 0

    def forward(self, *given: Any, **options: Any) -> Any:
        torch.manual_seed(self.seeds[self.calls % len(self.seeds)])
        self.calls += 1
        return self.network(*given, **options)


def a_gfpganer(network: Any, models: ModelStore, seeds: Sequence[int], device: str = "cpu") -> Any:
    """GFPGANer around a network, with the real mobile0.25 detector in place of the one that it would download."""
    compat.install()
    from facexlib.detection.retinaface import RetinaFace
    from gfpgan import GFPGANer

    detector = RetinaFace(network_name="mobile0.25", device=torch.device(device))
    detector.load_state_dict(state_dict(models.read_weights(MOBILE)))
    ganer = object.__new__(GFPGANer)
    ganer.upscale, ganer.bg_upsampler, ganer.device = 1, None, torch.device(device)
    ganer.gfpgan = _Seeded(network, seeds)
    ganer.face_helper = a_helper(1, detector.to(device).eval(), device)
    return ganer
