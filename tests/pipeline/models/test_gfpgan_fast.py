from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from pipeline.models.gfpgan_fast import SharedGFPGAN
from tests.pipeline.models.references import a_reference, stored_noise


def largest_difference(reference: Any, faces: torch.Tensor) -> tuple[float, float]:
    """Of the outputs, one face after another on the reference's side and all at once on ours; and the outputs' deviation."""
    shared = SharedGFPGAN(copy.deepcopy(reference)).eval()
    with torch.inference_mode():
        theirs = torch.cat([reference(face[None], return_rgb=False, randomize_noise=False)[0] for face in faces])
        ours = shared(faces, stored_noise(reference, len(faces)))
    assert ours.shape == theirs.shape
    assert ours.dtype == torch.float32
    return float((ours - theirs).abs().max()), float(theirs.std())


@pytest.mark.parametrize("sft_half", [True, False])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_batch_gives_the_references_numbers(sft_half: bool, multiplier: int) -> None:
    reference = a_reference(sft_half=sft_half, channel_multiplier=multiplier)
    faces = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    difference, deviation = largest_difference(reference, faces)
    assert deviation > 0.1
    assert difference <= 1e-4


def test_noise_has_the_sides_of_the_references_layers() -> None:
    reference = a_reference()
    sides = tuple(noise.shape[-1] for noise in stored_noise(reference, 1))
    assert SharedGFPGAN(reference).noise_sides == sides == (4, 8, 8, 16, 16, 32, 32, 64, 64)


def test_sixteen_bits_stay_close_and_colours_add_up_in_full() -> None:
    """bf16 is emulated where it is not native: slow, and the same numbers."""
    reference = a_reference()
    faces = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    noise = stored_noise(reference, 2)
    exact, rounded = (SharedGFPGAN(copy.deepcopy(reference), kind) for kind in (torch.float32, torch.bfloat16))
    with torch.inference_mode():
        expected, found = exact.eval()(faces, noise), rounded.eval()(faces, noise)
    assert found.dtype == torch.float32
    assert all(layer.modulation.weight.dtype == torch.float32 for layer in rounded.layers)
    error = float((found - expected).square().mean().sqrt())
    assert 0 < error < 0.02 * float(expected.std())


def test_a_network_without_a_latent_for_each_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="one latent for each layer"):
        SharedGFPGAN(a_reference(different_w=False))
