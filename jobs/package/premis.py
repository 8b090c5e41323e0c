"""PREMIS 3.0: a document for each photograph, its files as objects, what was done as events, software and models as agents.

Types, roles and outcomes are terms of the Library of Congress' preservation vocabularies (id.loc.gov/vocabulary/preservation).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from jobs.package.contents import Entry, Role, original_name
from jobs.package.layout import Room, into_place
from jobs.package.xml import XSI, child, document
from pipeline import __version__

if TYPE_CHECKING:
    from lxml import etree

PREMIS = "http://www.loc.gov/premis/v3"
_VOCABULARY = "http://id.loc.gov/vocabulary/preservation"
_EVENTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "ingest": ("val", "validation"),
        "analyse": ("mee", "metadata extraction"),
        "deliver": ("cre", "creation"),
        "fixity": ("fix", "fixity check"),
        "package": ("ipc", "information package creation"),
    }
)
_MODIFICATION = ("mod", "modification")
_OUTCOMES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"applied": ("suc", "success"), "refused": ("fai", "fail"), "failed": ("fai", "fail")}
)
_SOURCE, _OUTCOME, _EXECUTES = ("sou", "source"), ("out", "outcome"), ("exe", "executing program")
_FACTS = ("parameters", "input_sha256", "output_sha256", "changed_fraction", "seconds", "device", "precision")


@dataclass(frozen=True, slots=True)
class Premis:
    """What a photograph's document says. places: where each file is; moment: when they were read and compared."""

    entry: Entry
    moment: datetime
    places: Mapping[Role, str]
    run_id: str
    _agents: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def document(self) -> bytes:
        root = _element("premis")
        root.extend(self._objects())
        root.extend(self._events())
        # Of all events: they come to be known while these are made.
        root.extend([_agent(identifier, facts) for identifier, facts in self._agents.items()])
        return document(root)

    def _objects(self) -> Iterator[etree._Element]:
        row = self.entry.row
        yield self._object(Role.ORIGINAL, row["source_sha256"], row["source_bytes"], row["source_format"])
        for role in (Role.RESTORED, Role.MASK):
            file = self.entry.file(role)
            if file is not None:
                made = self._object(role, file.sha256, file.size, file.media_type)
                self._derived(made, role)
                yield made

    def _events(self) -> Iterator[etree._Element]:
        events = self.entry.row["events"] or ()
        for number, event in enumerate(events):
            yield self._stage(number, event)
        if not events:
            # Refused while the collection was listed: no stage has seen it.
            yield self._refused()
        if self.entry.files:
            yield self._packaging("fixity", "the files were read and have the SHA-256 that the record says")
        yield self._packaging("package", f"described and packaged from run {self.run_id}")

    def _identifier(self, role: Role) -> str:
        return f"{self.entry.item_id}/{role}"

    def _object(self, role: Role, sha256: str | None, size: int | None, kind: str | None) -> etree._Element:
        element = _element("object", {f"{{{XSI}}}type": "premis:file"})
        _identified(element, "object", self._identifier(role))
        characteristics = child(element, PREMIS, "objectCharacteristics")
        if sha256 is not None:
            fixity = child(characteristics, PREMIS, "fixity")
            _term(fixity, "messageDigestAlgorithm", "cryptographicHashFunctions", ("sha256", "SHA-256"))
            child(fixity, PREMIS, "messageDigest", sha256)
            child(fixity, PREMIS, "messageDigestOriginator", self.entry.row["software"])
        if size is not None:
            child(characteristics, PREMIS, "size", size)
        designation = child(child(characteristics, PREMIS, "format"), PREMIS, "formatDesignation")
        child(designation, PREMIS, "formatName", kind or "unknown")
        if role is Role.ORIGINAL:
            child(element, PREMIS, "originalName", original_name(self.entry.row["source_uri"]))
        location = child(child(element, PREMIS, "storage"), PREMIS, "contentLocation")
        child(location, PREMIS, "contentLocationType", "URI")
        child(location, PREMIS, "contentLocationValue", self.places.get(role, self.entry.row["source_uri"]))
        return element

    def _derived(self, element: etree._Element, role: Role) -> None:
        relation = child(element, PREMIS, "relationship")
        _term(relation, "relationshipType", "relationshipType", ("der", "derivation"))
        _term(relation, "relationshipSubType", "relationshipSubType", ("hss", "has source"))
        _identified(relation, "relatedObject", self._identifier(Role.ORIGINAL))
        events = self.entry.row["events"] or ()
        last = next((n for n, event in enumerate(events) if event["stage"] == "deliver"), None)
        if last is not None:
            _identified(relation, "relatedEvent", self._event_id(last, "deliver"))

    def _event_id(self, number: int, stage: str) -> str:
        row = self.entry.row
        return f"{self.entry.item_id}/{row['run_id']}/{row['term']}/{number}-{stage}"

    def _stage(self, number: int, event: Mapping[str, Any]) -> etree._Element:
        facts = {name: event[name] for name in _FACTS if event[name] is not None}
        facts["parameters"] = _parsed(event["parameters"])
        text = f"{event['stage']} {event['version']}: {json.dumps(facts, ensure_ascii=False, sort_keys=True)}"
        notes = [event["reason"], None if event["findings"] in (None, "{}") else event["findings"]]
        if event["outcome"] in ("refused", "failed"):
            notes.insert(0, self.entry.row["detail"])
        kind = _EVENTS.get(event["stage"], _MODIFICATION)
        element = self._event(
            self._event_id(number, event["stage"]), kind, self.entry.row["committed_at"], text, event["outcome"], notes
        )
        self._executed(element, self.entry.row["software"], {})
        for model in event["models"] or ():
            self._executed(element, f"{model['id']} sha256:{model['sha256']}", model)
        _linked(element, self._identifier(Role.ORIGINAL), _SOURCE)
        if self.entry.restored and event["stage"] not in ("ingest", "analyse") and event["outcome"] == "applied":
            _linked(element, self._identifier(Role.RESTORED), _OUTCOME)
        return element

    def _refused(self) -> etree._Element:
        row = self.entry.row
        element = self._event(
            self._event_id(0, "listing"), _EVENTS["ingest"], row["committed_at"], "listing the collection", row["status"],
            [row["reason"], row["detail"]],
        )  # fmt: skip
        self._executed(element, row["software"], {})
        _linked(element, self._identifier(Role.ORIGINAL), _SOURCE)
        return element

    def _packaging(self, name: str, text: str) -> etree._Element:
        identifier = f"{self.entry.item_id}/{self.run_id}/{self.moment:%Y%m%dT%H%M%SZ}-{name}"
        element = self._event(identifier, _EVENTS[name], self.moment, text, "applied", [])
        self._executed(element, f"albumen {__version__}", {})
        roles = [file.role for file in self.entry.files] if name == "fixity" else list(self._there())
        for role in roles:
            _linked(element, self._identifier(role), _SOURCE)
        return element

    def _there(self) -> Iterator[Role]:
        yield Role.ORIGINAL
        yield from (role for role in (Role.RESTORED, Role.MASK) if self.entry.file(role) is not None)

    def _event(
        self, identifier: str, kind: tuple[str, str], moment: datetime, text: str, outcome: str, notes: list[str | None]
    ) -> etree._Element:
        element = _element("event")
        _identified(element, "event", identifier)
        _term(element, "eventType", "eventType", kind)
        child(element, PREMIS, "eventDateTime", moment.isoformat())
        child(child(element, PREMIS, "eventDetailInformation"), PREMIS, "eventDetail", text)
        ended = child(element, PREMIS, "eventOutcomeInformation")
        if outcome in _OUTCOMES:
            _term(ended, "eventOutcome", "eventOutcome", _OUTCOMES[outcome])
        else:
            child(ended, PREMIS, "eventOutcome", outcome)
        for note in notes:
            if note:
                child(child(ended, PREMIS, "eventOutcomeDetail"), PREMIS, "eventOutcomeDetailNote", note)
        return element

    def _executed(self, event: etree._Element, identifier: str, facts: Mapping[str, str]) -> None:
        self._agents.setdefault(identifier, facts)
        link = child(event, PREMIS, "linkingAgentIdentifier")
        child(link, PREMIS, "linkingAgentIdentifierType", "local")
        child(link, PREMIS, "linkingAgentIdentifierValue", identifier)
        _term(link, "linkingAgentRole", "eventRelatedAgentRole", _EXECUTES)


