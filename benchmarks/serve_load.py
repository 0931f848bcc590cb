"""Load on ``brownout serve``: nothing lost or mixed up, memory, and the overhead beside a bare endpoint.

    python benchmarks/serve_load.py [--episodes 1000] [--requests 100000] [--quick] [--json]

A service runs in a process of its own. As many episodes as asked for are open at any time, each driven over its own
connection by a small script that reads, writes, waits, gets new tokens and finishes; one that ends makes room for the
next. Afterwards every episode is played again in this process by the same script: the digest that the service recorded
and the bytes that the client received must both be the same. Latency is taken at half of the rate that the service can
do, beside an endpoint that answers a constant on the same server stack at the same rate. Nothing is waited for
(``--time-scale 0``), so all of the latency is overhead.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from rich.console import Console
from rich.table import Table

from brownout.envs.serve_store import EpisodeRequest
from brownout.envs.tools import ToolEpisode
from brownout.scenarios import load_scenario

SCENARIO, PROFILE = "refund", "hostile"
Request = tuple[str, str, dict[str, str], str | None]
Answer = tuple[int, str]
Script = Generator[Request, Answer, None]
log = Console(stderr=True)


def script(task: dict[str, Any], rounds: int = 6) -> Script:
    """The requests of one episode; what was answered decides what comes next."""
    token, customer, order = task["access_token"], {}, {}

    def ask(
        method: str, path: str, body: dict[str, Any] | None = None, key: str = ""
    ) -> Generator[Request, Answer, Any]:
        nonlocal token
        headers = {"Authorization": f"Bearer {token}"} | ({"Idempotency-Key": key} if key else {})
        if body is not None:
            headers["Content-Type"] = "application/json"
        status, text = yield method, path, headers, None if body is None else json.dumps(body)
        try:
            found = json.loads(text)
        except ValueError:
            found = {}
        if status == 401:
            status, text = yield "POST", "/auth/token", {}, None
            with suppress(ValueError):
                token = json.loads(text).get("access_token", token)
        return found if isinstance(found, dict) else {}

    for n in range(rounds):
        customer |= yield from ask("GET", f"/crm/customers/{task['customer_id']}")
        order |= yield from ask("GET", f"/shop/orders/{task['order_id']}")
        yield from ask(
            "POST", "/crm/locate", {"customer_name": customer.get("name"), "customer_email": customer.get("email")}
        )
        yield from ask("POST", "/shop/policy", {"order_date": order.get("date"), "order_item": order.get("item")})
        paid = {"order_total": order.get("total"), "customer_account": customer.get("account")}
        yield from ask("POST", "/payments/refund", paid, key=f"refund-{n % 2}")
        yield from ask("GET", "/payments/refunds")
        yield from ask("GET", "/requester/messages")
        yield from ask("POST", "/wait", {"seconds": 2})
    yield from ask("POST", "/finish", {"summary": "done"})


class Transcript:
    """What a client received, as a digest."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.calls = 0

    def add(self, answer: Answer) -> None:
        """Take in an answer."""
        self.calls += 1
        self._hash.update(f"{answer[0]} {answer[1]}\n".encode())

    @property
    def digest(self) -> str:
        """Of all so far."""
        return self._hash.hexdigest()


class Client:
    """A connection that is opened again when it breaks."""

    def __init__(self, base: str) -> None:
        parts = urlsplit(base)
        self._host, self._port, self._path = parts.hostname or "", parts.port or 0, parts.path
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: Request) -> Answer:
        """Send a request; (0, "") when no answer came."""
        method, path, headers, body = request
        data = (body or "").encode()
        lines = [f"{method} {self._path}{path} HTTP/1.1", "Host: x", f"Content-Length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if self._writer is None or self._writer.is_closing():
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        assert self._reader is not None
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, ConnectionError):
            self.close()
            return 0, ""
        told = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        try:
            text = await self._reader.readexactly(int(told.get("content-length", 0)))
        except asyncio.IncompleteReadError as error:
            text = error.partial
        except ConnectionError:
            text = b""
        if told.get("connection") == "close" or len(text) < int(told.get("content-length", 0)):
            self.close()
        return int(head.split()[1]), text.decode()

    def close(self) -> None:
        """Let go of the connection."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


class Pace:
    """Lets requests begin at a rate; none without one."""

    def __init__(self) -> None:
        self.rate = 0.0
        self._next = 0.0
        self._settled = 0.0

    def set(self, rate: float) -> None:
        """From now on; what queued up before is given two seconds to be done with."""
        self.rate, self._settled = rate, time.perf_counter() + 2.0

    @property
    def settled(self) -> bool:
        """Whether a request that begins now meets the load of this rate."""
        return self.rate > 0.0 and time.perf_counter() > self._settled

    async def turn(self) -> None:
        """Wait for one's turn."""
        if self.rate:
            now = time.perf_counter()
            self._next = max(self._next, now - 0.01) + 1.0 / self.rate
            await asyncio.sleep(max(self._next - now, 0.0))


