from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from pipeline.damage import Found, Kind
from pipeline.models.store import ModelSource, ModelStore
from pipeline.photograph import Container, Photograph
from pipeline.policy import POLICIES
from pipeline.stage import Device, Step
from pipeline.stages.analyse import Analyse, AnalyseParameters

MOBILE = "retinaface-mobile0.25"
DAMAGE = "albumen-damage"


def analysed(pixels: NDArray[np.uint8], cache: Path, detector: str | None = MOBILE) -> Step:
    stage = Analyse(AnalyseParameters(detector=detector), POLICIES["conservation"])
    stage.open(ModelStore(ModelSource(cache=str(cache))), Device("cpu", 2))
    step = stage.restore([Photograph("item", pixels, Container("PNG"))])[0]
    assert isinstance(step, Step)
    return step


def scratched(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    drawn = cv2.GaussianBlur(pixels, (0, 0), 3)
    cv2.line(drawn, (30, 10), (60, 240), (255, 255, 255), 2)
    return drawn


def test_nothing_is_changed_and_everything_is_measured(real_photo: NDArray[np.uint8], tmp_path: Path) -> None:
    pixels = scratched(np.ascontiguousarray(real_photo[:256, :256]))
    copy = pixels.copy()
    step = analysed(pixels, tmp_path)
    assert step.photograph.pixels is pixels
    assert np.array_equal(pixels, copy)
    assert step.photograph.analysis is not None
    assert step.photograph.damage is not None
    assert step.photograph.analysis.damage_fraction == (step.photograph.damage > 0).mean() > 0
    findings = json.loads(json.dumps(dict(step.findings), allow_nan=False))
    assert findings["damage_fraction"] > 0
    line = findings["damage"]["line"]
    assert line["fraction"] == (step.photograph.damage == Kind.LINE).mean()
    assert 0.5 <= line["confidence"] <= 1
    assert (step.models, step.precision) == ((DAMAGE,), "fp32")
    assert sum(kind["fraction"] for kind in findings["damage"].values()) == pytest.approx(findings["damage_fraction"])


def test_the_classical_detector_can_be_asked_for(real_photo: NDArray[np.uint8], tmp_path: Path) -> None:
    parameters = AnalyseParameters(detector="none", damage="classical")
    assert Analyse.needs(parameters) == ()
    stage = Analyse(parameters, POLICIES["conservation"])
    stage.open(ModelStore(ModelSource(cache=str(tmp_path))), Device("cpu", 1))
    pixels = scratched(np.ascontiguousarray(real_photo[:256, :256]))
    [step] = stage.restore([Photograph("item", pixels, Container("PNG"))])
    assert isinstance(step, Step)
    assert (step.models, step.precision) == ((), None)
    assert step.findings["damage"]["line"]["confidence"] is None


def test_nothing_takes_the_place_of_a_network_that_was_not_opened(real_photo: NDArray[np.uint8]) -> None:
    stage = Analyse(AnalyseParameters(detector="none"), POLICIES["conservation"])
    with pytest.raises(AssertionError):
        stage.restore([Photograph("item", np.ascontiguousarray(real_photo[:64, :64]), Container("PNG"))])


def test_another_detector_answers_by_the_same_protocol(real_photo: NDArray[np.uint8]) -> None:
    class Certain:
        model_id = "certain"

        def find(self, photograph: Photograph) -> Found:
            kinds = np.zeros(photograph.pixels.shape[:2], np.uint8)
            kinds[:8], kinds[8:24] = Kind.MISSING, Kind.STAIN
            return Found(kinds, {Kind.MISSING: 0.75, Kind.STAIN: 0.5}, "half of it is in the shade")

    stage = Analyse(AnalyseParameters(detector="none"), POLICIES["conservation"])
    stage.damage = Certain()
    [step] = stage.restore([Photograph("item", np.ascontiguousarray(real_photo[:64, :64]), Container("PNG"))])
    assert isinstance(step, Step)
    assert step.findings["damage"] == {
        "stain": {"fraction": 0.25, "confidence": 0.5},
        "missing": {"fraction": 0.125, "confidence": 0.75},
    }
    assert step.findings["damage_note"] == "half of it is in the shade"
    assert step.findings["damage_fraction"] == 0.375
    assert step.models == ("certain",)


def test_without_a_detector_the_record_says_so(real_photo: NDArray[np.uint8], tmp_path: Path) -> None:
    for detector in (MOBILE, None):
        step = analysed(np.ascontiguousarray(real_photo[:64, :64]), tmp_path, detector)
        assert step.findings["face_count"] is None
        assert "not looked for" in step.findings["faces"]
        assert step.models == (DAMAGE,)


def test_faces_are_counted_where_there_is_a_detector(models: ModelStore) -> None:
    step = analysed(np.ascontiguousarray(skimage.data.astronaut()[:256, 100:356]), Path(models.source.cache))
    assert step.findings["face_count"] == len(step.photograph.faces) == 1
    assert step.models == (MOBILE, DAMAGE)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 3), (2, 2, 3), (7, 3, 1)])
def test_small_photographs_have_finite_measures(
    rng: np.random.Generator, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    step = analysed(rng.integers(0, 256, shape, dtype=np.uint8), tmp_path, None)
    json.dumps(dict(step.findings), allow_nan=False)
    assert step.photograph.damage is not None
    assert step.photograph.damage.shape == shape[:2]
