"""The demo's collection. The demo itself is run with the other whole runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.demo import SPECIMENS, collect, demo_spec
from pipeline.codecs import decode
from pipeline.errors import ItemError, Reason
from pipeline.models.store import ModelSource, ModelStore


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    collect(tmp_path / "scans")
    return tmp_path / "scans"


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_scans_are_the_same_every_time(scans: Path, tmp_path: Path) -> None:
    collect(tmp_path / "again")
    assert digests(tmp_path / "again") == digests(scans)
    assert len(digests(scans)) == 4


def test_collecting_again_into_the_same_folder_changes_nothing(scans: Path) -> None:
    before = digests(scans)
    collect(scans)
    assert digests(scans) == before


@pytest.mark.parametrize("specimen", SPECIMENS, ids=lambda specimen: specimen.name)
def test_every_scan_is_a_small_photograph(scans: Path, specimen: object) -> None:
    name, side = specimen.name, specimen.side  # type: ignore[attr-defined]
    photograph = decode((scans / f"{name}.png").read_bytes(), "x", 10**6)
    assert photograph.pixels.shape == (side, side, 3)
    assert photograph.pixels.dtype == np.uint8
    assert photograph.container.dpi == pytest.approx((300, 300), abs=0.1)
    assert photograph.pixels.std() > 20


def test_ageing_shows(scans: Path) -> None:
    from importlib.resources import files

    specimen = SPECIMENS[0]
    left, top, size = specimen.crop
    with files(specimen.package).joinpath(specimen.path).open("rb") as file:
        new = Image.open(file).convert("RGB").crop((left, top, left + size, top + size)).resize((specimen.side,) * 2)
    old = np.asarray(Image.open(scans / f"{specimen.name}.png"), np.float64)
    assert np.asarray(new, np.float64).std() > 1.2 * old.std()
    assert old[..., 0].mean() > old[..., 2].mean()


def test_one_file_is_broken_on_purpose(scans: Path) -> None:
    with pytest.raises(ItemError) as caught:
        decode((scans / "half a file.jpg").read_bytes(), "x", 10**6)
    assert caught.value.reason is Reason.TRUNCATED


def test_the_spec_names_the_scans(scans: Path, tmp_path: Path, freeze: Callable[..., Any]) -> None:
    spec = demo_spec(tmp_path)
    assert (spec.collection.source, spec.output.uri) == (str(scans), str(tmp_path / "run"))
    assert (spec.output.format, spec.recipe.policy) == ("png", "conservation")
    assert len(freeze(spec).rows) == 4


def test_the_spec_asks_for_the_default_recipe(tmp_path: Path) -> None:
    names = [stage.name for stage in demo_spec(tmp_path).make_recipe().stages]
    assert names == ["analyse", "repair", "faces", "upscale", "compose", "colour"]


def test_the_demo_needs_no_download(tmp_path: Path) -> None:
    required = [need.model_id for need in demo_spec(tmp_path).make_recipe().needs() if need.required]
    assert required == ["albumen-damage", "realesrgan-x4plus-embedded"]
    shipped = ModelStore(ModelSource(cache=str(tmp_path / "empty")))
    assert all(map(shipped.installed, required))
