"""The reference packages on current torchvision.

basicsr 1.4.2 imports `torchvision.transforms.functional_tensor`, which torchvision 0.17 removed. It wants one function,
which lives on in `torchvision.transforms.functional`. Installed by an adapter when it opens, never on import.
"""

from __future__ import annotations

import sys
import types

_GONE = "torchvision.transforms.functional_tensor"


def install() -> None:
    """Make basicsr, gfpgan, realesrgan and facexlib importable. Calling it again does nothing."""
    if _GONE in sys.modules:
        return
    from torchvision.transforms import functional

    stand_in = types.ModuleType(_GONE)
    stand_in.rgb_to_grayscale = functional.rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[_GONE] = stand_in
