"""What licences allow, from a table and never guessed from a name. What the table does not know is not known to be safe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Use(StrEnum):
    """Whether a model may be used commercially: what an archive that sells prints has to know."""

    ALLOWED = "allowed"
    FORBIDDEN = "forbidden"
    UNKNOWN = "unknown"


# By SPDX identifier (spdx.org/licenses), or LicenseRef- for those that SPDX does not list. Each was read: a licence is
# `forbidden` where its text limits use to what is not commercial, or to research.
LICENCES: Mapping[str, Use] = MappingProxyType(
    {
        "0BSD": Use.ALLOWED,
        "AFL-3.0": Use.ALLOWED,
        "AGPL-3.0-only": Use.ALLOWED,
        "AGPL-3.0-or-later": Use.ALLOWED,
        "Apache-2.0": Use.ALLOWED,
        "Artistic-2.0": Use.ALLOWED,
        "BSD-2-Clause": Use.ALLOWED,
        "BSD-3-Clause": Use.ALLOWED,
        "BSL-1.0": Use.ALLOWED,
        "CC-BY-4.0": Use.ALLOWED,
        "CC-BY-SA-4.0": Use.ALLOWED,
        "CC0-1.0": Use.ALLOWED,
        "CDLA-Permissive-2.0": Use.ALLOWED,
        "GPL-2.0-only": Use.ALLOWED,
        "GPL-2.0-or-later": Use.ALLOWED,
        "GPL-3.0-only": Use.ALLOWED,
        "GPL-3.0-or-later": Use.ALLOWED,
        "ISC": Use.ALLOWED,
        "LGPL-2.1-only": Use.ALLOWED,
        "LGPL-2.1-or-later": Use.ALLOWED,
        "LGPL-3.0-only": Use.ALLOWED,
        "LGPL-3.0-or-later": Use.ALLOWED,
        "MIT": Use.ALLOWED,
        "MPL-2.0": Use.ALLOWED,
        "Unlicense": Use.ALLOWED,
        "Zlib": Use.ALLOWED,
        "CC-BY-NC-4.0": Use.FORBIDDEN,
        "CC-BY-NC-ND-4.0": Use.FORBIDDEN,
        "CC-BY-NC-SA-4.0": Use.FORBIDDEN,
        "PolyForm-Noncommercial-1.0.0": Use.FORBIDDEN,
        "LicenseRef-NVIDIA-CC-BY-NC-SA-4.0-parts": Use.FORBIDDEN,
        "LicenseRef-S-Lab-1.0": Use.FORBIDDEN,
    }
)
_WORD = re.compile(r"\s*(\(|\)|[A-Za-z0-9.:+-]+)")
# Of several licences that all hold, the worst decides; of a choice, the best.
_WORST_FIRST = (Use.FORBIDDEN, Use.UNKNOWN, Use.ALLOWED)


def commercial_use(expression: str) -> Use:
    """What an SPDX licence expression (SPDX 2.3, annex D) allows; UNKNOWN for what is none or not in the table.

    `A AND B` allows what both do, `A OR B` what either does. An exception behind WITH only adds permissions.
    """
    words = _words(expression)
    if words is None:
        return Use.UNKNOWN
    parser = _Parser(words)
    found = parser.either()
    return Use.UNKNOWN if found is None or parser.left else found


def _words(expression: str) -> list[str] | None:
    words: list[str] = []
    place, end = 0, len(expression.rstrip())
    while place < end:
        match = _WORD.match(expression, place)
        if match is None:
            return None
        words.append(match[1])
        place = match.end()
    return words


class _Parser:
    """Recursive descent: OR binds least, then AND, then WITH. None stands for what cannot be read."""

    def __init__(self, words: list[str]) -> None:
        self.left = words

    def either(self) -> Use | None:
        return self._joined("OR", self.both, -1)

    def both(self) -> Use | None:
        return self._joined("AND", self.single, 0)

    def _joined(self, word: str, part: object, which: int) -> Use | None:
        assert callable(part)
        found: list[Use | None] = [part()]
        while self._take(word):
            found.append(part())
        uses = [use for use in found if use is not None]
        return sorted(uses, key=_WORST_FIRST.index)[which] if len(uses) == len(found) else None

    def single(self) -> Use | None:
        if self._take("("):
            inner = self.either()
            return inner if self._take(")") else None
        name = self._name()
        if name is None:
            return None
        if self._take("WITH") and self._name() is None:
            return None
        return LICENCES.get(name, Use.UNKNOWN)

    def _name(self) -> str | None:
        if not self.left or self.left[0] in ("(", ")", "AND", "OR", "WITH"):
            return None
        return self.left.pop(0)

    def _take(self, word: str) -> bool:
        if self.left and self.left[0] == word:
            self.left.pop(0)
            return True
        return False
