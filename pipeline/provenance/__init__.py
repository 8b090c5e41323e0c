"""The one place where provenance is written and read. docs/run-directory.md says what counts.

`commit` writes the rows of photographs that have come to their end, `view` reads what counts, `seals` gathers small commits
into parts and closes the terms of drivers that lost their lease.
"""

from __future__ import annotations

from pipeline.provenance.commit import OvertakenError, commit
from pipeline.provenance.schema import PROVENANCE, Stamp
from pipeline.provenance.seals import Compactor
from pipeline.provenance.view import committed_numbers, counts, live

__all__ = ["PROVENANCE", "Compactor", "OvertakenError", "Stamp", "commit", "committed_numbers", "counts", "live"]
