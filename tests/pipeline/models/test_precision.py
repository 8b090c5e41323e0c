"""What is called fp32 is fp32: on a GPU convolutions are told to round nothing more, and everything else stays as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.damage import learned
from pipeline.damage.learned import LearnedDetector, LearnedSettings
from pipeline.models import retinaface
from pipeline.models.damage_net import DamageNet
from pipeline.models.precision import convolving
from pipeline.models.retinaface import RetinaFaceNetwork
from pipeline.photograph import Container, Photograph
from pipeline.stage import Device
from pipeline.stages import upscale
from pipeline.stages.upscale import _Callable

FLAGS = ("allow_tf32", "deterministic", "benchmark", "enabled")


def flags() -> dict[str, Any]:
    return {name: getattr(torch.backends.cudnn, name) for name in FLAGS}


@pytest.mark.parametrize("exact", [True, False])
def test_a_gpu_is_told_what_fp32_means_and_only_while_it_computes(*, exact: bool) -> None:
    before = flags()
    with convolving("cuda", exact=exact):
        assert flags() == {"allow_tf32": not exact, "deterministic": True, "benchmark": False, "enabled": True}
    assert flags() == before
    with convolving("cpu", exact=exact):
        assert flags() == before


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The kinds of device and the exactness that networks were run with, one after another."""
    found: list[tuple[str, bool]] = []

    @contextmanager
    def told(kind: str, *, exact: bool) -> Iterator[None]:
        found.append((kind, exact))
        yield
        found.append(("ended", exact))

    for module in (learned, retinaface, upscale):
        monkeypatch.setattr(module, "convolving", told)
    return found


class Watching(torch.nn.Module):
    """Says when it ran."""

    def __init__(self, asked: list[tuple[str, bool]], answer: Any) -> None:
        super().__init__()
        self.asked, self.answer, self.cfg = asked, answer, {"steps": (), "min_sizes": (), "variance": (0.1, 0.2)}

    def forward(self, pixels: torch.Tensor) -> Any:
        self.asked.append(("ran", True))
        return self.answer(pixels)


def test_damage_is_found_in_fp32(asked: list[tuple[str, bool]], real_photo: NDArray[np.uint8]) -> None:
    network = Watching(asked, DamageNet().eval())
    network.bounds = torch.zeros(4)
    detector = LearnedDetector(network, "mine", "cpu", LearnedSettings())  # type: ignore[arg-type]
    detector.find(Photograph("item", np.ascontiguousarray(real_photo[:64, :64]), Container("PNG")))
    assert asked == [("cpu", True), ("ran", True), ("ended", True)]


def test_faces_are_found_in_fp32(asked: list[tuple[str, bool]], real_photo: NDArray[np.uint8]) -> None:
    network = Watching(asked, lambda _: (torch.zeros(1, 0, 4), torch.zeros(1, 0, 2), torch.zeros(1, 0, 10)))
    assert len(RetinaFaceNetwork(network, Device()).detect(real_photo[:32, :32])) == 0
    assert asked == [("cpu", True), ("ran", True), ("ended", True)]


@pytest.mark.parametrize(("kind", "exact"), [(torch.float32, True), (torch.bfloat16, False)])
def test_upscaling_is_as_exact_as_its_name(asked: list[tuple[str, bool]], kind: torch.dtype, *, exact: bool) -> None:
    network = Watching(asked, lambda tiles: torch.nn.functional.interpolate(tiles, scale_factor=2.0))
    tiles = np.full((1, 3, 8, 8), 0.5, np.float32)
    assert _Callable(network, "cpu", kind, 1)(tiles).shape == (1, 3, 16, 16)
    assert asked == [("cpu", exact), ("ran", True), ("ended", exact)]
