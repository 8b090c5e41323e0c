"""Removal of noise by networks that are stood for by plain filters, and the shapes of the real ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pipeline.models.noise_net import REACH, NoiseFinder, NoiseNet, NoiseRemover, from_ffdnet
from pipeline.photograph import Container, Photograph, is_neutral
from pipeline.removal import noise
from pipeline.removal.noise import Denoiser, Noise

Samples = NDArray[Any]
SOME = Noise((0.04,) * 32, 0.0, 0.0, 10.2)


def mean_of(pixels: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """The mean of 9 x 9 pixels is clean, where there is noise."""
    padded = functional.pad(pixels, (4, 4, 4, 4), mode="replicate")
    share = (told[:, :1].repeat_interleave(2, 2).repeat_interleave(2, 3) / 0.04).clamp(0, 1)
    return pixels + share * (functional.avg_pool2d(padded, 9, stride=1) - pixels)


def lightness(pixels: torch.Tensor) -> torch.Tensor:
    """A tenth of the light is noise, of which half is the neighbour's and all the other channels'."""
    light = functional.avg_pool2d(pixels.mean(1, keepdim=True), 2)
    return torch.cat([light / 10, torch.full_like(light, 0.5), torch.ones_like(light), torch.zeros_like(light)], dim=1)


def denoiser() -> Denoiser:
    return Denoiser(SimpleNamespace(finder=lightness, remover=mean_of), "mean", "cpu")  # type: ignore[arg-type]


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
    result = denoiser().denoise(photograph(pixels), SOME, 1.0)
    assert (result.shape, result.dtype) == (pixels.shape, pixels.dtype)
    if min(size) > 20:
        assert result[20:60, 20:70].std(axis=0).mean() < 0.3 * pixels[20:60, 20:70].std(axis=0).mean()


def test_strength_mixes(rng: np.random.Generator) -> None:
    given = photograph(noisy(rng, "uint16", 3))
    nothing, half, full = (denoiser().denoise(given, SOME, share).astype(float) for share in (0.0, 0.5, 1.0))
    assert np.array_equal(nothing, given.pixels)
    assert np.abs(half - (given.pixels + full) / 2).max() <= 1


def test_what_is_neutral_stays_exactly_neutral(rng: np.random.Generator) -> None:
    grey = noisy(rng, "uint8", 1)
    colour = denoiser().denoise(photograph(grey.repeat(3, 2)), SOME, 1.0)
    assert is_neutral(colour)
    assert np.array_equal(colour[..., :1], denoiser().denoise(photograph(grey), SOME, 1.0))


def test_tiles_leave_no_seam(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    given = photograph(noisy(rng, "uint16", 3, (301, 203)))
    found, curve = denoiser().find(given), Noise(tuple(np.linspace(0, 0.1, 32)), 0.0, 0.0, 1.0)
    whole = denoiser().denoise(given, curve, 1.0)
    monkeypatch.setattr(noise, "_TILE", 96)
    assert np.abs(denoiser().denoise(given, curve, 1.0).astype(int) - whole).max() <= 1
    again = denoiser().find(given)
    assert again.level == pytest.approx(found.level, rel=1e-6)
    assert again.curve == pytest.approx(found.curve, rel=1e-6)


def test_noise_is_found_as_a_curve_over_tone(rng: np.random.Generator) -> None:
    pixels = noisy(rng, "uint16", 3, (500, 700))
    found = denoiser().find(photograph(pixels))
    assert found.level == pytest.approx(25.5 * float(pixels.mean()) / 65535, rel=0.2)
    assert (found.along, found.between) == (pytest.approx(0.5), pytest.approx(1.0))
    tones = (np.arange(32) + 0.5) / 32
    within = (tones > 0.35) & (tones < 0.65)
    assert np.array(found.curve)[within] == pytest.approx(tones[within] / 10, rel=0.25)


def test_the_quietest_places_decide() -> None:
    """Texture is taken for strong noise, and lies on most of the photograph."""

    def torn(pixels: torch.Tensor) -> torch.Tensor:
        maps = lightness(pixels)
        maps[:, 0] = 0.02
        maps[..., maps.shape[3] // 5 :] = torch.tensor([0.2, 0.9, 0.9, 1.0]).reshape(1, 4, 1, 1)
        return maps

    network = SimpleNamespace(finder=torn, remover=mean_of)
    flat = photograph(np.full((64, 64, 3), 120, np.uint8))
    found = Denoiser(network, "torn", "cpu").find(flat)  # type: ignore[arg-type]
    assert found.level == pytest.approx(0.02 * 255, rel=0.04)
    assert found.along == pytest.approx(0.5, abs=0.01)


def test_the_networks_see_no_further_than_the_halo() -> None:
    assert noise._HALO >= REACH
    torch.manual_seed(3)
    pixels = torch.rand(1, 3, 160, 160)
    other = pixels.clone()
    other[..., 80, 80] += 0.5
    finder, remover = NoiseFinder(width=8).eval(), NoiseRemover(width=8).eval()
    told = torch.rand(1, 3, 80, 80)
    with torch.inference_mode():
        seen = finder(pixels) != finder(other)
        changed = remover(pixels, told) != remover(other, told)
    for differ, step in ((seen, 2), (changed, 1)):
        places = torch.nonzero(differ.any(dim=1)[0]) * step
        assert (places - 80).abs().max() <= REACH + 1


def test_the_shipped_networks_are_small() -> None:
    assert sum(tensor.numel() for tensor in NoiseNet().state_dict().values()) * 2 < 2_000_000


def test_of_white_noise_the_answer_is_ffdnet_s(shared: Path) -> None:
    """Corrections count as far as what is told of the noise is not white."""
    network = NoiseRemover().eval()
    start = from_ffdnet(torch.load(shared / "weights" / "ffdnet_color.pth", weights_only=True))
    missing, unknown = network.load_state_dict(start, strict=False)
    assert not unknown
    assert not any(".base." in name for name in missing)
    torch.manual_seed(1)
    clean = torch.linspace(0.2, 0.8, 96).expand(1, 3, 96, 96)
    given = clean + 25 / 255 * torch.randn(clean.shape)
    told = torch.zeros(1, 3, 48, 48)
    told[:, 0] = 25 / 255
    with torch.inference_mode():
        after = network(given, told)
        for layer in network.layers:
            torch.nn.init.normal_(layer.wide.weight, std=0.05)
        assert torch.equal(network(given, told), after)
        told[:, 1] = 0.15
        white = network(given, told)
        told[:, 1] = 0.6
        assert (network(given, told) - white).abs().mean() > 0.01
    assert (white - after).abs().max() < 1e-6
    assert (after - clean).square().mean().sqrt() < 0.2 * 25 / 255
