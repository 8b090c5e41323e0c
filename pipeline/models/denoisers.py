"""Opens networks that take noise away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import ModelError
from pipeline.models.store import ModelStore
from pipeline.stage import Device

if TYPE_CHECKING:
    from pipeline.models.noise_net import NoiseNet

DENOISERS = frozenset({"noise-net"})


def open_denoiser(models: ModelStore, model_id: str, device: Device) -> NoiseNet:
    """Ready for inference on the device. Raises ModelError for a missing or altered file, and for one that holds something
    else."""
    import torch

    from pipeline.models.noise_net import NoiseNet

    card = models.card(model_id)
    if card.architecture not in DENOISERS:
        raise ModelError(f"model {model_id} ({card.architecture}) does not take noise away")
    torch.set_num_threads(device.threads)
    network = NoiseNet()
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in models.read_weights(model_id).items()})
    except (RuntimeError, AttributeError) as error:
        raise ModelError(f"model {model_id}: the file does not fit {card.architecture}: {error}") from error
    network = network.eval().requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)
    return network.to(device.kind)
