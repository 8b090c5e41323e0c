"""Files that operators copy: parsed, held against schemas where there are any, and against what the code says."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from jobs.ending import stop_seconds
from pipeline.metrics import METRICS
from pipeline.software import LOCK_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
KUBERAY = sorted((CLUSTER / "kuberay").glob("*.yaml"))
RAY_UP = sorted((CLUSTER / "ray-up").glob("*.yaml"))
# Fields of KubeRay's API (ray.io/v1, reference of v1.6.2 in Ray's documentation): a misspelt one would be dropped in silence.
_CLUSTER = {
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec",
    "headServiceAnnotations", "managedBy", "networkPolicy", "rayVersion", "suspend", "upgradeStrategy", "workerGroupSpecs",
}  # fmt: skip
_AUTOSCALER = {
    "env", "envFrom", "idleTimeoutSeconds", "image", "imagePullPolicy", "resources", "securityContext", "upscalingMode",
    "version", "volumeMounts",
}  # fmt: skip
_HEAD = {"enableIngress", "headService", "labels", "rayStartParams", "resources", "serviceType", "template"}
_WORKERS = {
    "groupName", "idleTimeoutSeconds", "labels", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams", "replicas",
    "resources", "scaleStrategy", "suspend", "template",
}  # fmt: skip
_JOB = {
    "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint", "entrypointNumCpus",
    "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata", "preRunningDeadlineSeconds",
    "rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes", "submissionMode", "submitterConfig",
    "submitterPodTemplate", "suspend", "ttlSecondsAfterFinished",
}  # fmt: skip


def locked(package: str) -> str:
    found = re.search(rf"^{package}(?:\[.*?\])?==(\S+)", (ROOT / "requirements.lock").read_text(), re.M)
    assert found is not None
    return found[1]


def one(path: Path) -> dict[str, Any]:
    [document] = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def clusters() -> Iterator[Any]:
    for path in KUBERAY:
        spec = one(path)["spec"]
        yield pytest.param(spec.get("rayClusterSpec", spec), id=path.stem)


@pytest.mark.parametrize("path", RAY_UP, ids=lambda path: path.stem)
def test_ray_takes_the_files_of_ray_up(path: Path) -> None:
    """As `ray up` does before it asks any machine: defaults, then Ray's own schema."""
    config = prepare_config(one(path))
    validate_config(config)
    assert config["head_node_type"] in config["available_node_types"]
    text = path.read_text(encoding="utf-8")
    assert "RAY_AUTH_MODE=token" in text
    assert config["file_mounts"]["/home/albumen/.ray/auth_token"].endswith("/.ray/auth_token")


def test_rented_machines_go_to_none() -> None:
    config = prepare_config(one(CLUSTER / "ray-up" / "aws.yaml"))
    kinds = config["available_node_types"]
    assert kinds["head"]["resources"] == {"CPU": 0}
    assert [kinds[name]["min_workers"] for name in ("cpu", "gpu")] == [0, 0]
    assert kinds["gpu"]["resources"]["GPU"] == 1
    assert sum(kinds[name]["max_workers"] for name in ("cpu", "gpu")) <= config["max_workers"]


@pytest.mark.parametrize("spec", list(clusters()))
def test_kuberays_fields_are_its_own(spec: dict[str, Any]) -> None:
    assert set(spec) <= _CLUSTER
    assert set(spec["autoscalerOptions"]) <= _AUTOSCALER
    assert set(spec["headGroupSpec"]) <= _HEAD
    assert all(set(group) <= _WORKERS for group in spec["workerGroupSpecs"])
    assert spec["authOptions"] == {"mode": "token"}
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    assert all(isinstance(value, str) for group in groups for value in group["rayStartParams"].values())


@pytest.mark.parametrize("spec", list(clusters()))
def test_kuberay_grows_with_the_work_and_goes_to_none(spec: dict[str, Any]) -> None:
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["idleTimeoutSeconds"] > 0
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in spec["workerGroupSpecs"]:
        assert (group["minReplicas"], group["replicas"]) == (0, 0)
        assert group["maxReplicas"] > 0
    assert len({group["groupName"] for group in spec["workerGroupSpecs"]}) == len(spec["workerGroupSpecs"])


@pytest.mark.parametrize("spec", list(clusters()))
def test_pods_of_kuberay_are_not_root_and_hold_together(spec: dict[str, Any]) -> None:
    assert spec["rayVersion"] == locked("ray")
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        [container] = pod["containers"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert container["envFrom"] == [{"secretRef": {"name": "albumen-store"}}]
        for variable in container.get("env", []):
            assert "valueFrom" in variable or "KEY" not in variable["name"]
        asked, most = container["resources"]["requests"], container["resources"]["limits"]
        assert asked["memory"] == most["memory"]
        # Only the group for GPUs asks for one, and only its image looks for a driver.
        wants_gpu = "nvidia.com/gpu" in most
        assert wants_gpu == container["image"].endswith("-cuda")


def test_the_job_of_kuberay_is_one_that_goes_on() -> None:
    document = one(CLUSTER / "kuberay" / "rayjob.yaml")
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", "RayJob")
    spec = document["spec"]
    assert set(spec) <= _JOB
    assert spec["backoffLimit"] > 0
    variables = yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]
    assert float(variables["ALBUMEN_STOP_SECONDS"]) == stop_seconds()
    assert float(variables["RAY_JOB_STOP_WAIT_TIME_S"]) > stop_seconds()
    [mount] = [
        mount
        for mount in spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"]
        if mount["name"] == "job"
    ]
    assert f"{mount['mountPath']}/job.toml" in spec["entrypoint"]


