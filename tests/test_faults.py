"""The misbehaving service itself: a test of a fault is worth as much as the fault."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tests.fault_kinds import KINDS
from tests.faults import Faults

ROOT = Path(__file__).resolve().parent.parent

# moto asks that there be a signature, and looks no further.
SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


def ask(address: str, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    try:
        given = {"Authorization": SIGNED} | {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (ConnectionError, http.client.HTTPException) as error:
        return 0, type(error).__name__.encode()
    finally:
        connection.close()


def test_what_passes_through_is_not_changed(faulty_s3: Faults, s3: str) -> None:
    body = bytes(range(256)) * 1000
    assert ask(faulty_s3.address, "PUT", "/through")[0] == 200
    assert ask(faulty_s3.address, "PUT", "/through/a%2Bb%20c/%C3%A9", body)[0] == 200
    for address in (faulty_s3.address, s3):
        assert ask(address, "GET", "/through/a%2Bb%20c/%C3%A9") == (200, body)
        assert ask(address, "GET", "/through/a%2Bb%20c/%C3%A9", Range="bytes=5-8") == (206, body[5:9])
    assert faulty_s3.served["through/a+b c/é"] == len(body) + 4
    assert faulty_s3.unchecked == ["through/a+b c/é"]
    assert ask(faulty_s3.address, "PUT", "/through/x", b"1", Content_MD5="A" * 22 + "==")[0] == 400
    assert ask(s3, "GET", "/through/x")[0] == 404


def test_lost_is_carried_out_and_reset_is_not(faulty_s3: Faults, s3: str) -> None:
    ask(faulty_s3.address, "PUT", "/lost")
    for kind, there in (("lost", 200), ("late", 200), ("reset", 404), ("500", 404), ("timeout", 404)):
        faulty_s3.fail(f"lost/{kind}", kind)
        assert ask(faulty_s3.address, "PUT", f"/lost/{kind}", b"1")[0] in (0, 500)
        assert ask(s3, "GET", f"/lost/{kind}")[0] == there


def test_chance_does_not_depend_on_the_order_of_requests(faulty_s3: Faults) -> None:
    ask(faulty_s3.address, "PUT", "/chance")
    outcomes = []
    for order in (range(40), reversed(range(40))):
        faulty_s3.reset()
        faulty_s3.seed, faulty_s3.switches.rate = 7, 0.3
        outcomes.append({n: ask(faulty_s3.address, "GET", f"/chance/{n}")[0] for n in order})
        assert 2 < sum(faulty_s3.injected.values()) < 25
    assert outcomes[0] == outcomes[1]


def test_all_kinds_come_up(faulty_s3: Faults) -> None:
    ask(faulty_s3.address, "PUT", "/every")
    faulty_s3.switches.rate = 1.0
    faulty_s3.hold = 0.001
    for n in range(150):
        ask(faulty_s3.address, "PUT", f"/every/{n}", b"1", If_None_Match="*")
        ask(faulty_s3.address, "GET", f"/every?list-type=2&start-after={n}")
    assert set(KINDS["put"]) | set(KINDS["list"]) == set(faulty_s3.injected)


def test_it_runs_by_itself_and_takes_orders(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    command = [sys.executable, "-m", "tests.faults", "--port", "0", "--rate", "0", "--seed", "1", "--log", str(log)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        try:
            assert ask(address, "PUT", "/alone")[0] == 200
            order = json.dumps(
                {"switches": {"full": True}, "fail": {"key": "alone/y", "kind": "slowdown", "op": "get"}}
            )
            with urlopen(Request(f"{address}/_faults", order.encode(), method="POST")) as answer:  # noqa: S310
                assert json.load(answer)["switches"]["full"] is True
            assert ask(address, "PUT", "/alone/x", b"1")[0] == 507
            assert ask(address, "GET", "/alone/y")[0] == 503
            with urlopen(f"{address}/_faults") as answer:  # noqa: S310
                assert json.load(answer)["injected"] == {"full": 1, "slowdown": 1}
        finally:
            process.kill()
    assert [json.loads(line) for line in log.read_text().splitlines()] == [
        {"op": "put", "key": "alone/x", "kind": "full"},
        {"op": "get", "key": "alone/y", "kind": "slowdown"},
    ]
