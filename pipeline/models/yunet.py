"""YuNet (Wu, Peng, Yu, Machine Intelligence Research 20, 2023) through OpenCV: small, for machines without a GPU."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.errors import ModelError
from pipeline.models.boxes import Rows, suppressed
from pipeline.models.catalogue import ModelCard
from pipeline.models.store import ModelStore
from pipeline.photograph import Pixels, narrowed

CONFIDENCE = 0.87
_OVERLAP = 0.3
# What OpenCV sorts out before its own suppression, which is switched off here.
_MOST = 5000


def open_yunet(models: ModelStore, card: ModelCard) -> YuNetNetwork:
    """Raises ModelError for a missing or altered file and for one that OpenCV cannot read as this network."""
    content = np.frombuffer(models.read_bytes(card.id), np.uint8)
    try:
        network = cv2.FaceDetectorYN.create("onnx", content, np.empty(0, np.uint8), (320, 320), CONFIDENCE, 1.0, _MOST)
    except cv2.error as error:
        raise ModelError(f"model {card.id}: the file does not fit {card.architecture}: {error.err}") from error
    return YuNetNetwork(network)


class YuNetNetwork:
    """detect: what the network sees on exactly these pixels, at most 8 bits of each sample."""

    def __init__(self, network: cv2.FaceDetectorYN) -> None:
        self._network = network

    def detect(self, pixels: Pixels) -> Rows:
        """K x 15, best first: left, top, right, bottom, score, then x and y of eyes, nose and mouth corners.

        pixels: H x W x 1|3 uint8 or uint16 RGB. OpenCV names eyes by their owner's side and so begins with the one on the left
        of the picture, as RetinaFace does.
        """
        shallow = narrowed(pixels)
        bgr = np.repeat(shallow, 3, axis=2) if shallow.shape[2] == 1 else shallow[..., ::-1]
        self._network.setInputSize(bgr.shape[1::-1])
        _, answer = self._network.detect(np.ascontiguousarray(bgr))
        if answer is None:
            return np.empty((0, 15))
        found = np.asarray(answer, np.float64)
        corner, extent, points, scores = found[:, :2], found[:, 2:4], found[:, 4:14], found[:, 14]
        rows = np.concatenate([corner, corner + extent, scores[:, None], points], axis=1)
        return rows[suppressed(rows[:, :4], scores, _OVERLAP)]
