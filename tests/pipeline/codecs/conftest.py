"""Metadata as real writers leave them, the encoders that the tests share, and what is compared."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
import tifffile
from lxml import etree
from numpy.typing import NDArray
from PIL import Image, ImageCms

from pipeline.codecs import exif, ifd

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"


def _xmp() -> bytes:
    return (
        b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        b'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" photoshop:City="Wetzlar">'
        b"<dc:creator><rdf:Seq><rdf:li>Lotte Jacobi</rdf:li></rdf:Seq></dc:creator>"
        b"</rdf:Description></rdf:RDF></x:xmpmeta>\n<?xpacket end='w'?>"
    )


def _iptc() -> bytes:
    sets = ((1, 90, b"\x1b%G"), (2, 0, b"\x00\x02"), (2, 5, "Mädchen am Fenster".encode()), (2, 80, b"Lotte Jacobi"))
    return b"".join(struct.pack(">BBBH", 0x1C, record, number, len(text)) + text for record, number, text in sets)


def _exif() -> bytes:
    """Big-endian, with EXIF, GPS and interoperability directories, an opaque maker note and a comment."""
    order = ">"

    def text(value: bytes) -> ifd.Field:
        return ifd.Field(ifd.ASCII, len(value) + 1, value + b"\0")

    def ratios(*values: tuple[int, int]) -> ifd.Field:
        return ifd.Field(ifd.RATIONAL, len(values), b"".join(struct.pack(order + "II", *v) for v in values))

    camera = {
        0x829A: ratios((1, 60)),
        0x9003: text(b"1954:04:01 12:00:00"),
        0x927C: ifd.Field(ifd.UNDEFINED, 30, bytes(range(30))),
        0x9286: ifd.Field(ifd.UNDEFINED, 16, b"UNICODE\0" + "Tür!".encode("utf-16-be")),
        0xA434: text(b"Elmar 50/3.5"),
    }
    interop = ifd.Tree({1: text(b"R98")})
    place = {1: text(b"N"), 2: ratios((50, 1), (33, 1), (30, 1)), 3: text(b"E"), 4: ratios((8, 1), (30, 1), (0, 1))}
    main = {0x010F: text(b"Leitz"), 0x0110: text(b"Leica IIIf"), 0x8298: text("© 1954".encode()), 0x0132: text(b"1954")}
    tree = ifd.Tree(main, {ifd.EXIF: ifd.Tree(camera, {ifd.INTEROP: interop}), ifd.GPS: ifd.Tree(place)})
    return b"MM\x00*" + struct.pack(">I", 8) + ifd.serialise(tree, 8, ifd.Layout(order))


XMP, IPTC, EXIF = _xmp(), _iptc(), _exif()
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_ICC = imagecodecs.cms_profile("gray", gamma=2.2)


def by_pillow(image: Image.Image | NDArray[np.uint8], file_format: str, **options: object) -> bytes:
    target = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(target, file_format, **options)  # type: ignore[arg-type]
    return target.getvalue()


def by_tifffile(samples: NDArray[np.generic], **options: object) -> bytes:
    target = io.BytesIO()
    tifffile.imwrite(target, samples, **{"metadata": None, **options})  # type: ignore[arg-type]
    return target.getvalue()


def tags_of(block: bytes | None) -> dict[tuple[int, int], tuple[int, int, bytes]]:
    """Directory and tag to type, count and value: the meaning of EXIF, without its layout and what files say of themselves."""
    parsed = exif.parse(block)
    if parsed is None:
        return {}
    own = {exif.X_RESOLUTION, exif.Y_RESOLUTION, exif.UNIT, exif.ORIENTATION}
    found: dict[tuple[int, int], tuple[int, int, bytes]] = {}

    def walk(tree: ifd.Tree, number: int) -> None:
        for code, tag in tree.fields.items():
            if number or code not in own:
                found[number, code] = (tag.kind, tag.count, tag.data)
        for code, below in tree.below.items():
            walk(below, code)

    walk(parsed[1], 0)
    return found


def properties_of(xmp: bytes | None) -> set[bytes]:
    """The properties of a packet as canonical XML, wherever in it they stand."""
    if xmp is None:
        return set()
    found: set[bytes] = set()
    for description in etree.fromstring(xmp.strip()).iter(f"{{{RDF}}}Description"):
        found |= {f"{name}={value}".encode() for name, value in description.attrib.items() if "about" not in name}
        found |= {etree.tostring(child, method="c14n", exclusive=True).strip() for child in description}
    return found


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """by_pillow, by_tifffile; XMP, IPTC, EXIF, ICC, GREY_ICC; tags_of, properties_of."""
    names: dict[str, Callable[..., object] | bytes] = {
        "by_pillow": by_pillow,
        "by_tifffile": by_tifffile,
        "tags_of": tags_of,
        "properties_of": properties_of,
        **{"XMP": XMP, "IPTC": IPTC, "EXIF": EXIF, "ICC": ICC, "GREY_ICC": GREY_ICC},
    }
    return SimpleNamespace(**names)