@pytest.mark.parametrize(("code", "ended"), [(0, 0), (3, 0), (1, 1), (2, 1), (130, 1)])
def test_a_run_with_refused_photographs_is_not_tried_again(code: int, ended: int, tmp_path: Path) -> None:
    program = tmp_path / "albumen"
    program.write_text(f"#!/bin/sh\nexit {code}\n")
    program.chmod(0o755)
    entrypoint = one(CLUSTER / "kuberay" / "rayjob.yaml")["spec"]["entrypoint"]
    done = subprocess.run(entrypoint, shell=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False)  # noqa: S602
    assert done.returncode == ended


def test_the_image_is_built_from_the_lock_and_does_not_run_as_root() -> None:
    text = (CLUSTER / "image" / "Containerfile").read_text(encoding="utf-8")
    stages = re.findall(r"^FROM \S+ AS (\w+)$", text, re.M)
    assert stages == ["build", "cpu", "cuda"]
    assert re.search(r"^USER 1000:1000$", text, re.M)
    assert "cluster/image/install.sh /opt/albumen" in text
    for line in ("RAY_USAGE_STATS_ENABLED=0", "PIP_NO_INDEX=1", "UV_OFFLINE=1"):
        assert line in text
    for copied in re.findall(r"/src/(\S+)", text):
        assert (ROOT / copied.split(" ")[0]).exists()
    install = (CLUSTER / "image" / "install.sh").read_text(encoding="utf-8")
    assert "--require-hashes" in install
    assert LOCK_VARIABLE in (CLUSTER / "image" / "entrypoint.sh").read_text(encoding="utf-8")


def test_the_image_gets_everything_that_the_build_reads() -> None:
    kept = set(re.findall(r"^!(\S+?)(?:/\*\*)?$", (ROOT / ".containerignore").read_text(), re.M))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    named = {project["project"]["readme"], *project["project"]["license-files"]}
    assert packages | named | {"pyproject.toml", "requirements.lock", "Makefile"} == kept


def test_the_unit_of_one_node() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read(CLUSTER / "one-node" / "albumen@.service")
    service = unit["Service"]
    assert service["ExecStart"] == "/opt/albumen/bin/albumen run /etc/albumen/%i.toml"
    assert service["SuccessExitStatus"].split() == ["3", "130"]
    assert (service["Restart"], service["KillMode"]) == ("on-failure", "mixed")
    assert float(service["TimeoutStopSec"]) > stop_seconds()


@pytest.mark.parametrize("script", sorted((CLUSTER / "image").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_parse(script: Path) -> None:
    subprocess.run(["sh", "-n", script], check=True)  # noqa: S607
    assert script.stat().st_mode & 0o111


def test_no_file_holds_a_credential_or_a_registry() -> None:
    for path in sorted(path for path in CLUSTER.rglob("*") if path.suffix not in {".py", ".pyc"} and path.is_file()):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"AKIA[0-9A-Z]{16}|PRIVATE KEY|(SECRET_ACCESS_KEY|AUTH_TOKEN)=[^$.\s]", text), path
        assert not re.search(r"pypi\.|pythonhosted|files\.python", text), path


def dashboard_queries() -> list[str]:
    board = json.loads((CLUSTER / "monitoring" / "grafana-dashboard.json").read_text(encoding="utf-8"))
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def test_every_query_of_the_dashboard_asks_for_a_metric_that_is_there_and_every_metric_is_shown() -> None:
    names = {metric.exported: metric for metric in METRICS}
    asked = set()
    for query in dashboard_queries():
        for name, labels in re.findall(r"(ray_\w+)\{([^}]*)\}", query):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            metric = names[name] if name in names else names[base]
            assert (name == base) == (metric.kind != "histogram")
            asked.add(metric.exported)
            assert set(re.findall(r"(\w+)\s*(?:=~|!=|=)", labels)) <= set(metric.tags)
            grouped = {tag for tags in re.findall(r"by \(([^)]*)\)", query) for tag in tags.split(", ")}
            assert grouped <= {*metric.tags, "le"}
        assert query.count("(") == query.count(")")
    assert asked == set(names)


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    board = json.loads((CLUSTER / "monitoring" / "grafana-dashboard.json").read_text(encoding="utf-8"))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.fixture
def prefix(tmp_path: Path) -> Iterator[Path]:
    """A place for gigabytes, of which pytest would keep the last three."""
    yield tmp_path / "albumen"
    shutil.rmtree(tmp_path / "albumen", ignore_errors=True)


def test_the_images_install_steps_end_in_a_program(prefix: Path) -> None:
    """What the container files run, without a container engine: from the lock, with hashes, into an empty place."""
    done = subprocess.run([CLUSTER / "image" / "install.sh", prefix], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    where = "import pipeline; print(pipeline.__file__)"
    found = subprocess.run(
        [prefix / "bin" / "python", "-c", where], cwd=prefix.parent, check=True, capture_output=True, text=True
    )
    assert str(prefix) in found.stdout
    listed = subprocess.run([prefix / "bin" / "albumen", "models", "list", "--json"], check=True, capture_output=True)
    assert {"realesrgan-x4plus-embedded"} <= {row["id"] for row in json.loads(listed.stdout) if row["installed"]}
