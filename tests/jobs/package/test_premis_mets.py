"""PREMIS 3.0 and METS: valid by the Library of Congress' own schemas, and true to the record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from jobs.choices import PackageKind
from jobs.package import package
from jobs.package.xml import child, document
from pipeline import provenance
from pipeline.storage import Store

if TYPE_CHECKING:
    from tests.jobs.package.conftest import Maker

P = {"p": "http://www.loc.gov/premis/v3", "m": "http://www.loc.gov/METS/", "x": "http://www.w3.org/1999/xlink"}
P |= {"dc": "http://purl.org/dc/elements/1.1/"}
Schema = Callable[[str], etree.XMLSchema]


def rows(run: Path) -> dict[str, dict[str, Any]]:
    return {row["item_id"]: row for row in provenance.live(Store(), str(run)).to_pylist()}


def texts(root: Any, path: str) -> list[str]:
    return [str(text) for text in root.xpath(path, namespaces=P)]


@pytest.fixture(scope="module")
def premis(tmp_path_factory: pytest.TempPathFactory, sound: Path) -> dict[str, Any]:
    """Documents by item_id."""
    target = tmp_path_factory.mktemp("out") / "premis"
    report = package(str(sound), PackageKind.PREMIS, str(target))
    assert report.counts == {"documents": 8}
    return {path.stem: etree.parse(path) for path in target.rglob("*.xml")}


@pytest.fixture(scope="module")
def mets(tmp_path_factory: pytest.TempPathFactory, sound: Path) -> dict[str, Path]:
    """Folders by item_id."""
    target = tmp_path_factory.mktemp("out") / "mets"
    package(str(sound), PackageKind.METS, str(target))
    return {path.parent.name: path.parent for path in target.rglob("mets.xml")}


def test_every_premis_document_is_valid(premis: dict[str, Any], schema: Schema) -> None:
    judge = schema("premis-v3-0.xsd")
    assert len(premis) == 8
    for tree in premis.values():
        judge.assertValid(tree)


def test_the_schema_says_no_to_what_is_wrong(premis: dict[str, Any], schema: Schema) -> None:
    """So that its yes means something."""
    judge = schema("premis-v3-0.xsd")
    tree = etree.fromstring(etree.tostring(next(iter(premis.values()))))
    size = tree.find(".//p:eventDateTime", P)
    assert size is not None
    size.getparent().remove(size)
    assert not judge.validate(tree)


def test_objects_have_the_record_s_digests(premis: dict[str, Any], sound: Path) -> None:
    for item, row in rows(sound).items():
        tree = premis[item]
        found = dict(
            zip(
                texts(tree, "//p:object/p:objectIdentifier/p:objectIdentifierValue/text()"),
                texts(tree, "//p:object//p:messageDigest/text()"),
                strict=True,
            )
        )
        expected = {f"{item}/original": row["source_sha256"]}
        if row["status"] == "restored":
            expected[f"{item}/restored"] = row["output_sha256"]
        if row["mask_sha256"]:
            expected[f"{item}/mask"] = row["mask_sha256"]
        assert found == expected


def test_events_are_the_stages_and_what_packaging_did(premis: dict[str, Any], sound: Path) -> None:
    names = {"ingest": "validation", "analyse": "metadata extraction", "deliver": "creation"}
    for item, row in rows(sound).items():
        expected = [names.get(event["stage"], "modification") for event in row["events"]]
        expected += ["fixity check"] if row["status"] == "restored" else []
        assert texts(premis[item], "//p:event/p:eventType/text()") == [*expected, "information package creation"]


def test_a_refused_photograph_says_why(premis: dict[str, Any], sound: Path) -> None:
    refused = [row for row in rows(sound).values() if row["status"] == "refused"]
    assert len(refused) == 2
    for row in refused:
        event = premis[row["item_id"]].find(".//p:event", P)
        assert texts(event, ".//p:eventOutcome/text()") == ["fail"]
        notes = texts(event, ".//p:eventOutcomeDetailNote/text()")
        assert row["detail"] in notes
        assert row["reason"] in notes


def test_models_are_software_agents_with_digest_and_licence(premis: dict[str, Any], sound: Path) -> None:
    item = next(item for item, row in rows(sound).items() if row["item_no"] == 0)
    tree = premis[item]
    [agent] = [one for one in tree.findall(".//p:agent", P) if "gfpgan" in "".join(one.itertext())]
    assert texts(agent, "p:agentType/@valueURI") == ["http://id.loc.gov/vocabulary/preservation/agentType/sof"]
    notes = " ".join(texts(agent, "p:agentNote/text()"))
    assert "e" * 64 in notes
    assert "LicenseRef-NVIDIA-CC-BY-NC-SA-4.0-parts" in notes
    [identifier] = texts(agent, ".//p:agentIdentifierValue/text()")
    [event] = tree.xpath(f"//p:event[.//p:linkingAgentIdentifierValue='{identifier}']", namespaces=P)
    assert texts(event, "p:eventDetailInformation/p:eventDetail/text()")[0].startswith("repair ")


def test_every_link_leads_to_something_in_the_document(premis: dict[str, Any]) -> None:
    for tree in premis.values():
        for what, link in (("agent", "linkingAgent"), ("object", "linkingObject"), ("object", "relatedObject")):
            there = set(texts(tree, f"//p:{what}/p:{what}Identifier/p:{what}IdentifierValue/text()"))
            assert set(texts(tree, f"//p:{link}IdentifierValue/text()")) <= there
        there = set(texts(tree, "//p:event/p:eventIdentifier/p:eventIdentifierValue/text()"))
        assert set(texts(tree, "//p:relatedEventIdentifierValue/text()")) <= there


def test_every_mets_document_is_valid_and_so_is_the_premis_in_it(mets: dict[str, Path], schema: Schema) -> None:
    judge, inner = schema("mets.xsd"), schema("premis-v3-0.xsd")
    assert len(mets) == 8
    for folder in mets.values():
        tree = etree.parse(folder / "mets.xml")
        judge.assertValid(tree)
        [pointer] = tree.xpath("//m:mdRef", namespaces=P)
        premis = (folder / pointer.get(f"{{{P['x']}}}href")).read_bytes()
        assert pointer.get("CHECKSUM") == hashlib.sha256(premis).hexdigest()
        inner.assertValid(etree.fromstring(premis))


def test_the_schema_of_mets_says_no_to_what_is_wrong(mets: dict[str, Path], schema: Schema) -> None:
    tree = etree.parse(next(iter(mets.values())) / "mets.xml")
    tree.getroot().remove(tree.find("m:structMap", P))
    assert not schema("mets.xsd").validate(tree)


def test_locations_in_premis_lead_to_the_files(mets: dict[str, Path], sound: Path) -> None:
    for item, row in rows(sound).items():
        tree = etree.parse(mets[item] / "premis.xml")
        places = texts(tree, "//p:contentLocationValue/text()")
        if row["status"] == "restored":
            assert len(places) == 3
            assert all((mets[item] / unquote(place)).is_file() for place in places)
        else:
            assert places == [row["source_uri"]]


def test_every_file_beside_the_document_is_in_it_with_its_digest(mets: dict[str, Path]) -> None:
    for folder in mets.values():
        tree = etree.parse(folder / "mets.xml")
        listed = {}
        for file in tree.iterfind(".//m:file", P):
            location = file.find("m:FLocat", P)
            assert location is not None
            listed[unquote(location.get(f"{{{P['x']}}}href") or "")] = (file.get("CHECKSUM"), file.get("SIZE"))
        held = {
            path.relative_to(folder).as_posix(): (
                hashlib.sha256(path.read_bytes()).hexdigest(),
                str(path.stat().st_size),
            )
            for path in folder.rglob("*")
            if path.is_file() and path.suffix != ".xml"
        }
        assert listed == held
        assert len(tree.findall(".//m:fptr", P)) == len(held)


def test_the_manifest_s_columns_become_dublin_core(maker: Maker, tmp_path: Path, schema: Schema) -> None:
    (tmp_path / "list.jsonl").write_text(
        json.dumps({"source_uri": "scans/2.jpg", "title": "Harbour", "creator": "N. N.", "shelf": "A\u00003 & <4>"})
        + "\n"
    )
    maker.plan("unused")
    plan = maker.run("listed", source="list.jsonl", stages=("analyse",))
    package(plan.run, PackageKind.METS, str(tmp_path / "mets"))
    [path] = (tmp_path / "mets").rglob("mets.xml")
    tree = etree.parse(path)
    schema("mets.xsd").assertValid(tree)
    assert texts(tree, "//dc:title/text()") == ["Harbour"]
    assert texts(tree, "//dc:creator/text()") == ["N. N."]
    assert texts(tree, "//dc:description/text()") == ["shelf: A\ufffd3 & <4>"]


@settings(max_examples=50)
@given(st.text())
def test_any_text_can_be_said_in_xml(text: str) -> None:
    root = etree.Element("{urn:x}root")
    child(root, "urn:x", "one", text)
    [one] = etree.fromstring(document(root))
    # What XML cannot say is marked; a reader gives line ends back as it likes them.
    told = "".join(
        sign if sign in "\t\n\r" or (sign >= " " and sign not in "\ufffe\uffff") else "\ufffd" for sign in text
    )
    assert (one.text or "") == told
