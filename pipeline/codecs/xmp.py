"""XMP (ISO 16684-1): what a delivered file says of itself, merged into the packet that came with the source.

IPTC Photo Metadata's DigitalSourceType says how the pixels came about; xmpMM:DerivedFrom names the original; a namespace of
our own names the recipe. No entry is made in xmpMM:History: it would need the time of day, and the same photograph under the
same recipe has to give the same bytes on any day.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lxml import etree

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
META = "adobe:ns:meta/"
IPTC_EXT = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
XMP_MM = "http://ns.adobe.com/xap/1.0/mm/"
ST_REF = "http://ns.adobe.com/xap/1.0/sType/ResourceRef#"
XMP_BASIC = "http://ns.adobe.com/xap/1.0/"
TIFF_NS = "http://ns.adobe.com/tiff/1.0/"
EXIF_NS = "http://ns.adobe.com/exif/1.0/"
ALBUMEN = "urn:albumen:xmp:1#"

# IPTC NewsCodes, scheme digitalsourcetype.
_TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
ENHANCED = _TERMS + "algorithmicallyEnhanced"
GENERATIVE = _TERMS + "compositeWithTrainedAlgorithmicMedia"
# What a source may say of itself that a later step does not take back.
_LASTING = {_TERMS + "trainedAlgorithmicMedia", GENERATIVE}
_LASTING_UNLESS_GENERATIVE = {
    _TERMS + term for term in ("algorithmicMedia", "compositeSynthetic", "dataDrivenMedia", "virtualRecording")
}

_LARGEST = 16 << 20
_HEAD = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_TAIL = b'\n<?xpacket end="w"?>'


@dataclass(frozen=True, slots=True)
class Statement:
    """What is true of the delivered file.

    generative: whether a network that makes up detail made any of its pixels; one that only takes noise away does not. stages:
    names and versions of those that changed pixels. models: ids of theirs. width, height: pixels. dpi: pixels per inch.
    """

    generative: bool
    item_id: str
    source_sha256: str
    recipe_id: str | None
    stages: tuple[str, ...]
    models: tuple[str, ...]
    width: int
    height: int
    dpi: tuple[float, float] | None


def restated(packet: bytes | None, statement: Statement) -> tuple[bytes, str, str | None]:
    """The packet with the statement in it, the DigitalSourceType that it gives, and why the source's packet was left out.

    The same arguments give the same bytes. Nothing is ever fetched, no entity is expanded.
    """
    root, fault = (None, None) if packet is None else _parsed(packet)
    if root is None:
        root, _ = _parsed(f'<x:xmpmeta xmlns:x="{META}"><rdf:RDF xmlns:rdf="{RDF}"/></x:xmpmeta>'.encode())
    assert root is not None
    kind = _write(_Packet(root), statement)
    from lxml import etree

    return _HEAD + etree.tostring(root, encoding="utf-8", with_tail=False) + _TAIL, kind, fault


def _parsed(packet: bytes) -> tuple[etree._Element | None, str | None]:
    from lxml import etree

    if len(packet) > _LARGEST:
        return None, f"the source's XMP of {len(packet):,} bytes is larger than what is read"
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(packet.strip(b"\x00 \r\n\t"), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        return None, f"the source's XMP is no XML: {error}"
    docinfo: Any = root.getroottree().docinfo
    if docinfo.doctype:
        return None, "the source's XMP declares a document type, which no XMP does"
    if root.tag != _name(RDF, "RDF") and root.find(f".//{_name(RDF, 'RDF')}") is None:
        return None, "the source's XMP holds no RDF"
    return root, None


def _name(namespace: str, local: str) -> str:
    return f"{{{namespace}}}{local}"


class _Packet:
    """Simple properties of a packet, which may be attributes or elements of any of its descriptions."""

    def __init__(self, root: etree._Element) -> None:
        from lxml import etree

        found = root if root.tag == _name(RDF, "RDF") else root.find(f".//{_name(RDF, 'RDF')}")
        assert found is not None
        self._descriptions = found.findall(_name(RDF, "Description"))
        about = self._descriptions[0].get(_name(RDF, "about"), "") if self._descriptions else ""
        spaces = {"Iptc4xmpExt": IPTC_EXT, "xmpMM": XMP_MM, "stRef": ST_REF, "albumen": ALBUMEN}
        self._home = etree.SubElement(found, _name(RDF, "Description"), {_name(RDF, "about"): about}, nsmap=spaces)
        self._descriptions.append(self._home)

    def get(self, name: str) -> str | None:
        for description in self._descriptions:
            element = description.find(name)
            value = description.get(name)
            if value is None and element is not None:
                value = element.get(_name(RDF, "resource")) or element.text
            if value is not None and value.strip():
                return value.strip()
        return None

    def drop(self, name: str) -> None:
        for description in self._descriptions:
            if name in description.attrib:
                del description.attrib[name]
            for element in description.findall(name):
                description.remove(element)

    def put(self, name: str, value: str | None) -> None:
        self.drop(name)
        if value is not None:
            self._child(self._home, name).text = value

    def put_struct(self, name: str, fields: Sequence[tuple[str, str | None]]) -> None:
        self.drop(name)
        struct = self._child(self._home, name)
        struct.set(_name(RDF, "parseType"), "Resource")
        for field, value in fields:
            if value is not None:
                self._child(struct, field).text = value

    def put_list(self, name: str, values: Sequence[str]) -> None:
        self.drop(name)
        if values:
            ordered = self._child(self._child(self._home, name), _name(RDF, "Seq"))
            for value in values:
                self._child(ordered, _name(RDF, "li")).text = value

    def amend(self, name: str, value: str) -> None:
        """Only where the packet has such a property."""
        if self.get(name) is not None:
            self.put(name, value)

    @staticmethod
    def _child(parent: etree._Element, name: str) -> etree._Element:
        from lxml import etree

        return etree.SubElement(parent, name)


def _write(packet: _Packet, statement: Statement) -> str:
    kind_name = _name(IPTC_EXT, "DigitalSourceType")
    before = packet.get(kind_name)
    kind = source_type(before, generative=statement.generative)
    packet.put(kind_name, kind)
    document, instance = packet.get(_name(XMP_MM, "DocumentID")), packet.get(_name(XMP_MM, "InstanceID"))
    original = packet.get(_name(XMP_MM, "OriginalDocumentID")) or document
    digest = f"urn:sha256:{statement.source_sha256}"
    packet.put_struct(
        _name(XMP_MM, "DerivedFrom"),
        (
            (_name(ST_REF, "documentID"), document or digest),
            (_name(ST_REF, "instanceID"), instance or digest),
            (_name(ST_REF, "originalDocumentID"), original),
        ),
    )
    identity = f"albumen/{statement.source_sha256}/{statement.recipe_id}/{statement.item_id}"
    number = uuid.uuid5(uuid.NAMESPACE_URL, identity)
    packet.put(_name(XMP_MM, "DocumentID"), f"xmp.did:{number}")
    packet.put(_name(XMP_MM, "InstanceID"), f"xmp.iid:{number}")
    packet.put(_name(XMP_MM, "OriginalDocumentID"), original)
    packet.put(_name(ALBUMEN, "software"), "Albumen")
    packet.put(_name(ALBUMEN, "recipeId"), statement.recipe_id)
    packet.put(_name(ALBUMEN, "itemId"), statement.item_id)
    packet.put(_name(ALBUMEN, "sourceSha256"), statement.source_sha256)
    packet.put(_name(ALBUMEN, "sourceDigitalSourceType"), before)
    packet.put_list(_name(ALBUMEN, "stages"), statement.stages)
    packet.put_list(_name(ALBUMEN, "models"), statement.models)
    # A preview of the photograph as it was.
    packet.drop(_name(XMP_BASIC, "Thumbnails"))
    _amend_size(packet, statement)
    return kind


def _amend_size(packet: _Packet, statement: Statement) -> None:
    for namespace, across, down in (
        (TIFF_NS, "ImageWidth", "ImageLength"),
        (EXIF_NS, "PixelXDimension", "PixelYDimension"),
    ):
        packet.amend(_name(namespace, across), str(statement.width))
        packet.amend(_name(namespace, down), str(statement.height))
    if statement.dpi is not None and packet.get(_name(TIFF_NS, "XResolution")) is not None:
        for local, value in zip(("XResolution", "YResolution"), statement.dpi, strict=True):
            packet.put(_name(TIFF_NS, local), f"{round(value * 1000)}/1000")
        packet.put(_name(TIFF_NS, "ResolutionUnit"), "2")


def source_type(before: str | None, *, generative: bool) -> str:
    """The term for a photograph whose pixels were changed. before: what the source said of itself.

    A later, weaker step takes nothing back: what a network has made stays so.
    """
    lasting = _LASTING if generative else _LASTING | _LASTING_UNLESS_GENERATIVE
    if before is not None and before.replace("https://", "http://") in lasting:
        return before
    return GENERATIVE if generative else ENHANCED
