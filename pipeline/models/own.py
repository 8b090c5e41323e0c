"""Opens networks that were trained for Albumen: 16-bit floats in safetensors, computed with in 32 bits."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, TypeVar

from pipeline.errors import ModelError
from pipeline.models.store import ModelStore
from pipeline.stage import Device

if TYPE_CHECKING:
    from torch import nn

    N = TypeVar("N", bound=nn.Module)


def opened(
    models: ModelStore, model_id: str, device: Device, make: Callable[[], N], known: Collection[str], purpose: str
) -> N:
    """The network that `make` gives, with the model's weights, ready for inference on the device.

    known: architectures that it may have. purpose: what one of another architecture does not do. Raises ModelError for a
    missing or altered file, and for one that holds something else.
    """
    import torch

    card = models.card(model_id)
    if card.architecture not in known:
        raise ModelError(f"model {model_id} ({card.architecture}) does not {purpose}")
    torch.set_num_threads(device.threads)
    network = make()
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in models.read_weights(model_id).items()})
    except (RuntimeError, AttributeError) as error:
        raise ModelError(f"model {model_id}: the file does not fit {card.architecture}: {error}") from error
    network = network.eval().requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)
    return network.to(device.kind)
