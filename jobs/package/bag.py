"""BagIt (RFC 8493): bags of at most a thousand photographs, so that neither memory nor a transfer has to hold a whole run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from jobs.package.contents import Entry, summary
from jobs.package.layout import Room, into_place, lay_out
from pipeline import __version__
from pipeline.errors import JobError

PHOTOGRAPHS = 1000
ALGORITHMS = ("sha256", "sha512")


@dataclass(frozen=True, slots=True)
class _Bag:
    """A bag that is being filled. expected: what the record says of each file in it, by its place. listed: one line each."""

    folder: Path
    listed: TextIO
    expected: dict[str, str] = field(default_factory=dict)
    held: list[str] = field(default_factory=list)


class BagWriter:
    """bag-00001, bag-00002 ..., each a bag of its own, one group together."""

    def __init__(self, room: Room) -> None:
        self.counts = {"bags": 0}
        self._room = room
        self._bag = self._opened()

    def add(self, entry: Entry) -> None:
        if len(self._bag.held) == PHOTOGRAPHS:
            self._finish(self._bag)
            self._bag = self._opened()
        bag, where = self._bag, f"photographs/{entry.item_id}"
        for laid in lay_out(self._room, entry, bag.folder / where):
            bag.expected[f"data/{where}/{laid.path}"] = laid.sha256
        bag.listed.write(json.dumps(summary(entry)) + "\n")
        bag.held.append(entry.item_id)

    def close(self) -> None:
        self._finish(self._bag)

    def publish(self) -> None:
        into_place(self._room)

    def _opened(self) -> _Bag:
        folder = self._room.package / f"bag-{self.counts['bags'] + 1:05d}"
        (folder / "run").mkdir(parents=True)
        known = json.dumps(self._room.known, indent=2, sort_keys=True)
        (folder / "run" / "run.json").write_text(known + "\n", encoding="utf-8")
        return _Bag(folder, (folder / "run" / "photographs.jsonl").open("w", encoding="utf-8"))

    def _finish(self, filled: _Bag) -> None:
        import bagit

        filled.listed.close()
        try:
            bag = bagit.make_bag(str(filled.folder), self._info(), checksums=list(ALGORITHMS))
        except bagit.BagError as error:
            raise JobError(f"{filled.folder.name} cannot be made: {error}") from error
        # The manifest was made of what lies on the disk now; the record has its own word for it.
        for path, digest in filled.expected.items():
            if bag.entries.get(path, {}).get("sha256") != digest:
                raise JobError(f"{filled.folder.name}/{path}: what was written is not what was copied")
        self.counts["bags"] += 1

    def _info(self) -> dict[str, Any]:
        total = max(1, -(-self._room.count // PHOTOGRAPHS))
        return {
            "Internal-Sender-Description": f"Restored photographs of {self._room.collection}, with originals and provenance",
            "Internal-Sender-Identifier": self._room.collection,
            "External-Identifier": f"{self._room.run_id}-{self.counts['bags'] + 1}",
            "Bag-Group-Identifier": self._room.run_id,
            "Bag-Count": f"{self.counts['bags'] + 1} of {total}",
            "Bagging-Date": self._room.moment.date().isoformat(),
            "Albumen-Version": __version__,
        }
