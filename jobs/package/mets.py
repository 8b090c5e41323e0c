"""METS 1.12: a folder for each photograph, with its files, premis.xml, and mets.xml over them.

PREMIS is pointed to and not wrapped: its objects name their types by xsi:type, which a validator that was given the schema of
METS alone does not know.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING
from urllib.parse import quote

from jobs.package.contents import Entry, Role, original_name
from jobs.package.layout import Laid, Room, into_place, lay_out
from jobs.package.premis import Premis
from jobs.package.xml import child, document
from pipeline import __version__

if TYPE_CHECKING:
    from lxml import etree

METS = "http://www.loc.gov/METS/"
XLINK = "http://www.w3.org/1999/xlink"
DC = "http://purl.org/dc/elements/1.1/"


class MetsWriter:
    """photographs/<aa>/<item_id>/mets.xml, and beside it what it points to."""

    def __init__(self, room: Room) -> None:
        self.counts = {"documents": 0}
        self._room = room
        (room.package / "photographs").mkdir(parents=True)

    def add(self, entry: Entry) -> None:
        folder = self._room.package / "photographs" / entry.item_id[:2] / entry.item_id
        laid = lay_out(self._room, entry, folder)
        places = {one.role: quote(one.path) for one in laid}
        premis = Premis(entry, self._room.moment, places, self._room.run_id).document()
        (folder / "premis.xml").write_bytes(premis)
        (folder / "mets.xml").write_bytes(document(self._document(entry, laid, premis)))
        self.counts["documents"] += 1

    def close(self) -> None:
        """Every document is whole already."""

    def publish(self) -> None:
        into_place(self._room)

    def _document(self, entry: Entry, laid: list[Laid], premis: bytes) -> etree._Element:
        from lxml import etree

        label = original_name(entry.row["source_uri"])
        facts = {"OBJID": f"urn:albumen:{entry.item_id}", "TYPE": "photograph", "LABEL": label}
        root = etree.Element(f"{{{METS}}}mets", facts, nsmap={"mets": METS, "xlink": XLINK, "dc": DC})
        moment = f"{self._room.moment:%Y-%m-%dT%H:%M:%SZ}"
        header = child(root, METS, "metsHdr", None, {"CREATEDATE": moment})
        agent = child(header, METS, "agent", None, {"ROLE": "CREATOR", "TYPE": "OTHER", "OTHERTYPE": "SOFTWARE"})
        child(agent, METS, "name", f"albumen {__version__}")
        _describe(root, entry, label)
        holder = child(child(root, METS, "amdSec"), METS, "digiprovMD", None, {"ID": "premis"})
        pointer = {"MDTYPE": "PREMIS", "MDTYPEVERSION": "3.0", "MIMETYPE": "application/xml"}
        checked = {"SIZE": str(len(premis)), "CHECKSUM": hashlib.sha256(premis).hexdigest(), "CHECKSUMTYPE": "SHA-256"}
        child(holder, METS, "mdRef", None, pointer | checked | _link("premis.xml"))
        _list_files(root, laid)
        division = child(child(root, METS, "structMap", None, {"TYPE": "physical"}), METS, "div")
        division.attrib.update({"TYPE": "photograph", "LABEL": label, "DMDID": "dmd", "ADMID": "premis"})
        for number in range(len(laid)):
            child(division, METS, "fptr", None, {"FILEID": f"file-{number}"})
        return root


def _link(path: str) -> dict[str, str]:
    """Relative to mets.xml."""
    return {"LOCTYPE": "URL", f"{{{XLINK}}}type": "simple", f"{{{XLINK}}}href": quote(path)}


def _describe(root: etree._Element, entry: Entry, label: str) -> None:
    """The manifest's own columns, as Dublin Core where they have its names and as descriptions where not."""
    section = child(root, METS, "dmdSec", None, {"ID": "dmd"})
    data = child(child(section, METS, "mdWrap", None, {"MDTYPE": "DC"}), METS, "xmlData")
    columns = _columns(entry.row["description"])
    child(data, DC, "title", columns.pop("title", None) or label)
    child(data, DC, "identifier", entry.item_id)
    child(data, DC, "source", entry.row["source_uri"])
    for name, value in columns.items():
        if name in ("creator", "date", "subject", "rights", "publisher", "contributor", "coverage", "language"):
            child(data, DC, name, value)
        else:
            child(data, DC, "description", f"{name}: {value}")


def _columns(description: str | None) -> dict[str, str]:
    try:
        found = json.loads(description) if description else {}
    except ValueError:
        found = {"description": description}
    pairs = found.items() if isinstance(found, dict) else ()
    return {str(name): str(value) for name, value in pairs if value not in (None, "")}


def _list_files(root: etree._Element, laid: list[Laid]) -> None:
    section = child(root, METS, "fileSec")
    for role in Role:
        members = [(number, one) for number, one in enumerate(laid) if one.role is role]
        if not members:
            continue
        group = child(section, METS, "fileGrp", None, {"USE": str(role)})
        for number, one in members:
            facts = {
                "ID": f"file-{number}",
                "MIMETYPE": one.media_type,
                "SIZE": str(one.size),
                "CHECKSUM": one.sha256,
                "CHECKSUMTYPE": "SHA-256",
                "ADMID": "premis",
            }
            child(child(group, METS, "file", None, facts), METS, "FLocat", None, _link(one.path))
