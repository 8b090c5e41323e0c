"""Opens networks that tell damage from picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import ModelError
from pipeline.models.store import ModelStore
from pipeline.stage import Device

if TYPE_CHECKING:
    from pipeline.models.damage_net import DamageNet

DAMAGE_DETECTORS = frozenset({"damage-unet"})


def open_damage_network(models: ModelStore, model_id: str, device: Device) -> DamageNet:
    """N x 10 x H x W, as `pipeline.damage.marks` shows photographs, to N x 5 x H x W scores of `Kind`, ready for inference.

    Raises ModelError for a missing or altered file, and for one that holds something else.
    """
    import torch

    from pipeline.models.damage_net import DamageNet

    card = models.card(model_id)
    if card.architecture not in DAMAGE_DETECTORS:
        raise ModelError(f"model {model_id} ({card.architecture}) does not find damage")
    torch.set_num_threads(device.threads)
    network = DamageNet()
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in models.read_weights(model_id).items()})
    except (RuntimeError, AttributeError) as error:
        raise ModelError(f"model {model_id}: the file does not fit {card.architecture}: {error}") from error
    network = network.eval().requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)
    return network.to(device.kind)
