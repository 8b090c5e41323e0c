"""TIFF out: tifffile writes the strips, and a first directory with all that describes the photograph goes behind them."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping

import tifffile

from pipeline.codecs import exif, ifd
from pipeline.codecs.exif import DESCRIPTIVE, UNIT, X_RESOLUTION, Y_RESOLUTION, rational
from pipeline.codecs.ifd import Field, Layout, Tree
from pipeline.codecs.metadata import sane_dpi
from pipeline.codecs.samples import joined
from pipeline.codecs.tiff import ICC, IPTC, XMP
from pipeline.photograph import Photograph

# Offsets of classic TIFF have 32 bits; room is left for directories and for data that deflate makes longer.
_CLASSIC = 2**32 - 2**26
_DPI_LIMIT = 1e6


def encode(photograph: Photograph, _quality: int | None) -> bytes:
    """Deflate with a predictor in strips; BigTIFF where 32-bit offsets might not do.

    The file has the byte order of the photograph's EXIF: comments and maker notes can be read in that order only.
    """
    parsed = exif.parse(
        exif.truthful(photograph.container.exif, photograph.width, photograph.height, photograph.container.dpi)
    )
    layout = Layout("<" if parsed is None else parsed[0].order, big=_size(photograph) > _CLASSIC)
    target = _strips(photograph, layout)
    view = target.getbuffer()
    _, start = ifd.header(bytes(view[:16]))
    written, _ = ifd.read(view, start, layout)  # type: ignore[arg-type]
    view.release()
    fields = {code: tag for code, tag in written.items() if code not in (X_RESOLUTION, Y_RESOLUTION, UNIT)}
    fields |= _described(photograph, layout)
    below: Mapping[int, Tree] = {}
    if parsed is not None:
        fields |= {code: tag for code, tag in parsed[1].fields.items() if code in DESCRIPTIVE}
        below = parsed[1].below
    end = target.seek(0, io.SEEK_END)
    target.write(b"\0" * (end % 2))
    start = target.tell()
    target.write(ifd.serialise(Tree(fields, below), start, layout))
    target.seek(8 if layout.big else 4)
    target.write(layout.offset().pack(start))
    return target.getvalue()


def _size(photograph: Photograph) -> int:
    alpha = 0 if photograph.alpha is None else photograph.alpha.nbytes
    return photograph.pixels.nbytes + alpha


def _strips(photograph: Photograph, layout: Layout) -> io.BytesIO:
    samples = joined(photograph)
    target = io.BytesIO()
    tifffile.imwrite(
        target,
        samples,
        byteorder=layout.order,
        bigtiff=layout.big,
        photometric="rgb" if photograph.pixels.shape[2] == 3 else "minisblack",
        extrasamples=None if photograph.alpha is None else ["unassalpha"],
        planarconfig="contig" if samples.ndim == 3 else None,
        compression="zlib",
        predictor=True,
        rowsperstrip=64,
        software=False,
        metadata=None,
    )
    return target


def _described(photograph: Photograph, layout: Layout) -> dict[int, Field]:
    """Profile, XMP, IPTC and resolution as fields."""
    container = photograph.container
    fields = {
        code: Field(kind, len(value), value)
        for code, kind, value in (
            (ICC, ifd.UNDEFINED, container.icc),
            (XMP, ifd.BYTE, container.xmp),
            (IPTC, ifd.UNDEFINED, container.iptc),
        )
        if value
    }
    if (dpi := sane_dpi(container, _DPI_LIMIT)) is not None:
        fields |= {
            X_RESOLUTION: Field(ifd.RATIONAL, 1, rational(dpi[0], layout)),
            Y_RESOLUTION: Field(ifd.RATIONAL, 1, rational(dpi[1], layout)),
            UNIT: Field(ifd.SHORT, 1, struct.pack(layout.order + "H", 2)),
        }
    return fields
