"""Job specs, source folders and finished runs made by hand. Nothing here starts Ray."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from jobs import cli, lease, manifest
from jobs.rundir import Plan, prepare
from jobs.spec import JobSpec, parse_spec
from pipeline import provenance
from pipeline.damage import REPAIRED, Kind, mask_png
from pipeline.errors import Status
from pipeline.honesty.row import Honesty, Measures
from pipeline.photograph import Analysis, Decision, Face, Likeness
from pipeline.record import MANIFEST, Event, Record, from_manifest
from pipeline.stages.deliver import edits_uri, image_uri, invented_uri, mask_uri
from pipeline.storage import Store

Answer = tuple[int, str, str]


@dataclass(frozen=True)
class Frozen:
    """A source as the manifest holds it. rows: of MANIFEST. ignored: what was left out, by suffix."""

    rows: list[dict[str, Any]]
    ignored: Counter[str]


def _pending(plan: Plan, retry_below: int | None = None) -> pa.Table:
    store = Store(plan.spec.output_options)
    done = np.zeros(plan.photographs, np.bool_)
    done[provenance.committed_numbers(store, plan.run, retry_below)] = True
    return pa.concat_tables([MANIFEST.empty_table(), *manifest.pending(store, plan.run, done)])


@pytest.fixture
def pending() -> Callable[..., pa.Table]:
    """Rows of a plan's manifest that no provenance row answers; retry_below: as `committed_numbers` understands it."""
    return _pending


@pytest.fixture
def freeze() -> Callable[[JobSpec], Frozen]:
    """The source of a spec as rows of MANIFEST, without a run."""

    def look(spec: JobSpec) -> Frozen:
        ignored: Counter[str] = Counter()
        tables = manifest.tables(spec, manifest.survey(spec), ignored)
        return Frozen([row for table in tables for row in table.to_pylist()], ignored)

    return look


@pytest.fixture
def no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty model cache, so that no test depends on what this machine has installed."""
    monkeypatch.setenv("ALBUMEN_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def scan() -> Callable[..., bytes]:
    """Makes a small PNG; another seed makes another."""

    def make(seed: int = 0, mode: str = "RGB", size: tuple[int, int] = (24, 16)) -> bytes:
        rng = np.random.default_rng(seed)
        shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
        kind = np.uint16 if mode == "I;16" else np.uint8
        target = io.BytesIO()
        Image.fromarray(rng.integers(0, np.iinfo(kind).max, shape).astype(kind)).save(target, "PNG")
        return target.getvalue()

    return make


@pytest.fixture
def scans(tmp_path: Path, scan: Callable[..., bytes]) -> Path:
    """A source of four photographs: a.png, b.png, c.png, d.png."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed, name in enumerate("abcd"):
        (folder / f"{name}.png").write_bytes(scan(seed))
    return folder


@pytest.fixture
def spec_data() -> dict[str, Any]:
    """The smallest spec that runs without a model."""
    return {
        "collection": {"name": "albums", "source": "scans"},
        "output": {"uri": "run", "format": "png"},
        "recipe": {"stages": ["analyse", "repair", "colour"]},
    }


@pytest.fixture
def make_spec(tmp_path: Path, spec_data: dict[str, Any], no_models: Path) -> Callable[..., JobSpec]:
    """Parses the smallest spec with the given sections laid over it, relative to the test's folder."""

    def make(base: Path = tmp_path, **sections: dict[str, Any]) -> JobSpec:
        data = {**spec_data}
        for name, section in sections.items():
            data[name] = data.get(name, {}) | section
        return parse_spec(data, base)

    return make


@pytest.fixture
def albumen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Runs the command line in this process: exit code, standard output, standard error. A traceback fails the test."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["albumen", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return call


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of the machine may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="albumen-test-"))
    folder.chmod(0o755)
    yield folder
    rmtree(folder)


# As analyse and repair record it.
DAMAGE = json.dumps(
    {
        "damage": {
            "line": {"fraction": 0.0625, "confidence": 0.9},
            "stain": {"fraction": 0.02, "confidence": None},
        },
        "repaired": {"line": 0.0625},
        "left": {"stain": {"areas": 1, "fraction": 0.02, "reason": "there is no method for stains"}},
    }
)


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _event(stage: str, given: str | None, kept: str | None, **others: Any) -> Event:
    facts: dict[str, Any] = {
        "version": "1",
        "outcome": "applied",
        "reason": None,
        "parameters": "{}",
        "models": (),
        "changed_fraction": 0.25,
        "seconds": 0.5,
        "device": "cpu",
        "precision": None,
        "findings": "{}",
    }
    return Event(stage=stage, input_sha256=given, output_sha256=kept, **(facts | others))


