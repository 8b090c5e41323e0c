"""Opens networks that turn a face into a vector by which people are told apart. OpenCV's dnn runs them, on the CPU."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.models.faces import similarity
from pipeline.models.store import ModelStore

SIDE = 112
# Eyes, nose and mouth corners of a face of 112 x 112 as these networks were trained on it (Deng et al., ArcFace, CVPR 2019).
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
_EYES = float(np.linalg.norm(TEMPLATE[1] - TEMPLATE[0]))


@dataclass(frozen=True, slots=True)
class Input:
    """What a network wants to see of a face in sRGB 0..1: (value - mean) / deviation, per channel."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


EMBEDDERS: Mapping[str, Input] = MappingProxyType(
    {
        # Chen et al., CCBR 2018; trained on faces normalised as ImageNet is.
        "mobilefacenet": Input((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        # Zhong et al., 2021: samples of 0..255 as they are.
        "sface": Input((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
    }
)


class FaceEmbedder:
    """embed: a face to a vector of length 1. The same face gives the same vector."""

    def __init__(self, model_id: str, architecture: str, network: Any) -> None:
        self.model_id = model_id
        self.architecture = architecture
        self._network = network

    def embed(self, face: NDArray[np.float32]) -> NDArray[np.float32]:
        """face: 112 x 112 x 3 float32 sRGB, 0..1, as `crop` makes it. Looked at from both sides (mirrored, too), as the
        networks' own evaluations do; one at a time, because the files fix the size of the batch.

        Raises RuntimeError where the answer is no vector of numbers.
        """
        wanted = EMBEDDERS[self.architecture]
        seen = (np.clip(face, 0.0, 1.0) - np.array(wanted.mean, np.float32)) / np.array(wanted.deviation, np.float32)
        total = np.zeros((), np.float32)
        for view in (seen, seen[:, ::-1]):
            self._network.setInput(np.ascontiguousarray(view.transpose(2, 0, 1)[None], np.float32))
            total = total + self._network.forward().reshape(-1)
        length = float(np.linalg.norm(total))
        if not np.isfinite(length) or length == 0:
            raise RuntimeError(f"model {self.model_id} gave no vector for a face")
        vector: NDArray[np.float32] = (total / length).astype(np.float32)
        return vector


def crop(patch: NDArray[np.float32], landmarks: NDArray[np.float64], eyes: float) -> NDArray[np.float32] | None:
    """The face of a patch (S x S x 3 float32) as a network wants it: 112 x 112, no finer than its source.

    landmarks: 5 x 2, pixels of the patch. eyes: pixels between the eyes in the scan that the patch comes from: what is finer
    than those pixels is averaged away, so that a sharp face and a blurred one are compared by what both can hold. None where
    five points allow no similarity.
    """
    size = patch.shape[0]
    apart = max(float(np.linalg.norm(landmarks[1] - landmarks[0])), 1.0)
    side = int(np.clip(round(size * min(eyes, _EYES) / apart), 8, size))
    small = patch if side == size else cv2.resize(patch, (side, side), interpolation=cv2.INTER_AREA)
    points = (landmarks + 0.5) * (side / size) - 0.5
    matrix = similarity(points, TEMPLATE)
    if matrix is None:
        return None
    face = cv2.warpAffine(small, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    cut: NDArray[np.float32] = np.clip(face, 0.0, 1.0).astype(np.float32)
    return cut


def open_embedder(models: ModelStore, model_id: str) -> FaceEmbedder:
    """Raises ModelError for a missing or altered file and for a model that tells nobody apart."""
    card = models.card(model_id)
    if card.architecture not in EMBEDDERS:
        raise ModelError(f"model {model_id} ({card.architecture}) does not tell people apart")
    data = models.ensure(model_id).read_bytes()
    # These very bytes, and not the file that was looked at a moment ago.
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise ModelError(f"model {model_id}: its file changed while it was read")
    try:
        network = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
        embedder = FaceEmbedder(model_id, card.architecture, network)
        embedder.embed(np.full((SIDE, SIDE, 3), 0.5, np.float32))
    except (cv2.error, RuntimeError) as error:
        raise ModelError(f"model {model_id}: the file does not fit {card.architecture}: {error}") from error
    return embedder
