"""A face as provenance keeps it: one struct, the gate's findings flat beside the others, where they are asked for most."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import pyarrow as pa

from pipeline.photograph import Face, Likeness

_LIKENESS = [(f.name, pa.string() if f.name == "identity_model" else pa.float64()) for f in fields(Likeness)]

# From `size` on since version 3 of the schema; null in older rows.
FACE = pa.struct(
    [
        ("box", pa.list_(pa.float32())),
        ("landmarks", pa.list_(pa.float32())),
        ("score", pa.float32()),
        ("affine", pa.list_(pa.float64())),
        ("strength", pa.float32()),
        ("model_id", pa.string()),
        ("size", pa.float32()),
        ("detector", pa.string()),
        ("model_sha256", pa.string()),
        *_LIKENESS,
        ("decision", pa.string()),
        ("reason", pa.string()),
        ("mask_kind", pa.string()),
        ("mask", pa.binary()),
    ]
)


def face_row(face: Face) -> dict[str, Any]:
    """The fields of FACE as Python values. The patch is no part of it."""
    own = {name: getattr(face, name) for name in FACE.names if hasattr(face, name)}
    return own | asdict(face.likeness or Likeness())
