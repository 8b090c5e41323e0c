"""The command line: exit codes, messages, and JSON. Commands that need Ray are tested with the runs."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import cli, run, rundir
from jobs.rundir import Plan
from pipeline.models.catalogue import CARDS, by_id

Answer = tuple[int, str, str]
Call = Callable[..., Answer]

YUNET = by_id()["yunet-2023mar"]

JOB = """
[collection]
name = "albums"
source = "scans"

[output]
uri = "run"
format = "png"

[recipe]
stages = ["analyse", "repair", "colour"]
"""

pytestmark = pytest.mark.usefixtures("no_models")


@pytest.fixture
def job(tmp_path: Path, scans: Path) -> Path:
    """A job spec over four photographs."""
    (tmp_path / "job.toml").write_text(JOB, encoding="utf-8")
    return tmp_path / "job.toml"


@pytest.fixture
def mirror(shared: Path, tmp_path: Path) -> Path:
    """A folder that holds one small real model file under its published name."""
    source = shared / "weights" / YUNET.file
    if not source.is_file():
        pytest.skip(f"{source} is not there")
    (tmp_path / "mirror").mkdir()
    shutil.copy(source, tmp_path / "mirror" / YUNET.file)
    (tmp_path / "mirror" / YUNET.file).chmod(0o644)
    return tmp_path / "mirror"


def test_no_command_shows_help_and_is_wrong_usage(albumen: Call) -> None:
    code, out, err = albumen()
    assert code == 2
    assert "Commands:" in out + err


def test_no_command_of_models_shows_help_and_is_wrong_usage(albumen: Call) -> None:
    code, out, err = albumen("models")
    assert code == 2
    assert "fetch" in out + err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("restore",), "No such command 'restore'"),
        (("plan",), "Missing argument"),
        (("plan", "job.toml", "more"), "unexpected extra argument"),
        (("plan", "--fast", "job.toml"), "No such option"),
        (("models", "eat"), "No such command 'eat'"),
        (("models", "fetch"), "Missing argument"),
        (("submit", "job.toml"), "--address"),
    ],
)
def test_wrong_usage_is_one_message_and_code_2(
    albumen: Call, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    code, out, err = albumen(*arguments)
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--help",), "Restores photograph collections at archive scale."),
        (("plan", "--help"), "Freeze the manifest"),
        (("run", "--help"), "Start a job, or go on with it"),
        (("query", "--help"), "Ask the provenance of runs, in SQL or by a question's name"),
        (("models", "--help"), "List, fetch and check models."),
    ],
)
def test_help_is_no_error(albumen: Call, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = albumen(*arguments)
    assert (code, err) == (0, "")
    assert said in out


def test_help_names_every_command(albumen: Call) -> None:
    _, out, _ = albumen("--help")
    for command in (
        "demo",
        "plan",
        "calibrate",
        "run",
        "submit",
        "status",
        "logs",
        "stop",
        "query",
        "verify",
        "models",
    ):
        assert f"\n  {command} " in out


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_bad_spec_is_code_2_and_writes_nothing(albumen: Call, job: Path, command: str) -> None:
    job.write_text(JOB + 'policy = "wild"\nsharpen = {}\n', encoding="utf-8")
    before = sorted(job.parent.rglob("*"))
    code, out, err = albumen(command, job)
    assert (code, out) == (2, "")
    assert err.startswith("albumen: 2 faults:\n  - recipe.policy: there is no policy 'wild'")
    assert "recipe.sharpen: unknown key" in err
    assert not (job.parent / "run").exists()
    assert sorted(job.parent.rglob("*")) == before


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_source_that_is_not_there_is_code_2_and_writes_nothing(
    albumen: Call, job: Path, scans: Path, command: str
) -> None:
    shutil.rmtree(scans)
    code, _, err = albumen(command, job)
    assert code == 2
    assert err == f"albumen: collection.source: {scans} is not there\n"
    assert not (job.parent / "run").exists()


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_spec_that_is_not_there_is_code_2(albumen: Call, tmp_path: Path, command: str) -> None:
    code, out, err = albumen(command, tmp_path / "none.toml")
    assert (code, out, err) == (2, "", f"albumen: {tmp_path / 'none.toml'}: No such file or directory\n")


def test_a_missing_required_model_is_code_1_and_says_how_to_get_it(albumen: Call, job: Path) -> None:
    job.write_text(JOB.replace('"colour"]', '"faces"]\nfaces.required = true'), encoding="utf-8")
    code, _, err = albumen("plan", job)
    assert code == 1
    assert "albumen models fetch gfpgan-v1.4" in err
    assert not (job.parent / "run").exists()


def test_plan_says_what_will_happen(albumen: Call, job: Path, scans: Path) -> None:
    (scans / "notes.txt").touch()
    code, out, err = albumen("plan", job)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"Run       {job.parent / 'run'}  (new)"
    assert "policy conservation" in lines[1]
    assert lines[2].startswith("Source    4 photographs, 0.0 MB")
    assert "Left out  1 .txt" in lines
    assert "Model     retinaface-resnet50  MIT  not installed: its stage does without and records it" in lines
    assert any(line.startswith("Pool      ingest+analyse+repair+colour+deliver  ") for line in lines)
    assert any(line.startswith("Foreseen  nothing: the recipe was not calibrated") for line in lines)
    assert lines[-1] == f"  albumen run {job}"


def test_plan_names_refused_entries(albumen: Call, job: Path) -> None:
    (job.parent / "list.csv").write_text("source_uri\nscans/a.png\nscans/a.png\n")
    job.write_text(JOB.replace('"scans"', '"list.csv"'))
    _, out, _ = albumen("plan", job)
    assert "Refused   1 entries while listing" in out


def test_plan_twice_is_planned_before(albumen: Call, job: Path) -> None:
    albumen("plan", job)
    code, out, _ = albumen("plan", job)
    assert code == 0
    assert out.startswith(f"Run       {job.parent / 'run'}  (planned before)")


def test_plan_in_json(albumen: Call, job: Path) -> None:
    code, out, err = albumen("plan", job, "--json")
    assert (code, err) == (0, "")
    answer = json.loads(out)
    assert answer["run"] == str(job.parent / "run")
    assert (answer["photographs"], answer["refused"], answer["ignored"]) == (4, 0, {})
    detector = {"id": "retinaface-resnet50", "required": False, "sha256": None, "licence": "MIT"}
    card = next(card for card in CARDS if card.id == "albumen-damage")
    damage = {"id": card.id, "required": True, "sha256": card.sha256, "licence": card.licence}
    assert answer["models"] == [model | {"commercial_use": "allowed"} for model in (detector, damage)]
    assert answer["pools"] == ["ingest+analyse+repair+colour+deliver"]
    assert [pool["name"] for pool in answer["layout"]["pools"]] == answer["pools"]
    assert answer["foreseen"] is None
    assert json.loads(albumen("plan", job, "--json")[1]) == answer


def test_plan_in_a_folder_of_another_job_is_code_1(albumen: Call, job: Path) -> None:
    albumen("plan", job)
    job.write_text(JOB.replace("albums", "plates"), encoding="utf-8")
    code, out, err = albumen("plan", job)
    assert (code, out) == (1, "")
    assert "the collection was 'albums'" in err
    assert "Choose another [output] uri" in err


@pytest.mark.parametrize("command", ["query", "verify"])
def test_no_run_there_is_code_1(albumen: Call, tmp_path: Path, command: str) -> None:
    code, out, err = albumen(command, tmp_path)
    assert (code, out) == (1, "")
    assert err.startswith(f"albumen: {tmp_path} is no run of Albumen: there is no run.json in it")


@pytest.mark.parametrize("command", ["query", "verify"])
def test_an_unknown_scheme_is_code_1(albumen: Call, command: str) -> None:
    code, _, err = albumen(command, "foo://bucket/run")
    assert code == 1
    assert "foo" in err


@pytest.mark.parametrize("command", ["query", "verify"])
def test_the_home_of_nobody_is_no_run(albumen: Call, command: str) -> None:
    code, _, err = albumen(command, "~no-such-user-here/run")
    assert code in (1, 2)
    assert "no-such-user-here" in err


def test_query_without_sql_is_a_summary(albumen: Call, finished: Plan) -> None:
    code, out, err = albumen("query", finished.run)
    assert (code, err) == (0, "")
    for word in ("Photographs", "Stages", "Models", "truncated", "deliver", "gfpgan-v1.4", "Ask more:"):
        assert word in out


def test_query_in_json_is_a_summary(albumen: Call, finished: Plan) -> None:
    code, out, _ = albumen("query", finished.run, "--json")
    answer = json.loads(out)
    assert (code, set(answer)) == (0, {"photographs", "stages", "models"})
    assert {"status": "restored", "reason": "", "photographs": 2} in answer["photographs"]


def test_query_answers_sql(albumen: Call, finished: Plan) -> None:
    code, out, _ = albumen("query", finished.run, "SELECT status, count(*) AS n FROM photographs GROUP BY 1 ORDER BY 1")
    assert code == 0
    assert [line.split() for line in out.splitlines() if line.strip()] == [
        ["status", "n"],
        ["failed", "1"],
        ["refused", "1"],
        ["restored", "2"],
    ]


def test_query_answers_sql_in_json(albumen: Call, finished: Plan) -> None:
    code, out, _ = albumen("query", finished.run, "SELECT * FROM photographs ORDER BY item_no", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["status"] for row in rows] == ["restored", "restored", "refused", "failed"]
    assert [event["stage"] for event in rows[0]["events"]] == ["ingest", "repair", "colour", "deliver"]


def test_query_with_wrong_sql_is_code_2(albumen: Call, finished: Plan) -> None:
    code, out, err = albumen("query", finished.run, "SELECT nothing")
    assert (code, out) == (2, "")
    assert err.startswith("albumen: query: Binder Error")
    assert err.endswith("Views: photographs, events, faces, damage, honesty, manifest, runs.\n")


@pytest.mark.parametrize("name", ["Blatt [/b] 3.png", "Blatt [bold]3.png", "[red]"])
def test_query_prints_names_with_brackets_as_they_are(albumen: Call, finished: Plan, name: str) -> None:
    code, out, _ = albumen("query", finished.run, f"SELECT '{name}' AS name")
    assert code == 0
    assert name in out


def test_query_prints_two_columns_of_one_name(albumen: Call, finished: Plan) -> None:
    _, out, _ = albumen("query", finished.run, "SELECT 'one' AS x, 'two' AS x")
    assert "one" in out
    assert "two" in out


def test_verify_of_a_sound_run_is_code_0(albumen: Call, finished: Plan) -> None:
    code, out, err = albumen("verify", finished.run)
    assert (code, out, err) == (0, "4 photographs, 2 outputs hashed, 1 masks hashed, 4 maps hashed: no fault\n", "")


def test_verify_of_the_sources_says_so(albumen: Call, finished: Plan) -> None:
    code, out, _ = albumen("verify", finished.run, "--sources")
    assert (code, out) == (
        0,
        "4 photographs, 2 outputs hashed, 1 masks hashed, 4 maps hashed, 4 sources hashed: no fault\n",
    )


def test_verify_of_a_damaged_run_is_code_1_and_names_every_fault(albumen: Call, finished: Plan) -> None:
    one, two = sorted(Path(finished.run, "images").rglob("*.png"))
    one.unlink()
    two.write_bytes(b"other")
    code, out, err = albumen("verify", finished.run)
    assert (code, err) == (1, "")
    assert f"lost        {one}: " in out
    assert f"altered     {two}: " in out
    assert out.endswith("4 photographs, 2 outputs hashed, 1 masks hashed, 4 maps hashed: 2 faults\n")


def test_verify_in_json(albumen: Call, finished: Plan) -> None:
    code, out, _ = albumen("verify", finished.run, "--json")
    assert (code, json.loads(out)["faults"]) == (0, [])
    Path(finished.run, "images", "x.png").touch()
    code, out, _ = albumen("verify", finished.run, "--json")
    assert (code, [fault["kind"] for fault in json.loads(out)["faults"]]) == (1, ["unexplained"])


def test_models_list(albumen: Call, no_models: Path) -> None:
    code, out, err = albumen("models", "list")
    assert (code, err) == (0, "")
    for card in CARDS:
        assert card.id in out
    assert f"Cache: {no_models}" in out


def test_models_list_in_json(albumen: Call) -> None:
    code, out, _ = albumen("models", "list", "--json")
    rows = {row["id"]: row for row in json.loads(out)}
    assert code == 0
    assert list(rows) == [card.id for card in CARDS]
    assert rows["yunet-2023mar"]["sha256"] == YUNET.sha256
    assert {name for name, row in rows.items() if row["installed"]} == {card.id for card in CARDS if card.embedded}


def test_models_fetch_of_an_unknown_model(albumen: Call) -> None:
    code, out, err = albumen("models", "fetch", "unknown")
    assert (code, out) == (1, "")
    assert err.startswith("albumen: there is no model 'unknown' in the catalogue\nknown models: ")
    assert "yunet-2023mar" in err


def test_models_fetch_with_one_unknown_name_fetches_none(albumen: Call, mirror: Path, no_models: Path) -> None:
    code, _, _ = albumen("models", "fetch", YUNET.id, "unknown", "--mirror", mirror)
    assert code == 1
    assert not no_models.exists()


def test_models_fetch_from_a_mirror(albumen: Call, mirror: Path, no_models: Path) -> None:
    code, out, _ = albumen("models", "fetch", YUNET.id, "--mirror", mirror)
    assert code == 0
    assert out == f"{YUNET.id}  {no_models / YUNET.file}\n"
    assert hashlib.sha256((no_models / YUNET.file).read_bytes()).hexdigest() == YUNET.sha256
    rows = json.loads(albumen("models", "list", "--json")[1])
    assert [row["installed"] for row in rows if row["id"] == YUNET.id] == [True]


def test_models_fetch_goes_on_where_it_stopped(albumen: Call, mirror: Path, no_models: Path) -> None:
    no_models.mkdir()
    (no_models / f"{YUNET.file}.part").write_bytes((mirror / YUNET.file).read_bytes()[:1000])
    code, _, _ = albumen("models", "fetch", YUNET.id, "--mirror", mirror)
    assert code == 0
    assert [path.name for path in no_models.iterdir()] == [YUNET.file]


def test_models_fetch_from_a_mirror_that_lacks_it(albumen: Call, tmp_path: Path, no_models: Path) -> None:
    code, out, err = albumen("models", "fetch", YUNET.id, "--mirror", tmp_path)
    assert (code, out) == (1, "")
    assert f"cannot fetch {tmp_path / YUNET.file}" in err
    assert not (no_models / YUNET.file).exists()


def test_models_fetch_of_an_altered_file(albumen: Call, mirror: Path, no_models: Path) -> None:
    (mirror / YUNET.file).write_bytes(bytes(YUNET.bytes or 0))
    code, _, err = albumen("models", "fetch", YUNET.id, "--mirror", mirror)
    assert code == 1
    assert "is not the published file" in err
    assert not (no_models / YUNET.file).exists()


def test_models_check_of_right_files(albumen: Call, mirror: Path) -> None:
    albumen("models", "fetch", YUNET.id, "--mirror", mirror)
    code, out, err = albumen("models", "check")
    assert (code, err) == (0, "")
    assert {line.split()[0]: line.split()[1] for line in out.splitlines()}[YUNET.id] == "right"


def test_models_check_of_an_altered_file_is_code_1(albumen: Call, no_models: Path) -> None:
    no_models.mkdir()
    (no_models / YUNET.file).write_bytes(bytes(YUNET.bytes or 0))
    code, out, _ = albumen("models", "check")
    assert code == 1
    assert f"{no_models / YUNET.file} is not the published file" in out
    code, out, _ = albumen("models", "check", "--json")
    assert (code, list(json.loads(out)["faults"])) == (1, [YUNET.id])


def test_demo_leaves_a_folder_of_other_things_alone(albumen: Call, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").touch()
    code, _, err = albumen("demo", "--output", tmp_path / "mine")
    assert code == 1
    assert "is not empty and holds no demo" in err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_demo_into_a_file_is_one_message(albumen: Call, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, err = albumen("demo", "--output", tmp_path / "file")
    assert code in (1, 2)
    assert str(tmp_path / "file") in err


def test_an_interrupt_is_code_130(albumen: Call, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(spec: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rundir, "prepare", interrupt)
    assert albumen("plan", job)[0] == 130


def test_an_interrupted_run_says_how_to_go_on(albumen: Call, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(plan: object, watch: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "execute", interrupt)
    code, out, err = albumen("run", job)
    assert (code, out) == (130, "")
    assert err.endswith("Stopped. Run the same command again to go on.\n")


def test_a_run_that_is_asked_to_end_stops_as_for_an_interrupt(
    albumen: Call, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(plan: object, watch: object, **options: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(run, "execute", asked)
    before = signal.getsignal(signal.SIGTERM)
    assert albumen("run", job)[0] == 130
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_that_was_finished_before_is_not_started_again(albumen: Call, job: Path, finished: Plan) -> None:
    code, out, err = albumen("run", job)
    assert code == 3
    assert err == f"4 photographs from {job.parent / 'scans'}\n"
    assert "Nothing was missing: the 4 photographs listed when it was planned are done." in out
    assert f"albumen verify {finished.run}" in out


def test_a_finished_run_in_json(albumen: Call, job: Path, finished: Plan) -> None:
    code, out, err = albumen("run", job, "--json")
    answer = json.loads(out)
    assert (code, answer["exit_code"], err) == (3, 3, "")
    assert (answer["restored"], answer["refused"], answer["failed"], answer["worked_on"]) == (2, 1, 1, 0)


def test_a_command_that_succeeds_ends_with_code_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["albumen", "models", "list", "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
