"""Opens face networks: RetinaFace (Deng et al., CVPR 2020) through facexlib, GFPGAN (Wang et al., CVPR 2021) through gfpgan."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.models import compat
from pipeline.models.catalogue import ModelCard
from pipeline.models.store import ModelStore, state_dict
from pipeline.photograph import Face, Pixels, as_unit, to_depth
from pipeline.stage import Device

PATCH = 512
# Eyes, nose and mouth corners of an aligned FFHQ face of 512 x 512, as facexlib aligns them.
TEMPLATE = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
# What lies outside the scan, RGB 0..1: the grey that the restorers were trained with.
_OUTSIDE = (132 / 255, 133 / 255, 135 / 255)
# Faces are looked for on a copy whose longer side is at most this; larger scans gain nothing but time.
_LONGEST = 2048
_CONFIDENCE = 0.97
_LEAST_EYE_DISTANCE = 5.0

DETECTORS: Mapping[str, str] = MappingProxyType(
    {"retinaface-resnet50": "resnet50", "retinaface-mobile0.25": "mobile0.25"}
)


class FaceDetector:
    """find: faces of one photograph, best score first."""

    def __init__(self, model_id: str, network: Any) -> None:
        self.model_id = model_id
        self._network = network

    def find(self, pixels: Pixels) -> tuple[Face, ...]:
        import torch

        shrink = min(1.0, _LONGEST / max(pixels.shape[:2]))
        if shrink < 1.0:
            # Before it becomes floats, which would be a large scan's fourfold size; 16 bits lose nothing that counts.
            small = cv2.resize(pixels, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
            pixels = small.reshape(*small.shape[:2], -1)
        unit = pixels.astype(np.float32) * np.float32(255 / np.iinfo(pixels.dtype).max)
        image = np.repeat(unit, 3, axis=2) if unit.shape[2] == 1 else unit[..., ::-1]
        with torch.inference_mode():
            found = self._network.detect_faces(np.ascontiguousarray(image), _CONFIDENCE)
        faces = [_face(row / shrink, float(row[4])) for row in np.asarray(found, np.float64).reshape(-1, 15)]
        return tuple(face for face in faces if _eye_distance(face) >= _LEAST_EYE_DISTANCE)


def _face(row: NDArray[np.float64], score: float) -> Face:
    box = (float(row[0]), float(row[1]), float(row[2]), float(row[3]))
    return Face(box=box, landmarks=tuple(float(v) for v in row[5:15]), score=score)


def _eye_distance(face: Face) -> float:
    left, right = np.reshape(face.landmarks, (5, 2))[:2]
    return float(np.linalg.norm(left - right))


def open_detector(models: ModelStore, model_id: str, device: Device) -> FaceDetector:
    """Raises ModelError for a missing or altered file and for a model that is no detector known here."""
    card = models.card(model_id)
    if card.architecture not in DETECTORS:
        raise ModelError(f"model {model_id} ({card.architecture}) is no face detector that can be opened here")
    compat.install()
    import torch
    from facexlib.detection.retinaface import RetinaFace

    torch.set_num_threads(device.threads)
    network = RetinaFace(network_name=DETECTORS[card.architecture], device=torch.device(device.kind))
    _load(network, models, card)
    return FaceDetector(model_id, network.to(device.kind).eval())


class FaceRestorer:
    """restore: one aligned face, 512 x 512 x 3 float32 RGB 0..1, to the same shape and range."""

    def __init__(self, model_id: str, network: Any, device: Device) -> None:
        self.model_id = model_id
        self._network = network
        self._device = device

    def restore(self, aligned: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network adds noise; it is drawn from the face's own digest, so that the same face gives the same face."""
        import torch

        seed = int.from_bytes(hashlib.sha256(aligned.tobytes()).digest()[:8], "little", signed=True)
        tensor = torch.from_numpy(aligned.transpose(2, 0, 1)[None].copy()).sub_(0.5).div_(0.5).to(self._device.kind)
        cuda = [0] if self._device.kind == "cuda" else []
        with torch.inference_mode(), torch.random.fork_rng(devices=cuda):
            torch.manual_seed(seed)
            output = self._network(tensor, return_rgb=False)[0]
        unit: NDArray[np.float32] = output[0].float().clamp(-1, 1).add(1).div(2).cpu().numpy().transpose(1, 2, 0)
        return unit


