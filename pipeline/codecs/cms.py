"""CMYK and Lab to RGB: 16-bit ROMM RGB, wide enough that no colour of a real print is clipped; littlecms does CMYK."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from pipeline.codecs.icc import D50, ROMM, ROMM_CURVE, colour_space, romm, to_pcs
from pipeline.codecs.samples import BAND
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Pixels

_TARGET = "16-bit ROMM RGB"


def cmyk_to_rgb(inks: Pixels, profile: bytes | None) -> tuple[Pixels, str]:
    """inks: H x W x 4 (more channels are alpha and pass), 0 is no ink. Returns H x W x 3 or 4 uint16, and what was done.

    Relative colorimetric, without black point compensation: the colours of the print, relative to its paper.
    Raises ItemError: unsupported, where there is no profile to say what the inks look like.
    """
    if profile is None or colour_space(profile) != "CMYK":
        raise ItemError(
            Reason.UNSUPPORTED,
            "CMYK without a CMYK profile: nothing says what its inks look like; assign the profile of the press first",
        )
    result = np.empty((*inks.shape[:2], inks.shape[2] - 1), np.uint16)
    clipped = 0
    for top in range(0, inks.shape[0], BAND):
        band = inks[top : top + BAND]
        linear = _transform(np.ascontiguousarray(band[..., :4]), profile)
        clipped += _store(result[top : top + BAND], linear)
        if inks.shape[2] == 5:
            result[top : top + BAND, :, 3] = _deep(band[..., 4])
    return result, _said(f"CMYK to {_TARGET} through the embedded profile, relative colorimetric", clipped, result)


def _transform(inks: Pixels, profile: bytes) -> NDArray[np.float64]:
    try:
        unit = imagecodecs.cms_transform(
            inks,
            profile,
            romm(),
            colorspace="cmyk",
            outcolorspace="rgb",
            outdtype=np.float32,
            intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
            flags=imagecodecs.CMS.FLAGS.NOCACHE,
        )
    except (RuntimeError, ValueError) as error:
        raise ItemError(Reason.UNSUPPORTED, f"CMYK whose embedded profile cannot be used: {error}") from error
    return np.asarray(unit, np.float64)


def lab_to_rgb(samples: NDArray[Any], photometric: str) -> tuple[Pixels, str]:
    """samples: H x W x 3, or 4 with alpha, 8 or 16 bits, as TIFF stores CIE L*a*b* (photometric CIELAB or ICCLAB, D50).

    Sources: TIFF 6.0, section 23; TIFF Technical Note 4 for ICCLAB. Returns uint16 ROMM RGB and what was done.
    """
    result = np.empty(samples.shape, np.uint16)
    clipped = 0
    for top in range(0, samples.shape[0], BAND):
        band = samples[top : top + BAND]
        clipped += _store(result[top : top + BAND], _romm_of(_lab(band[..., :3], photometric)))
        if samples.shape[2] == 4:
            result[top : top + BAND, :, 3] = _deep(band[..., 3])
    return result, _said(f"{photometric} to {_TARGET}", clipped, result)


def _lab(stored: NDArray[Any], photometric: str) -> NDArray[np.float64]:
    lab = stored.astype(np.float64)
    wide = stored.dtype.itemsize == 2
    if photometric == "ICCLAB":
        step = 256.0 if wide else 1.0
        lab[..., 0] *= 100 / (65280 if wide else 255)
        lab[..., 1:] = lab[..., 1:] / step - 128
        return lab
    lab[..., 0] *= 100 / (65535 if wide else 255)
    signed = np.ascontiguousarray(stored[..., 1:]).view(np.int16 if wide else np.int8)
    lab[..., 1:] = signed.astype(np.float64) / (256.0 if wide else 1.0)
    return lab


def _romm_of(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE 15:2004, 8.2.1 backwards, then ISO 22028-2. Unbounded."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, (f - 4 / 29) * 3 * (6 / 29) ** 2) * D50
    linear = xyz @ np.linalg.inv(to_pcs(ROMM)).T
    unit: NDArray[np.float64] = np.where(linear < 1 / 512, linear * 16, np.maximum(linear, 0) ** (1 / ROMM_CURVE.gamma))
    return unit


def _store(target: Pixels, unit: NDArray[np.float64]) -> int:
    """Writes colours in 0..1 as 16 bits; the number of samples that lay outside by more than half a step of 8 bits."""
    target[..., :3] = np.rint(np.clip(unit, 0.0, 1.0) * 65535)
    return int(np.count_nonzero((unit < -1 / 510) | (unit > 1 + 1 / 510)))


def _deep(alpha: NDArray[Any]) -> NDArray[np.uint16]:
    return alpha.astype(np.uint16) * np.uint16(257 if alpha.dtype.itemsize == 1 else 1)


def _said(what: str, clipped: int, result: Pixels) -> str:
    share = clipped / max(1, result.shape[0] * result.shape[1] * 3)
    return f"{what}, {share:.3%} of the samples clipped" if clipped else f"{what}, nothing clipped"
