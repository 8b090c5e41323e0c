"""Opens networks that say which part of a face a pixel is: ParseNet and BiSeNet (Yu et al., ECCV 2018) through facexlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.models import compat
from pipeline.models.precision import convolving
from pipeline.models.store import ModelStore, state_dict
from pipeline.stage import Device

Labels = NDArray[np.uint8]
_CLASSES = 19


@dataclass(frozen=True, slots=True)
class Classes:
    """How a network numbers what it sees, and what it wants to see: (value - mean) / deviation, sRGB 0..1.

    face: the classes that are laid in, the same parts of a face for both networks: neither neck, clothes, hat nor background.
    """

    face: frozenset[int]
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


PARSERS: Mapping[str, Classes] = MappingProxyType(
    {
        "parsenet": Classes(frozenset({*range(1, 14), 15}), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        "bisenet": Classes(frozenset({*range(1, 14), 17}), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    }
)


class FaceParser:
    """parse: which class every pixel of aligned faces has."""

    def __init__(self, model_id: str, architecture: str, network: Any, device: Device) -> None:
        self.model_id = model_id
        self.architecture = architecture
        self._network = network
        self._device = device

    def parse(self, faces: NDArray[np.float32]) -> tuple[Labels, ...]:
        """faces: N x 512 x 512 x 3 float32 sRGB, 0..1. A 512 x 512 uint8 for each. One at a time: faces may be many."""
        import torch

        known = PARSERS[self.architecture]
        found = []
        for face in faces:
            seen = (face - np.array(known.mean, np.float32)) / np.array(known.deviation, np.float32)
            tensor = torch.from_numpy(np.ascontiguousarray(seen.transpose(2, 0, 1)[None])).to(self._device.kind)
            with torch.inference_mode(), convolving(self._device.kind, exact=True):
                scores = self._network(tensor)[0]
            found.append(scores.argmax(dim=1)[0].to(torch.uint8).cpu().numpy())
        return tuple(found)

    def face_of(self, labels: Labels) -> NDArray[np.bool_]:
        """Where the face is that may be laid in."""
        return np.isin(labels, list(PARSERS[self.architecture].face))


def _parsenet() -> Any:
    from facexlib.parsing.parsenet import ParseNet

    return ParseNet(in_size=512, out_size=512, parsing_ch=_CLASSES)


def _bisenet() -> Any:
    from facexlib.parsing.bisenet import BiSeNet

    return BiSeNet(num_class=_CLASSES)


_NETWORKS: Mapping[str, Callable[[], Any]] = MappingProxyType({"parsenet": _parsenet, "bisenet": _bisenet})


def network_of(architecture: str) -> Any:
    """The published network without its weights."""
    compat.install()
    return _NETWORKS[architecture]()


def open_parser(models: ModelStore, model_id: str, device: Device) -> FaceParser:
    """Raises ModelError for a missing or altered file and for a model that parses no faces."""
    card = models.card(model_id)
    if card.architecture not in PARSERS:
        raise ModelError(f"model {model_id} ({card.architecture}) does not parse faces")
    import torch

    torch.set_num_threads(device.threads)
    network = network_of(card.architecture)
    try:
        network.load_state_dict(state_dict(models.read_weights(model_id)), strict=True)
    except RuntimeError as error:
        raise ModelError(f"model {model_id}: the file does not fit {card.architecture}: {error}") from error
    return FaceParser(model_id, card.architecture, network.to(device.kind).eval(), device)
