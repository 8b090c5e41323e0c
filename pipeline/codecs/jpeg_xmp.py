"""XMP in JPEG: one segment where it fits, else a main packet and extended XMP (XMP specification part 3, 1.1.3.1)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from lxml import etree

from pipeline.errors import ItemError, Reason

STANDARD = b"http://ns.adobe.com/xap/1.0/\x00"
EXTENDED = b"http://ns.adobe.com/xmp/extension/\x00"
ROOM = 65_502
_PIECE = 65_000
_NOTE = "http://ns.adobe.com/xmp/note/"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_HAS_EXTENDED = f"{{{_NOTE}}}HasExtendedXMP"
_MOST = 64 * 2**20


def join(packets: Sequence[bytes], pieces: Sequence[bytes]) -> bytes | None:
    """The whole packet. packets: standard ones, without signature. pieces: extended ones, without signature.

    Extended XMP that is incomplete or not the main packet's own is left out, as the specification asks.
    """
    if not packets:
        return None
    main = packets[0]
    if not pieces:
        return main
    parsed = _parse(main)
    if parsed is None:
        return main
    extended = _parse(_reassembled(pieces, _pointer(parsed)))
    home = parsed.find(f".//{_RDF}RDF")
    more = None if extended is None else extended.find(f".//{_RDF}RDF")
    if extended is None or home is None or more is None:
        return main
    for description in home.findall(f"{_RDF}Description"):
        if _HAS_EXTENDED in description.attrib:
            del description.attrib[_HAS_EXTENDED]
        for child in description.findall(_HAS_EXTENDED):
            description.remove(child)
    for description in list(more):
        home.append(description)
    return etree.tostring(parsed, encoding="utf-8")


def _pointer(tree: etree._Element) -> bytes:
    """The digest by which the main packet names its extension."""
    for element in tree.iter():
        if isinstance(element.tag, str):
            value = element.text if element.tag == _HAS_EXTENDED else element.get(_HAS_EXTENDED)
            if value:
                return value.strip().encode()
    return b""


def _reassembled(pieces: Sequence[bytes], digest: bytes) -> bytes | None:
    """A piece is the digest (32 hex digits), the whole's length, its own offset, and the bytes."""
    mine = [piece for piece in pieces if piece[:32] == digest and len(piece) > 40]
    if not mine or struct.unpack(">I", mine[0][32:36])[0] > _MOST:
        return None
    whole = bytearray(struct.unpack(">I", mine[0][32:36])[0])
    for piece in mine:
        [at] = struct.unpack(">I", piece[36:40])
        if at + len(piece) - 40 > len(whole):
            return None
        whole[at : at + len(piece) - 40] = piece[40:]
    return bytes(whole) if hashlib.md5(whole, usedforsecurity=False).hexdigest().upper().encode() == digest else None


def _parse(packet: bytes | None) -> etree._Element | None:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return None if packet is None else etree.fromstring(packet.strip(b"\0 \r\n\t"), parser)
    except etree.XMLSyntaxError:
        return None


def split(xmp: bytes) -> tuple[bytes, list[bytes]]:
    """Payloads for JPEG's segments, without signatures: the main packet, and the pieces of the extended one.

    The largest properties move until the rest fits. Raises ItemError: unsupported, for what is too long and no XMP.
    """
    if len(xmp) <= ROOM:
        return xmp, []
    main = _parse(xmp)
    home = None if main is None else main.find(f".//{_RDF}RDF")
    if main is None or home is None:
        raise ItemError(
            Reason.UNSUPPORTED, "JPEG cannot hold XMP of this length that is not well-formed; choose tiff, png or jp2"
        )
    moved = _take_largest(main, home)
    extended = etree.tostring(moved, encoding="utf-8")
    digest = hashlib.md5(extended, usedforsecurity=False).hexdigest().upper()
    note = etree.SubElement(home, f"{_RDF}Description", {f"{_RDF}about": ""}, nsmap={"xmpNote": _NOTE})
    note.set(_HAS_EXTENDED, digest)
    packet = etree.tostring(main, encoding="utf-8")
    if len(packet) > ROOM:
        raise ItemError(Reason.UNSUPPORTED, "JPEG cannot hold XMP of this shape and length; choose tiff, png or jp2")
    head = digest.encode() + struct.pack(">I", len(extended))
    starts = range(0, len(extended), _PIECE)
    return packet, [head + struct.pack(">I", at) + extended[at : at + _PIECE] for at in starts]


def _take_largest(main: etree._Element, home: etree._Element) -> etree._Element:
    """Moves properties out of `main`, the largest first, into a new tree that is returned."""
    root = etree.Element("{adobe:ns:meta/}xmpmeta", nsmap={"x": "adobe:ns:meta/"})
    rdf = etree.SubElement(root, f"{_RDF}RDF", nsmap={"rdf": _RDF.strip("{}")})
    sized = [
        (len(etree.tostring(item)), description, item)
        for description in home.findall(f"{_RDF}Description")
        for item in description
        if isinstance(item.tag, str)
    ]
    left = len(etree.tostring(main, encoding="utf-8"))
    for size, description, item in sorted(sized, key=lambda entry: -entry[0]):
        if left < ROOM - 500:
            break
        about = {f"{_RDF}about": description.get(f"{_RDF}about", "")}
        etree.SubElement(rdf, f"{_RDF}Description", about).append(item)
        left -= size
    return root
