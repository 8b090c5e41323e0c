"""`python -m tests.bench_noise --weights noise.safetensors`: noise of known kinds taken away, on shared photographs.

Beside FFDNet, which is told the level (on grain the best of three levels counts), and DnCNN, which is not. Needs the shared
test data. Every method is given the same scan: 16 bits, cut off at black and white.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import nn

from pipeline.codecs import decode
from pipeline.models.noise_net import NoiseNet, from_ffdnet
from pipeline.photograph import Container, Photograph
from pipeline.removal.noise import Denoiser
from pipeline.training.noise import Grain, grain, white
from tests.bench import shared

Floats = NDArray[np.float32]
Method = Callable[[Floats, float], list[Floats]]

_SIDE = 256
_Make = Callable[[np.random.Generator], Grain]


def _white(sigma: int) -> _Make:
    return lambda rng: white(rng, _SIDE, sigma / 255)


def _grain(sigma: int, width: float, *, coloured: bool = False) -> _Make:
    return lambda rng: grain(rng, _SIDE, sigma / 255, width, coloured=coloured)


KINDS: dict[str, _Make] = {
    "white 10": _white(10),
    "white 25": _white(25),
    "white 50": _white(50),
    "grain 8, 0.6 px": _grain(8, 0.6),
    "grain 15, 0.6 px": _grain(15, 0.6),
    "grain 15, 1.0 px": _grain(15, 1.0),
    "grain 15, 0.8 px, coloured": _grain(15, 0.8, coloured=True),
    "grain 25, 0.8 px": _grain(25, 0.8),
    "none": _white(0),
}


def psnr(one: Floats, other: Floats) -> float:
    return float(-10 * np.log10(max(1e-10, float(np.mean((one.astype(np.float64) - other) ** 2)))))


def _tensor(pixels: Floats) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]


def _picture(tensor: torch.Tensor) -> Floats:
    return np.clip(tensor[0].numpy().transpose(1, 2, 0), 0, 1)


def ffdnet(path: Path) -> Method:
    network = NoiseNet().eval()
    network.load_state_dict(from_ffdnet(torch.load(path, weights_only=True)), strict=False)

    def run(pixels: Floats, sigma: float) -> list[Floats]:
        given = _tensor(pixels)
        with torch.inference_mode():
            return [
                _picture(network.cleaned(given, torch.full((1, 1, _SIDE // 2, _SIDE // 2), sigma * factor)))
                for factor in (1.0, 1.5, 2.2)
            ]

    return run


def dncnn(path: Path) -> Method:
    tensors = torch.load(path, weights_only=True)
    layers: list[nn.Module] = []
    for place in sorted({int(name.split(".")[1]) for name in tensors}):
        weight = tensors[f"model.{place}.weight"]
        layers += [nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1), nn.ReLU()]
    chain = nn.Sequential(*layers[:-1]).eval()
    chain.load_state_dict({name.removeprefix("model."): tensor for name, tensor in tensors.items()})

    def run(pixels: Floats, sigma: float) -> list[Floats]:
        given = _tensor(pixels)
        with torch.inference_mode():
            return [_picture(given - chain(given))]

    return run


def albumen(path: Path) -> Method:
    network = NoiseNet().eval()
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    denoiser = Denoiser(network, "bench", "cpu")

    def run(pixels: Floats, sigma: float) -> list[Floats]:
        scan = Photograph("bench", np.rint(pixels * 65535).astype(np.uint16), Container("TIFF"))
        return [denoiser.denoise(scan, 1.0) / np.float32(65535)]

    return run


def cases(files: list[Path], kind: str) -> Iterator[tuple[Floats, Floats, float]]:
    """Clean, noisy, and the mean level of the noise."""
    for number, file in enumerate(files):
        rng = np.random.default_rng([number, list(KINDS).index(kind)])
        pixels = decode(file.read_bytes(), "", 10**9).pixels
        top, left = ((length - _SIDE) // 2 for length in pixels.shape[:2])
        clean = (pixels[top : top + _SIDE, left : left + _SIDE] / 255).astype(np.float32)
        noise = KINDS[kind](rng)
        yield clean, noise.add(clean), float(np.sqrt((noise.level(clean) ** 2).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--every", type=int, default=2, help="use every n-th photograph")
    options = parser.parse_args()
    folder = shared() / "weights"
    files = sorted((shared() / "photos" / "clean").glob("*.jpg"))[:: options.every]
    methods = {
        "FFDNet": ffdnet(folder / "ffdnet_color.pth"),
        "DnCNN": dncnn(folder / "dncnn_color_blind.pth"),
        "Albumen": albumen(options.weights),
    }
    table = Table("PSNR, dB, mean", "noisy", *methods, "over the better one", box=None)
    for kind in KINDS:
        noisy: list[float] = []
        found: dict[str, list[float]] = {name: [] for name in methods}
        for clean, given, sigma in cases(files, kind):
            noisy.append(psnr(given, clean))
            for name, method in methods.items():
                tries = method(given, sigma)
                tries = tries[:1] if kind.startswith(("white", "none")) else tries
                found[name].append(max(psnr(one, clean) for one in tries))
        means = {name: statistics.mean(values) for name, values in found.items()}
        gain = means["Albumen"] - max(means["FFDNet"], means["DnCNN"])
        table.add_row(kind, f"{statistics.mean(noisy):.2f}", *(f"{v:.2f}" for v in means.values()), f"{gain:+.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
