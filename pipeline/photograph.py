"""Photograph: the pixels of one scan with everything that has to survive restoration beside them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pipeline.damage.kinds import Kinds
    from pipeline.honesty.proof import Proof

# 8 or 16 bits; Photograph checks which.
Pixels = NDArray[np.unsignedinteger[Any]]
Mask = NDArray[np.bool_]

# Weights of red, green and blue in luma: Rec. ITU-R BT.601.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)

DEPTHS = ("uint8", "uint16")


class Tone(StrEnum):
    """Where a photograph's colour lies: nowhere, along one hue (sepia, cyanotype), or all over."""

    NEUTRAL = "neutral"
    TONED = "toned"
    COLOURED = "coloured"


@dataclass(frozen=True, slots=True)
class Container:
    """What the source file carried beside its pixels.

    format: the decoder's name for the file (JPEG, PNG, TIFF, ...). icc: ICC profile. exif: TIFF-structured EXIF
    without the `Exif\\0\\0` prefix and preview, its orientation 1 since the pixels are upright. xmp: XMP packet.
    iptc: IPTC-IIM records (dataset markers 0x1C), without the resource block that JPEG and Photoshop wrap around them.
    dpi: pixels per inch, (horizontal, vertical), of the pixels as they stand. pages: full-size pages or frames of the
    source, of which the pixels are the first. conversion: how stored samples became these, where they are not the same
    (CMYK, Lab, depths other than 8 and 16), in a sentence. orientation: that the file asked for (EXIF 2.32, tag 274), and that
    the pixels have.
    """

    format: str
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    pages: int = 1
    conversion: str | None = None
    orientation: int = 1


@dataclass(frozen=True, slots=True)
class Analysis:
    """What was measured on the source before anything changed it. Luma is Rec. 601, scaled to 0..255.

    noise_sigma: standard deviation of the noise in luma (Immerkaer, CVIU 64(2), 1996).
    sharpness: variance of the Laplacian of luma (Pech-Pacheco et al., ICPR 2000); low means blurred.
    luma_mean, luma_p01, luma_p99: mean and percentiles of luma. clipped_low, clipped_high: fraction at the ends.
    cast_a, cast_b: mean CIE 1976 a* and b*. chroma_p99: 99th percentile of C*ab.
    damage_fraction: fraction of pixels that the detector of damage marks.
    face_count: faces found, or None where no detector is installed.
    """

    megapixels: float
    noise_sigma: float
    sharpness: float
    luma_mean: float
    luma_p01: float
    luma_p99: float
    clipped_low: float
    clipped_high: float
    cast_a: float
    cast_b: float
    chroma_p99: float
    damage_fraction: float
    tone: str
    face_count: int | None


class Decision(StrEnum):
    """What became of a face. Accepted: restored, and let through by the gate, but not laid in yet. Restored: laid in. Refused:
    restored, and held back by the gate. Left: not restored at all."""

    ACCEPTED = "accepted"
    RESTORED = "restored"
    REFUSED = "refused"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Likeness:
    """How far a restored face is from the one it was made of; None where it could not be measured.

    identity: cosine of the two vectors of `identity_model`, -1..1. displacement: how far the farthest of five landmarks moved,
    as a share of the distance between the eyes. skin_drift: CIE 1976 difference of the cheeks' median colours. eye_drift: the
    same of the irises, in a* and b* alone. glasses: change of what lies across the nose between the eyes, as a share of the
    face's contrast.
    """

    identity_model: str | None = None
    identity: float | None = None
    displacement: float | None = None
    skin_drift: float | None = None
    eye_drift: float | None = None
    glasses: float | None = None


