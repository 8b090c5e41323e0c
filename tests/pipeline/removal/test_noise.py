from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pipeline.models.noise_net import REACH, NoiseNet
from pipeline.photograph import Container, Photograph, is_neutral
from pipeline.removal import noise
from pipeline.removal.noise import Denoiser

Samples = NDArray[Any]


class Mean:
    """Stands for the network: the mean of 9 x 9 pixels is clean, and the level grows with the light."""

    def levels(self, pixels: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(pixels.mean(1, keepdim=True), 2) / 10

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        padded = functional.pad(pixels, (4, 4, 4, 4), mode="replicate")
        return functional.avg_pool2d(padded, 9, stride=1), self.levels(pixels)


def denoiser() -> Denoiser:
    return Denoiser(Mean(), "mean", "cpu")  # type: ignore[arg-type]


def photograph(pixels: Samples) -> Photograph:
    return Photograph("item", np.ascontiguousarray(pixels), Container("PNG"))


def noisy(rng: np.random.Generator, dtype: str, channels: int, size: tuple[int, int] = (80, 96)) -> Samples:
    slope = np.linspace(0.3, 0.7, size[1])[None, :, None].repeat(size[0], 0).repeat(channels, 2)
    return np.rint(np.clip(slope + rng.normal(0, 0.04, slope.shape), 0, 1) * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(80, 96), (81, 97), (1, 5)])
def test_noise_goes_and_depth_channels_and_size_stay(
    rng: np.random.Generator, dtype: str, channels: int, size: tuple[int, int]
) -> None:
    pixels = noisy(rng, dtype, channels, size)
    result = denoiser().denoise(photograph(pixels), 1.0)
    assert (result.shape, result.dtype) == (pixels.shape, pixels.dtype)
    if min(size) > 20:
        assert result[20:60, 20:70].std(axis=0).mean() < 0.3 * pixels[20:60, 20:70].std(axis=0).mean()


def test_strength_mixes(rng: np.random.Generator) -> None:
    given = photograph(noisy(rng, "uint16", 3))
    nothing, half, full = (denoiser().denoise(given, share).astype(float) for share in (0.0, 0.5, 1.0))
    assert np.array_equal(nothing, given.pixels)
    assert np.abs(half - (given.pixels + full) / 2).max() <= 1


def test_what_is_neutral_stays_exactly_neutral(rng: np.random.Generator) -> None:
    grey = noisy(rng, "uint8", 1)
    colour = denoiser().denoise(photograph(grey.repeat(3, 2)), 1.0)
    assert is_neutral(colour)
    assert np.array_equal(colour[..., :1], denoiser().denoise(photograph(grey), 1.0))


def test_tiles_leave_no_seam(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    given = photograph(noisy(rng, "uint16", 3, (301, 203)))
    whole, level = denoiser().denoise(given, 1.0), denoiser().level(given)
    monkeypatch.setattr(noise, "_TILE", 96)
    monkeypatch.setattr(noise, "_HALO", 8)
    assert np.abs(denoiser().denoise(given, 1.0).astype(int) - whole).max() <= 1
    assert denoiser().level(given) == pytest.approx(level, rel=1e-6)


def test_the_level_is_the_mean_over_the_photograph(rng: np.random.Generator) -> None:
    pixels = noisy(rng, "uint16", 3, (500, 700))
    assert denoiser().level(photograph(pixels)) == pytest.approx(25.5 * float(pixels.mean()) / 65535, rel=1e-3)


def test_the_network_sees_no_further_than_the_halo() -> None:
    assert noise._HALO >= REACH
    torch.manual_seed(3)
    network = NoiseNet(width=8, level_width=4).eval()
    pixels = torch.rand(1, 3, 160, 160)
    other = pixels.clone()
    other[..., 80, 80] += 0.5
    with torch.inference_mode():
        differ = (network(pixels)[0] != network(other)[0]).any(dim=1)[0]
    rows, columns = (int(axis.max() - axis.min()) for axis in torch.nonzero(differ, as_tuple=True))
    assert max(rows, columns) <= 2 * REACH + 1


def test_weights_of_ffdnet_are_a_start(shared: Path) -> None:
    """With them, and told the level, it is FFDNet."""
    from pipeline.models.noise_net import from_ffdnet

    tensors = from_ffdnet(torch.load(shared / "weights" / "ffdnet_color.pth", weights_only=True))
    network = NoiseNet().eval()
    missing, unknown = network.load_state_dict(tensors, strict=False)
    assert not unknown
    assert all(name.startswith("level.") for name in missing)
    torch.manual_seed(1)
    clean = torch.linspace(0.2, 0.8, 96).expand(1, 3, 96, 96)
    given = clean + 25 / 255 * torch.randn(clean.shape)
    with torch.inference_mode():
        after = network.cleaned(given, torch.full((1, 1, 48, 48), 25 / 255))
    assert (after - clean).square().mean().sqrt() < 0.2 * 25 / 255
