"""Faces and measures back from the rows that provenance keeps: that nothing of them was lost on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pipeline.honesty.row import Honesty, Measures
from pipeline.photograph import Decision, Face, Likeness


def face_from(row: Mapping[str, Any]) -> Face:
    """The face of such a row, without its patch."""
    affine, decision = row["affine"], row["decision"]
    likeness = Likeness(**{f.name: row[f.name] for f in fields(Likeness)})
    return Face(
        box=tuple(row["box"]),
        landmarks=tuple(row["landmarks"]),
        score=row["score"],
        affine=None if affine is None else tuple(affine),
        strength=row["strength"],
        model_id=row["model_id"],
        detector=row["detector"],
        model_sha256=row["model_sha256"],
        likeness=None if likeness == Likeness() else likeness,
        decision=None if decision is None else Decision(decision),
        reason=row["reason"],
        mask_kind=row["mask_kind"],
        mask=row["mask"],
    )


def honesty_from(row: Mapping[str, Any] | None) -> Honesty | None:
    if row is None:
        return None
    return Honesty(Measures(**{f.name: row[f.name] for f in fields(Measures)}), row["risk"])
