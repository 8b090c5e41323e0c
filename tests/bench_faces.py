"""`python -m tests.bench_faces`: GFPGAN beside its own package, in turns, with the same weights and noise: the network, face
after face; and all of GFPGANer.enhance beside our stages, on one photograph.

The weights are the official ones where they are installed, else seeded random ones: times are the same, and differences are
those of random pictures.
"""

from __future__ import annotations

import argparse
import copy
import os
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray

from pipeline.faces.identity import Gate, Pair
from pipeline.faces.work import Workshop
from pipeline.models.face_restorers import gfpgan_clean, shared_gfpgan
from pipeline.models.faces import FaceDetector, FaceRestorer, open_detector
from pipeline.models.identity import FaceEmbedder, open_embedder
from pipeline.models.parsing import FaceParser
from pipeline.models.precision import Precision
from pipeline.models.store import ModelSource, ModelStore, state_dict
from pipeline.photograph import Container, Likeness, Photograph, narrowed
from pipeline.policy import POLICIES, FaceGate
from pipeline.stage import Device, Step
from pipeline.stages.compose import Compose, ComposeParameters
from pipeline.stages.faces import Faces, FacesParameters
from tests.pipeline.models.references import MOBILE, PUBLISHED, Labelling, a_gfpganer, a_reference, labels, seed_of
from tests.tables import Row, alternate, compared, show

OFFICIAL = "gfpgan-v1.4"
PRECISIONS: tuple[Precision, ...] = ("exact", "fast")
Patches = NDArray[np.float32]
# Random weights make no person of a face: the gate measures everything, and lets everything through.
OPEN = FaceGate(5.0, -1.0, -1.0, *[float("inf")] * 4, unchecked=1.0)


def device() -> Device:
    return Device("cuda" if torch.cuda.is_available() else "cpu", os.cpu_count() or 1)


def a_network() -> Any:
    store = ModelStore()
    if not store.installed(OFFICIAL):
        return a_reference(**PUBLISHED)
    network = gfpgan_clean()
    network.load_state_dict(state_dict(store.read_weights(OFFICIAL)))
    return network.eval().requires_grad_(requires_grad=False)


def one_after_another(network: Any, faces: Patches) -> Patches:
    """GFPGANer's loop around the network, with noise that is seeded as ours is."""
    kind, restored = device().kind, []
    for face in faces:
        torch.manual_seed(seed_of(face))
        planes = torch.from_numpy(face.transpose(2, 0, 1)[None].copy()).sub_(0.5).div_(0.5).to(kind)
        with torch.inference_mode():
            answer = network(planes, return_rgb=False)[0][0]
        restored.append(answer.float().clamp(-1, 1).add(1).div(2).cpu().numpy().transpose(1, 2, 0))
    return np.stack(restored)


def face_rows(runs: int, count: int) -> list[Row]:
    """Seconds are for one face; and, where the detector is there, for one photograph."""
    portrait = cv2.resize(skimage.data.astronaut()[20:220, 110:310], (512, 512), interpolation=cv2.INTER_CUBIC)
    faces = np.stack([np.roll(portrait, 8 * number, axis=1) for number in range(count)]).astype(np.float32) / 255
    rows, reference = [], a_network().to(device().kind)
    for precision in PRECISIONS:
        ours = shared_gfpgan("bench", copy.deepcopy(reference), device(), precision)
        if rows and ours.precision == "fp32":
            break
        times = alternate(lambda: one_after_another(reference, faces), lambda: ours.restore(faces), runs)  # noqa: B023
        difference = ours.restore(faces) - one_after_another(reference, faces)
        rows.append(
            compared(f"network, {precision} ({ours.precision}, {ours.batch} at once)", count, times, difference)
        )
    weights = shared_weights()
    return rows if weights is None else [*rows, whole_row(reference, weights, runs)]


def shared_weights() -> ModelStore | None:
    folder = Path(os.environ.get("ALBUMEN_SHARED") or Path(__file__).resolve().parents[2] / "shared") / "weights"
    return (
        ModelStore(ModelSource(cache=str(folder))) if (folder / "detection_mobilenet0.25_Final.pth").is_file() else None
    )


def a_group() -> NDArray[np.uint8]:
    """Four faces beside and above one another."""
    hopper = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))[..., ::-1]
    cells = [
        cv2.resize(image, (320, 320), interpolation=cv2.INTER_AREA)
        for image in (skimage.data.astronaut()[:256, 100:356], hopper[:420, 50:470])
    ]
    row = np.hstack(cells)
    return np.ascontiguousarray(np.vstack([row, row[:, ::-1]]), np.uint8)


class Recording(FaceRestorer):
    """Another one that keeps the faces it was given."""

    def __init__(self, inner: FaceRestorer) -> None:
        self.inner = inner
        self.model_id, self.precision = inner.model_id, inner.precision
        self.given: list[Patches] = []

    def restore(self, aligned: Patches) -> Patches:
        self.given += list(aligned)
        return self.inner.restore(aligned)


def our_stages(network: Any, models: ModelStore, *, measured: bool = True) -> tuple[Faces, Recording]:
    """Faces with the real detector and all that the gate measures, unless that is left out; it lets everything through. The
    same parser as the reference has."""
    policy, kind = POLICIES["presentation"], device()
    detector = open_detector(models, MOBILE, kind)
    embedder = open_embedder(models, "mobilefacenet") if models.installed("mobilefacenet") else None
    restorer = Recording(shared_gfpgan("bench", copy.deepcopy(network), kind))
    stage = Faces(FacesParameters(detector=MOBILE), policy)
    stage.detector = detector
    parser = FaceParser("labelling", "parsenet", Labelling(labels()).to(kind.kind), kind)
    stage.workshop = Workshop(
        restorer, "0" * 64, parser, _Open(detector, embedder, measured=measured), OPEN, strength=1.0
    )
    return stage, restorer


class _Open(Gate):
    """Finds a face in everything."""

    def __init__(self, detector: FaceDetector, embedder: FaceEmbedder | None, *, measured: bool) -> None:
        super().__init__(detector, embedder)
        self.measured = measured

    def measure(self, pair: Pair) -> tuple[Likeness, bool]:
        return super().measure(pair)[0] if self.measured else Likeness(), True


def composed_by_us(stage: Faces, photograph: Photograph) -> NDArray[np.uint8]:
    """H x W x 3, both stages."""
    done: Any = photograph
    for one in (stage, Compose(ComposeParameters(), POLICIES["presentation"])):
        [step] = one.restore([done])
        assert isinstance(step, Step)
        done = step.photograph
    return narrowed(done.pixels).astype(np.uint8)


def whole_row(network: Any, models: ModelStore, runs: int) -> Row:
    group = a_group()
    stage, restorer = our_stages(network, models)
    photograph = Photograph("bench", group, Container("PNG"))
    ours = composed_by_us(stage, photograph)
    seeds = [seed_of(face) for face in restorer.given]
    reference = a_gfpganer(network, models, seeds, device().kind)
    bgr = np.ascontiguousarray(group[..., ::-1])
    theirs = reference.enhance(bgr)[2][..., ::-1]
    times = alternate(lambda: reference.enhance(bgr), lambda: composed_by_us(stage, photograph), runs)
    what = f"GFPGANer.enhance, {len(seeds)} faces, gate included ({restorer.precision})"
    return compared(what, 1, times, (ours.astype(np.float32) - theirs) / 255)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--faces", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(device().threads)
    show("faces", "GFPGANer", face_rows(options.runs, options.faces))


if __name__ == "__main__":
    main()