def open_restorer(models: ModelStore, model_id: str, device: Device) -> FaceRestorer:
    """Raises ModelError for a missing or altered file and for a model that is no restorer known here."""
    card = models.card(model_id)
    if card.architecture not in RESTORERS:
        raise ModelError(f"model {model_id} ({card.architecture}) is no face restorer that can be opened here")
    compat.install()
    import torch

    torch.set_num_threads(device.threads)
    network = RESTORERS[card.architecture]()
    _load(network, models, card)
    return FaceRestorer(model_id, network.to(device.kind).eval(), device)


def _gfpgan_clean() -> Any:
    from gfpgan.archs.gfpganv1_clean_arch import GFPGANv1Clean

    return GFPGANv1Clean(
        out_size=PATCH,
        num_style_feat=512,
        channel_multiplier=2,
        decoder_load_path=None,
        fix_decoder=False,
        num_mlp=8,
        input_is_latent=True,
        different_w=True,
        narrow=1,
        sft_half=True,
    )


RESTORERS: Mapping[str, Callable[[], Any]] = MappingProxyType({"gfpgan-clean": _gfpgan_clean})


def _load(network: Any, models: ModelStore, card: ModelCard) -> None:
    try:
        network.load_state_dict(state_dict(models.read_weights(card.id)), strict=True)
    except RuntimeError as error:
        raise ModelError(f"model {card.id}: the file does not fit {card.architecture}: {error}") from error


def align(pixels: Pixels, face: Face) -> tuple[NDArray[np.float32], NDArray[np.float64]] | None:
    """The face as a 512 x 512 x 3 float32 RGB patch in 0..1, and the 2 x 3 matrix from scan to patch coordinates.

    A similarity by least median of squares, as facexlib finds it. None where five points allow none.
    """
    matrix, _ = cv2.estimateAffinePartial2D(np.reshape(face.landmarks, (5, 2)), TEMPLATE, method=cv2.LMEDS)
    if matrix is None:
        return None
    around, moved = _surroundings(pixels, matrix)
    unit = as_unit(around)
    image = np.repeat(unit, 3, axis=2) if unit.shape[2] == 1 else unit
    patch = cv2.warpAffine(image, moved, (PATCH, PATCH), borderMode=cv2.BORDER_CONSTANT, borderValue=_OUTSIDE)
    return patch.astype(np.float32), matrix.astype(np.float64)


def _surroundings(pixels: Pixels, matrix: NDArray[np.float64]) -> tuple[Pixels, NDArray[np.float64]]:
    """The part of the scan that a patch reaches, so that no more becomes floats; and the matrix from there."""
    corners = np.array([[0, 0, 1], [PATCH, 0, 1], [0, PATCH, 1], [PATCH, PATCH, 1]])
    reached = corners @ cv2.invertAffineTransform(matrix).T
    height, width = pixels.shape[:2]
    left, top = (int(v) for v in np.clip(np.floor(reached.min(axis=0)) - 2, 0, (width - 1, height - 1)))
    right, bottom = (int(v) for v in np.clip(np.ceil(reached.max(axis=0)) + 3, (left + 1, top + 1), (width, height)))
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ (left, top)
    return pixels[top:bottom, left:right], moved


def as_patch(unit: NDArray[np.float32]) -> NDArray[np.uint16]:
    """A restored face as it travels: 16 bits, whatever the photograph's depth."""
    patch = to_depth(unit, np.dtype(np.uint16))
    return patch.astype(np.uint16, copy=False)