@dataclass(frozen=True, slots=True)
class Face:
    """One face of a photograph.

    box: left, top, right, bottom in pixels of the scan. landmarks: 5 x 2, eyes, nose, mouth corners.
    score: the detector's, 0..1. affine: 2 x 3, scan coordinates to the 512 x 512 patch.
    patch: the restored face, 512 x 512 x 3 uint16 RGB, or None where it was only found.
    strength: how much of the patch goes into the photograph, 0..1; 0 where the face stays as it was.
    detector, model_id, model_sha256: what found it and what restored it. likeness: None where nothing was restored.
    decision: None where no stage had to decide. reason: of a face that stays, codes in docs/provenance.md.
    mask_kind: what the mask comes from, a model's id or `square`. mask: PNG of 512 x 512 bits, None for the square.
    """

    box: tuple[float, float, float, float]
    landmarks: tuple[float, ...]
    score: float
    affine: tuple[float, ...] | None = None
    patch: NDArray[np.uint16] | None = None
    strength: float = 0.0
    model_id: str | None = None
    detector: str | None = None
    model_sha256: str | None = None
    likeness: Likeness | None = None
    decision: Decision | None = None
    reason: str | None = None
    mask_kind: str | None = None
    mask: bytes | None = None

    @property
    def size(self) -> float:
        """The longer side of the box, in pixels of the scan."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    @property
    def eyes(self) -> float:
        """The distance between the eyes, in pixels of the scan."""
        return math.hypot(self.landmarks[2] - self.landmarks[0], self.landmarks[3] - self.landmarks[1])

    def staying(self, decision: Decision, reason: str) -> Face:
        """The face that stays as it was: nothing of it is laid in."""
        return replace(self, decision=decision, reason=reason, patch=None, strength=0.0)


@dataclass(frozen=True, slots=True)
class Searched:
    """Where faces were looked for, so that nobody does it twice.

    detector: id of the model that looked. whole: digest of all samples that it looked at, as `faces.search` makes it. around:
    of those around each of the photograph's faces, in their order.
    """

    detector: str
    whole: str
    around: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Photograph:
    """One scan on its way through the stages. Immutable: a stage returns a new one.

    pixels: H x W x C, uint8 or uint16, C is 1 (grey) or 3 (RGB), C-contiguous, full range.
    alpha: H x W of the same dtype, or None. damage: H x W uint8, codes of `damage.kinds`, or None where not looked for or
    where the pixels have another scale since. mask: of the damage then, as `damage.mask` makes it, at the source's scale.
    scale: how many times wider the pixels are than the source's. proof: of the scan as it was decoded, to measure the output
    against; None where nobody made one. searched: None where no faces were looked for.
    """

    item_id: str
    pixels: Pixels
    container: Container
    alpha: Pixels | None = None
    damage: Kinds | None = None
    mask: bytes | None = None
    analysis: Analysis | None = None
    faces: tuple[Face, ...] = field(default=())
    scale: int = 1
    proof: Proof | None = None
    searched: Searched | None = None

    def __post_init__(self) -> None:
        p = self.pixels
        if p.ndim != 3 or p.shape[2] not in (1, 3) or p.dtype.name not in DEPTHS or not p.flags.c_contiguous:
            raise ValueError(f"pixels must be contiguous H x W x 1|3 of 8 or 16 bits, not {p.shape} {p.dtype}")
        if self.alpha is not None and (self.alpha.shape != p.shape[:2] or self.alpha.dtype != p.dtype):
            raise ValueError(f"alpha {self.alpha.shape} {self.alpha.dtype} does not fit pixels {p.shape} {p.dtype}")
        if self.damage is not None and (self.damage.shape != p.shape[:2] or self.damage.dtype != np.uint8):
            raise ValueError(f"damage {self.damage.shape} {self.damage.dtype} does not fit pixels {p.shape}")

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def peak(self) -> int:
        """The largest value a sample can have: 255 or 65535."""
        return int(np.iinfo(self.pixels.dtype).max)


def pixel_digest(photograph: Photograph) -> str:
    """SHA-256 of shape, depth and samples, alpha included: what a stage got and what it gave back."""
    digest = hashlib.sha256()
    for plane in (photograph.pixels, photograph.alpha):
        if plane is not None:
            digest.update(f"{plane.shape}{plane.dtype.name}".encode())
            digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


def is_neutral(pixels: Pixels) -> bool:
    """True where every pixel is exactly grey, also when grey is stored as RGB."""
    if pixels.shape[2] == 1:
        return True
    red = pixels[..., 0]
    return bool(np.array_equal(red, pixels[..., 1]) and np.array_equal(red, pixels[..., 2]))


def luma(pixels: Pixels) -> NDArray[np.float32]:
    """Rec. 601 luma, H x W float32 in 0..1."""
    unit = np.float32(1.0 / np.iinfo(pixels.dtype).max)
    if pixels.shape[2] == 1:
        return pixels[..., 0].astype(np.float32) * unit
    grey: NDArray[np.float32] = pixels.astype(np.float32) @ (LUMA * unit)
    return grey


def as_unit(pixels: Pixels) -> NDArray[np.float32]:
    """Samples as float32, 0..1."""
    unit: NDArray[np.float32] = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    return unit


def to_depth(unit: NDArray[np.float32], dtype: np.dtype[Any]) -> Pixels:
    """Float samples in 0..1 to full-range integers, rounded to nearest and clipped. Contiguous."""
    peak = np.float32(np.iinfo(dtype).max)
    scaled = np.clip(unit, 0.0, 1.0) * peak
    result: Pixels = np.ascontiguousarray(np.rint(scaled).astype(dtype))
    return result


def widened(samples: Pixels) -> Pixels:
    """16 bits of 8: 255 becomes 65535, so that `narrowed` gives back every bit. What has 16 bits is returned as it is."""
    return samples if samples.dtype == np.uint16 else samples.astype(np.uint16) * np.uint16(257)


def narrowed(samples: Pixels) -> Pixels:
    """8 bits of 16, rounded to nearest. What has 8 bits is returned as it is."""
    if samples.dtype == np.uint8:
        return samples
    result = np.empty(samples.shape, np.uint8)
    for top in range(0, len(samples), 256):
        # 257 is odd: no sample lies half way between two steps.
        result[top : top + 256] = (samples[top : top + 256].astype(np.uint32) + 128) // 257
    return result


def deepened(photograph: Photograph) -> Photograph:
    """The photograph in 16 bits, alpha included, as stages that compute in floats hand it on."""
    if photograph.pixels.dtype == np.uint16:
        return photograph
    alpha = None if photograph.alpha is None else widened(photograph.alpha)
    return replace(photograph, pixels=widened(photograph.pixels), alpha=alpha)
