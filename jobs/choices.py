"""Choices that commands offer. Light: the command line imports it to name its options."""

from __future__ import annotations

from enum import StrEnum


class Changed(StrEnum):
    """What to do about originals that are others now than when they were planned."""

    REFUSE = "refuse"
    APPEND = "append"
    IGNORE = "ignore"


class Form(StrEnum):
    """What an answer is printed or written as."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class Depth(StrEnum):
    """How closely a run is verified."""

    QUICK = "quick"
    USUAL = "usual"
    FULL = "full"


class PackageKind(StrEnum):
    """What photographs are handed over as."""

    BAGIT = "bagit"
    OCFL = "ocfl"
    PREMIS = "premis"
    METS = "mets"
    IIIF = "iiif"
