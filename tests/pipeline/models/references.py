"""GFPGAN as its own package builds it, with seeded random weights: what ours is held against."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.models import compat

# As v1.3 and v1.4 are built.
PUBLISHED = {"out_size": 512, "num_style_feat": 512, "channel_multiplier": 2, "num_mlp": 8, "narrow": 1}


def a_reference(**changes: Any) -> Any:
    """GFPGANv1Clean with seeded random weights, small unless asked otherwise, and its noise on, whose weights start at zero."""
    compat.install()
    from gfpgan.archs.gfpganv1_clean_arch import GFPGANv1Clean

    torch.manual_seed(7)
    built = {
        "out_size": 64,
        "num_style_feat": 64,
        "channel_multiplier": 1,
        "decoder_load_path": None,
        "fix_decoder": False,
        "num_mlp": 2,
        "input_is_latent": True,
        "different_w": True,
        "narrow": 0.25,
        "sft_half": True,
    }
    network = GFPGANv1Clean(**built | changes).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.numel() == 1:
                parameter.fill_(0.5)
            elif name.endswith("bias"):
                parameter.normal_(std=0.1).add_(1.0 if "modulation" in name else 0.0)
    return network.requires_grad_(requires_grad=False)


def stored_noise(reference: Any, count: int) -> list[torch.Tensor]:
    """What the reference adds where it is asked not to draw noise anew."""
    noises = reference.stylegan_decoder.noises
    layers = reference.stylegan_decoder.num_layers
    return [getattr(noises, f"noise{layer}").expand(count, -1, -1, -1) for layer in range(layers)]