class Load:
    """Drives a service."""

    def __init__(self, service: dict[str, str], requests: int) -> None:
        self.control, self.secret = service["control"], service["secret"]
        self.wanted = requests
        self.done = 0
        self.seed = 0
        self.pace = Pace()
        self.latency: list[float] = []
        self.paced: list[float] = []
        self.episodes: dict[str, tuple[int, str, int]] = {}  # id: seed, digest of the transcript, calls

    async def opened(self, client: Client, count: int = 1) -> list[dict[str, Any]]:
        """Open episodes over the control address."""
        wish = {"scenario": SCENARIO, "profile": PROFILE, "seed": self.seed, "count": count}
        self.seed += count
        headers = {"Authorization": f"Bearer {self.secret}"}
        status, text = await client.ask(("POST", "/episodes", headers, json.dumps(wish)))
        if status != 201:
            raise SystemExit(f"the service does not open episodes: {status} {text}")
        told = json.loads(text)
        return told["episodes"] if count > 1 else [told]

    async def slot(self, first: dict[str, Any]) -> None:
        """Play one episode after the other until there are enough requests."""
        told, control = first, Client(self.control)
        while True:
            await self.play(told)
            if self.done >= self.wanted:
                break
            (told,) = await self.opened(control)
            control.close()  # it would be closed over there before the next

    async def play(self, told: dict[str, Any]) -> None:
        """Play an episode to its end."""
        client, transcript, requests = Client(told["base_url"]), Transcript(), script(told["task"])
        request = next(requests)
        while True:
            await self.pace.turn()
            began, settled = time.perf_counter(), self.pace.settled
            answer = await client.ask(request)
            (self.paced if settled else self.latency).append(time.perf_counter() - began)
            self.done += 1
            if answer[0] == 410:
                break
            transcript.add(answer)
            try:
                request = requests.send(answer)
            except StopIteration:
                break
        client.close()
        self.episodes[told["id"]] = told["header"]["seed"], transcript.digest, transcript.calls


def expected(request: EpisodeRequest, scenario: Any) -> tuple[str, str]:
    """The digest of an episode and of its transcript, played in this process."""
    episode = ToolEpisode(scenario, request.seed, profile=request.profile)
    transcript, requests = Transcript(), script(episode.session.task)
    send = requests.send
    method, path, headers, body = next(requests)
    while not episode.done:
        response = episode.session.request(method, path, headers, body)
        answer = response.status, response.text
        transcript.add(answer)
        try:
            method, path, headers, body = send(answer)
        except StopIteration:
            break
    episode.close()
    return episode.result().digest, transcript.digest


