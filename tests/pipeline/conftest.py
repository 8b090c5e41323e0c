"""What the tests of the pipeline share: a real photograph, the real small models for faces, cards of models of one's own, a
folder that anyone may enter."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray
from PIL import Image, ImageCms

from pipeline.models.catalogue import ModelCard
from pipeline.models.face_detectors import FaceDetector, open_detector
from pipeline.models.identity import FaceEmbedder, open_embedder
from pipeline.models.store import ModelSource, ModelStore
from pipeline.stage import Device

CardMaker = Callable[..., ModelCard]


@pytest.fixture(scope="session")
def real_photo() -> NDArray[np.uint8]:
    """H x W x 3 uint8 RGB: a clean photograph of the shared data, else scikit-image's."""
    root = Path(__file__).resolve().parents[2]
    clean = Path(os.environ.get("ALBUMEN_SHARED") or root.parent / "shared") / "photos" / "clean"
    found = sorted(clean.glob("*.jpg")) if clean.is_dir() else []
    return np.asarray(Image.open(found[0]).convert("RGB")) if found else np.asarray(skimage.data.astronaut())


@pytest.fixture(scope="session")
def models(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """RetinaFace with mobile0.25, YuNet and MobileFaceNet are installed, and nothing else."""
    cache = tmp_path_factory.mktemp("models")
    for name in (
        "detection_mobilenet0.25_Final.pth",
        "face_detection_yunet_2023mar.onnx",
        "mobilefacenet_foamliu.onnx",
    ):
        shutil.copy(shared / "weights" / name, cache)
    return ModelStore(ModelSource(cache=str(cache)))


@pytest.fixture(scope="session")
def mobile(models: ModelStore) -> FaceDetector:
    return open_detector(models, "retinaface-mobile0.25", Device("cpu", 1))


@pytest.fixture(scope="session")
def embedder(models: ModelStore) -> FaceEmbedder:
    return open_embedder(models, "mobilefacenet")


@pytest.fixture(scope="session")
def family(shared: Path) -> NDArray[np.uint8]:
    """An old photograph of three people, RGB."""
    image = cv2.imread(str(shared / "photos" / "damaged" / "gfpgan_10045.png"))
    return np.ascontiguousarray(image[..., ::-1])


@pytest.fixture
def card_for() -> CardMaker:
    """Makes the card of a model of one's own, as a job's [[models.local]] would."""

    def make(path: Path, architecture: str, scale: int = 1, model_id: str = "mine") -> ModelCard:
        return ModelCard(
            id=model_id,
            file=path.name,
            bytes=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            url=str(path),
            licence="MIT",
            architecture=architecture,
            task="test",
            scale=scale,
        )

    return make


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that another user than the one who runs the tests can enter."""
    folder = Path(tempfile.mkdtemp(prefix="albumen-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def lut_profile(adobe: bytes, grid: int = 17) -> bytes:
    """An input profile as scanners have them: one 16-bit look-up table to Lab (ICC.1:2001-04, 6.5.7), and no way back."""
    steps = np.linspace(0, 1, grid, dtype=np.float32)
    cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(1, -1, 3)
    # Crosstalk between the channels makes it nothing that curves and a matrix could say.
    cube = np.clip(cube * 0.94 + 0.06 * cube[..., ::-1] * cube, 0, 1).astype(np.float32)
    lab = imagecodecs.cms_transform(
        cube, adobe, imagecodecs.cms_profile("lab4"), colorspace="rgb", outcolorspace="lab", intent=1
    )[0]
    coded = np.stack([lab[:, 0] * 652.8, (lab[:, 1] + 128) * 256, (lab[:, 2] + 128) * 256], axis=1)
    straight = struct.pack(">2H", 0, 65535) * 3
    table = struct.pack(">4s4xBBBx9i2H", b"mft2", 3, 3, grid, *(65536 * (i % 4 == 0) for i in range(9)), 2, 2)
    table += straight + np.clip(np.rint(coded), 0, 65535).astype(">u2").tobytes() + straight
    text = struct.pack(">4s4xI", b"desc", 8) + b"scanner\0" + bytes(78)
    white = struct.pack(">4s4x3i", b"XYZ ", 63190, 65536, 54061)
    tags = {b"desc": text, b"wtpt": white, b"cprt": b"text\0\0\0\0none\0", b"A2B0": table}
    at, index, body = 132 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        index += struct.pack(">4sII", name, at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s", at + len(body), 0x02400000, b"scnr", b"RGB ", b"Lab ", b"acsp")
    head = head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + index + body


@pytest.fixture(scope="session")
def profiles() -> dict[str, bytes]:
    """ICC profiles by name: wide-gamut RGB of several makes, and two greys."""
    make = imagecodecs.cms_profile
    d65, d50 = (0.3127, 0.3290, 1.0), (0.3457, 0.3585, 1.0)

    def rgb(white: object, red: object, green: object, blue: object, gamma: float) -> bytes:
        primaries = [value for point in (red, green, blue) for value in (*point, 1.0)]  # type: ignore[misc]
        return bytes(make("rgb", whitepoint=white, primaries=primaries, gamma=gamma))

    adobe = rgb(d65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06), 2.19921875)
    light = np.linspace(0, 1, 1024)
    lightness = np.where(light <= 0.08, light * 100 / 903.3, ((light + 0.16) / 1.16) ** 3)
    curve = np.rint(lightness * 65535).astype(np.uint16)
    return {
        "adobe": adobe,
        "p3": rgb(d65, (0.68, 0.32), (0.265, 0.69), (0.15, 0.06), 2.2),
        "prophoto": rgb(d50, (0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), 1.8),
        "eci": bytes(
            make(
                "rgb",
                whitepoint=d50,
                primaries=[0.67, 0.33, 1.0, 0.21, 0.71, 1.0, 0.14, 0.08, 1.0],
                transferfunction=curve,
            )
        ),
        "scanner": lut_profile(adobe),
        "srgb": bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
        "grey": bytes(make("gray", whitepoint=d50, gamma=1.8)),
        "grey-table": bytes(make("gray", whitepoint=d50, transferfunction=curve)),
    }


@pytest.fixture(scope="session")
def vivid(real_photo: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """H x W x 3 uint16: a real photograph whose numbers, in a wide profile, lie far outside sRGB in many places."""
    unit = cv2.GaussianBlur(real_photo[40:136, 60:188].astype(np.float32) / 255, (0, 0), 0.7)
    grey = unit.mean(axis=2, keepdims=True)
    vivid = np.clip(grey + 2.2 * (unit - grey), 0, 1)
    return np.rint(vivid * 65535).astype(np.uint16)
