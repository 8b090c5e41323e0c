"""Records and photographs of every kind, for property tests; and the same ones again."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from pipeline.damage import FOUND, REPAIRED
from pipeline.errors import ItemError, Reason
from pipeline.honesty.proof import proof_of
from pipeline.photograph import Analysis, Container, Decision, Face, Likeness, Photograph
from pipeline.record import Event, Record

small_floats = st.floats(0, 1000, width=32)
ANALYSIS = Analysis(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.1, 0.2, -1.0, 1.5, 9.0, 0.01, "toned", 2)
EVENT = Event(
    stage="upscale",
    version="1",
    outcome="applied",
    reason=None,
    parameters='{"tile": 256}',
    models=({"id": "m", "sha256": "0" * 64, "licence": "MIT"},),
    input_sha256="a" * 64,
    output_sha256="b" * 64,
    changed_fraction=0.25,
    seconds=1.5,
    device="cpu",
    precision="fp32",
    findings="{}",
)


@st.composite
def faces(draw: st.DrawFn) -> Face:
    found = Face(
        box=draw(st.tuples(*[small_floats] * 4)),
        landmarks=draw(st.tuples(*[small_floats] * 10)),
        score=draw(st.floats(0, 1, width=32)),
    )
    if not draw(st.booleans()):
        return draw(st.sampled_from([found, found.staying(Decision.LEFT, "too-small")]))
    patch = np.full((512, 512, 3), draw(st.integers(0, 65535)), np.uint16)
    patch[draw(st.integers(0, 511)), 7] = (1, 2, 3)
    return replace(
        found,
        affine=draw(st.tuples(*[st.floats(-1e6, 1e6)] * 6)),
        patch=patch,
        strength=draw(st.floats(0, 1, width=32)),
        model_id="gfpgan-v1.4",
        detector=draw(st.none() | st.just("yunet-2023mar")),
        model_sha256="e" * 64,
        likeness=draw(st.sampled_from([None, Likeness("sface", 0.5, 0.25), Likeness(skin_drift=1.5, glasses=0.1)])),
        decision=draw(st.sampled_from(list(Decision))),
        reason=draw(st.none() | st.text(max_size=10)),
        mask_kind=draw(st.sampled_from(["square", "parsenet"])),
        mask=draw(st.none() | st.binary(min_size=1, max_size=40)),
    )


def damage(draw: st.DrawFn, rng: np.random.Generator, height: int, width: int) -> np.ndarray | None:
    """Codes of every kind, repaired or not: none at all, few in long runs, or as mixed as can be."""
    share = draw(st.sampled_from([None, 0.0, 0.05, 1.0]))
    if share is None:
        return None
    codes = rng.choice(np.array([0, *FOUND, *(kind | REPAIRED for kind in FOUND)], np.uint8), (height, width))
    return np.where(rng.random((height, width)) < share, codes, np.uint8(0))


@st.composite
def photographs(draw: st.DrawFn) -> Photograph:
    # The larger ones have arrays that travel by themselves.
    sides = st.integers(1, 40) | st.just(211)
    height, width, channels = draw(sides), draw(sides), draw(st.sampled_from([1, 3]))
    dtype = draw(st.sampled_from(["uint8", "uint16"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    peak = np.iinfo(dtype).max
    made = Photograph(
        item_id="item",
        pixels=rng.integers(0, peak, (height, width, channels), dtype=dtype, endpoint=True),
        container=Container(
            format=draw(st.sampled_from(["TIFF", "JPEG"])),
            icc=draw(st.none() | st.binary(max_size=40)),
            exif=draw(st.none() | st.binary(max_size=40)),
            xmp=draw(st.none() | st.binary(max_size=40)),
            iptc=draw(st.none() | st.binary(max_size=40)),
            dpi=draw(st.none() | st.tuples(*[st.floats(0.1, 1e5)] * 2)),
            pages=draw(st.integers(1, 9)),
            conversion=draw(st.none() | st.text(max_size=20)),
        ),
        alpha=rng.integers(0, peak, (height, width), dtype=dtype, endpoint=True) if draw(st.booleans()) else None,
        damage=damage(draw, rng, height, width),
        mask=draw(st.none() | st.binary(min_size=1, max_size=60)),
        analysis=draw(st.sampled_from([None, ANALYSIS])),
        faces=tuple(draw(st.lists(faces(), max_size=2))),
        scale=draw(st.sampled_from([1, 2, 4])),
    )
    return replace(made, proof=proof_of(made)) if draw(st.booleans()) else made


@st.composite
def records(draw: st.DrawFn) -> Record:
    photograph = draw(st.none() | photographs())
    record = Record(
        item_no=draw(st.integers(0, 2**62)),
        item_id="item",
        source_uri=draw(st.text(min_size=1, max_size=30)),
        source_bytes=draw(st.none() | st.integers(0, 2**40)),
        description=draw(st.none() | st.text(max_size=20)),
        events=tuple(draw(st.lists(st.sampled_from([EVENT, replace(EVENT, models=(), precision=None)]), max_size=3))),
        photograph=photograph,
    )
    if photograph is None:
        return record.ended(ItemError(draw(st.sampled_from(list(Reason))), "a sentence"))
    return replace(record, analysis=photograph.analysis, faces=tuple(replace(f, patch=None) for f in photograph.faces))


def same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and np.array_equal(one, other)


def assert_same_photograph(one: Photograph, other: Photograph) -> None:
    assert same(one.pixels, other.pixels)
    assert same(one.alpha, other.alpha)
    assert same(one.damage, other.damage)
    assert (one.item_id, one.container, one.analysis, one.scale, one.mask) == (
        other.item_id,
        other.container,
        other.analysis,
        other.scale,
        other.mask,
    )
    assert (one.proof is None) == (other.proof is None)
    if one.proof is not None and other.proof is not None:
        assert same(one.proof.samples, other.proof.samples)
        assert same(one.proof.deviation, other.proof.deviation)
        assert (one.proof.facts(), one.proof.sha256) == (other.proof.facts(), other.proof.sha256)
        assert other.proof.is_whole()
    assert len(one.faces) == len(other.faces)
    for mine, theirs in zip(one.faces, other.faces, strict=True):
        assert same(mine.patch, theirs.patch)
        assert replace(mine, patch=None) == replace(theirs, patch=None)


def over_the_wire(table: pa.Table) -> pa.Table:
    target = io.BytesIO()
    with pa.ipc.new_stream(target, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_stream(target.getvalue()).read_all()


def a_record(pixels: np.ndarray) -> Record:
    return Record(1, "item", "/scans/a.tif", photograph=Photograph("item", pixels, Container("TIFF")))
