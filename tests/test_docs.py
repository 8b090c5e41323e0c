"""What the documents say is what the project does."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from jobs.cli import app
from jobs.spec import parse_spec
from pipeline.codecs import READABLE, SUFFIXES
from pipeline.photograph import Analysis
from pipeline.provenance import PROVENANCE
from pipeline.record import KEPT
from pipeline.stages import STAGES

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.toml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_a_job(example: Path) -> None:
    spec = parse_spec(tomllib.loads(example.read_text(encoding="utf-8")), example.parent)
    assert spec.make_recipe().stages


def test_every_column_of_provenance_is_documented() -> None:
    text = (ROOT / "docs" / "provenance.md").read_text(encoding="utf-8")
    words = set(re.findall(r"[a-z0-9_]+", text))
    events = [field.name for field in KEPT.field("events").type.value_type]
    faces = [field.name for field in KEPT.field("faces").type.value_type]
    for name in [*PROVENANCE.names, *events, *faces, *Analysis.__dataclass_fields__]:
        assert name in words, name


def test_every_parameter_of_every_stage_is_documented() -> None:
    text = (ROOT / "docs" / "job-spec.md").read_text(encoding="utf-8")
    for name, stage in STAGES.items():
        for parameter in stage.Parameters.model_fields:
            assert f"{name}.{parameter}" in text, f"{name}.{parameter}"


def test_every_suffix_and_format_is_documented() -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`(\.[a-z0-9]+)`", text))
    assert listed == READABLE
    _, out = text.split("## Out")
    assert set(re.findall(r"^\| ([a-z0-9]+) \|", out, re.MULTILINE)) - {"format"} == set(SUFFIXES)


def test_every_command_of_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    used = set(re.findall(r"^albumen ([a-z]+)", text, re.MULTILINE))
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert used
    assert used <= commands


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert script.splitlines()[-1] == "make test"
    assert re.search(r"^make test\b", readme, re.MULTILINE)


def test_the_lock_names_no_index_and_every_package_has_a_hash() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in lock
    packages = re.split(r"^(?=[A-Za-z])", lock, flags=re.MULTILINE)[1:]
    assert packages
    assert all("--hash=sha256:" in package for package in packages)


def modules_to_run() -> list[str]:
    texts = [ROOT / "README.md", ROOT / "Makefile", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    named = {name for path in texts for name in re.findall(r"python -m ([\w.]+)", path.read_text(encoding="utf-8"))}
    return sorted(name for name in named if name.split(".")[0] in {"pipeline", "jobs", "cluster", "tests"})


@pytest.mark.parametrize("module", modules_to_run())
def test_every_module_that_documents_run_can_be_imported(module: str) -> None:
    found = import_module(module)
    runs = import_module(f"{module}.__main__") if hasattr(found, "__path__") else found
    assert callable(runs.main)
