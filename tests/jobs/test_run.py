"""Whole runs on one embedded Ray: real photographs, hostile files, dying workers."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jobs.query import ask, open_run
from jobs.run import Summary, execute
from jobs.rundir import Plan, prepare
from jobs.spec import parse_spec
from jobs.verify import verify
from pipeline.codecs import decode
from pipeline.errors import JobError
from pipeline.recipe import DEFAULT_STAGES

pytestmark = pytest.mark.cluster

FAST = ["analyse", "repair", "colour"]


def run(folder: Path, **sections: Any) -> tuple[Plan, Summary]:
    spec: dict[str, Any] = {
        "collection": {"name": "test", "source": str(folder / "scans")},
        "output": {"uri": str(folder / "run"), "format": "png"},
        "recipe": {"stages": FAST},
        "cluster": {"cpus": 2},
    }
    for name, section in sections.items():
        spec[name] = spec.get(name, {}) | section
    plan = prepare(parse_spec(spec, folder))
    return plan, execute(plan, lambda counts, total: None)


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def lasting(run: Path) -> dict[str, str]:
    """Digests of all that a run holds, but for leases and seals, of which every driver writes its own."""
    files = [path for path in run.rglob("*") if path.is_file()]
    names = {str(path.relative_to(run)): path for path in files}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if not name.startswith(("lease/", "provenance/seals/"))
    }


def rows(plan: Plan, sql: str) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = ask(open_run(plan.run), sql).to_pylist()
    return answer


def compact(shared: Path) -> dict[str, Any]:
    """The compact Real-ESRGAN network as a model of the job's own: real weights, ten times faster than the embedded."""
    file = shared / "weights" / "realesr-general-x4v3.fp16derived.pth"
    return {
        "id": "compact-x4",
        "file": str(file),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "architecture": "srvggnet-compact",
        "task": "upscale",
        "licence": "BSD-3-Clause",
        "scale": 4,
    }


def cut_out(photographs: Path, scans: Path, width: int, height: int) -> None:
    """The middle of each photograph, at most so large: networks take their time by the pixel."""
    scans.mkdir()
    for path in sorted(photographs.glob("*.png")):
        with Image.open(path) as image:
            left, top = max(image.width - width, 0) // 2, max(image.height - height, 0) // 2
            image.crop((left, top, min(left + width, image.width), min(top + height, image.height))).save(
                scans / path.name
            )


def test_six_damaged_photographs_come_out_four_times_larger(tmp_path: Path, shared: Path, ray_session: None) -> None:
    # One of them fits into one tile, the others do not.
    cut_out(shared / "photos" / "damaged", tmp_path / "scans", 200, 288)
    before = digests(tmp_path / "scans")
    plan, summary = run(
        tmp_path,
        recipe={
            "stages": ["analyse", "repair", "faces", "upscale", "compose", "colour"],
            "upscale": {"model": "compact-x4", "tile": 256},
        },
        models={"local": [compact(shared)], "cache": str(tmp_path / "cache")},
    )
    assert (summary.restored, summary.photographs, summary.exit_code) == (6, 6, 0)
    assert digests(tmp_path / "scans") == before
    assert verify(plan.run, sources=True).faults == ()
    for row in rows(plan, "SELECT * FROM photographs"):
        source = Image.open(row["source_uri"])
        with Image.open(row["output_uri"]) as output:
            assert output.size == (source.width * 4, source.height * 4)
            assert output.mode == source.mode
        assert [event["stage"] for event in row["events"]] == [
            "ingest", "analyse", "repair", "faces", "upscale", "compose", "colour", "deliver",
        ]  # fmt: skip
    faces = rows(plan, "SELECT DISTINCT outcome, reason FROM events WHERE stage = 'faces'")
    assert faces == [{"outcome": "skipped", "reason": "not installed: retinaface-resnet50, gfpgan-v1.4"}]
    for stage, model in (("upscale", "compact-x4"), ("analyse", "albumen-damage")):
        used = rows(plan, f"SELECT DISTINCT models[1].id AS id, precision FROM events WHERE stage = '{stage}'")
        assert used == [{"id": model, "precision": "fp32"}]


