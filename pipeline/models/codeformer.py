"""CodeFormer (Zhou et al., NeurIPS 2022) through spandrel_extra_arches, whose code of it is under the S-Lab Licence 1.0.

Not for commercial use: the package is not among Albumen's requirements, and opened only where a job accepts the licence by
name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import ModelError

if TYPE_CHECKING:
    import torch


def codeformer(model_id: str) -> torch.nn.Module:
    """The published network without its weights. Raises ModelError where the package is missing."""
    try:
        from spandrel_extra_arches.architectures.CodeFormer import CodeFormer
    except ImportError as error:
        raise ModelError(
            f"model {model_id} needs the Python packages spandrel and spandrel_extra_arches: {error}",
            hint="They are no part of Albumen, because their code of CodeFormer may not be used commercially:\n"
            "pip install spandrel spandrel_extra_arches",
        ) from error
    network: torch.nn.Module = CodeFormer()
    return network
