from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.codecs.xmp import ENHANCED, GENERATIVE, Statement, restated, source_type

TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
EXT = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
MM = "{http://ns.adobe.com/xap/1.0/mm/}"
REF = "{http://ns.adobe.com/xap/1.0/sType/ResourceRef#}"
TIFF = "{http://ns.adobe.com/tiff/1.0/}"
EXIF = "{http://ns.adobe.com/exif/1.0/}"
OURS = "{urn:albumen:xmp:1#}"
DIGEST = "ab" * 32
PLAIN = Statement(
    generative=True,
    item_id="0123",
    source_sha256=DIGEST,
    recipe_id="cd" * 32,
    stages=("repair 2", "upscale 2"),
    models=("realesrgan-x4plus-embedded",),
    width=4000,
    height=3000,
    dpi=(1200.0, 1200.0),
)
SOURCE = b"""<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 5.6">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="uuid:1"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmpMM:DocumentID="xmp.did:source" exif:PixelXDimension="1000" xmp:CreateDate="1911-05-01"
    Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/print">
   <xmpMM:InstanceID>xmp.iid:source</xmpMM:InstanceID>
   <exif:PixelYDimension>750</exif:PixelYDimension>
   <tiff:XResolution>300/1</tiff:XResolution><tiff:YResolution>300/1</tiff:YResolution>
   <dc:title><rdf:Alt><rdf:li xml:lang="x-default">Grandmother, \xc3\x85lesund</rdf:li></rdf:Alt></dc:title>
   <xmpMM:History><rdf:Seq><rdf:li rdf:parseType="Resource"/></rdf:Seq></xmpMM:History>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
                                   <?xpacket end="w"?>"""


def read(packet: bytes) -> dict[str, str]:
    """Simple properties of a packet, by another parser than the one that wrote it."""
    found: dict[str, str] = {}
    for description in ElementTree.fromstring(packet).iter(f"{RDF}Description"):  # noqa: S314 - our own packet
        for name, value in description.attrib.items():
            assert name == f"{RDF}about" or name not in found, name
            found[name] = value
        for element in description:
            assert element.tag not in found, element.tag
            found[element.tag] = (element.text or "").strip()
            found |= {f"{element.tag}/{child.tag}": child.text or "" for child in element}
    return found


