"""OCFL 1.1: a storage root with an object for each photograph, to which a later run's package adds versions."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fsspec.implementations.dirfs import DirFileSystem

from jobs.package.contents import Entry
from jobs.package.layout import Room, into_place, lay_out
from pipeline import __version__
from pipeline.errors import JobError

LAYOUT = "0003-hash-and-id-n-tuple-storage-layout"
DECLARATION = "0=ocfl_1.1"
_INVENTORY = ("inventory.json", "inventory.json.sha512")


def is_root(folder: Path) -> bool:
    return (folder / DECLARATION).is_file()


def object_id(item_id: str) -> str:
    return f"urn:albumen:{item_id}"


class OcflWriter:
    """Objects of a new root are written whole; of one that exists, what is new is written beside it and moved in at the end.

    An object that is met again gets a version only where its content is another.
    """

    def __init__(self, room: Room) -> None:
        ocfl = _library()
        self.counts = {"objects": 0, "versions": 0, "unchanged": 0}
        self._room = room
        self._extends = is_root(room.output)
        place = room.output if self._extends else room.package
        try:
            if self._extends:
                self._root = ocfl.StorageRoot(root=str(place))
                self._root.open_root_fs()
                self._root.check_root_structure()
                room.package.mkdir()
            else:
                self._root = ocfl.StorageRoot(root=str(place), layout_name=LAYOUT)
                self._root.initialize()
            self._root.object_path(object_id("0" * 32))
        except (ocfl.StorageRootException, AttributeError) as error:
            # A root without a layout has no layout object to ask.
            raise JobError(f"{place} is no OCFL storage root that objects can be added to: {error}") from error

    def add(self, entry: Entry) -> None:
        content = self._room.work / "content"
        lay_out(self._room, entry, content)
        where = str(self._root.object_path(object_id(entry.item_id)))
        standing = self._room.output / where
        try:
            if self._extends and standing.exists():
                self._add_version(entry, content, standing, self._room.package / where)
            else:
                staged = self._room.package / where
                staged.parent.mkdir(parents=True, exist_ok=True)
                self._object(entry).create(str(content), self._metadata(entry), objdir=str(staged))
                self.counts["objects"] += 1
        finally:
            shutil.rmtree(content, ignore_errors=True)
            # ocfl-py opens each folder as a file system of its own, and fsspec keeps all that were ever opened.
            DirFileSystem.clear_instance_cache()

    def close(self) -> None:
        """Nothing is left to write."""

    def publish(self) -> None:
        if not self._extends:
            into_place(self._room)
            return
        for staged in _objects(self._room.package):
            standing = self._room.output / staged.relative_to(self._room.package)
            if not standing.exists():
                standing.parent.mkdir(parents=True, exist_ok=True)
                staged.rename(standing)
                continue
            [version] = [path for path in staged.iterdir() if path.is_dir()]
            # In this order, an object whose publication was cut off is told by its newest version's inventory, and healed.
            version.rename(standing / version.name)
            for name in _INVENTORY:
                os.replace(staged / name, standing / name)

    def _add_version(self, entry: Entry, content: Path, standing: Path, staged: Path) -> None:
        ocfl = _library()
        _heal(standing)
        held = self._object(entry)
        try:
            version = held.start_new_version(
                objdir=str(standing), srcdir=str(content), metadata=self._metadata(entry), carry_content_forward=False
            )
            version.add_from_srcdir()
            if not version.diff_with_previous():
                self.counts["unchanged"] += 1
                return
            staged.parent.mkdir(parents=True, exist_ok=True)
            held.open_obj_fs(str(staged), create=True)
            held.write_new_version(version)
        except (ocfl.ObjectException, ocfl.NewVersionException, ocfl.InventoryException) as error:
            raise JobError(f"{standing} takes no version: {error}") from error
        self.counts["versions"] += 1

    def _object(self, entry: Entry) -> Any:
        return _library().Object(identifier=object_id(entry.item_id), spec_version="1.1")

    def _metadata(self, entry: Entry) -> Any:
        done = "restored" if entry.restored else f"{entry.row['status']}: {entry.row['reason']}"
        message = f"{done} in run {entry.row['run_id']}, recipe {entry.row['recipe_id']}, by {entry.row['software']}"
        created = self._room.moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        return _library().VersionMetadata(created=created, message=message, name=f"albumen {__version__}")


def _library() -> Any:
    """ocfl-py. A library that it imports opens the root logger for all, which would print a line for each photograph."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    import ocfl

    root.setLevel(level)
    root.handlers[:] = handlers
    return ocfl


def _objects(folder: Path) -> Iterator[Path]:
    """Objects, or new versions of some, below a folder; told by their inventories, so that no list of them is kept."""
    for place, folders, files in os.walk(folder):
        if _INVENTORY[0] in files:
            folders.clear()
            yield Path(place)


def _heal(standing: Path) -> None:
    """Finish what a packaging that was cut off had begun: the newest version's own inventory is the object's."""
    numbers = [int(path.name[1:]) for path in standing.iterdir() if path.name[:1] == "v" and path.name[1:].isdecimal()]
    newest = standing / f"v{max(numbers, default=0)}"
    if not all((newest / name).is_file() for name in _INVENTORY):
        return
    for name in _INVENTORY:
        data = (newest / name).read_bytes()
        root = standing / name
        if not root.is_file() or root.read_bytes() != data:
            fresh = standing.parent / f".{standing.name}.{name}.part"
            fresh.write_bytes(data)
            os.replace(fresh, root)
