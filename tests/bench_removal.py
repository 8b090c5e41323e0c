"""`python -m tests.bench_removal`: removal of damage against known truth, on the shared clean photographs.

Inpainting beside OpenCV's Telea and Navier-Stokes and scikit-image's biharmonic, on real outlines of thin damage; removal of
stains before and after. Needs the shared test data.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from skimage.metrics import structural_similarity
from skimage.restoration import inpaint_biharmonic

from pipeline.codecs import decode
from pipeline.photograph import Container, Photograph, narrowed, widened
from pipeline.removal import inpaint, remove_stains
from tests.bench.ground import shared
from tests.marred import THIN, TONES, Case, colour_error, psnr, scratched, stained, texture_likeness

Filler = Callable[[NDArray[Any], NDArray[np.bool_]], NDArray[Any]]


def by_channel(method: int) -> Filler:
    def fill(pixels: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
        planes = [
            cv2.inpaint(np.ascontiguousarray(p), mask.astype(np.uint8), 3, method) for p in pixels.transpose(2, 0, 1)
        ]
        return np.stack(planes, axis=2)

    return fill


def biharmonic(pixels: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
    filled = inpaint_biharmonic(pixels / 65535, mask, channel_axis=-1, split_into_regions=True)
    return np.rint(np.clip(filled, 0, 1) * 65535).astype(np.uint16)


FILLERS: dict[str, Filler] = {
    "Telea": by_channel(cv2.INPAINT_TELEA),
    "Navier-Stokes": by_channel(cv2.INPAINT_NS),
    "biharmonic": biharmonic,
    "Albumen": lambda pixels, mask: inpaint(pixels, mask),
}


def likeness(filled: NDArray[Any], case: Case) -> float:
    """Mean structural similarity (Wang et al., IEEE TIP 13(4), 2004) of lightness where the damage was."""
    one, other = (narrowed(pixels).mean(axis=2) for pixels in (filled, widened(case.clean)))
    _, found = structural_similarity(one, other, data_range=255, full=True)
    return float(found[case.truth].mean())


def inpainting(files: list[Path], outlines: Path, console: Console) -> None:
    table = Table("filler", *THIN, "all", "over Telea", "SSIM", "over Telea", "ms a damaged pixel", box=None)
    found: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in THIN} for name in FILLERS}
    alike: dict[str, list[float]] = {name: [] for name in FILLERS}
    seconds, area = dict.fromkeys(FILLERS, 0.0), 0
    for number, file in enumerate(files):
        colour = decode(file.read_bytes(), "", 10**9).pixels
        for kind in THIN:
            rng = np.random.default_rng([number, THIN.index(kind)])
            shapes = sorted((outlines / kind).glob("*.png"))
            case: Case = scratched(colour, shapes[rng.integers(len(shapes))], rng)
            area += int(case.given.sum())
            for name, filler in FILLERS.items():
                started = time.perf_counter()
                filled = filler(widened(case.damaged), case.given)
                seconds[name] += time.perf_counter() - started
                found[name][kind].append(psnr(filled, case.clean, case.truth))
                alike[name].append(likeness(filled, case))
    telea = [value for kind in THIN for value in found["Telea"][kind]]
    for name in FILLERS:
        values = [value for kind in THIN for value in found[name][kind]]
        gain = statistics.median(a - b for a, b in zip(values, telea, strict=True))
        nearer = statistics.median(a - b for a, b in zip(alike[name], alike["Telea"], strict=True))
        medians = [f"{statistics.median(found[name][kind]):.2f}" for kind in THIN]
        table.add_row(
            name, *medians, f"{statistics.median(values):.2f}", f"{gain:+.2f}", f"{statistics.median(alike[name]):.3f}",
            f"{nearer:+.3f}", f"{1000 * seconds[name] / area:.3f}",
        )  # fmt: skip
    console.print("PSNR inside the mask, dB, and SSIM there, medians", table)


def stains(files: list[Path], outlines: Path, console: Console) -> None:
    table = Table(
        "stains", "dE00 before", "after", "ratio", "halved", "texture before", "after", "false alarm dE00", box=None
    )
    shapes = sorted((outlines / "stain").glob("*.png"))
    for tone in TONES:
        rows = []
        for number, file in enumerate(files):
            rng = np.random.default_rng([number, TONES.index(tone), 7])
            case = stained(decode(file.read_bytes(), "", 10**9).pixels, tone, rng, shapes)
            photograph, sound = (Photograph("bench", widened(p), Container("PNG")) for p in (case.damaged, case.clean))
            cleaned = remove_stains(photograph, case.given).pixels
            untouched = remove_stains(sound, case.given).pixels
            rows.append(
                (
                    colour_error(case.damaged, case.clean, case.truth),
                    colour_error(cleaned, case.clean, case.truth),
                    texture_likeness(case.damaged, case.clean, case.truth),
                    texture_likeness(cleaned, case.clean, case.truth),
                    colour_error(untouched, case.clean, case.truth),
                )
            )
        before, after, rough, fine, alarm = np.mean(rows, axis=0)
        halved = np.mean([row[1] < row[0] / 2 for row in rows])
        table.add_row(
            tone, f"{before:.2f}", f"{after:.2f}", f"{after / before:.2f}", f"{halved:.0%}", f"{rough:.3f}", f"{fine:.3f}",
            f"{alarm:.2f}",
        )  # fmt: skip
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=4, help="use every n-th photograph")
    parser.add_argument("--first", type=int, default=3)
    parser.add_argument("--only", choices=("stains", "inpainting"))
    options = parser.parse_args()
    files = sorted((shared() / "photos" / "clean").glob("*.jpg"))[options.first :: options.every]
    outlines, console = shared() / "damage" / "masks", Console(width=160)
    if options.only != "inpainting":
        stains(files, outlines, console)
    if options.only != "stains":
        inpainting(files, outlines, console)


if __name__ == "__main__":
    main()
