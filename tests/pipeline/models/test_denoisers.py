"""Networks against noise are opened from safetensors, verified, or refused with a sentence; and the one that ships works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import ModelError
from pipeline.models.catalogue import by_id, is_generative
from pipeline.models.denoisers import open_denoiser
from pipeline.models.licences import Use, commercial_use
from pipeline.models.noise_net import NoiseNet
from pipeline.models.store import ModelSource, ModelStore
from pipeline.photograph import Container, Photograph
from pipeline.removal.noise import Denoiser
from pipeline.stage import Device
from pipeline.stages.repair import is_quiet
from pipeline.training.grain import added, film, white
from pipeline.training.trainer import export

DEVICE = Device("cpu", 1)
Stores = Callable[[Path, str], ModelStore]


@pytest.fixture
def trained() -> NoiseNet:
    torch.manual_seed(5)
    return NoiseNet().eval()


def test_what_training_exports_is_what_is_opened(trained: NoiseNet, store_of: Stores, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    export(trained, path)
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    assert path.stat().st_size < 2_000_000
    network = open_denoiser(store_of(path, "noise-net"), "mine", DEVICE)
    pixels, told = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(network.finder(pixels), trained.finder(pixels), atol=0.01)
        assert torch.allclose(network.remover(pixels, told), trained.remover(pixels, told), atol=0.01)


@pytest.mark.parametrize("fault", ["torn", "other tensors", "other architecture", "altered"])
def test_what_is_no_such_network_is_refused(trained: NoiseNet, store_of: Stores, tmp_path: Path, fault: str) -> None:
    path = tmp_path / "mine.safetensors"
    export(trained, path)
    if fault == "torn":
        path.write_bytes(path.read_bytes()[:1000])
    elif fault == "other tensors":
        save_file({"a": torch.zeros(3)}, path)
    store = store_of(path, "scunet" if fault == "other architecture" else "noise-net")
    if fault == "altered":
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelError, match="mine"):
        open_denoiser(store, "mine", DEVICE)


def test_what_ships_takes_noise_away_and_leaves_what_is_clean(tmp_path: Path, rng: np.random.Generator) -> None:
    """From the package, without a cache: white noise, grain, and a photograph that has none."""
    store = ModelStore(ModelSource(cache=str(tmp_path)))
    denoiser = Denoiser(open_denoiser(store, "albumen-noise", DEVICE), "albumen-noise", "cpu")
    clean = np.ascontiguousarray(skimage.data.astronaut()[:160, 160:320], np.float32) / 255
    clean = cv2.GaussianBlur(clean, (0, 0), 1.0)
    for layer, level in ((white(rng, clean, 15 / 255), 15.0), (film(rng, clean, 15 / 255, 0.7), None)):
        noisy = added(clean, [layer]).pixels
        scan = Photograph("item", np.rint(noisy * 65535).astype(np.uint16), Container("PNG"))
        found = denoiser.find(scan)
        assert level is None or found.level == pytest.approx(level, rel=0.15)
        after = denoiser.denoise(scan, found, 1.0) / np.float32(65535)
        assert np.square(after - clean).mean() < 0.35 * np.square(noisy - clean).mean()
    quiet = Photograph("item", np.rint(clean * 255).astype(np.uint8), Container("PNG"))
    assert is_quiet(denoiser.find(quiet))


def test_what_ships_says_what_it_is() -> None:
    card = by_id()["albumen-noise"]
    assert not card.generative
    assert not is_generative("albumen-noise")
    assert is_generative("gfpgan-v1.4")
    assert is_generative("somebody's own")
    assert commercial_use(card.licence) is Use.ALLOWED
