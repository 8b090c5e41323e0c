"""What damage there is, as one code a pixel."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

# H x W, of the codes below.
Kinds = NDArray[np.uint8]


class Kind(IntEnum):
    """Damage that came after the photograph was made.

    LINE: scratches, cracks, creases, tears, hairs. SPOT: dust, dirt, mould, flakes. STAIN: discoloured; the picture still
    shows beneath. MISSING: the picture is gone over an area: torn off, eaten, burnt.
    """

    NONE = 0
    LINE = 1
    SPOT = 2
    STAIN = 3
    MISSING = 4


FOUND = (Kind.LINE, Kind.SPOT, Kind.STAIN, Kind.MISSING)
# Added to the code of a pixel that was repaired. A code without it was found and left as it was.
REPAIRED = 8


def fraction_of(where: NDArray[np.bool_] | Kinds) -> float:
    """Share of pixels that are set, 0..1."""
    return np.count_nonzero(where) / where.size if where.size else 0.0
