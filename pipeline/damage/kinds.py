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
