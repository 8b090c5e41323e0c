"""`albumen degrade`: sets of pairs that can be made again, from photographs that are only read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from jobs.degrade import Order, make_set
from pipeline.colour_space import as_srgb
from pipeline.damage.kinds import Kind
from pipeline.damage.mask import COLOURS
from pipeline.degradation import PRESETS
from pipeline.errors import SpecError
from pipeline.photograph import Container, Photograph

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """Three photographs in two folders: two of them with one name, one grey with 16 bits."""
    folder = tmp_path / "clean"
    (folder / "more").mkdir(parents=True)
    astronaut = Image.fromarray(skimage.data.astronaut()[80:200, 160:270])
    astronaut.save(folder / "one.png")
    astronaut.resize((96, 128)).save(folder / "more" / "two.jpg")
    grey = (np.asarray(skimage.data.camera()[:100, :140], np.uint16) * 257).astype(np.uint16)
    Image.fromarray(grey).save(folder / "more" / "one.tif")
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_set_has_pairs_truth_and_their_origin(clean: Path, tmp_path: Path, albumen: Call) -> None:
    before = digests(clean)
    code, out, err = albumen(
        "degrade", clean, "--output", tmp_path / "set", "--count", 2, "--preset", "heavy", "--json"
    )
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["photographs"], told["pairs"], told["refused"]) == (3, 6, [])
    assert digests(clean) == before
    assert len(lines(tmp_path / "set")) == 6
    damaged = 0
    for line in lines(tmp_path / "set"):
        assert line["source_sha256"] == before[str(line["source"])]
        size = (line["width"], line["height"])
        images = {name: Image.open(tmp_path / "set" / str(line[name])) for name in ("undamaged", "damaged", "kinds")}
        assert {image.size for image in images.values()} == {size}
        assert images["kinds"].mode == "P"
        codes = np.asarray(images["kinds"])
        counted = {kind.name.lower(): int((codes == kind).sum()) for kind in Kind if kind}
        assert counted == line["applied"]["pixels"]  # type: ignore[index]
        shown = np.asarray(images["kinds"].convert("RGB"))
        for kind in Kind:
            assert (shown[codes == kind] == COLOURS[kind]).all()
        change = np.abs(np.asarray(images["damaged"], np.int16) - np.asarray(images["undamaged"], np.int16)).max(axis=2)
        side = 2 * line["applied"]["reach"] + 1  # type: ignore[index]
        near = cv2.dilate((codes > 0).astype(np.uint8), np.ones((side, side), np.uint8))
        assert (change[near == 0] == 0).all()
        damaged += bool(change.max() > 20)
    assert damaged == 6
    said = json.loads((tmp_path / "set" / "set.json").read_text(encoding="utf-8"))
    assert said["settings"] == PRESETS["heavy"].model_dump(mode="json")
    assert said["shapes"] is None


def test_names_tell_files_apart(clean: Path, tmp_path: Path) -> None:
    make_set(Order(str(clean), tmp_path / "set"))
    names = sorted(path.name for path in (tmp_path / "set" / "damaged").iterdir())
    found = digests(clean)
    assert names == sorted(
        ["two-000.png", f"one-{found['one.png'][:8]}-000.png", f"one-{found['more/one.tif'][:8]}-000.png"]
    )


def test_a_set_can_be_made_again_and_another_seed_makes_another(clean: Path, tmp_path: Path) -> None:
    (clean / "one.png").unlink()
    (clean / "more" / "one.tif").unlink()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_set(Order(str(clean), tmp_path / name, seed=seed))
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert digests(tmp_path / "a") != digests(tmp_path / "c")


def test_a_pair_depends_on_the_bytes_and_not_on_name_or_place(clean: Path, tmp_path: Path) -> None:
    (clean / "more" / "one.tif").unlink()
    make_set(Order(str(clean), tmp_path / "all", seed=4))
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "zebra.jpeg").write_bytes((clean / "more" / "two.jpg").read_bytes())
    make_set(Order(str(tmp_path / "alone"), tmp_path / "set", seed=4))
    for folder in ("undamaged", "damaged", "kinds"):
        one, other = (tmp_path / "all" / folder / "two-000.png"), (tmp_path / "set" / folder / "zebra-000.png")
        assert one.read_bytes() == other.read_bytes()


def test_what_is_no_photograph_is_a_line_with_its_reason(clean: Path, tmp_path: Path, albumen: Call) -> None:
    (clean / "cut.png").write_bytes((clean / "one.png").read_bytes()[:900])
    (clean / "empty.jpg").touch()
    (clean / "letter.tif").write_text("Dear aunt", encoding="utf-8")
    (clean / "twin.png").write_bytes((clean / "one.png").read_bytes())
    (clean / "notes.txt").write_text("left out", encoding="utf-8")
    code, out, _ = albumen("degrade", clean, "--output", tmp_path / "set")
    assert code == 3
    refused = {line["source"]: line["reason"] for line in lines(tmp_path / "set") if "reason" in line}
    assert refused == {
        "cut.png": "truncated",
        "empty.jpg": "source-empty",
        "letter.tif": "not-an-image",
        "twin.png": "duplicate",
    }
    assert len(lines(tmp_path / "set")) == 7
    assert "Pairs     3 of 3 photographs" in out
    assert "not-an-image" in out
    assert "1 .txt" in out


def test_a_name_that_is_no_text_is_told_in_escapes(clean: Path, tmp_path: Path, albumen: Call) -> None:
    name = b"fa\xe7ade.png"
    (clean / "one.png").rename(Path(bytes(clean).decode()) / name.decode("utf-8", "surrogateescape"))
    code, out, _ = albumen("degrade", clean, "--output", tmp_path / "set", "--json")
    assert code == 0
    assert json.loads(out)["pairs"] == 3
    assert "fa\\udce7ade.png" in {line["source"] for line in lines(tmp_path / "set")}


def test_real_shapes_are_used_and_told(clean: Path, tmp_path: Path, albumen: Call, shared: Path) -> None:
    shapes = tmp_path / "shapes"
    for name in ("hair", "stain", "dirt"):
        (shapes / "masks" / name).mkdir(parents=True)
        for path in sorted((shared / "damage" / "masks" / name).glob("*.png"))[:6]:
            (shapes / "masks" / name / path.name).write_bytes(path.read_bytes())
    given = ("degrade", clean, "--preset", "heavy", "--shapes", shapes)
    assert albumen(*given, "--output", tmp_path / "all")[0] == 0
    assert albumen(*given, "--output", tmp_path / "half", "--part", 0, "--parts", 2)[0] == 0
    told = [json.loads((tmp_path / name / "set.json").read_text())["shapes"] for name in ("all", "half")]
    assert told[0]["shapes"] == 18
    assert 0 < told[1]["shapes"] < 18
    real = [entry["real"] for line in lines(tmp_path / "all") for entry in line["applied"]["damage"]]  # type: ignore[index]
    assert sum(real) > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--preset", "worse"), "no preset 'worse'"),
        (("--part", "2", "--parts", "2"), "part 2 of 2"),
        (("--count", "0"), "count"),
        (("--seed", "-1"), "seed"),
        (("--shapes", "nowhere"), "nowhere is no folder"),
    ],
)
def test_wrong_usage_writes_nothing(
    clean: Path, tmp_path: Path, albumen: Call, arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = albumen("degrade", clean, "--output", tmp_path / "set", *arguments)
    assert code == 2
    assert said in out + err
    assert not (tmp_path / "set").exists()


def test_folders_that_will_not_do_are_refused(clean: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.odt").touch()
    (tmp_path / "file").touch()
    (tmp_path / "bare").mkdir()
    for source, output, said in (
        (clean, full, "not empty"),
        (clean, tmp_path / "file", "no folder"),
        (clean, clean / "set", "only read"),
        (tmp_path / "nowhere", tmp_path / "set", "not there"),
        (tmp_path / "bare", tmp_path / "set", "holds no photographs"),
    ):
        with pytest.raises(SpecError, match=said):
            make_set(Order(str(source), output))
    assert digests(full) == {"thesis.odt": hashlib.sha256(b"").hexdigest()}
    assert not (tmp_path / "set").exists()


def test_photographs_become_srgb(profiles_wide: bytes) -> None:
    pixels = np.full((4, 5, 3), (200, 90, 90), np.uint8)
    plain = as_srgb(Photograph("a", pixels, Container("PNG")))
    wide = as_srgb(Photograph("a", pixels, Container("PNG", icc=profiles_wide)))
    grey = as_srgb(Photograph("a", np.full((4, 5, 1), 30000, np.uint16), Container("PNG")))
    assert np.allclose(plain * 255, pixels, atol=1e-3)
    # The same numbers mean a stronger red in a wider space.
    assert (wide[..., 0] > plain[..., 0] + 0.03).all()
    assert grey.shape == (4, 5, 3)
    assert np.allclose(grey, 30000 / 65535)


@pytest.fixture
def profiles_wide() -> bytes:
    import imagecodecs

    primaries = [0.64, 0.33, 1.0, 0.21, 0.71, 1.0, 0.15, 0.06, 1.0]
    return bytes(
        imagecodecs.cms_profile("rgb", whitepoint=(0.3127, 0.3290, 1.0), primaries=primaries, gamma=2.19921875)
    )
