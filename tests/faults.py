"""An S3 service that misbehaves on purpose: a proxy in front of moto's, on this machine only.

    python -m tests.faults --port 9000 --rate 0.05 --seed 1 --log faults.jsonl

Faults come from three places, looked up in this order: switches (every request, until they are set back), rules (this key,
so many times), and chance (a share of all requests; which ones is decided by a hash of the seed, the request and how often
it was made, so that it does not depend on the order in which threads come). `GET /_faults` tells what was done, as JSON;
`POST /_faults` with {"switches": {...}} or {"fail": {"key": ..., "kind": ...}} changes it from another process.

Bodies are checked against Content-MD5 and x-amz-checksum-crc32 as S3 does, because moto does not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import unquote
from xml.sax.saxutils import escape

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

from tests.fault_kinds import (
    AFTER,
    ERRORS,
    HOP,
    KINDS,
    Rule,
    Switches,
    error,
    flipped,
    halved,
    hang_up,
    has_its_digests,
    operation,
    passed,
    without_keys,
)


class Faults:
    """The proxy. Attributes may be read and switches set from any thread."""

    def __init__(
        self, upstream: str, *, rate: float = 0.0, seed: int = 0, hold: float = 2.0, log: TextIO | None = None
    ):
        self.upstream = upstream
        self.switches = Switches(rate=rate)
        self.seed = seed
        self.hold = hold
        self.log = log
        self.rules: list[Rule] = []
        self.injected: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self.unchecked: list[str] = []
        self._seen: Counter[str] = Counter()
        self._hidden: dict[str, int] = {}
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._thread: threading.Thread | None = None
        self.address = ""

    def fail(self, key: str, kind: str, **more: Any) -> None:
        self.rules.append(Rule(key, kind, **more))

    def reset(self) -> None:
        """No more faults, and nothing counted yet."""
        self.switches = Switches()
        self.rules.clear()
        self.seed = 0
        for counter in (self.injected, self.requests, self.served, self._seen, self._hidden):
            counter.clear()
        self.unchecked.clear()

    def state(self) -> dict[str, Any]:
        return {
            "switches": asdict(self.switches),
            "rules": [asdict(rule) for rule in self.rules],
            "injected": dict(self.injected),
            "requests": dict(self.requests),
            "served": dict(self.served),
            "unchecked": self.unchecked,
        }

    # -- the server ---------------------------------------------------------------------------------------------------

    def start(self, port: int = 0) -> Faults:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(port, ready)), daemon=True)
        self._thread.start()
        assert ready.wait(30), "the proxy did not start"
        return self

    def stop(self) -> None:
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    async def _serve(self, port: int, ready: threading.Event) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        application = web.Application(client_max_size=8 * 2**30)
        application.router.add_route("*", "/_faults", self._control)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        connector = TCPConnector(limit=0)
        async with ClientSession(
            connector=connector, auto_decompress=False, timeout=ClientTimeout(total=600)
        ) as self._client:
            await site.start()
            self.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
            ready.set()
            await self._end.wait()
            await runner.cleanup()

    async def _control(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            wanted = await request.json()
            for name, value in wanted.get("switches", {}).items():
                setattr(self.switches, name, value)
            if "fail" in wanted:
                self.fail(**wanted["fail"])
        return web.json_response(self.state())

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        bucket, _, key = unquote(request.rel_url.raw_path).lstrip("/").partition("/")
        op = operation(request, key)
        place = f"{bucket}/{key}" if key else bucket
        self.requests[op] += 1
        if self.switches.delay:
            await asyncio.sleep(self.switches.delay)
        body = await request.read()
        refusal = self._switched(request, op, place, bucket)
        if refusal is not None:
            return self._inject(request, op, place, refusal)
        kind, after = self._chosen(request, op, place)
        if kind in ERRORS and kind not in AFTER:
            return self._inject(request, op, place, kind)
        if kind in ("reset", "timeout"):
            self._note(op, place, kind)
            if kind == "timeout":
                await self._wait()
            return hang_up(request)
        return await self._forward(request, op, place, body, kind, after)

    async def _wait(self) -> None:
        try:
            await asyncio.wait_for(self._end.wait(), self.hold)
        except TimeoutError:
            return

    # -- which fault --------------------------------------------------------------------------------------------------

    def _switched(self, request: web.Request, op: str, place: str, bucket: str) -> str | None:
        switches = self.switches
        if switches.credentials is not None:
            return switches.credentials
        if bucket in switches.no_bucket:
            return "no-bucket"
        if place in switches.denied:
            return "denied"
        if switches.full and op == "put":
            return "full"
        if switches.conditions == "refuse" and "If-None-Match" in request.headers:
            return "refused-condition"
        return None

    def _chosen(self, request: web.Request, op: str, place: str) -> tuple[str | None, int | None]:
        for rule in self.rules:
            if rule.key == place and rule.op in (None, op) and rule.times:
                if rule.skip:
                    rule.skip -= 1
                    continue
                rule.times -= 1
                return rule.kind, rule.after
        if op not in KINDS or not self.switches.rate:
            return None, None
        asked = f"{self.seed} {op} {request.raw_path} {request.headers.get('Range', '')}"
        self._seen[asked] += 1
        draw = random.Random(f"{asked} {self._seen[asked]}")
        if draw.random() >= self.switches.rate:
            return None, None
        kinds = [kind for kind in KINDS[op] if kind != "conflict" or "If-None-Match" in request.headers]
        return draw.choice(kinds), None

    def _note(self, op: str, place: str, kind: str) -> None:
        self.injected[kind] += 1
        if self.log is not None:
            self.log.write(json.dumps({"op": op, "key": place, "kind": kind}) + "\n")
            self.log.flush()

    def _inject(self, request: web.Request, op: str, place: str, kind: str) -> web.Response:
        self._note(op, place, kind)
        return error(request, kind)

    # -- what is carried out ------------------------------------------------------------------------------------------

    async def _forward(
        self, request: web.Request, op: str, place: str, body: bytes, kind: str | None, after: int | None
    ) -> web.StreamResponse:
        if op == "put":
            if kind == "corrupt":
                self._note(op, place, kind)
                body = flipped(body)
            checked = has_its_digests(request, body)
            if checked is None:
                self.unchecked.append(place)
            elif not checked:
                return error(request, "bad-digest")
        keys: list[str] = []
        if op == "delete-many" and kind == "partial":
            self._note(op, place, kind)
            body, keys = halved(body)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        if self.switches.conditions == "ignore":
            headers.pop("If-None-Match", None)
        # moto looks and writes in two steps; S3 does both at once.
        async with self._locks[place]:
            url = URL(self.upstream + request.raw_path, encoded=True)
            async with self._client.request(request.method, url, headers=headers, data=body) as answer:
                if op == "get" and answer.status < 300:
                    return await self._stream(request, place, answer, kind, after)
                data = await answer.read()
        if op == "put" and answer.status < 300 and self.switches.lag:
            self._hidden[place] = self.switches.lag
        if op == "list" and answer.status < 300:
            data = self._listing(place, data, kind)
        if keys:
            errors = "".join(f"<Error><Key>{escape(key)}</Key><Code>InternalError</Code></Error>" for key in keys)
            data = re.sub(rb"</(\w+:)?DeleteResult>", errors.encode() + rb"\g<0>", data)
        if kind in AFTER:
            self._note(op, place, kind)
            return hang_up(request) if kind == "lost" else error(request, kind)
        response = web.Response(status=answer.status, headers=passed(answer.headers))
        if request.method == "HEAD":
            response.headers["Content-Length"] = answer.headers.get("Content-Length", "0")
        else:
            response.body = data
        return response

    async def _stream(
        self, request: web.Request, place: str, answer: Any, kind: str | None, after: int | None
    ) -> web.StreamResponse:
        if kind is not None:
            self._note("get", place, kind)
        if kind == "late":
            return error(request, kind)
        if kind == "lost":
            return hang_up(request)
        length = int(answer.headers["Content-Length"])
        stop = length if kind not in ("cut", "short", "trim") else min(length, length // 2 if after is None else after)
        response = web.StreamResponse(status=answer.status, headers=passed(answer.headers))
        response.content_length = stop if kind == "trim" else length
        try:
            await self._send(request, place, answer, kind, stop, response)
        except ConnectionError:
            return response  # the client has hung up: it may
        if stop < length and kind in ("cut", "short"):
            return hang_up(request, gently=kind == "short")
        return response

    async def _send(
        self, request: web.Request, place: str, answer: Any, kind: str | None, stop: int, response: web.StreamResponse
    ) -> None:
        await response.prepare(request)
        sent = 0
        async for chunk in answer.content.iter_chunked(1 << 16):
            piece = chunk[: stop - sent]
            if kind == "corrupt":
                piece, kind = flipped(piece), None
            await response.write(piece)
            sent += len(piece)
            self.served[place] += len(piece)
            if sent == stop:
                break
        if kind not in ("cut", "short"):
            await response.write_eof()

    def _listing(self, place: str, data: bytes, kind: str | None) -> bytes:
        if self._hidden:
            data = without_keys(data, [name.split("/", 1)[1] for name in self._hidden if name.startswith(f"{place}/")])
            self._hidden = {name: left - 1 for name, left in self._hidden.items() if left > 1}
        if kind in ("page", "blank", "gap"):
            self._note("list", place, kind)
        if kind == "page":
            return data[: len(data) // 2]
        if kind == "blank":
            return b""
        if kind == "gap":
            return re.sub(rb"<Contents>(?:(?!<Contents>).)*</Contents>", b"", data, count=1, flags=re.DOTALL)
        return data


@contextmanager
def moto() -> Iterator[str]:
    """The address of moto's S3 service, while it runs in this process."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="An S3 service that misbehaves on purpose.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.05, help="share of requests that fail")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hold", type=float, default=2.0, help="seconds before an answer that never comes ends")
    parser.add_argument("--log", type=Path, help="one JSON line for each fault")
    parser.add_argument("--upstream", help="an S3 service; without it, moto's is started here")
    given = parser.parse_args()
    log = given.log.open("a") if given.log else None
    with moto() if given.upstream is None else _as_it_is(given.upstream) as upstream:
        faults = Faults(upstream, rate=given.rate, seed=given.seed, hold=given.hold, log=log).start(given.port)
        print(faults.address, flush=True)
        threading.Event().wait()


@contextmanager
def _as_it_is(address: str) -> Iterator[str]:
    yield address


if __name__ == "__main__":
    main()
