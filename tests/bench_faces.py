"""`python -m tests.bench_faces`: GFPGAN's network beside the reference's, face after face, with the same weights and noise.

The weights are the official ones where they are installed, else seeded random ones: times are the same, and differences are
those of random pictures.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pipeline.models.face_restorers import gfpgan_clean, shared_gfpgan
from pipeline.models.precision import Precision
from pipeline.models.store import ModelStore, state_dict
from tests.bench import alternate, device
from tests.pipeline.models.references import PUBLISHED, a_reference

OFFICIAL = "gfpgan-v1.4"
PRECISIONS: tuple[Precision, ...] = ("exact", "fast")
Faces = NDArray[np.float32]


@dataclass(frozen=True)
class FaceRow:
    """Seconds are for one face, medians; spread: (slowest - fastest) / median of ours. largest_difference: of values in 0..1;
    agreement: PSNR in dB to the reference's fp32."""

    what: str
    faces: int
    reference_seconds: float
    seconds: float
    spread: float
    ratio: float
    largest_difference: float
    agreement: float


def a_network() -> Any:
    store = ModelStore()
    if not store.installed(OFFICIAL):
        return a_reference(**PUBLISHED)
    network = gfpgan_clean()
    network.load_state_dict(state_dict(store.read_weights(OFFICIAL)))
    return network.eval().requires_grad_(requires_grad=False)


def one_after_another(network: Any, faces: Faces) -> Faces:
    """GFPGANer's loop around the network, with noise that is seeded as ours is."""
    kind, restored = device().kind, []
    for face in faces:
        torch.manual_seed(int.from_bytes(hashlib.sha256(face.tobytes()).digest()[:8], "little", signed=True))
        planes = torch.from_numpy(face.transpose(2, 0, 1)[None].copy()).sub_(0.5).div_(0.5).to(kind)
        with torch.inference_mode():
            answer = network(planes, return_rgb=False)[0][0]
        restored.append(answer.float().clamp(-1, 1).add(1).div(2).cpu().numpy().transpose(1, 2, 0))
    return np.stack(restored)


def face_rows(runs: int, count: int) -> list[FaceRow]:
    portrait = cv2.resize(skimage.data.astronaut()[20:220, 110:310], (512, 512), interpolation=cv2.INTER_CUBIC)
    faces = np.stack([np.roll(portrait, 8 * number, axis=1) for number in range(count)]).astype(np.float32) / 255
    rows = []
    for precision in PRECISIONS:
        reference = a_network().to(device().kind)
        ours = shared_gfpgan("bench", a_network(), device(), precision)
        if rows and ours.precision == "fp32":
            break
        times, own = alternate(lambda: one_after_another(reference, faces), lambda: ours.restore(faces), runs)  # noqa: B023
        difference = ours.restore(faces) - one_after_another(reference, faces)
        error = float(np.mean(difference.astype(np.float64) ** 2))
        rows.append(
            FaceRow(
                what=f"GFPGAN, {precision} ({ours.precision}, {ours.batch} at once)",
                faces=count,
                reference_seconds=statistics.median(times) / count,
                seconds=statistics.median(own) / count,
                spread=(max(own) - min(own)) / statistics.median(own),
                ratio=statistics.median(times) / statistics.median(own),
                largest_difference=float(np.abs(difference).max()),
                agreement=float("inf") if error == 0 else -10 * float(np.log10(error)),
            )
        )
    return rows


def show(rows: list[FaceRow]) -> None:
    table = Table(box=None)
    for column in ("face restorer", "GFPGANer s", "Albumen s", "spread", "ratio", "largest difference", "PSNR dB"):
        table.add_column(column, justify="left" if column == "face restorer" else "right")
    for row in rows:
        table.add_row(
            row.what, f"{row.reference_seconds:.2f}", f"{row.seconds:.2f}", f"{row.spread:.0%}", f"{row.ratio:.2f}",
            f"{row.largest_difference:.1e}", f"{row.agreement:.1f}",
        )  # fmt: skip
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--faces", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(device().threads)
    show(face_rows(options.runs, options.faces))


if __name__ == "__main__":
    main()
