from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipeline.codecs import decode
from pipeline.errors import ItemError
from pipeline.guard.headers import measure
from tests.hostile.bombs import bombs
from tests.hostile.builders import tiff
from tests.hostile.seeds import by_tifffile, seeds


@pytest.mark.parametrize("name", seeds())
def test_no_photograph_is_larger_than_its_header_says(name: str) -> None:
    try:
        found = decode(seeds()[name], "item", 10**7)
    except ItemError:
        return
    size = measure(seeds()[name])
    assert size is not None
    assert found.width * found.height <= size.pixels
    planes = found.pixels.shape[2] + (found.alpha is not None)
    assert planes * found.pixels.dtype.itemsize <= size.stored or name == "tiff-palette.tif"


def test_the_largest_page_counts() -> None:
    data = seeds()["tiff-pages.tif"]
    size = measure(data)
    assert size is not None
    assert (size.width, size.height, size.depth) == (48, 40, 8)


def test_a_page_of_sixteen_bits_is_measured() -> None:
    size = measure(by_tifffile(np.zeros((5, 7, 4), np.uint16)))
    assert size is not None
    assert (size.width, size.height, size.stored) == (7, 5, 8)


def test_directories_in_a_ring_come_to_an_end() -> None:
    assert measure(tiff({}, bytes(100), following=-1)) is not None


def test_what_has_no_header_has_no_size() -> None:
    for data in (b"", b"a letter", b"II*\x00", b"\x00\x00\x00\x18ftypheic"):
        assert measure(data) is None


def test_bombs_are_measured_and_not_unfolded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as in the child
    sizes = {name: measure(data) for name, data in bombs() if "of-one-pixel" not in name}
    size = sizes["bomb/png-60000x60000.png"]
    assert size is not None
    assert size.pixels == 3_600_000_000
