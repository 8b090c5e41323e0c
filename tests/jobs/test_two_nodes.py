"""A head and two nodes in processes and, where the machine allows it, network namespaces of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.attempts import Attempts
from jobs.standing import standing
from jobs.verify import verify
from pipeline.storage import Store

pytestmark = [pytest.mark.cluster, pytest.mark.audit, pytest.mark.timeout(1200)]

RAY = str(Path(sys.executable).parent / "ray")
FOLDER = Path("/tmp") / f"albumen-two-{os.getpid()}"
TOKEN = f"{os.getpid():064x}"
NETWORK = "10.213.47"
VARIABLES = os.environ | {
    "PATH": str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"],
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
SPEC = """
[collection]
name = "two nodes"
source = "scans"
[output]
uri = "run"
format = "png"
[recipe]
stages = ["analyse", "repair", "colour"]
[recipe.analyse]
damage = "classical"
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)  # noqa: S607


@dataclass
class Machine:
    """A namespace with an address of its own, or this machine where none can be made. Every process is of one group."""

    name: str
    address: str
    process: subprocess.Popen[bytes] | None = None

    def command(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *words]

    def start(self, *words: str, alone: bool = False) -> None:
        """alone: with a Ray folder of its own under the common name, as machines have: two nodes that unpack the job's code
        into one folder, or bind sockets there, spoil each other's."""
        mount = ["sh", "-c", f'mount -t tmpfs none {FOLDER} && exec "$@"', "sh"] if alone else []
        self.process = subprocess.Popen(
            self.command(
                *mount, RAY, "start", "--block", "--disable-usage-stats", f"--node-ip-address={self.address}", *words
            ),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=VARIABLES, start_new_session=True,
        )  # fmt: skip

    def kill(self) -> None:
        """As when the power goes: all that runs in the namespace."""
        found = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False).stdout  # noqa: S607
        for pid in found.split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self.process is not None:
            self.process.wait(30)


@pytest.fixture(scope="module")
def machines() -> Iterator[list[Machine]]:
    """Three namespaces on one bridge; the head has no CPU to give."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    bridge = f"alb{os.getpid() % 100000}"
    names = [f"{bridge}n{number}" for number in range(3)]
    made = [Machine(name, f"{NETWORK}.{number + 1}") for number, name in enumerate(names)]
    FOLDER.mkdir()
    try:
        ip("link", "add", bridge, "type", "bridge")
        ip("addr", "add", f"{NETWORK}.254/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for number, machine in enumerate(made):
            ip("netns", "add", machine.name)
            ip("link", "add", f"{bridge}v{number}", "type", "veth", "peer", "name", "eth0", "netns", machine.name)
            ip("link", "set", f"{bridge}v{number}", "master", bridge, "up")
            ip("-n", machine.name, "addr", "add", f"{machine.address}/24", "dev", "eth0")
            ip("-n", machine.name, "link", "set", "eth0", "up")
            ip("-n", machine.name, "link", "set", "lo", "up")
            ip("-n", machine.name, "route", "add", "default", "via", f"{NETWORK}.254")
        yield made
    finally:
        for machine in made:
            machine.kill()
            subprocess.run(["ip", "netns", "del", machine.name], check=False, capture_output=True)  # noqa: S607
        subprocess.run(["ip", "link", "del", bridge], check=False, capture_output=True)  # noqa: S607
        shutil.rmtree(FOLDER, ignore_errors=True)


def nodes(head: Machine) -> dict[str, str]:
    """Ray's ids of the nodes that are alive, by address."""
    ask = (
        "import json, ray; ray.init(address='auto', log_to_driver=False, logging_level='CRITICAL');"
        "print(json.dumps({n['NodeManagerAddress']: n['NodeID'] for n in ray.nodes() if n['Alive']}))"
    )
    done = subprocess.run(
        head.command(sys.executable, "-c", ask),
        capture_output=True, text=True, check=False, timeout=120,
        env=VARIABLES | {"RAY_ADDRESS": f"{head.address}:6379"},
    )  # fmt: skip
    # Ray prints words of its own behind the answer where a node is lost meanwhile.
    found: dict[str, str] = json.loads(done.stdout.splitlines()[0]) if done.returncode == 0 else {}
    return found


def wait_for(condition: Callable[[], bool], seconds: float, complaint: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.5)


def albumen(head: Machine, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs", *words, "--address", f"http://{head.address}:8265"]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env=VARIABLES)


def test_a_node_that_is_told_to_go_and_then_killed_costs_nothing(
    machines: list[Machine], tmp_path: Path, photo: Callable[[int], bytes]
) -> None:
    head, one, two = machines
    head.start(
        "--head", "--port=6379", "--num-cpus=0", "--num-gpus=0", f"--temp-dir={FOLDER}", "--dashboard-host=0.0.0.0",
        f"--dashboard-agent-grpc-port={20000 + os.getpid() % 10000}",
    )  # fmt: skip
    wait_for(lambda: list(nodes(head)) == [head.address], 240, "the head does not come up")
    for machine in (one, two):
        machine.start(
            f"--address={head.address}:6379", "--num-cpus=1", "--num-gpus=0", "--object-store-memory=90000000",
            alone=True,
        )  # fmt: skip
    wait_for(lambda: len(nodes(head)) == 3, 240, "the nodes do not come up")
    (tmp_path / "scans").mkdir()
    for number in range(40):
        (tmp_path / "scans" / f"{number}.png").write_bytes(photo(120 + number))
    (tmp_path / "job.toml").write_text(SPEC, encoding="utf-8")
    sent = albumen(head, "submit", str(tmp_path / "job.toml"), "--json")
    assert sent.returncode == 0, sent.stderr
    job = json.loads(sent.stdout)["id"]
    run = tmp_path / "run"
    wait_for(lambda: len(list((run / "images").rglob("*.png"))) >= 3, 300, "nothing was delivered")
    known = nodes(head)

    # The cloud's notice: in ten seconds this machine goes.
    drained = subprocess.run(
        head.command(
            RAY, "drain-node", f"--address={head.address}:6379", f"--node-id={known[one.address]}",
            "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot", "--deadline-remaining-seconds=10",
        ),
        capture_output=True, text=True, check=False, env=VARIABLES,
    )  # fmt: skip
    assert drained.returncode == 0, drained.stderr
    time.sleep(10)
    one.kill()
    log = albumen(head, "logs", job, "-f").stdout
    ended = json.loads(albumen(head, "status", job, "--json").stdout)
    assert ended["state"] == "SUCCEEDED", log
    assert set(nodes(head)) == {head.address, two.address}
    found = standing(str(run))
    assert (found.done, found.failed, found.left) == (40, 0, 0)
    report = verify(str(run), sources=True)
    assert (report.outputs, report.faults) == (40, ())
    # Who was on the node that went is not blamed for it.
    assert Attempts(Store(), str(run), 2, anew=False).total == 0