def test_a_photograph_without_a_packet_gets_one() -> None:
    packet, kind, fault = restated(None, PLAIN)
    found = read(packet)
    assert (kind, fault) == (GENERATIVE, None)
    assert found[f"{EXT}DigitalSourceType"] == TERMS + "compositeWithTrainedAlgorithmicMedia"
    assert found[f"{MM}DerivedFrom/{REF}documentID"] == f"urn:sha256:{DIGEST}"
    assert found[f"{OURS}recipeId"] == PLAIN.recipe_id
    assert found[f"{OURS}itemId"] == "0123"
    assert found[f"{OURS}sourceSha256"] == DIGEST
    assert found[f"{OURS}software"] == "Albumen"
    assert f"{EXIF}PixelXDimension" not in found
    assert f"{MM}OriginalDocumentID" not in found
    assert packet.startswith(b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>')
    assert packet.endswith(b'<?xpacket end="w"?>')


def test_the_source_s_packet_is_kept_and_made_true() -> None:
    packet, _, fault = restated(SOURCE, PLAIN)
    found = read(packet)
    assert fault is None
    assert "Grandmother, Ålesund".encode() in packet
    assert found["{http://ns.adobe.com/xap/1.0/}CreateDate"] == "1911-05-01"
    assert found[f"{MM}History"] == ""
    assert (found[f"{EXIF}PixelXDimension"], found[f"{EXIF}PixelYDimension"]) == ("4000", "3000")
    assert (found[f"{TIFF}XResolution"], found[f"{TIFF}ResolutionUnit"]) == ("1200000/1000", "2")
    assert f"{TIFF}ImageWidth" not in found
    assert found[f"{MM}DerivedFrom/{REF}documentID"] == "xmp.did:source"
    assert found[f"{MM}DerivedFrom/{REF}instanceID"] == "xmp.iid:source"
    assert found[f"{MM}OriginalDocumentID"] == "xmp.did:source"
    assert found[f"{MM}DocumentID"].startswith("xmp.did:")
    assert found[f"{MM}DocumentID"] != "xmp.did:source"
    assert found[f"{OURS}sourceDigitalSourceType"] == TERMS + "print"
    assert found[f"{EXT}DigitalSourceType"] == GENERATIVE


def test_the_same_statement_gives_the_same_bytes_and_another_another() -> None:
    first = restated(SOURCE, PLAIN)[0]
    assert restated(SOURCE, PLAIN)[0] == first
    others = [replace(PLAIN, recipe_id="ef" * 32), replace(PLAIN, source_sha256="00" * 32), replace(PLAIN, item_id="4")]
    identities = {read(restated(SOURCE, statement)[0])[f"{MM}InstanceID"] for statement in (PLAIN, *others)}
    assert len(identities) == 4


def test_stating_twice_leaves_one_statement() -> None:
    once = restated(SOURCE, PLAIN)[0]
    twice = read(restated(once, PLAIN)[0])
    assert twice[f"{MM}OriginalDocumentID"] == "xmp.did:source"
    assert twice[f"{MM}DerivedFrom/{REF}documentID"] == read(once)[f"{MM}DocumentID"]
    assert twice[f"{OURS}sourceDigitalSourceType"] == GENERATIVE


@pytest.mark.parametrize(
    ("before", "generative", "after"),
    [
        (None, False, "algorithmicallyEnhanced"),
        (None, True, "compositeWithTrainedAlgorithmicMedia"),
        ("digitalCapture", False, "algorithmicallyEnhanced"),
        ("print", True, "compositeWithTrainedAlgorithmicMedia"),
        ("trainedAlgorithmicMedia", False, "trainedAlgorithmicMedia"),
        ("trainedAlgorithmicMedia", True, "trainedAlgorithmicMedia"),
        ("compositeWithTrainedAlgorithmicMedia", False, "compositeWithTrainedAlgorithmicMedia"),
        ("compositeSynthetic", False, "compositeSynthetic"),
        ("compositeSynthetic", True, "compositeWithTrainedAlgorithmicMedia"),
    ],
)
def test_a_later_step_takes_nothing_back(before: str | None, generative: bool, after: str) -> None:
    assert source_type(None if before is None else TERMS + before, generative=generative) == TERMS + after


HOSTILE = {
    "no XML": b"not xml at all",
    "empty": b"",
    "cut": SOURCE[:700],
    "no RDF": b"<a><b/></a>",
    "entities": b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">&b;</r:RDF>',
    "outside": b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>',
    "deep": b"<a>" * 5000 + b"</a>" * 5000,
    "huge": b"<a>" + b" " * (17 << 20) + b"</a>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_packet_is_left_out_and_said(name: str) -> None:
    packet, kind, fault = restated(HOSTILE[name], PLAIN)
    assert fault is not None
    assert fault.startswith("the source's XMP")
    assert packet == restated(None, PLAIN)[0]
    assert kind == GENERATIVE
    assert b"root:" not in packet


def test_a_preview_of_the_photograph_as_it_was_goes() -> None:
    old = SOURCE.replace(b"<xmpMM:History>", b"<xmp:Thumbnails><rdf:Alt/></xmp:Thumbnails><xmpMM:History>")
    assert b"Thumbnails" not in restated(old, PLAIN)[0]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(at=st.integers(0, len(SOURCE) - 1), value=st.integers(0, 255), end=st.integers(0, len(SOURCE)))
def test_any_bytes_end_in_a_well_formed_packet(at: int, value: int, end: int) -> None:
    source = bytearray(SOURCE)
    source[at] = value
    packet, _, fault = restated(bytes(source[: max(end, 1)]), replace(PLAIN, generative=False))
    ElementTree.fromstring(packet)  # noqa: S314 - our own packet
    assert ENHANCED.encode() in packet
    assert fault is None or fault.startswith("the source's XMP")
