"""Opens Real-ESRGAN networks: RRDBNet (Wang et al., ESRGAN, 2018) through basicsr, SRVGGNetCompact through realesrgan."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from pipeline.errors import ModelError
from pipeline.models import compat, ncnn
from pipeline.models.catalogue import ModelCard
from pipeline.models.store import ModelStore, state_dict

if TYPE_CHECKING:
    import torch

# Sides of windows, pixels. On a CPU a window's arrays should stay in its cache: here 15 and 18 MB. On a card they bound memory.
_DENSE_WINDOW = 128
_COMPACT_WINDOW = 256
_CARD_WINDOW = 512


def open_upscaler(models: ModelStore, model_id: str) -> torch.nn.Module:
    """The network in fp32 on the CPU, ready for inference: N x 3 x H x W RGB in 0..1 to N x 3 x sH x sW.

    Raises ModelError for a missing or altered file and for a model that is no upscaler.
    """
    card = models.card(model_id)
    if card.architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ModelError(
            f"model {model_id} ({card.architecture}) is no upscaler; its architecture must be one of {known}"
        )
    compat.install()
    network = ARCHITECTURES[card.architecture](models, card)
    return network.eval().requires_grad_(requires_grad=False)


def side_multiple(card: ModelCard) -> int:
    """What the sides of an input must be divisible by: RRDBNet for factor 2 first folds 2 x 2 pixels into channels."""
    return {1: 4, 2: 2}.get(card.scale, 1) if card.architecture.startswith("rrdbnet") else 1


def in_windows(network: torch.nn.Module, card: ModelCard, device: str) -> torch.nn.Module:
    """The same network, computed a few layers at a time over all that it is given (`windowed`). device: `cpu` or `cuda`."""
    from pipeline.models.windowed import WindowedCompact, WindowedRRDBNet

    if card.architecture.startswith("rrdbnet"):
        return WindowedRRDBNet(network, _CARD_WINDOW if device == "cuda" else _DENSE_WINDOW, side_multiple(card))
    return WindowedCompact(network, _CARD_WINDOW if device == "cuda" else _COMPACT_WINDOW)


def _rrdbnet(scale: int) -> torch.nn.Module:
    from basicsr.archs.rrdbnet_arch import RRDBNet

    network: torch.nn.Module = RRDBNet(
        num_in_ch=3, num_out_ch=3, scale=scale, num_feat=64, num_block=23, num_grow_ch=32
    )
    return network


def _open_rrdbnet(models: ModelStore, card: ModelCard) -> torch.nn.Module:
    network = _rrdbnet(card.scale)
    _load(network, state_dict(models.read_weights(card.id)), card)
    return network


def _open_rrdbnet_ncnn(models: ModelStore, card: ModelCard) -> torch.nn.Module:
    """The graph's convolutions stand in RRDBNet's own module order; every shape is checked."""
    import torch

    weights = models.verify(card.id)
    layers = ncnn.read_convolutions(weights.with_suffix(".param"), weights)
    network = _rrdbnet(card.scale)
    names = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Conv2d)]
    if len(names) != len(layers):
        raise ModelError(f"model {card.id}: the graph has {len(layers)} convolutions, the network {len(names)}")
    tensors: dict[str, torch.Tensor] = {}
    for name, layer in zip(names, layers, strict=True):
        tensors[f"{name}.weight"] = torch.from_numpy(layer.weight)
        tensors[f"{name}.bias"] = torch.from_numpy(layer.bias)
    _load(network, tensors, card)
    return network


def _open_compact(models: ModelStore, card: ModelCard) -> torch.nn.Module:
    from realesrgan.archs.srvgg_arch import SRVGGNetCompact

    tensors = state_dict(models.read_weights(card.id))
    numbers = [int(found[1]) for name in tensors if (found := re.fullmatch(r"body\.(\d+)\.weight", name))]
    if "body.0.weight" not in tensors or max(numbers) < 2:
        raise ModelError(
            f"model {card.id}: the file does not fit {card.architecture}: there is no body of convolutions"
        )
    # Convolutions and activations alternate: `body.0` is the first convolution, `body.<2n+2>` the last.
    depth = (max(numbers) - 2) // 2
    network: torch.nn.Module = SRVGGNetCompact(
        num_in_ch=3,
        num_out_ch=3,
        num_feat=int(tensors["body.0.weight"].shape[0]),
        num_conv=depth,
        upscale=card.scale,
        act_type="prelu",
    )
    _load(network, tensors, card)
    return network


def _load(network: torch.nn.Module, tensors: Mapping[str, torch.Tensor], card: ModelCard) -> None:
    try:
        network.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        raise ModelError(f"model {card.id}: the file does not fit {card.architecture}: {error}") from error


ARCHITECTURES: Mapping[str, Callable[[ModelStore, ModelCard], torch.nn.Module]] = MappingProxyType(
    {"rrdbnet": _open_rrdbnet, "rrdbnet-ncnn": _open_rrdbnet_ncnn, "srvggnet-compact": _open_compact}
)