def _face(left: float) -> Face:
    box = (left, 2.0, left + 8.0, 12.0)
    return Face(
        box=box,
        landmarks=tuple(map(float, range(10))),
        score=0.75,
        strength=0.5,
        model_id="gfpgan-v1.4",
        detector="yunet-2023mar",
        model_sha256="e" * 64,
        likeness=Likeness("sface-2021dec", 0.875, 0.0625),
        decision=Decision.RESTORED,
        mask_kind="parsenet",
        mask=b"png",
    )


def _honesty(risk: float) -> Honesty:
    """Measures of a photograph that nothing was enlarged of."""
    values: dict[str, Any] = dict.fromkeys((field.name for field in fields(Measures)), 0.5)
    return Honesty(Measures(**(values | {"step": 1, "unsupported_peak": None, "psnr": 40.0})), risk)


def _restored(record: Record, run: str, store: Store, output: bytes, faces: int, mask: bytes | None = None) -> Record:
    uri = image_uri(run, record.item_id, "png")
    store.put(uri, output)
    source = _sha(store.read(record.source_uri))
    first, second, last = (_sha(f"{step} {record.item_no}".encode()) for step in ("decoded", "repaired", "coloured"))
    if mask is not None:
        where = mask_uri(run, record.item_id)
        store.put(where, mask)
        record = replace(record, mask_uri=where, mask_sha256=_sha(mask))
    maps = [f"the map of {what} of {record.item_no}".encode() for what in ("edits", "invented")]
    wheres = [edits_uri(run, record.item_id), invented_uri(run, record.item_id)]
    for where, data in zip(wheres, maps, strict=True):
        store.put(where, data)
    record = replace(record, honesty=_honesty(0.25 + record.item_no / 2))
    record = replace(record, edits_uri=wheres[0], edits_sha256=_sha(maps[0]))
    record = replace(record, invented_uri=wheres[1], invented_sha256=_sha(maps[1]))
    model = {"id": "gfpgan-v1.4", "sha256": "e" * 64, "licence": "Apache-2.0"}
    return replace(
        record,
        status=Status.RESTORED,
        source_sha256=source,
        source_format="PNG",
        analysis=Analysis(*[0.5] * 12, tone="coloured", face_count=faces),
        faces=tuple(_face(float(number)) for number in range(faces)),
        events=(
            _event("ingest", source, first),
            _event("repair", first, second, models=(model,), findings="{}" if mask is None else DAMAGE),
            _event("colour", second, last, outcome="skipped", reason="nothing to do"),
            _event("deliver", last, _sha(output)),
        ),
        output_uri=uri,
        output_sha256=_sha(output),
        output_bytes=len(output),
    )


def _ended(record: Record, reason: str, status: Status, store: Store) -> Record:
    source = _sha(store.read(record.source_uri))
    event = _event("ingest", source, None, outcome=str(status), reason=reason)
    text = f"{record.source_uri} went wrong"
    return replace(record, status=status, reason=reason, detail=text, source_sha256=source, events=(event,))


def _mask() -> bytes:
    codes = np.zeros((12, 16), np.uint8)
    codes[3, 2:14], codes[8:10, 5:7] = Kind.LINE | REPAIRED, Kind.STAIN
    data = mask_png(codes)
    assert data is not None
    return data


@pytest.fixture
def finished(scans: Path, scan: Callable[..., bytes], make_spec: Callable[..., JobSpec]) -> Plan:
    """A run at its end, without Ray: a.png and b.png restored (1 and 2 faces; of a.png there is a mask), c.png refused, d.png
    failed. In term 2, since
    the plan was made in term 1; in two loose commits."""
    plan = prepare(make_spec())
    store = Store()
    records = from_manifest(_pending(plan))
    done = [
        _restored(records[0], plan.run, store, scan(10, size=(48, 32)), 1, _mask()),
        _restored(records[1], plan.run, store, scan(11, size=(48, 32)), 2),
        _ended(records[2], "truncated", Status.REFUSED, store),
        _ended(records[3], "stage-failed", Status.FAILED, store),
    ]
    with lease.hold(store, plan.run, "run") as held:
        provenance.commit(store, plan.run, plan.stamp(held.term), done[:3])
        provenance.commit(store, plan.run, plan.stamp(held.term), done[3:])
    return plan
