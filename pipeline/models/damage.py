"""Opens networks that tell damage from picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.models.own import opened
from pipeline.models.store import ModelStore
from pipeline.stage import Device

if TYPE_CHECKING:
    from pipeline.models.damage_net import DamageNet

DAMAGE_DETECTORS = frozenset({"damage-unet"})


def open_damage_network(models: ModelStore, model_id: str, device: Device) -> DamageNet:
    """N x 10 x H x W, as `pipeline.damage.marks` shows photographs, to N x 5 x H x W scores of `Kind`, ready for inference.

    Raises ModelError for a missing or altered file, and for one that holds something else.
    """
    from pipeline.models.damage_net import DamageNet

    return opened(models, model_id, device, DamageNet, DAMAGE_DETECTORS, "find damage")
