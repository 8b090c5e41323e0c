"""Opens networks that take noise away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.models.own import opened
from pipeline.models.store import ModelStore
from pipeline.stage import Device

if TYPE_CHECKING:
    from pipeline.models.noise_net import NoiseNet

DENOISERS = frozenset({"noise-net"})


def open_denoiser(models: ModelStore, model_id: str, device: Device) -> NoiseNet:
    """Ready for inference on the device. Raises ModelError for a missing or altered file, and for one that holds something
    else."""
    from pipeline.models.noise_net import NoiseNet

    return opened(models, model_id, device, NoiseNet, DENOISERS, "take noise away")