@contextmanager
def process(command: list[str]) -> Generator[tuple[subprocess.Popen[str], dict[str, str]], None, None]:
    """A server in a process of its own, and the line of JSON it prints first."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server, json.loads(server.stdout.readline())
        finally:
            server.terminate()
            server.wait(30)


async def drive(load: Load, episodes: int, pid: int) -> dict[str, Any]:
    """The load on the service: first as fast as it goes, then at half of that rate."""
    memory: list[tuple[float, float]] = []
    began = time.perf_counter()

    async def watch() -> None:
        while True:
            memory.append((time.perf_counter() - began, resident_mb(pid)))
            if load.done > load.wanted * 0.6 and not load.pace.rate:
                load.pace.set(0.5 * load.done / (time.perf_counter() - playing))
            await asyncio.sleep(1.0)

    control = Client(load.control)
    told: list[dict[str, Any]] = []
    while len(told) < episodes:
        told += await load.opened(control, min(episodes - len(told), 500))
    control.close()
    opening = time.perf_counter() - began
    log.print(f"{episodes} episodes opened in {opening:.1f} s", highlight=False)
    playing = time.perf_counter()
    watching = asyncio.create_task(watch())
    await asyncio.gather(*(load.slot(each) for each in told))
    watching.cancel()
    full = len(load.latency) / (time.perf_counter() - playing) if not load.paced else load.pace.rate * 2
    return {"opening_s": opening, "wall_s": time.perf_counter() - playing, "requests_per_s": full, "memory_mb": memory}


async def bare(url: str, rate: float, requests: int, clients: int) -> list[float]:
    """Latencies of an endpoint that answers a constant, at a rate."""
    pace, latency = Pace(), []
    pace.rate = rate

    async def ask(count: int) -> None:
        client = Client(url)
        for _ in range(count):
            await pace.turn()
            began = time.perf_counter()
            status, _ = await client.ask(("GET", "/", {}, None))
            assert status == 200
            latency.append(time.perf_counter() - began)
        client.close()

    await asyncio.gather(*(ask(requests // clients) for _ in range(clients)))
    return latency


def serve_bare() -> None:
    """The server stack of the service around a constant answer."""
    from brownout.envs.serve_listener import bind, make_listener, url_of
    from brownout.envs.serve_settings import ServeSettings
    from brownout.envs.serve_wire import answer_json, read_body

    async def app(_scope: dict[str, Any], receive: Any, send: Any) -> None:
        await read_body(receive, 1000, 30.0)
        await answer_json(send, 200, '{"items": [], "next_cursor": null}')

    handle = bind("127.0.0.1", 0)
    handle.listen(4096)  # who reads the address may connect
    print(json.dumps({"agents": url_of(handle)}), flush=True)
    asyncio.run(make_listener(app, ServeSettings()).serve(sockets=[handle]))


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="50 episodes, 5,000 requests")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        serve_bare()
        return 0
    if options.quick:
        options.episodes, options.requests = 50, 5000
    with tempfile.TemporaryDirectory(prefix="brownout-load-") as folder:
        command = [sys.executable, "-m", "brownout", "serve", "--records", folder, "--port", "0", "--control-port", "0",
                   "--json", "--ignore-idle", "--open-episodes", str(options.episodes + 10)]  # fmt: skip
        with process(command) as (server, told):
            load = Load(told, options.requests)
            figures = asyncio.run(drive(load, options.episodes, server.pid))
        with (Path(folder) / "episodes.jsonl").open() as record:
            rows = [json.loads(line) for line in record if not line.startswith('{"kind":"event"')]
        figures["record_mb"] = os.path.getsize(Path(folder) / "episodes.jsonl") / 2**20
    with process([sys.executable, __file__, "--bare"]) as (_, told):
        plain = asyncio.run(
            bare(told["agents"], load.pace.rate or 100.0, max(options.requests // 10, 1000), options.episodes)
        )
    figures |= compared(load, rows)
    figures["episodes_at_once"] = options.episodes
    figures["rate_per_s"] = load.pace.rate
    figures["service_ms"], figures["bare_ms"] = quantiles(load.paced), quantiles(plain)
    print(json.dumps(figures, indent=2)) if options.json else show(figures)
    return 0 if figures["episodes"] == figures["same_digest"] == figures["same_bytes"] else 1


def compared(load: Load, rows: list[dict[str, Any]]) -> dict[str, int]:
    """Count the episodes that were recorded as they would have been played in this process."""
    scenario = load_scenario(SCENARIO)
    closed = {row["id"]: row["result"] for row in rows if row["kind"] == "closed"}
    opened = sum(row["kind"] == "opened" for row in rows)
    digests = bytes_ = 0
    for key, (seed, transcript, _) in load.episodes.items():
        digest, text = expected(EpisodeRequest(SCENARIO, seed, PROFILE), scenario)
        digests += key in closed and closed[key]["seed"] == seed and closed[key]["digest"] == digest
        bytes_ += transcript == text
    return {"requests": load.done, "opened": opened, "episodes": len(load.episodes), "recorded": len(closed),
            "same_digest": digests, "same_bytes": bytes_}  # fmt: skip


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Median, p95 and p99 in milliseconds."""
    return {f"p{q}": float(np.percentile(seconds, q) * 1000) if seconds else float("nan") for q in (50, 95, 99)}


def show(figures: dict[str, Any]) -> None:
    """Print the figures."""
    console = Console()
    told = f"{figures['requests']:,} requests, {figures['episodes_at_once']:,} episodes at once"
    table = Table("figure", "value", title=told)
    for name in ("opened", "episodes", "recorded", "same_digest", "same_bytes"):
        table.add_row(name.replace("_", " "), f"{figures[name]:,}")
    table.add_row("requests/s at full load", f"{figures['requests_per_s']:.0f}")
    table.add_row("record, MB", f"{figures['record_mb']:.0f}")
    console.print(table)
    late = Table("latency, ms", "p50", "p95", "p99", title=f"at {figures['rate_per_s']:.0f} requests/s")
    service, plain = figures["service_ms"], figures["bare_ms"]
    late.add_row("brownout serve", *(f"{value:.1f}" for value in service.values()))
    late.add_row("bare endpoint, same stack", *(f"{value:.1f}" for value in plain.values()))
    late.add_row("overhead", *(f"{service[name] - plain[name]:.1f}" for name in plain))
    console.print(late)
    memory = figures["memory_mb"]
    some = [memory[round(n * (len(memory) - 1) / 9)] for n in range(10)]
    console.print("resident MB over time: " + ", ".join(f"{mb:.0f} ({s:.0f} s)" for s, mb in some), highlight=False)


if __name__ == "__main__":
    sys.exit(main())
