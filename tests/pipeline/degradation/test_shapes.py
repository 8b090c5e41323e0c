"""The library of real shapes: read, split, placed."""

from __future__ import annotations

import gzip
import math
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.degradation import Shapes
from pipeline.degradation.shapes import Placing, PolygonShape
from pipeline.errors import JobError


def test_a_folder_is_read_by_class(library: Shapes) -> None:
    assert {"hair", "stain", "polygon-dust", "polygon-long-hair"} <= set(library.classes)
    assert len(library.classes["hair"]) == 8
    assert len(library) == 9 * 8 + 40


def test_no_library_has_no_shape(rng: np.random.Generator) -> None:
    assert len(Shapes.none()) == 0
    assert Shapes.none().pick(rng, ("hair",)) is None
    assert Shapes.none().digests() == frozenset()


@pytest.mark.parametrize("share", [0.0, 0.25, 0.8, 1.0])
def test_split_gives_two_disjoint_libraries(library: Shapes, share: float) -> None:
    first, second = library.split(3, share)
    assert not first.digests() & second.digests()
    assert first.digests() | second.digests() == library.digests()
    assert len(first) + len(second) == len(library)
    assert abs(len(first) / len(library) - share) < 0.15


def test_split_depends_on_the_seed_and_on_nothing_else_of_the_folder(shape_folder: Path, tmp_path: Path) -> None:
    whole = Shapes.load(shape_folder)
    shutil.copytree(shape_folder / "masks" / "hair", tmp_path / "masks" / "hair")
    some = Shapes.load(tmp_path)
    for seed in range(3):
        assert some.split(seed, 0.5)[0].digests() == whole.split(seed, 0.5)[0].digests() & some.digests()
    assert whole.split(0, 0.5)[0].digests() != whole.split(1, 0.5)[0].digests()


def test_equal_shapes_of_two_classes_stay_together(shape_folder: Path, tmp_path: Path) -> None:
    for name in ("hair", "lint"):
        shutil.copytree(shape_folder / "masks" / "hair", tmp_path / "masks" / name)
    for seed in range(4):
        first, second = Shapes.load(tmp_path).split(seed, 0.5)
        assert not first.digests() & second.digests()


def test_parts_are_disjoint_and_make_the_whole(shape_folder: Path, library: Shapes) -> None:
    parts = [Shapes.load(shape_folder, part=number, of=3) for number in range(3)]
    assert sum(map(len, parts)) == len(library)
    assert frozenset().union(*(part.digests() for part in parts)) == library.digests()
    with pytest.raises(ValueError, match="part 3 of 3"):
        Shapes.load(shape_folder, part=3, of=3)


def test_a_library_can_be_sent_to_another_process(library: Shapes) -> None:
    assert pickle.loads(pickle.dumps(library)).digests() == library.digests()  # noqa: S301


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("masks/hair/broken.png", b"no image"),
        ("polygons/broken.json.gz", b"no gzip"),
        ("polygons/broken.json.gz", gzip.compress(b"[1, 2]")),
        ("polygons/broken.json.gz", gzip.compress(b'{"0": {"points": [{"x": 1}]}}')),
        ("polygons/cut.json.gz", gzip.compress(b'{"0": {}}')[:-9]),
    ],
)
def test_files_that_hold_no_shapes_are_named(tmp_path: Path, path: str, content: bytes) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(content)
    with pytest.raises(JobError, match=Path(path).name):
        Shapes.load(tmp_path)


def test_a_folder_without_shapes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="holds no shapes"):
        Shapes.load(tmp_path)


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(-50, 150),
    y=st.floats(-50, 150),
    scale=st.floats(0.05, 4),
    angle=st.floats(0, 7),
    mirrored=st.booleans(),
)
def test_shapes_lie_where_they_are_placed(x: float, y: float, scale: float, angle: float, mirrored: bool) -> None:
    square = PolygonShape(np.array([(0, 0), (20, 0), (20, 20), (0, 20)], np.float32))
    patch = square.place(Placing((x, y), scale, angle, mirrored), (100, 100))
    rows, columns = patch.window
    assert rows.start >= 0
    assert columns.start >= 0
    assert rows.stop <= 100
    assert columns.stop <= 100
    assert patch.alpha.shape == (rows.stop - rows.start, columns.stop - columns.start)
    assert patch.alpha.min(initial=0) >= 0
    assert patch.alpha.max(initial=0) <= 1
    reach = 15 * scale + 2
    if reach < x < 100 - reach and reach < y < 100 - reach and scale > 0.2:
        # Cutting the corners twice takes 3/32 of a square's area.
        assert patch.alpha.sum() == pytest.approx((20 * scale) ** 2 * 29 / 32, rel=0.25, abs=3)
        ys, xs = np.mgrid[rows, columns] + 0.5
        assert (patch.alpha * xs).sum() / patch.alpha.sum() == pytest.approx(x, abs=0.6)
        assert (patch.alpha * ys).sum() / patch.alpha.sum() == pytest.approx(y, abs=0.6)


def test_masks_keep_their_area(library: Shapes) -> None:
    for shape in library.classes["stain"]:
        placed = shape.place(Placing((150, 150), 1.7, math.pi / 5, mirrored=True), (300, 300))
        whole = shape.place(Placing((60, 60), 1.0, 0.0, mirrored=False), (120, 120))
        assert placed.alpha.sum() == pytest.approx(whole.alpha.sum() * 1.7**2, rel=0.03)


def test_the_real_library_splits(shared: Path) -> None:
    shapes = Shapes.load(shared / "damage", part=0, of=20)
    train, held_out = shapes.split(0, 0.8)
    assert len(shapes) > 300
    assert not train.digests() & held_out.digests()
