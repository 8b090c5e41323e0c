"""Upscale: Real-ESRGAN (Wang et al., ICCVW 2021) in tiles, in the photograph's own depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import cv2
import numpy as np
from pydantic import Field, model_validator

from pipeline.errors import ItemError, Reason
from pipeline.models.store import ModelStore
from pipeline.models.upscalers import open_upscaler, side_multiple
from pipeline.photograph import LUMA, Photograph, Pixels, is_neutral, to_depth
from pipeline.policy import Policy
from pipeline.stage import Device, ModelNeed, Parameters, Step
from pipeline.tiles import Array, Network, Tiling, run_tiled

if TYPE_CHECKING:
    import torch

DEFAULT_MODEL = "realesrgan-x4plus-embedded"


class UpscaleParameters(Parameters):
    """model: an upscaler of the catalogue. precision: `exact` is fp32; `fast` is 16-bit floats where the device
    computes them natively, recorded per photograph. tile, halo: pixels of the input.
    output_megapixels: a photograph that would grow beyond it is refused."""

    model: str = DEFAULT_MODEL
    precision: Literal["exact", "fast"] = "exact"
    tile: int = Field(default=256, ge=32, le=4096)
    halo: int = Field(default=16, ge=0, le=64)
    output_megapixels: float = Field(default=400.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _overlap(self) -> Self:
        if self.tile <= 2 * self.halo:
            raise ValueError(f"a tile of {self.tile} cannot overlap by two halos of {self.halo}")
        return self


class Upscale:
    """Makes the pixels `scale` times as wide and high. Grey stays exactly grey; alpha is resampled (Lanczos)."""

    name: ClassVar[str] = "upscale"
    version: ClassVar[str] = "1"
    Parameters: ClassVar[type[Parameters]] = UpscaleParameters

    def __init__(self, parameters: UpscaleParameters, policy: Policy) -> None:
        self.parameters = parameters
        self.scale = 1
        self.precision = "fp32"
        self.network: Network | None = None
        self.tiling = Tiling(parameters.tile, parameters.halo, batch=1)

    @classmethod
    def needs(cls, parameters: UpscaleParameters) -> tuple[ModelNeed, ...]:
        return (ModelNeed(parameters.model, required=True, task="upscale"),)

    def open(self, models: ModelStore, device: Device) -> None:
        import torch

        torch.set_num_threads(device.threads)
        card = models.card(self.parameters.model)
        kind = _number_format(self.parameters.precision if card.half else "exact", device)
        self.scale = card.scale
        module = open_upscaler(models, self.parameters.model)
        module = module.to(device=device.kind, dtype=kind, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.precision = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}[kind]
        self.network = _Callable(module, device.kind, kind, side_multiple(card))
        if device.kind == "cuda":
            self.tiling = replace(self.tiling, batch=8)

    def restore(self, photographs: Sequence[Photograph]) -> Sequence[Step | ItemError]:
        return [self._one(photograph) for photograph in photographs]

    def _one(self, photograph: Photograph) -> Step | ItemError:
        assert self.network is not None
        grown = photograph.height * photograph.width * self.scale**2 / 1e6
        if grown > self.parameters.output_megapixels:
            return ItemError(
                Reason.TOO_LARGE,
                f"{photograph.width} x {photograph.height} pixels would grow to {grown:.0f} megapixels, over the limit "
                f"of {self.parameters.output_megapixels:g} (recipe.upscale.output_megapixels)",
            )
        pixels = upscale(self.network, photograph.pixels, self.scale, self.tiling)
        alpha = photograph.alpha
        if alpha is not None:
            size = (photograph.width * self.scale, photograph.height * self.scale)
            alpha = cv2.resize(np.ascontiguousarray(alpha), size, interpolation=cv2.INTER_LANCZOS4)
        grown_photograph = replace(
            photograph, pixels=pixels, alpha=alpha, damage=None, scale=photograph.scale * self.scale
        )
        return Step(grown_photograph, models=(self.parameters.model,), precision=self.precision)


def upscale(network: Network, pixels: Pixels, scale: int, tiling: Tiling) -> Pixels:
    """The network's answer in the depth and number of channels of `pixels`."""
    unit = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    colour = np.repeat(unit, 3, axis=2) if unit.shape[2] == 1 else unit
    answer = np.clip(run_tiled(network, colour, scale, tiling), 0.0, 1.0)
    result = to_depth(answer, pixels.dtype)
    if not is_neutral(pixels):
        return result
    # The network tints greys by a shade; a photograph without colour gets the luma of the answer.
    grey = to_depth((answer @ LUMA)[..., None], pixels.dtype)
    return np.ascontiguousarray(np.repeat(grey, pixels.shape[2], axis=2))


def _number_format(precision: str, device: Device) -> torch.dtype:
    import torch

    if precision == "exact":
        return torch.float32
    if device.kind == "cuda":
        return torch.float16
    # Without native bf16 instructions the CPU would emulate them, slower than fp32.
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported() and "AVX512" in torch.backends.cpu.get_cpu_capability()
    return torch.bfloat16 if native else torch.float32


class _Callable:
    """The torch module as the tile engine wants it: arrays in, arrays out."""

    def __init__(self, module: torch.nn.Module, device: str, kind: torch.dtype, multiple: int) -> None:
        self._multiple = multiple
        self._module = module
        self._device = device
        self._kind = kind

    def __call__(self, tiles: Array) -> Array:
        import torch

        height, width = tiles.shape[2:]
        tiles = _padded(tiles, self._multiple)
        with torch.inference_mode():
            tensor = torch.from_numpy(tiles).to(self._device, self._kind, memory_format=torch.channels_last)
            answer: Array = self._module(tensor).float().cpu().numpy()
        scale = answer.shape[2] // tiles.shape[2]
        return answer[:, :, : height * scale, : width * scale]


def _padded(tiles: Array, multiple: int) -> Array:
    """Sides that the network can divide, by reflection at the right and the bottom."""
    down, right = (-side % multiple for side in tiles.shape[2:])
    if not down and not right:
        return tiles
    mode: Literal["reflect", "edge"] = "reflect" if min(tiles.shape[2:]) > multiple else "edge"
    return np.ascontiguousarray(np.pad(tiles, ((0, 0), (0, 0), (0, down), (0, right)), mode=mode))
