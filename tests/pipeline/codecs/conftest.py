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
        "XMP": XMP,
        "IPTC": IPTC,
        "EXIF": EXIF,
        "ICC": ICC,
        "GREY_ICC": GREY_ICC,
    }
    return SimpleNamespace(**names)


@pytest.fixture(scope="session")
def press() -> bytes:
    """An ICC profile (version 2, output, CMYK to Lab through a table of 9 x 9 x 9 x 9) of a simple, real-looking press."""
    import skimage.color

    steps = np.linspace(0, 1, 9)
    c, m, y, k = np.meshgrid(steps, steps, steps, steps, indexing="ij")
    paper = np.array([0.93, 0.91, 0.86])
    inks = np.array([[0.1, 0.6, 0.85], [0.85, 0.15, 0.5], [0.95, 0.9, 0.15]])
    colour = paper * np.prod([1 - a[..., None] * (1 - ink) for a, ink in zip((c, m, y), inks, strict=True)], axis=0)
    colour *= 1 - 0.95 * k[..., None]
    lab = skimage.color.rgb2lab(colour.reshape(-1, 1, 3), illuminant="D50").reshape(-1, 3)
    coded = np.stack([lab[:, 0] * 652.8, (lab[:, 1] + 128) * 256, (lab[:, 2] + 128) * 256], axis=1)
    table = np.clip(np.rint(coded), 0, 65535).astype(">u2").tobytes()
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    ramp = struct.pack(">HH", 0, 65535)
    lut = b"mft2\0\0\0\0" + bytes((4, 3, 9, 0)) + matrix + struct.pack(">HH", 2, 2) + ramp * 4 + table + ramp * 3
    text = b"desc\0\0\0\0" + struct.pack(">I", 6) + b"press\0" + bytes(78)
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0none\0", b"wtpt": white, b"A2B0": lut, b"A2B1": lut}
    body, table_of_tags, places = b"", b"", {}
    for name, value in tags.items():
        if value not in places:
            places[value] = 132 + 12 * len(tags) + len(body)
            body += value + bytes(-len(value) % 4)
        table_of_tags += struct.pack(">4sII", name, places[value], len(value))
    head = struct.pack(
        ">I4sI4s4s4s", 132 + 12 * len(tags) + len(body), b"\0\0\0\0", 0x02400000, b"prtr", b"CMYK", b"Lab "
    )
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp").ljust(44, b"\0") + struct.pack(
        ">3i", 63190, 65536, 54061
    )
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table_of_tags + body
