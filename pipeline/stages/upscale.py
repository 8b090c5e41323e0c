"""Upscale: Real-ESRGAN (Wang et al., ICCVW 2021) in tiles, held to what the scan says, in 16 bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import cv2
import numpy as np
from pydantic import Field, model_validator

from pipeline.colour_space import BAND, bands, in_srgb, space_of
from pipeline.damage import stored_mask
from pipeline.errors import ItemError, Reason
from pipeline.fidelity import REACH, back_projected, grown, limits_of, tint_of
from pipeline.measures import tone_of_photograph
from pipeline.memory import LARGEST_TILE
from pipeline.models.precision import Precision, bf16_where_native, convolving, name_of
from pipeline.models.store import ModelStore
from pipeline.models.upscalers import in_windows, open_upscaler, side_multiple
from pipeline.photograph import LUMA, Photograph, Pixels, Tone, is_neutral, to_depth, widened
from pipeline.policy import Policy
from pipeline.stage import Device, Footprint, ModelNeed, Parameters, Step
from pipeline.tiles import Array, Network, Tiling, run_in_memory

if TYPE_CHECKING:
    import torch

DEFAULT_MODEL = "realesrgan-x4plus-embedded"
# Two tiles of the large network that share twice as much are one picture but for a step of 255 (docs/performance.md).
_HALO = 64


class UpscaleParameters(Parameters):
    """model: an upscaler of the catalogue. precision: `exact` is fp32; `fast` is 16-bit floats where the device
    computes them natively, recorded per photograph. tile: a photograph with a longer side is worked on in tiles of at most
    that, and halo: half of what two share (64, or a quarter of a smaller tile); pixels of the input. consistency: rounds of
    back-projection, which keep tones and colours at the scan's own resolution; 0 for the bare answer of the network.
    output_megapixels: a photograph that would grow beyond it is refused."""

    model: str = DEFAULT_MODEL
    precision: Precision = "exact"
    tile: int = Field(default=LARGEST_TILE, ge=32, le=LARGEST_TILE)
    halo: int = Field(default=_HALO, ge=0, le=128)
    consistency: int = Field(default=5, ge=0, le=20)
    output_megapixels: float = Field(default=400.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _halo_of_a_small_tile(cls, given: Any) -> Any:
        if isinstance(given, dict) and "halo" not in given and isinstance(tile := given.get("tile"), int):
            return given | {"halo": min(_HALO, tile // 4)}
        return given

    @model_validator(mode="after")
    def _overlap(self) -> Self:
        if self.tile <= 2 * self.halo:
            raise ValueError(f"a tile of {self.tile} cannot overlap by two halos of {self.halo}")
        return self


class Upscale:
    """Makes the pixels `scale` times as wide and high. Grey stays exactly grey; alpha is resampled (Lanczos)."""

    name: ClassVar[str] = "upscale"
    version: ClassVar[str] = "4"
    Parameters: ClassVar[type[Parameters]] = UpscaleParameters
    # For a scale of 4, and the large network.
    footprint: ClassVar[Footprint] = Footprint(
        working=lambda size: 16 * (40 + size.stored) + 24, seconds=600.0, card_seconds=1.5, card_bytes=4 << 30
    )

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
        module = in_windows(open_upscaler(models, self.parameters.model), card, device.kind)
        module = module.to(device=device.kind, dtype=kind, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.precision = name_of(kind)
        self.network = _Callable(module, device.kind, kind, side_multiple(card))

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
        pixels, used = upscale(self.network, photograph, self.scale, self.tiling, self.parameters.consistency)
        alpha = photograph.alpha
        if alpha is not None:
            alpha = widened(alpha)
            size = (photograph.width * self.scale, photograph.height * self.scale)
            alpha = cv2.resize(np.ascontiguousarray(alpha), size, interpolation=cv2.INTER_LANCZOS4)
        grown_photograph = replace(
            photograph,
            pixels=pixels,
            alpha=alpha,
            damage=None,
            mask=stored_mask(photograph),
            scale=photograph.scale * self.scale,
        )
        # A smaller tile gives other bytes by a rounding; where memory forced one, the record says so.
        findings = {} if used.tile == self.tiling.tile else {"tile": used.tile}
        return Step(grown_photograph, models=(self.parameters.model,), precision=self.precision, findings=findings)


def upscale(network: Network, photograph: Photograph, scale: int, tiling: Tiling, rounds: int) -> tuple[Pixels, Tiling]:
    """The network's answer, held to what the scan says, in 16 bits, in the photograph's space and number of channels; and the
    tiling that memory allowed.

    The network sees sRGB cut to 0..1. What of the scan lies outside is enlarged by itself and added again.
    rounds: of back-projection.
    """
    space, pixels = space_of(photograph), photograph.pixels
    tone = Tone.NEUTRAL if is_neutral(pixels) else tone_of_photograph(photograph)
    scan = pixels[..., :1] if tone is Tone.NEUTRAL else pixels
    source = in_srgb(scan, space)
    # The network tints greys by a shade; a photograph without colours of its own gets the luma of the answer.
    guide = (source @ LUMA)[..., None] if tone is Tone.TONED else source
    grey = guide.shape[2] == 1
    tint = tint_of(source, guide) if tone is Tone.TONED else None
    shown = np.clip(guide, 0.0, 1.0)
    answer, tiling = run_in_memory(network, np.repeat(shown, 3, axis=2) if grey else shown, scale, tiling)
    limits = limits_of(guide)
    result = np.empty((*answer.shape[:2], pixels.shape[2]), np.uint16)
    # Neighbouring rows come along, so that bands meet as if there were none.
    reach = REACH * (rounds + 1)
    for rows in bands(scan, max(BAND // scale**2, 4 * reach * scan.shape[1])):
        around = slice(max(0, rows.start - reach), min(len(scan), rows.stop + reach))
        part = np.clip(answer[around.start * scale : around.stop * scale], 0.0, 1.0)
        part = (part @ LUMA)[..., None] if grey else part
        if limits != (0.0, 1.0):
            part = part + grown(guide[around] - shown[around], scale)
        part = back_projected(part, guide[around], rounds, limits)
        part = part if tint is None else tint.added_to(part, around, rounds)
        part = part[(rows.start - around.start) * scale : (rows.stop - around.start) * scale]
        stored = space.from_srgb(part, nearby(scan, rows, scale))
        result[rows.start * scale : rows.stop * scale] = to_depth(stored, result.dtype)
    return result, tiling


def nearby(scan: Pixels, rows: slice, scale: int) -> Pixels:
    """The scan's own rows, every pixel repeated: where the search for stored values begins."""
    return np.repeat(np.repeat(widened(scan[rows]), scale, axis=0), scale, axis=1)