def test_every_bad_file_is_a_typed_refusal_and_the_rest_is_restored(
    tmp_path: Path, photo: Callable[[int], bytes], ray_session: None
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    good = photo(64)
    (scans / "good.png").write_bytes(good)
    (scans / "Überbelichtung – été 1931.png").write_bytes(photo(48))
    (scans / "with spaces .png").write_bytes(photo(40))
    (scans / "empty.jpg").write_bytes(b"")
    (scans / "letter.jpg").write_text("Dear Sir or Madam", encoding="utf-8")
    Image.open(tmp_path / "scans" / "good.png").save(scans / "cut.jpg")
    (scans / "cut.jpg").write_bytes((scans / "cut.jpg").read_bytes()[:900])
    Image.new("1", (20_000, 20_000)).save(scans / "bomb.png")
    (scans / "folder.png").mkdir()
    (tmp_path / "list.csv").write_text(
        "source_uri,box\n"
        + "".join(
            f"scans/{name},{number}\n"
            for number, name in enumerate(
                [
                    "good.png", "Überbelichtung – été 1931.png", "with spaces .png", "empty.jpg", "letter.jpg", "cut.jpg",
                    "bomb.png", "missing.png", "folder.png", "good.png",
                ]
            )
        ),
        encoding="utf-8",
    )  # fmt: skip
    # The recipe that everybody has who asks for no other, and so the network that comes with us.
    plan, summary = run(
        tmp_path,
        collection={"source": str(tmp_path / "list.csv")},
        recipe={"stages": list(DEFAULT_STAGES)},
        models={"cache": str(tmp_path / "cache")},
    )
    assert summary.exit_code == 3
    found = {
        (Path(row["source_uri"]).name, row["item_no"]): (row["status"], row["reason"])
        for row in rows(plan, "SELECT * FROM photographs")
    }
    assert found == {
        ("good.png", 0): ("restored", None),
        ("Überbelichtung – été 1931.png", 1): ("restored", None),
        ("with spaces .png", 2): ("restored", None),
        ("empty.jpg", 3): ("refused", "source-empty"),
        ("letter.jpg", 4): ("refused", "not-an-image"),
        ("cut.jpg", 5): ("refused", "truncated"),
        ("bomb.png", 6): ("refused", "too-large"),
        ("missing.png", 7): ("refused", "source-missing"),
        ("folder.png", 8): ("refused", "source-unreadable"),
        ("good.png", 9): ("refused", "duplicate"),
    }
    upscaled = rows(plan, "SELECT DISTINCT models[1].id AS id FROM events WHERE stage = 'upscale'")
    assert upscaled == [{"id": "realesrgan-x4plus-embedded"}]
    assert rows(plan, "SELECT description FROM photographs WHERE item_no = 4") == [{"description": '{"box": "4"}'}]
    assert verify(plan.run, sources=True).faults == ()

    # The same spec again: nothing is read, nothing is restored, no Ray is asked.
    for scan in scans.glob("*.png"):
        if scan.is_file():
            scan.unlink()
    before = lasting(tmp_path / "run")
    again = execute(prepare(plan.spec), _never)
    assert (again.worked_on, again.restored) == (0, 3)
    assert lasting(tmp_path / "run") == before


def _never(counts: object, total: int) -> None:
    raise AssertionError("a finished run must not start anything")


def test_a_sixteen_bit_grey_scan_stays_one(tmp_path: Path, ray_session: None) -> None:
    import numpy as np
    import tifffile

    (tmp_path / "scans").mkdir()
    ramp = np.linspace(2000, 60000, 96 * 128).reshape(96, 128).astype(np.uint16)
    tifffile.imwrite(tmp_path / "scans" / "ramp.tif", ramp, resolution=(600, 600), resolutionunit="INCH")
    plan, summary = run(tmp_path, output={"format": "tiff"}, recipe={"stages": []})
    assert summary.exit_code == 0
    [row] = rows(plan, "SELECT * FROM photographs")
    delivered = decode(Path(row["output_uri"]).read_bytes(), "", 10**9)
    assert np.array_equal(delivered.pixels[..., 0], ramp)
    assert delivered.container.dpi == (600, 600)


def test_a_photograph_that_kills_its_worker_is_quarantined_alone(
    tmp_path: Path, photo: Callable[[int], bytes], ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that makes the decoder end the process, as a broken codec does; its neighbours are restored."""
    (tmp_path / "scans").mkdir()
    for number in range(4):
        (tmp_path / "scans" / f"{number}.png").write_bytes(photo(32 + number))
    (tmp_path / "scans" / "2.png").write_bytes(b"KILL")
    monkeypatch.setattr("pipeline.runtime.StageActor", _Fragile)
    plan, summary = run(tmp_path, recipe={"analyse": {"damage": "classical"}})
    assert (summary.restored, summary.failed, summary.exit_code) == (3, 1, 3)
    [row] = rows(plan, "SELECT source_uri, reason, detail FROM photographs WHERE status = 'failed'")
    assert row["source_uri"].endswith("2.png")
    assert row["reason"] == "worker-died"
    assert "3 tries" in row["detail"]
    assert verify(plan.run).faults == ()


def test_a_model_that_changed_since_the_plan_stops_the_run_in_our_words(
    tmp_path: Path, photo: Callable[[int], bytes], shared: Path, ray_session: None
) -> None:
    """Found in the actor, on whatever node it is; what the user reads is the sentence and not Ray's."""
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "one.png").write_bytes(photo(32))
    # The smallest model there is: none of the large libraries is needed to see that it is another.
    file = Path(shutil.copy(shared / "weights" / "face_detection_yunet_2023mar.onnx", tmp_path / "faces.onnx"))
    model = {
        "id": "mine",
        "file": str(file),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "architecture": "yunet",
        "task": "detect-faces",
        "licence": "MIT",
    }
    spec = {
        "collection": {"name": "test", "source": str(tmp_path / "scans")},
        "output": {"uri": str(tmp_path / "run")},
        "recipe": {"stages": ["analyse"], "analyse": {"detector": "mine", "damage": "classical"}},
        "models": {"local": [model]},
    }
    plan = prepare(parse_spec(spec, tmp_path))
    file.write_bytes(b"something else")
    with pytest.raises(JobError, match=r"faces\.onnx is not the published file") as caught:
        execute(plan, lambda counts, total: None)
    assert "ray" not in str(caught.value).lower()


def _make_fragile() -> type:
    from pipeline.worker import StageActor

    class Fragile(StageActor):
        """The real actor, but a source that reads KILL ends the process."""

        def __call__(self, table: Any) -> Any:
            if "ingest" in self.pool.stages:
                for uri in table["source_uri"].to_pylist():
                    if Path(uri).read_bytes() == b"KILL":
                        import os

                        os._exit(139)
            return super().__call__(table)

    return Fragile


_Fragile = _make_fragile()
