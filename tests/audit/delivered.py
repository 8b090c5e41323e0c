"""Images, masks and maps below a run, as docs/run-directory.md names them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.audit.places import Place
from tests.audit.reader import Notes, View


@dataclass(frozen=True, slots=True)
class Folder:
    """One kind of file that rows name. size: the column that holds its bytes, where there is one."""

    name: str
    pattern: re.Pattern[str]
    uri: str
    sha256: str
    size: str | None

    def key(self, row: Mapping[str, Any]) -> str:
        """Below the run's folder, wherever the run was moved to since."""
        return f"{self.name}/{row['item_id'][:2]}/{row[self.uri].rsplit('/', 1)[-1]}"

    def rows(self, view: View) -> Iterator[tuple[str, dict[str, Any]]]:
        """Restored photographs that name such a file."""
        for item, row in view.live.items():
            if row["status"] == "restored" and row[self.uri] is not None:
                yield item, row

    def keys(self, view: View) -> set[str]:
        return {self.key(row) for _, row in self.rows(view)}

    def explains(self, key: str, items: Mapping[str, Any]) -> bool:
        """Whether an attempt at one of these photographs may have left it."""
        match = self.pattern.fullmatch(key)
        return match is not None and match[1] == match[2][:2] and match[2] in items

    def digests(self, run: Place, view: View, notes: Notes) -> dict[str, str]:
        """The sha256 of every file that is named, hashed now, by item_id."""
        found: dict[str, str] = {}
        for item, row in self.rows(view):
            key = self.key(row)
            match = self.pattern.fullmatch(key)
            if match is None or match[2] != item:
                notes.fault("row", item, f"names {row[self.uri]}, which is no name of its own")
                continue
            try:
                data = run.read(key)
            except FileNotFoundError:
                notes.fault("lost", item, f"{key} is not there")
                continue
            found[item] = hashlib.sha256(data).hexdigest()
            if match[3] is not None and not found[item].startswith(match[3]):
                notes.fault("altered", item, f"{key} is not named by its digest")
            if found[item] != row[self.sha256] or (self.size is not None and len(data) != row[self.size]):
                notes.fault(
                    "altered", item, f"{key} has {len(data)} bytes, sha256 {found[item]}; not what its row says"
                )
        return found


def _named(folder: str, suffix: str) -> re.Pattern[str]:
    return re.compile(rf"{folder}/([0-9a-f]{{2}})/([0-9a-f]{{32}})(?:-([0-9a-f]{{8,64}}))?\.{suffix}")


IMAGES = Folder("images", _named("images", "[a-z0-9]+"), "output_uri", "output_sha256", "output_bytes")
MASKS = Folder("masks", _named("masks", "png"), "mask_uri", "mask_sha256", None)
EDITS = Folder("edits", _named("edits", "png"), "edits_uri", "edits_sha256", None)
INVENTED = Folder("invented", _named("invented", "png"), "invented_uri", "invented_sha256", None)
# Files that a restored row may go without.
BESIDE = (MASKS, EDITS, INVENTED)