def _number_format(precision: Precision, device: Device) -> torch.dtype:
    import torch

    if precision == "fast" and device.kind == "cuda":
        return torch.float16
    return bf16_where_native(precision, device)


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
        with torch.inference_mode(), convolving(self._device, exact=self._kind == torch.float32):
            tensor = torch.from_numpy(tiles).to(self._device, self._kind, memory_format=torch.channels_last)
            # On a CPU a batch is no faster, and libraries may compute tiles of another batch by another method.
            alone = [tensor[number : number + 1] for number in range(len(tensor))]
            parts = alone if self._device == "cpu" else [tensor]
            answer: Array = torch.cat([self._module(part).float().cpu() for part in parts]).numpy()
        scale = answer.shape[2] // tiles.shape[2]
        return answer[:, :, : height * scale, : width * scale]


def _padded(tiles: Array, multiple: int) -> Array:
    """Sides that the network can divide, by reflection at the right and the bottom."""
    down, right = (-side % multiple for side in tiles.shape[2:])
    if not down and not right:
        return tiles
    mode: Literal["reflect", "edge"] = "reflect" if min(tiles.shape[2:]) > multiple else "edge"
    return np.ascontiguousarray(np.pad(tiles, ((0, 0), (0, 0), (0, down), (0, right)), mode=mode))