def _element(name: str, attributes: Mapping[str, str] | None = None) -> etree._Element:
    from lxml import etree

    spaces = {"premis": PREMIS, "xsi": XSI}
    return etree.Element(f"{{{PREMIS}}}{name}", {"version": "3.0"} | dict(attributes or {}), nsmap=spaces)


def _identified(parent: etree._Element, what: str, value: str) -> None:
    identifier = child(parent, PREMIS, f"{what}Identifier")
    child(identifier, PREMIS, f"{what}IdentifierType", "local")
    child(identifier, PREMIS, f"{what}IdentifierValue", value)


def _linked(event: etree._Element, identifier: str, role: tuple[str, str]) -> None:
    link = child(event, PREMIS, "linkingObjectIdentifier")
    child(link, PREMIS, "linkingObjectIdentifierType", "local")
    child(link, PREMIS, "linkingObjectIdentifierValue", identifier)
    _term(link, "linkingObjectRole", "eventRelatedObjectRole", role)


def _term(parent: etree._Element, name: str, scheme: str, term: tuple[str, str]) -> None:
    """term: its code in the scheme, and its label."""
    authority = f"{_VOCABULARY}/{scheme}"
    attributes = {"authority": scheme, "authorityURI": authority, "valueURI": f"{authority}/{term[0]}"}
    child(parent, PREMIS, name, term[1], attributes)


def _agent(identifier: str, facts: Mapping[str, str]) -> etree._Element:
    element = _element("agent")
    _identified(element, "agent", identifier)
    name, _, version = identifier.partition(" ")
    child(element, PREMIS, "agentName", facts.get("id", name))
    _term(element, "agentType", "agentType", ("sof", "software"))
    if not facts:
        child(element, PREMIS, "agentVersion", version or "unknown")
        return element
    child(element, PREMIS, "agentNote", f"weights of a neural network, sha256 {facts['sha256']}")
    child(element, PREMIS, "agentNote", f"licence {facts['licence']}")
    return element


def _parsed(text: str | None) -> Any:
    try:
        return json.loads(text) if text else {}
    except ValueError:
        return text


class PremisWriter:
    """premis/<aa>/<item_id>.xml. Holds no file of the run; reads each, so that the fixity check that it states was made."""

    def __init__(self, room: Room) -> None:
        self.counts = {"documents": 0}
        self._room = room
        (room.package / "premis").mkdir(parents=True)

    def add(self, entry: Entry) -> None:
        for file in entry.files:
            self._room.files.verify(file)
        places = {file.role: file.uri for file in entry.files}
        premis = Premis(entry, self._room.moment, places, self._room.run_id)
        folder = self._room.package / "premis" / entry.item_id[:2]
        folder.mkdir(exist_ok=True)
        (folder / f"{entry.item_id}.xml").write_bytes(premis.document())
        self.counts["documents"] += 1

    def close(self) -> None:
        """Every document is whole already."""

    def publish(self) -> None:
        into_place(self._room)
