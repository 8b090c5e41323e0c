"""`python -m tests.bench_noise --weights noise.safetensors`: noise of known kinds taken away, on shared photographs.

Beside FFDNet, which is told the level, and DnCNN, which tells for itself and has nothing to choose. On white noise FFDNet is
told the true level; on all other noise it is run at seven levels around the true one, and the one that is best by the truth
counts, for each photograph by itself. Neutral photographs go to DnCNN's own network for grey. Every method is given the same
scan: 16 bits, cut off at black and white. Albumen is told nothing. Needs the shared test data.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import nn

from pipeline.codecs import decode
from pipeline.degradation import Degradation, Effect, Shapes, degrade
from pipeline.models.noise_net import NoiseNet, NoiseRemover, from_ffdnet
from pipeline.photograph import Container, Photograph
from pipeline.removal.noise import Denoiser
from pipeline.stages.repair import is_quiet
from pipeline.training.grain import Layer, added, film, sensor, white
from tests.bench.ground import shared

Floats = NDArray[np.float32]
Method = Callable[[Floats, float], Iterable[Floats]]
Make = Callable[[np.random.Generator, Floats], tuple[Floats, Floats, float]]

_SIDE = 256
_LEVELS = (1.0, 0.6, 0.8, 1.25, 1.6, 2.0, 2.6)


def _with(make: Callable[[np.random.Generator, Floats], Layer], *, neutral: bool = False) -> Make:
    def made(rng: np.random.Generator, clean: Floats) -> tuple[Floats, Floats, float]:
        clean = np.repeat(clean.mean(axis=2, keepdims=True), 3, axis=2) if neutral else clean
        noisy = added(clean, [make(rng, clean)])
        return clean, noisy.pixels, _deviation(noisy.level)

    return made


def _white(sigma: float, *, neutral: bool = False) -> Make:
    return _with(lambda rng, clean: white(rng, clean, sigma / 255, neutral=neutral), neutral=neutral)


def _film(sigma: float, width: float, colour: float = 0.0, *, neutral: bool = False) -> Make:
    return _with(lambda rng, clean: film(rng, clean, sigma / 255, width, colour), neutral=neutral)


def _sensor(constant: float, light: float, width: float) -> Make:
    return _with(lambda rng, clean: sensor(rng, clean, constant / 255, light / 255, width, coloured=True))


def _degraded(*, neutral: float = 0.0, **strengths: float) -> Make:
    """Drawn by the degradation model, as `albumen degrade` draws it: levels, widths and colour are its own."""
    effects = {name: Effect(chance=1, strength=strength) for name, strength in strengths.items()}

    def made(rng: np.random.Generator, clean: Floats) -> tuple[Floats, Floats, float]:
        seed = int(rng.integers(1 << 30))
        quiet, noisy = (
            degrade(clean, Degradation.none(neutral=neutral, **more), Shapes.none(), np.random.default_rng(seed))
            for more in ({}, effects)
        )
        return quiet.undamaged, noisy.undamaged, _deviation(noisy.undamaged - quiet.undamaged)

    return made


def _deviation(noise: Floats) -> float:
    return float(np.sqrt(np.square(noise, dtype=np.float64).mean()))


KINDS: dict[str, Make] = {
    "white 10": _white(10),
    "white 25": _white(25),
    "white 50": _white(50),
    "white 25, neutral": _white(25, neutral=True),
    "grain 8, 0.6 px": _film(8, 0.6),
    "grain 15, 1.0 px": _film(15, 1.0),
    "grain 25, 0.8 px": _film(25, 0.8),
    "grain 15, 0.8 px, coloured": _film(15, 0.8, 1.0),
    "grain 15, 0.8 px, neutral": _film(15, 0.8, neutral=True),
    "light-dependent, 0.7 px": _sensor(4, 25, 0.7),
    "degradation: grain": _degraded(grain=1.0),
    "degradation: grain x 2": _degraded(grain=2.0),
    "degradation: grain x 2, neutral": _degraded(neutral=1.0, grain=2.0),
    "degradation: grain and noise": _degraded(grain=1.0, noise=1.0),
    "degradation: grain and noise x 2": _degraded(grain=2.0, noise=2.0),
    "none": lambda rng, clean: (clean, clean, 0.0),
}


def psnr(one: Floats, other: Floats) -> float:
    return float(-10 * np.log10(max(1e-10, float(np.mean((one.astype(np.float64) - other) ** 2)))))


def _tensor(pixels: Floats) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]


def _picture(tensor: torch.Tensor) -> Floats:
    return np.clip(tensor[0].numpy().transpose(1, 2, 0), 0, 1)


def ffdnet(path: Path) -> Method:
    """At the true level first, then at others."""
    network = NoiseRemover().eval()
    network.load_state_dict(from_ffdnet(torch.load(path, weights_only=True)), strict=False)

    def run(pixels: Floats, sigma: float) -> Iterator[Floats]:
        given = _tensor(pixels)
        for factor in _LEVELS:
            told = torch.zeros(1, 3, pixels.shape[0] // 2, pixels.shape[1] // 2)
            told[:, 0] = sigma * factor
            with torch.inference_mode():
                found = network(given, told)
            yield _picture(found)

    return run


def dncnn(path: Path, grey: Path) -> Method:
    colour_chain, grey_chain = _dncnn(path), _dncnn(grey)

    def run(pixels: Floats, sigma: float) -> list[Floats]:
        neutral = bool((pixels[..., :1] == pixels).all())
        given = _tensor(pixels[..., :1] if neutral else pixels)
        chain = grey_chain if neutral else colour_chain
        with torch.inference_mode():
            found = _picture(given - chain(given))
        return [np.repeat(found, 3, axis=2) if neutral else found]

    return run


def _dncnn(path: Path) -> nn.Sequential:
    tensors = torch.load(path, weights_only=True)
    layers: list[nn.Module] = []
    for place in sorted({int(name.split(".")[1]) for name in tensors}):
        weight = tensors[f"model.{place}.weight"]
        layers += [nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1), nn.ReLU()]
    chain = nn.Sequential(*layers[:-1]).eval()
    # KAIR numbers its layers with the activations between them.
    chain.load_state_dict({name.removeprefix("model."): tensor for name, tensor in tensors.items()})
    return chain


def albumen(path: Path) -> Method:
    """As the repair stage does it, which leaves what is quiet as it is."""
    network = NoiseNet().eval()
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    denoiser = Denoiser(network, "bench", "cpu")

    def run(pixels: Floats, sigma: float) -> list[Floats]:
        scan = Photograph("bench", np.rint(pixels * 65535).astype(np.uint16), Container("TIFF"))
        noise = denoiser.find(scan)
        after = scan.pixels if is_quiet(noise) else denoiser.denoise(scan, noise, 1.0)
        return [after / np.float32(65535)]

    return run


def cases(files: list[Path], kind: str) -> Iterator[tuple[Floats, Floats, float]]:
    """Clean, noisy, and the deviation of the noise."""
    for number, file in enumerate(files):
        rng = np.random.default_rng([number, list(KINDS).index(kind)])
        pixels = decode(file.read_bytes(), "", 10**9).pixels
        top, left = ((length - _SIDE) // 2 for length in pixels.shape[:2])
        photograph = (pixels[top : top + _SIDE, left : left + _SIDE] / 255).astype(np.float32)
        clean, noisy, sigma = KINDS[kind](rng, photograph)
        yield clean, np.rint(np.clip(noisy, 0, 1) * 65535).astype(np.float32) / np.float32(65535), sigma


def measured(method: Method, files: list[Path], kind: str) -> list[float]:
    found = []
    for clean, noisy, sigma in cases(files, kind):
        tries = method(noisy, sigma)
        told = kind.startswith(("white", "none"))
        found.append(max(psnr(one, clean) for one in islice(tries, 1 if told else None)))
    return found


def others(files: list[Path], kinds: list[str], kept: Path | None) -> dict[str, dict[str, list[float]]]:
    """The other methods' figures, which no training of ours changes: from the file where they are kept there."""
    names = [file.name for file in files]
    known = json.loads(kept.read_text()) if kept is not None and kept.exists() else {}
    known = known if known.get("files") == names else {"files": names}
    folder = shared() / "weights"
    methods = {
        "noisy": lambda pixels, sigma: [pixels],
        "FFDNet": ffdnet(folder / "ffdnet_color.pth"),
        "DnCNN": dncnn(folder / "dncnn_color_blind.pth", folder / "dncnn_gray_blind.pth"),
    }
    for kind in kinds:
        if kind not in known:
            known[kind] = {name: measured(method, files, kind) for name, method in methods.items()}
            if kept is not None:
                kept.write_text(json.dumps(known))
    return {kind: known[kind] for kind in kinds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--every", type=int, default=4, help="use every n-th photograph")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--only", default="", help="kinds of noise that begin so")
    parser.add_argument("--others", type=Path, help="file that keeps the other methods' figures")
    options = parser.parse_args()
    files = sorted((shared() / "photos" / "clean").glob("*.jpg"))[options.first :: options.every]
    kinds = [kind for kind in KINDS if kind.startswith(options.only)]
    beside = others(files, kinds, options.others)
    ours = albumen(options.weights)
    table = Table("PSNR, dB, mean", "noisy", "FFDNet", "DnCNN", "Albumen", "over the better", "least", box=None)
    for kind in kinds:
        found = measured(ours, files, kind)
        rows = {name: statistics.mean(values) for name, values in beside[kind].items()}
        better = max(rows["FFDNet"], rows["DnCNN"])
        gain = statistics.mean(found) - better
        table.add_row(
            kind, *(f"{v:.2f}" for v in rows.values()), f"{statistics.mean(found):.2f}", f"{gain:+.2f}", f"{min(found):.2f}"
        )  # fmt: skip
        if kind == "none":
            table.add_row("left as they were", "", "", "", f"{sum(v == 100 for v in found)} of {len(found)}")
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
