from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import ItemError, ModelError, Reason
from pipeline.models import compat
from pipeline.models.catalogue import ModelCard
from pipeline.models.store import ModelSource, ModelStore
from pipeline.models.upscalers import open_upscaler
from pipeline.photograph import Container, Face, Photograph, is_neutral, narrowed
from pipeline.policy import POLICIES
from pipeline.stage import Device, Step
from pipeline.stages.upscale import DEFAULT_MODEL, Upscale, UpscaleParameters

CardMaker = Callable[..., ModelCard]
Samples = NDArray[np.uint8] | NDArray[np.uint16]
Stages = Callable[..., Upscale]
TWO = Device("cpu", 2)


@pytest.fixture
def general(shared: Path) -> Path:
    return shared / "weights" / "realesr-general-x4v3.fp16derived.pth"


@pytest.fixture
def compact(general: Path, card_for: CardMaker, tmp_path: Path) -> Stages:
    """Makes upscale stages with Real-ESRGAN's compact network."""
    store = ModelStore(
        ModelSource(cache=str(tmp_path / "cache"), local=(card_for(general, "srvggnet-compact", 4, "general"),))
    )

    def make(**parameters: object) -> Upscale:
        stage = Upscale(UpscaleParameters(model="general", **parameters), POLICIES["conservation"])  # type: ignore[arg-type]
        stage.open(store, TWO)
        return stage

    return make


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Upscale:
    """The network's bare answer, as the reference gives it."""
    stage = Upscale(UpscaleParameters(tile=256, consistency=0), POLICIES["conservation"])
    stage.open(ModelStore(ModelSource(cache=str(tmp_path_factory.mktemp("cache")))), TWO)
    return stage


def upscaled(stage: Upscale, pixels: Samples, **more: object) -> Photograph:
    step = stage.restore([Photograph("item", pixels, Container("PNG"), **more)])[0]  # type: ignore[arg-type]
    assert isinstance(step, Step)
    return step.photograph


def by_realesrgan(weights: Path, network: torch.nn.Module, rgb: Samples) -> Samples:
    """What RealESRGANer makes of it, untiled. It works in BGR."""
    compat.install()
    from realesrgan import RealESRGANer

    reference = RealESRGANer(
        scale=4,
        model_path=str(weights),
        model=network,
        tile=0,
        pre_pad=0,
        half=False,
        device=torch.device("cpu"),
    )
    bgr = rgb[..., ::-1] if rgb.shape[2] == 3 else rgb[..., 0]
    answer = reference.enhance(np.ascontiguousarray(bgr), outscale=4)[0]
    return np.ascontiguousarray(answer[..., ::-1]) if answer.ndim == 3 else answer[..., None]


def compact_network() -> torch.nn.Module:
    compat.install()
    from realesrgan.archs.srvgg_arch import SRVGGNetCompact

    network: torch.nn.Module = SRVGGNetCompact(
        num_in_ch=3, num_out_ch=3, num_feat=64, num_conv=32, upscale=4, act_type="prelu"
    )
    return network


def furthest(one: Samples, other: Samples) -> int:
    assert one.shape == other.shape
    assert one.dtype == other.dtype
    return int(np.abs(one.astype(np.int64) - other.astype(np.int64)).max())


def test_the_embedded_network_is_realesrgans(embedded: Upscale, real_photo: NDArray[np.uint8], tmp_path: Path) -> None:
    compat.install()
    from basicsr.archs.rrdbnet_arch import RRDBNet

    opened = open_upscaler(ModelStore(ModelSource(cache=str(tmp_path))), DEFAULT_MODEL)
    torch.save({"params_ema": opened.state_dict()}, tmp_path / "x4plus.pth")
    crop = np.ascontiguousarray(real_photo[100:160, 120:184])
    network = RRDBNet(num_in_ch=3, num_out_ch=3, num_feat=64, num_block=23, num_grow_ch=32, scale=4)
    reference = by_realesrgan(tmp_path / "x4plus.pth", network, crop)
    found = narrowed(upscaled(embedded, crop).pixels)
    assert found.shape == (240, 256, 3)
    assert furthest(found, reference) <= 1
    assert reference.std() > 5


def test_the_compact_network_is_realesrgans(compact: Stages, general: Path, real_photo: NDArray[np.uint8]) -> None:
    crop = np.ascontiguousarray(real_photo[100:171, 120:209])
    reference = by_realesrgan(general, compact_network(), crop)
    assert furthest(narrowed(upscaled(compact(consistency=0), crop).pixels), reference) <= 1


def test_sixteen_bits_are_realesrgans(compact: Stages, general: Path, real_photo: NDArray[np.uint8]) -> None:
    crop = np.ascontiguousarray(real_photo[100:148, 120:180]).astype(np.uint16) * 256 + 77
    reference = by_realesrgan(general, compact_network(), crop)
    found = upscaled(compact(consistency=0), crop).pixels
    assert found.dtype == np.uint16
    assert furthest(found, reference) <= 66  # a thousandth of the range
    assert len(np.unique(found)) > 1000


