from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.tiles import Array, Tiling, cut, ramps, run_in_memory, run_tiled, spans, windows

sizes = st.tuples(st.integers(1, 700), st.integers(8, 200), st.integers(0, 60)).filter(lambda s: s[1] > 2 * s[2])


def doubled(tiles: Array) -> Array:
    """A network that misses nothing: nearest neighbour, twice as large."""
    return np.repeat(np.repeat(tiles, 2, axis=2), 2, axis=3)


def blurred(radius: int) -> object:
    """A network that sees `radius` pixels far and takes what it does not see for black."""

    def network(tiles: Array) -> Array:
        side = 2 * radius + 1
        planes = [
            [cv2.blur(np.ascontiguousarray(p), (side, side), borderType=cv2.BORDER_CONSTANT) for p in tile]
            for tile in tiles
        ]
        return np.array(planes, np.float32)

    return network


def image(height: int, width: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random((height, width, 3), np.float32)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(size=sizes)
def test_tiles_cover_everything_and_stay_inside(size: tuple[int, int, int]) -> None:
    length, tile, halo = size
    found = spans(length, tile, halo)
    assert found[0][0] == 0
    assert found[-1][1] == length
    assert {end - start for start, end in found} == {min(tile, length)}
    for (start, end), (following, _) in pairwise(found):
        assert start < following
        assert end - following >= 2 * halo


@settings(max_examples=300, deadline=None, derandomize=True)
@given(size=sizes)
def test_a_side_is_cut_into_no_more_tiles_than_the_largest_ask_for_and_no_larger_ones_than_needed(
    size: tuple[int, int, int],
) -> None:
    length, tile, halo = size
    found, largest = cut(length, tile, halo), spans(length, tile, halo)
    side = found[0][1]
    assert len(found) <= len(largest)
    assert {end - start for start, end in found} == {side}
    assert (found[0][0], found[-1][1]) == (0, length)
    assert all(end - following >= 2 * halo for (_, end), (following, _) in pairwise(found))
    assert side <= tile
    # One grain less would not reach from end to end; a side that was not rounded is that of the largest tile.
    if len(found) > 1:
        assert side == tile or side % 8 == 0
        assert len(found) * (side - 8) - (len(found) - 1) * 2 * halo < length


@pytest.mark.parametrize(("length", "most"), [(257, 1.40), (300, 1.26), (316, 1.25), (1000, 1.35), (3651, 1.34)])
def test_little_is_computed_twice(length: int, most: float) -> None:
    """Of a square of `length`, by tiles of at most 256 with halos of 16, whose overlaps alone are (256 / 224) ** 2 = 1.31."""
    found = cut(length, 256, 16)
    assert (len(found) * found[0][1] / length) ** 2 <= most


@settings(max_examples=300, deadline=None, derandomize=True)
@given(size=sizes, scale=st.sampled_from([1, 2, 4]))
def test_the_weights_of_a_pixel_sum_to_one(size: tuple[int, int, int], scale: int) -> None:
    length, tile, halo = size
    found = spans(length, tile, halo)
    total = np.zeros(length * scale)
    for (start, end), ramp in zip(found, ramps(found, scale), strict=True):
        assert ramp.shape == ((end - start) * scale,)
        assert (ramp >= 0).all()
        total[start * scale : end * scale] += ramp
    assert np.abs(total - 1).max() < 1e-6


@pytest.mark.parametrize("halo", [0, 4, 15, 31])
@pytest.mark.parametrize("length", [63, 64, 65, 126, 127, 128, 129, 130, 192])
def test_the_weights_sum_to_one_where_three_tiles_meet(length: int, halo: int) -> None:
    found = spans(length, 64, halo)
    total = np.zeros(length * 4)
    for (start, end), ramp in zip(found, ramps(found, 4), strict=True):
        total[start * 4 : end * 4] += ramp
    assert np.abs(total - 1).max() < 1e-6


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_outer_half_of_a_halo_does_not_count(scale: int) -> None:
    found = spans(300, 64, 8)
    for index, ramp in enumerate(ramps(found, scale)):
        if index > 0:
            assert not ramp[: 4 * scale].any()
        if index < len(found) - 1:
            assert not ramp[len(ramp) - 4 * scale :].any()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    tile=st.integers(16, 80),
    halo=st.integers(0, 12),
    batch=st.integers(1, 9),
)
def test_tiles_leave_no_seam(height: int, width: int, tile: int, halo: int, batch: int) -> None:
    assume(tile > 2 * halo)
    given_image = image(height, width, height * 1000 + width)
    found = run_tiled(doubled, given_image, 2, Tiling(tile, halo, batch))
    assert found.dtype == np.float32
    expected = np.repeat(np.repeat(given_image, 2, axis=0), 2, axis=1)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-6


@pytest.mark.parametrize("size", [(60, 90), (97, 150), (128, 33)])
def test_a_network_that_sees_half_a_halo_does_not_notice_tiles(size: tuple[int, int]) -> None:
    given_image, network = image(*size), blurred(4)
    whole = run_tiled(network, given_image, 1, Tiling(1000, 8))  # type: ignore[arg-type]
    tiled = run_tiled(network, given_image, 1, Tiling(48, 8))  # type: ignore[arg-type]
    assert np.abs(whole - tiled).max() < 1e-5


