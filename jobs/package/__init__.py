"""`albumen package`: a run's photographs as the packages that archives take in (docs/packages.md)."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from jobs.choices import PackageKind
from jobs.package.bag import BagWriter
from jobs.package.contents import Contents, Entry
from jobs.package.files import DamagedError, Files
from jobs.package.iiif import IiifWriter
from jobs.package.layout import Room, Writer
from jobs.package.mets import MetsWriter
from jobs.package.ocfl_objects import OcflWriter, is_root
from jobs.package.premis import PremisWriter
from jobs.package.signing import Credentials, Signer
from pipeline.errors import JobError, SpecError, StoreError
from pipeline.storage import contains, is_local, local_path
from pipeline.storage.names import temporary_name

__all__ = ["Credentials", "PackageKind", "Report", "package"]

KINDS: Mapping[PackageKind, Callable[[Room], Writer]] = MappingProxyType(
    {
        PackageKind.BAGIT: BagWriter,
        PackageKind.OCFL: OcflWriter,
        PackageKind.PREMIS: PremisWriter,
        PackageKind.METS: MetsWriter,
        PackageKind.IIIF: IiifWriter,
    }
)
# Those that carry the restored file itself.
_SIGNED = frozenset({PackageKind.BAGIT, PackageKind.OCFL, PackageKind.METS})


@dataclass(frozen=True, slots=True)
class Report:
    """photographs: by status. missing: planned and without a row. counts: of the kind's own."""

    kind: str
    output: str
    photographs: Mapping[str, int]
    missing: int
    counts: Mapping[str, int] = field(default_factory=dict)


def package(
    run: str,
    kind: PackageKind,
    output: str,
    *,
    endpoint: str | None = None,
    unfinished: bool = False,
    credentials: Credentials | None = None,
    base: str | None = None,
) -> Report:
    """Write what the rows of a run that count say into the folder `output`, whole or not at all.

    Every original, restored file and mask is held against the record's digest on the way. unfinished: also where photographs
    have no row yet. base: of IIIF, the address below which `output` will be served. Raises SpecError for wrong options,
    JobError with every fault of the run or its files, StoreError where something cannot be read or written.
    """
    _check(kind, credentials, base)
    target = _target(output, kind)
    contents = Contents(run, endpoint)
    missing = contents.planned - contents.committed
    if missing > 0 and not unfinished:
        raise JobError(
            f"{contents.place} is unfinished: {missing:,} of {contents.planned:,} photographs have no row yet",
            hint="Run the job again to finish it, or package what is there with --unfinished.",
        )
    _check_apart(target, contents)
    signer = None if credentials is None else Signer(credentials)
    files = Files(contents.outputs, contents.originals)
    with _workshop(target) as work:
        room = Room(
            work, target, contents.place, contents.known, contents.committed, files, signer, base, datetime.now(UTC)
        )
        try:
            statuses, counts = _write(room, KINDS[kind], contents)
        except OSError as error:
            raise StoreError(f"{output} cannot be written: {error}") from error
    return Report(str(kind), str(target), dict(statuses), max(0, missing), counts)


def _write(room: Room, opened: Callable[[Room], Writer], contents: Contents) -> tuple[Counter[str], Mapping[str, int]]:
    writer, statuses = opened(room), Counter[str]()
    for entry in contents.entries():
        statuses[entry.row["status"]] += 1
        _add(room, writer, entry)
    if room.files.faults:
        raise JobError(room.files.faults, hint="Nothing was packaged. `albumen verify --full` looks at the whole run.")
    writer.close()
    # What is renamed into place has to be on the disk before its name is.
    os.sync()
    writer.publish()
    return statuses, writer.counts


def _add(room: Room, writer: Writer, entry: Entry) -> None:
    """Once something is wrong nothing more is written, and all the rest is still looked at."""
    if not room.files.faults:
        try:
            writer.add(entry)
        except DamagedError:
            # A copy was cut off; all files of the photograph are read again, so that none's fault hides another's.
            pass
        else:
            return
    for file in entry.files:
        room.files.check(file)


def _check(kind: PackageKind, credentials: Credentials | None, base: str | None) -> None:
    faults = []
    if credentials is not None and kind not in _SIGNED:
        faults.append(f"--certificate: {kind} carries no restored file to be signed; {', '.join(sorted(_SIGNED))} do")
    if kind is PackageKind.IIIF and not (base or "").startswith(("http://", "https://")):
        faults.append("--base: iiif needs the http:// or https:// address below which its folder will be served")
    if kind is not PackageKind.IIIF and base is not None:
        faults.append(f"--base: {kind} has no addresses")
    if faults:
        raise SpecError([f"package: {fault}" for fault in faults])


def _target(output: str, kind: PackageKind) -> Path:
    if not is_local(output):
        raise SpecError(
            f"package: --output: {output} is no folder of this machine; make the package here, then copy it"
        )
    target = local_path(output).expanduser().resolve()
    if os.path.lexists(target) and not (kind is PackageKind.OCFL and is_root(target)):
        text = "there is something already" + (
            ", and it is no OCFL 1.1 storage root" if kind is PackageKind.OCFL else ""
        )
        raise JobError(f"{target}: {text}; choose another --output")
    return target


def _check_apart(target: Path, contents: Contents) -> None:
    for what, place in (("run", contents.place), ("originals", contents.known["spec"]["collection"]["source"])):
        if is_local(place) and (contains(place, str(target)) or contains(str(target), place)):
            raise SpecError(f"package: --output: {target} lies among the {what} of {place}, or they in it")


@contextmanager
def _workshop(target: Path) -> Iterator[Path]:
    """A folder beside the target, on its file system, under a name that nobody takes for a package."""
    work = target.parent / temporary_name(target.name)
    try:
        work.mkdir(parents=True)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error}") from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