def test_a_grey_scan_is_the_luma_of_the_answer(compact: Stages, general: Path, real_photo: NDArray[np.uint8]) -> None:
    grey = np.ascontiguousarray(real_photo[100:148, 120:180, 1:2])
    found = narrowed(upscaled(compact(consistency=0), grey).pixels)
    assert furthest(found, by_realesrgan(general, compact_network(), grey)) <= 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_grey_stays_exactly_grey(compact: Stages, real_photo: NDArray[np.uint8], dtype: str) -> None:
    wide = np.iinfo(dtype).max // 255
    plane = np.ascontiguousarray(real_photo[100:140, 120:170, :1]).astype(dtype) * wide
    stage = compact()
    colour, alone = upscaled(stage, np.repeat(plane, 3, axis=2)).pixels, upscaled(stage, plane).pixels
    assert colour.shape == (160, 200, 3)
    assert alone.shape == (160, 200, 1)
    assert is_neutral(colour)
    assert np.array_equal(colour[..., :1], alone)
    assert colour.dtype == alone.dtype == np.uint16


def test_tiles_hardly_show(compact: Stages, real_photo: NDArray[np.uint8]) -> None:
    crop = np.ascontiguousarray(real_photo[80:208, 100:260])
    whole = upscaled(compact(tile=256), crop).pixels
    tiled = upscaled(compact(tile=96), crop).pixels
    assert furthest(whole, tiled) <= 257


def test_the_batch_does_not_change_a_byte(compact: Stages, real_photo: NDArray[np.uint8]) -> None:
    crop = np.ascontiguousarray(real_photo[80:160, 100:200])
    photograph = Photograph("item", crop, Container("PNG"))
    stage = compact(tile=64, halo=8)
    together = stage.restore([photograph, Photograph("other", crop[::-1].copy(), Container("PNG"))])[0]
    assert isinstance(together, Step)
    assert np.array_equal(together.photograph.pixels, upscaled(stage, crop).pixels)


def test_what_goes_along_is_scaled_or_dropped(compact: Stages, rng: np.random.Generator) -> None:
    face = Face((0, 0, 1, 1), (0.0,) * 10, 0.9)
    damage = rng.integers(0, 5, (9, 12), dtype=np.uint8)
    alpha = np.full((9, 12), 40000, np.uint16)
    alpha[:, 6:] = 0
    found = upscaled(
        compact(),
        rng.integers(0, 65536, (9, 12, 3), dtype=np.uint16),
        alpha=alpha,
        damage=damage,
        faces=(face,),
        scale=2,
    )
    assert found.scale == 8
    assert found.damage is None
    assert found.mask is not None
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(found.mask))), damage)
    assert found.faces == (face,)
    assert found.alpha is not None
    assert (found.alpha.shape, found.alpha.dtype) == ((36, 48), np.uint16)
    assert (found.alpha[18, 4], found.alpha[18, 44]) == (40000, 0)


def test_the_step_says_which_model_and_precision(compact: Stages, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    step = compact().restore([Photograph("item", pixels, Container("PNG"))])[0]
    assert isinstance(step, Step)
    assert (step.models, step.precision) == (("general",), "fp32")


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2)])
def test_small_photographs_grow_too(compact: Stages, rng: np.random.Generator, size: tuple[int, int]) -> None:
    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    assert upscaled(compact(), pixels).pixels.shape == (4 * size[0], 4 * size[1], 3)


def test_what_would_grow_too_large_is_refused(compact: Stages) -> None:
    stage = compact(output_megapixels=0.0016)
    at_the_limit = Photograph("item", np.zeros((10, 10, 1), np.uint8), Container("PNG"))
    beyond = Photograph("item", np.zeros((10, 11, 1), np.uint8), Container("PNG"))
    fits, refused = stage.restore([at_the_limit, beyond])
    assert isinstance(fits, Step)
    assert isinstance(refused, ItemError)
    assert refused.reason is Reason.TOO_LARGE


def test_fast_is_close_to_exact_and_says_what_it_was(compact: Stages, real_photo: NDArray[np.uint8]) -> None:
    crop = np.ascontiguousarray(real_photo[100:148, 120:168])
    fast = compact(precision="fast")
    assert fast.precision in ("fp32", "bf16")
    difference = upscaled(fast, crop).pixels.astype(float) - upscaled(compact(), crop).pixels
    assert np.sqrt((difference**2).mean()) < 2.0 * 257


def test_a_missing_model_stops_the_stage(tmp_path: Path) -> None:
    stage = Upscale(UpscaleParameters(model="realesrgan-x2plus"), POLICIES["conservation"])
    with pytest.raises(ModelError, match="albumen models fetch realesrgan-x2plus"):
        stage.open(ModelStore(ModelSource(cache=str(tmp_path))), TWO)


def test_odd_sides_can_be_doubled(tmp_path: Path, card_for: CardMaker) -> None:
    compat.install()
    from basicsr.archs.rrdbnet_arch import RRDBNet

    network = RRDBNet(num_in_ch=3, num_out_ch=3, num_feat=64, num_block=23, num_grow_ch=32, scale=2)
    torch.save({"params_ema": network.state_dict()}, tmp_path / "x2.pth")
    stage = Upscale(UpscaleParameters(model="mine"), POLICIES["conservation"])
    card = card_for(tmp_path / "x2.pth", "rrdbnet", 2)
    stage.open(ModelStore(ModelSource(cache=str(tmp_path), local=(card,))), TWO)
    for height, width in ((5, 6), (6, 5), (7, 7)):
        found = upscaled(stage, np.zeros((height, width, 3), np.uint8)).pixels
        assert found.shape == (2 * height, 2 * width, 3)