def test_without_a_halo_the_same_network_leaves_seams() -> None:
    """The test above can fail."""
    given_image, network = image(96, 144), blurred(4)
    whole = run_tiled(network, given_image, 1, Tiling(1000, 0))  # type: ignore[arg-type]
    tiled = run_tiled(network, given_image, 1, Tiling(48, 0))  # type: ignore[arg-type]
    assert np.abs(whole - tiled).max() > 0.05


def test_any_batch_gives_the_same_bytes() -> None:
    given_image, network = image(130, 170), blurred(5)
    answers = {run_tiled(network, given_image, 1, Tiling(48, 8, batch)).tobytes() for batch in (1, 4, 16)}  # type: ignore[arg-type]
    assert len(answers) == 1


def test_all_tiles_have_one_shape_and_full_batches() -> None:
    seen: list[tuple[int, ...]] = []

    def network(tiles: Array) -> Array:
        seen.append(tiles.shape)
        return tiles

    run_tiled(network, image(100, 130), 1, Tiling(48, 8, 4))
    assert {shape[1:] for shape in seen} == {(3, 48, 48)}
    assert all(shape[0] == 4 for shape in seen[:-1])


@pytest.mark.parametrize(("tile", "halo", "batch"), [(32, 16, 1), (32, 40, 1), (32, -1, 1), (32, 8, 0)])
def test_a_tiling_that_cannot_work_is_refused(tile: int, halo: int, batch: int) -> None:
    with pytest.raises(ValueError, match="tile of 32"):
        Tiling(tile, halo, batch)


class Cramped:
    """A network with memory for `most` samples at a time, and a count of its calls."""

    def __init__(self, most: int, error: Exception) -> None:
        self.most, self.error = most, error
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, tiles: Array) -> Array:
        self.seen.append(tiles.shape)
        if tiles.size > self.most:
            raise self.error
        return doubled(tiles)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate"), RuntimeError("can't allocate memory")],
)
def test_short_memory_halves_the_batch_and_then_the_tile_and_changes_no_pixel(error: Exception) -> None:
    picture = image(300, 420)
    network = Cramped(3 * 70 * 70, error)
    result, used = run_in_memory(network, picture, 2, Tiling(tile=256, halo=8, batch=4))
    assert (used.tile, used.batch) == (64, 1)
    assert [shape[0] for shape in network.seen[:3]] == [4, 2, 1]
    # Cross-fading of equal values may round; nothing else may differ.
    assert np.abs(result - run_tiled(doubled, picture, 2, Tiling(tile=512))).max() < 1e-6


def test_enough_memory_changes_nothing() -> None:
    picture, tiling = image(100, 300), Tiling(tile=96, halo=8, batch=3)
    result, used = run_in_memory(doubled, picture, 2, tiling)
    assert used == tiling
    assert np.array_equal(result, run_tiled(doubled, picture, 2, tiling))


@pytest.mark.parametrize("error", [MemoryError("none left"), RuntimeError("out of memory")])
def test_where_the_smallest_tile_does_not_fit_the_error_stays(error: Exception) -> None:
    network = Cramped(10, error)
    with pytest.raises(type(error)):
        run_in_memory(network, image(300, 300), 2, Tiling(tile=256, halo=16, batch=2))
    assert network.seen[-1][2] == 64


def test_other_errors_are_not_tried_again() -> None:
    network = Cramped(10, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        run_in_memory(network, image(300, 300), 2, Tiling(tile=256, halo=16, batch=4))
    assert len(network.seen) == 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    tiling=st.tuples(st.integers(12, 80), st.integers(0, 20)).filter(lambda t: t[0] > 2 * t[1] + 1),
)
def test_windows_count_every_pixel_once_and_see_all_around_it(size: tuple[int, int], tiling: tuple[int, int]) -> None:
    (height, width), (tile, halo) = size, tiling
    places = np.arange(height * width).reshape(size)
    counted = np.full(size, -1)
    for around, inner, window in windows(height, width, tile, halo):
        assert (counted[window] == -1).all()
        counted[window] = places[around][inner]
        for seen, own, side in zip(around, window, size, strict=True):
            assert (seen.start, seen.stop) == (max(0, own.start - halo), min(side, own.stop + halo))
            assert seen.stop - seen.start <= tile
    assert np.array_equal(counted, places)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    height=st.integers(8, 150),
    width=st.integers(8, 150),
    tile=st.integers(8, 64),
    halo=st.integers(0, 20),
)
def test_each_tile_counts_by_its_weights(height: int, width: int, tile: int, halo: int) -> None:
    """Also where three tiles meet, and where one is alone, whose values are copied and not added up."""
    assume(tile > 2 * halo)
    numbers = iter(range(10_000))
    given_image = image(height, width)
    answers: list[Array] = []

    def different(tiles: Array) -> Array:
        answers.append(doubled(tiles) + np.float32(next(numbers)))
        return answers[-1]

    found = run_tiled(different, given_image, 2, Tiling(tile, halo, batch=1))
    rows, columns = cut(height, tile, halo), cut(width, tile, halo)
    down, across = ramps(rows, 2), ramps(columns, 2)
    expected = np.zeros_like(found)
    for number, answer in enumerate(answers):
        r, c = divmod(number, len(columns))
        top, left = 2 * rows[r][0], 2 * columns[c][0]
        weight = np.outer(down[r], across[c])[..., None]
        expected[top : top + len(weight), left : left + weight.shape[1]] += answer[0].transpose(1, 2, 0) * weight
    assert np.array_equal(found, expected)
