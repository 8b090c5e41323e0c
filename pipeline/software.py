"""Which software decides the bytes of an output, and whether two machines have the same."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pipeline
from pipeline.errors import JobError

PACKAGES = (
    "ray",
    "torch",
    "torchvision",
    "gfpgan",
    "realesrgan",
    "facexlib",
    "basicsr",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "tifffile",
    "imagecodecs",
    "pyarrow",
)
# An image says by it which lock it was installed from.
LOCK_VARIABLE = "ALBUMEN_LOCK_SHA256"
_CODE, _LOCK = "albumen's code", "requirements.lock"


def software() -> dict[str, str | None]:
    """Versions of what decides the bytes of an output, as they are here; None for a package that is not installed."""
    found = {name: _version(name) for name in PACKAGES}
    return found | {"albumen": pipeline.__version__, "python": platform.python_version()}


def fingerprint() -> dict[str, str | None]:
    """`software`, and the digests of this code and of the lock; None for a lock that nobody knows of here."""
    return software() | {_CODE: _code_digest(Path(pipeline.__file__).parent), _LOCK: lock_digest()}


def lock_digest() -> str | None:
    """SHA-256 of the lock that this machine was installed from: as its image says, else of the file beside the code."""
    if named := os.environ.get(LOCK_VARIABLE):
        return named
    file = Path(pipeline.__file__).parent.parent / "requirements.lock"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def differences(expected: Mapping[str, str | None], found: Mapping[str, str | None]) -> tuple[str, ...]:
    """What is other in `found`, each as a clause: `pillow is 11.2.1 instead of 12.0.0`.

    Of Python only the minor version counts, and of a package not its local label (`+cpu`, `+cu128`): nodes with and without
    a GPU are installed from different wheels of one version. A lock that one side does not know of is no difference.
    """
    clauses = []
    for name, wanted in expected.items():
        here = found.get(name)
        if name == _LOCK and (here is None or wanted is None):
            continue
        if _shown(name, here) != _shown(name, wanted):
            clauses.append(f"{name} is {_shown(name, here)} instead of {_shown(name, wanted)}")
    return tuple(clauses)


def check_same(expected: Mapping[str, str | None], where: str) -> None:
    """Raises JobError with every difference between the driver's software and this machine's. where: this machine's name."""
    if found := differences(expected, fingerprint()):
        raise JobError(
            f"the software of node {where} is not the driver's: {'; '.join(found)}",
            hint="Give all nodes the same image, or install them from the same requirements.lock.",
        )


def _shown(name: str, value: str | None) -> str:
    if value is None:
        return "not installed"
    if name == "python":
        return ".".join(value.split(".")[:2])
    if name in (_CODE, _LOCK):
        return value[:12]
    return value.partition("+")[0]


def _code_digest(package: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
