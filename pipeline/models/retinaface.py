"""RetinaFace (Deng et al., CVPR 2020) through facexlib's networks, without its loops over anchors and torchvision's NMS."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.models import compat
from pipeline.models.boxes import Rows, suppressed
from pipeline.models.catalogue import ModelCard
from pipeline.models.precision import convolving
from pipeline.models.store import ModelStore, state_dict
from pipeline.photograph import Pixels
from pipeline.stage import Device

BACKBONES = {"retinaface-resnet50": "resnet50", "retinaface-mobile0.25": "mobile0.25"}

# As facexlib's helper and its network have them.
CONFIDENCE = 0.97
_OVERLAP = 0.4
_MEAN_BGR = np.array([104, 117, 123], np.float32)

Floats = NDArray[np.float32]


def open_retinaface(models: ModelStore, card: ModelCard, device: Device) -> RetinaFaceNetwork:
    """Raises ModelError for a missing or altered file and for one that holds something else."""
    compat.install()
    import torch
    from facexlib.detection.retinaface import RetinaFace

    torch.set_num_threads(device.threads)
    weights = state_dict(models.read_weights(card.id))
    network = RetinaFace(network_name=BACKBONES[card.architecture], device=torch.device(device.kind))
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ModelError(f"model {card.id}: the file does not fit {card.architecture}: {error}") from error
    return RetinaFaceNetwork(network.to(device.kind).eval(), device)


class RetinaFaceNetwork:
    """detect: what the network sees on exactly these pixels."""

    def __init__(self, network: Any, device: Device) -> None:
        self._network = network
        self._device = device

    def detect(self, pixels: Pixels) -> Rows:
        """K x 15, best first: left, top, right, bottom, score, then x and y of eyes, nose and mouth corners.

        pixels: H x W x 1|3 uint8 or uint16 RGB. Equal to facexlib's `detect_faces` but for the order of equal scores.
        """
        import torch

        unit = pixels.astype(np.float32) * np.float32(255 / np.iinfo(pixels.dtype).max)
        bgr = np.repeat(unit, 3, axis=2) if unit.shape[2] == 1 else unit[..., ::-1]
        planes = np.ascontiguousarray((bgr - _MEAN_BGR).transpose(2, 0, 1)[None])
        with torch.inference_mode(), convolving(self._device.kind, exact=True):
            answer = self._network(torch.from_numpy(planes).to(self._device.kind))
        moves, classes, points = (part[0].float().cpu().numpy() for part in answer)
        likely = np.flatnonzero(classes[:, 1] > np.float32(CONFIDENCE))
        priors = _priors(likely, pixels.shape[:2], self._network.cfg)
        rows = _decoded(moves[likely], points[likely], priors, self._network.cfg["variance"])
        rows *= np.tile(np.array(pixels.shape[1::-1], np.float32), 7)
        scores = classes[likely, 1].astype(np.float64)
        found = np.insert(rows.astype(np.float64), 4, scores, axis=1)
        return found[suppressed(found[:, :4], scores, _OVERLAP)]


def _priors(indices: NDArray[np.intp], shape: tuple[int, ...], cfg: dict[str, Any]) -> Floats:
    """The anchors that stand at these places of the network's answer: centre and size, as shares of the image, K x 4.

    The answer runs over levels, then rows, columns and sizes.
    """
    height, width = shape
    priors = np.empty((len(indices), 4))
    start = 0
    for step, sizes in zip(cfg["steps"], cfg["min_sizes"], strict=True):
        rows, columns = -(-height // step), -(-width // step)
        end = start + rows * columns * len(sizes)
        here = (indices >= start) & (indices < end)
        cell, size = np.divmod(indices[here] - start, len(sizes))
        row, column = np.divmod(cell, columns)
        side = np.asarray(sizes, np.float64)[size]
        priors[here] = np.stack(
            [(column + 0.5) * step / width, (row + 0.5) * step / height, side / width, side / height], axis=1
        )
        start = end
    return priors.astype(np.float32)


def _decoded(moves: Floats, points: Floats, priors: Floats, variance: tuple[float, float]) -> Floats:
    """Boxes by their corners and five points, as shares of the image: K x 14 (Liu et al., SSD, ECCV 2016, equation 2)."""
    centres, sizes = priors[:, :2], priors[:, 2:]
    spread, growth = (np.float32(v) for v in variance)
    middle = centres + moves[:, :2] * spread * sizes
    extent = sizes * np.exp(moves[:, 2:] * growth)
    corner = middle - extent / 2
    landmarks = np.tile(centres, 5) + points * spread * np.tile(sizes, 5)
    return np.concatenate([corner, corner + extent, landmarks], axis=1)
