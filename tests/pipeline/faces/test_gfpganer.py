"""GFPGANer.enhance from the photograph to the composed image beside our stages, on the same seeded random weights and the real
mobile0.25 detector. Its noise is seeded as ours is; its other known faults have tests of their own beside this one."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.models.store import ModelStore
from pipeline.photograph import Container, Photograph
from tests.bench_faces import a_group, composed_by_us, our_stages
from tests.pipeline.models.references import PUBLISHED, a_gfpganer, a_reference, seed_of

Image = NDArray[np.uint8]
SMALL = PUBLISHED | {"narrow": 0.25, "channel_multiplier": 1, "num_style_feat": 64}


class Unrounded(np.ndarray):  # type: ignore[type-arg]
    """What stays as it is where GFPGANer turns it into bytes."""

    def astype(self, kind: Any, *args: Any, **options: Any) -> Any:
        return np.asarray(self) if kind == "uint8" else np.asarray(self).astype(kind, *args, **options)


def unrounded(answer: Any, *, rgb2bgr: bool, min_max: tuple[float, float]) -> Unrounded:
    """basicsr's `tensor2img` without its bytes."""
    assert rgb2bgr
    low, high = min_max
    unit = answer.float().cpu().clamp(low, high).sub(low).div(high - low)
    return np.ascontiguousarray(unit.numpy().transpose(1, 2, 0)[..., ::-1] * 255).view(Unrounded)


def softened(network: Any) -> Any:
    """Random weights paint black and white: three tenths of it are greys, in which nothing is cut off."""
    decoder = network.stylegan_decoder
    for layer in (decoder.to_rgb1, *decoder.to_rgbs):
        layer.modulated_conv.weight.mul_(0.3)
        layer.bias.mul_(0.3)
    return network


def both(models: ModelStore, photograph: Image, **built: Any) -> tuple[Image, Image, Image]:
    """Ours; GFPGANer's as it is; and GFPGANer's with the same floats all the way to its last step, which cuts off. All RGB."""
    network = softened(a_reference(**built))
    stage, restorer = our_stages(network, models, measured=False)
    ours = composed_by_us(stage, Photograph("item", photograph, Container("PNG")))
    reference = a_gfpganer(network, models, [seed_of(face) for face in restorer.given])
    bgr = np.ascontiguousarray(photograph[..., ::-1])
    as_it_is = reference.enhance(bgr)[2]
    from gfpgan import utils

    with patch.object(utils, "tensor2img", unrounded):
        in_floats = reference.enhance(bgr.astype(np.float32))[2]
    return ours, as_it_is[..., ::-1], in_floats[..., ::-1]


def held_against(photograph: Image, ours: Image, as_it_is: Image, in_floats: Image) -> None:
    mixed = np.any(in_floats != photograph, axis=2)
    assert 0.02 < mixed.mean() < 0.9
    # Cutting off takes up to a step, half a step on average; nothing else is between the two.
    difference = ours.astype(int) - in_floats
    assert (difference.min(), difference.max()) == (0, 1)
    assert 0.2 < difference[mixed].mean() < 0.6
    # It cuts faces out in bytes, makes bytes of what the network answers, and of that once more: on an old photograph that was
    # more than a step on 1.1 % of what it mixed.
    difference = np.abs(ours.astype(int) - as_it_is)
    assert difference[mixed].mean() < 0.7
    assert np.mean(difference[mixed] > 1) < 0.02


def test_the_composed_image_is_gfpganers_but_for_a_step(models: ModelStore, family: Image) -> None:
    """With a quarter of the channels."""
    held_against(family, *both(models, family, **SMALL))


@pytest.mark.audit
def test_the_composed_image_of_the_published_network_is_gfpganers_but_for_a_step(
    models: ModelStore, family: Image
) -> None:
    for photograph in (family, a_group()):
        held_against(photograph, *both(models, photograph, **PUBLISHED))
