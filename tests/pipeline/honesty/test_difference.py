from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from pipeline.honesty import difference
from pipeline.honesty.difference import delta_e, stage_difference
from pipeline.photograph import Container, Photograph, widened


def of(pixels: np.ndarray, **others: object) -> Photograph:
    return Photograph("item", np.ascontiguousarray(pixels), Container("PNG"), **others)  # type: ignore[arg-type]


def test_it_is_what_scikit_image_says_of_every_pixel(real_photo: np.ndarray) -> None:
    one, other = real_photo[:64, :80], real_photo[10:74, 20:100]
    expected = deltaE_ciede2000(rgb2lab(one), rgb2lab(other))
    found = stage_difference(of(one), of(other))
    assert found == pytest.approx((expected.mean(), expected.max()), rel=2e-3)


def test_pairs_of_the_paper() -> None:
    """Sharma, Wu and Dalal 2005, table 1, pairs 1, 7 and 25."""
    one = np.array([[[50, 2.6772, -79.7751], [50, 0, 0], [60.2574, -34.0099, 36.2677]]], np.float32)
    other = np.array([[[50, 0, -82.7485], [50, -1, 2], [60.4626, -34.1751, 39.4387]]], np.float32)
    assert delta_e(one, other) == pytest.approx(np.array([[2.0425, 2.3669, 1.2644]]), abs=2e-4)


def test_nothing_changed_is_exactly_nothing(real_photo: np.ndarray) -> None:
    assert stage_difference(of(real_photo), of(real_photo.copy())) == (0.0, 0.0)
    assert stage_difference(of(real_photo), of(widened(real_photo))) == (0.0, 0.0)


def test_an_enlargement_is_averaged_down(real_photo: np.ndarray) -> None:
    small = real_photo[:50, :70]
    large = np.repeat(np.repeat(small, 4, axis=0), 4, axis=1)
    found = stage_difference(of(small), of(large, scale=4))
    assert found == pytest.approx((0.0, 0.0), abs=0.01)


@pytest.mark.parametrize("shape", [(9, 20), (20, 41), (5, 5)])
def test_shapes_that_do_not_follow_from_each_other_have_none(shape: tuple[int, int]) -> None:
    before, after = np.zeros((10, 20, 1), np.uint8), np.zeros((*shape, 1), np.uint8)
    assert stage_difference(of(before), of(after)) is None


def test_large_photographs_are_compared_on_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difference, "EVENT_PIXELS", 25)
    before = np.full((10, 10, 1), 100, np.uint8)
    after = before.copy()
    after[0, 0] = 140
    one = stage_difference(of(before), of(after))
    assert one is not None
    after[0:2, 0:2] = 110
    assert one == pytest.approx(stage_difference(of(before), of(after)), abs=1e-6)


def test_grey_and_colour_are_comparable(real_photo: np.ndarray) -> None:
    grey = real_photo[:20, :20, :1]
    assert stage_difference(of(grey), of(np.repeat(grey, 3, axis=2))) == pytest.approx((0, 0), abs=1e-3)


def test_it_is_measured_in_the_photographs_own_space(real_photo: np.ndarray, profiles: dict[str, bytes]) -> None:
    one, other = of(real_photo[:40, :40]), of(real_photo[40:80, :40])
    wide = [replace(p, container=Container("PNG", icc=profiles["adobe"])) for p in (one, other)]
    plain, found = stage_difference(one, other), stage_difference(*wide)
    assert plain is not None
    assert found is not None
    assert found[0] > plain[0]
