"""
Measures CPU time per unit of work: the gateway and nginx, in one run, on the same mock upstream.

    python -m bench.run [--quick] [--scenario NAME ...] [--peer NAME ...] [--json FILE]
                        [--markdown FILE]

Both proxies run as one worker pinned to the first core; mock upstream and load generator share the
others. CPU is user + system time of the worker process, read before and after each scenario; for
the gateway the helpers (Valkey, ledger writer) are counted apart. bench/README.md says more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from bench.load import Outcome, run
from bench.peers import PEERS, Peer
from bench.report import write_into
from tests.support.gateway_process import GatewayProcess, free_port

MODELS = ["short", "burst-100", "paced-500-20", "paced-100-20"]
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Scenario:
    """One kind of load. `units` is what CPU time is divided by: requests or chunks."""

    name: str
    model: str
    connections: int
    each: int
    units_per_request: int
    path: str = "/v1/chat/completions"
    stream: bool = False
    prompt_bytes: int = 200
    stagger_s: float = 0.0
    upstream_wire: str = "openai"


def scenarios(quick: bool) -> list[Scenario]:
    """Return the loads; `quick` makes each about a fifth as long."""
    few = 5 if quick else 1
    steps = 500 // few
    return [
        Scenario("short", "short", 32, 600 // few, 1),
        Scenario("prompt-100k", "short", 16, 250 // few, 1, prompt_bytes=100_000),
        Scenario("burst-100", "burst-100", 16, 150 // few, 100, stream=True),
        Scenario(
            "burst-100-anthropic",
            "burst-100",
            16,
            150 // few,
            100,
            path="/v1/messages",
            stream=True,
        ),
        Scenario("paced-200", f"paced-{steps}-20", 200, 1, steps, stream=True, stagger_s=1.0),
        Scenario("paced-1000", f"paced-{steps}-20", 1000, 1, steps, stream=True, stagger_s=2.0),
        Scenario(
            "translated-burst",
            "burst-100",
            16,
            150 // few,
            100,
            path="/v1/messages",
            stream=True,
            upstream_wire="openai",
        ),
    ]


@dataclass
class Row:
    """What one proxy did in one scenario."""

    scenario: str
    target: str
    requests: int
    failures: int
    seconds: float
    cpu_us_per_unit: float
    helpers_us_per_unit: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    rss_mb: float


def config(upstream_port: int) -> str:
    """Return providers and models: one provider a wire, each behaviour a model."""
    base = f"http://127.0.0.1:{upstream_port}"
    lines = [
        '[[providers]]\nname = "mock"\n'
        f'openai = {{ base_url = "{base}/v1" }}\nanthropic = {{ base_url = "{base}" }}\n'
    ]
    for name in MODELS:
        lines.append(
            f'[[models]]\nname = "{name}"\nprices = {{ input = "1", output = "2" }}\n'
            f'deployments = [{{ provider = "mock", model = "{name}" }}]\n'
            f'[[models]]\nname = "translated-{name}"\n'
            f'deployments = [{{ provider = "mock", model = "{name}", wires = ["openai"] }}]\n'
        )
    return "\n".join(lines)


def request(
    scenario: Scenario, key: str, model: str, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return the bytes of one request."""
    body: dict[str, object] = {
        "model": model,
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": "x" * scenario.prompt_bytes}],
    }
    if scenario.stream:
        body["stream"] = True
    payload = json.dumps(body).encode()
    head = (
        f"POST {scenario.path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\n"
        "content-type: application/json\r\nanthropic-version: 2023-06-01\r\n"
        f"content-length: {len(payload)}\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        + "\r\n"
    )
    return head.encode() + payload


NGINX = """
worker_processes 1; daemon off; pid {home}/nginx.pid; error_log {home}/error.log warn;
events {{ worker_connections 16384; }}
http {{
  access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  client_max_body_size 64m; client_body_buffer_size 256k; keepalive_requests 1000000;
  upstream mock {{ server 127.0.0.1:{upstream}; keepalive 2048; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 600s;
    }}
  }}
}}
"""


def cpu_s(pids: list[int]) -> float:
    """Return user + system time of processes, in seconds."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * TICK_S


def rss_mb(pids: list[int]) -> float:
    """Return resident memory of processes, in megabytes."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def pin(pids: list[int], cores: set[int]) -> None:
    """Keep processes and their threads on some cores."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), cores)


@contextmanager
def mock_upstream(port: int, cores: set[int]) -> Iterator[None]:
    """Run the mock upstream."""
    process = subprocess.Popen([sys.executable, "-m", "bench.upstream", str(port)])
    pin([process.pid], cores)
    try:
        time.sleep(0.7)
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def nginx(home: Path, upstream_port: int, cores: set[int]) -> Iterator[tuple[int, list[int]]]:
    """Run nginx with one worker; yield its port and the worker's process id."""
    port = free_port()
    home.mkdir()
    path = home / "nginx.conf"
    path.write_text(NGINX.format(home=home, port=port, upstream=upstream_port))
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    process = subprocess.Popen([binary, "-c", str(path), "-p", str(home)])
    try:
        time.sleep(0.7)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        pids = [int(child) for child in children]
        pin(pids, cores)
        yield port, pids
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextmanager
def gateway(
    home: Path, upstream_port: int, cores: set[int], server: str = ""
) -> Iterator[tuple[GatewayProcess, str]]:
    """Run the gateway with one worker; yield it and a key. `server` is TOML of `[server]`."""
    process = GatewayProcess(home, config(upstream_port), workers=1, server=server)
    try:
        process.start()
        key = create_key(process)
        pin(process.workers(), cores)
        yield process, key
    finally:
        process.stop()


def create_key(process: GatewayProcess) -> str:
    """Create a postpaid account; return a key of it."""
    process.capio("accounts", "create", "bench", "--postpaid")
    command = ("keys", "create", "--account", "bench", "--name", "bench", "--json")
    made = json.loads(process.capio(*command))
    key: str = (made[0] if isinstance(made, list) else made)["key"]
    return key


def measure(
    scenario: Scenario,
    target: str,
    port: int,
    payload: bytes,
    workers: list[int],
    others: list[int],
) -> Row:
    """Run one scenario against one target."""
    uvloop.run(run(port, payload, connections=min(scenario.connections, 16), each=1))
    before, before_others = cpu_s(workers), cpu_s(others)
    outcome: Outcome = uvloop.run(
        run(
            port,
            payload,
            connections=scenario.connections,
            each=scenario.each,
            stagger_s=scenario.stagger_s,
        )
    )
    used, used_others = cpu_s(workers) - before, cpu_s(others) - before_others
    units = max(outcome.requests * scenario.units_per_request, 1)
    ttft = sorted(outcome.ttft_s) or [0.0]
    return Row(
        scenario.name,
        target,
        outcome.requests,
        outcome.failures,
        round(outcome.seconds, 2),
        round(used / units * 1e6, 2),
        round(used_others / units * 1e6, 2),
        round(statistics.median(ttft) * 1000, 2),
        round(ttft[int(len(ttft) * 0.99)] * 1000, 2),
        round(rss_mb(workers), 1),
    )


def main() -> None:
    """Run the scenarios and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--scenario", action="append")
    parser.add_argument("--peer", action="append", choices=[*PEERS], default=[])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path, help="fill the place for results in this file")
    options = parser.parse_args()
    available = sorted(os.sched_getaffinity(0))
    proxy_cores, load_cores = {available[0]}, set(available[1:]) or {available[0]}
    os.sched_setaffinity(0, load_cores)
    chosen = [
        each
        for each in scenarios(options.quick)
        if not options.scenario or each.name in options.scenario
    ]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        upstream_port = free_port()
        with (
            mock_upstream(upstream_port, load_cores),
            nginx(home / "nginx", upstream_port, proxy_cores) as (nginx_port, nginx_pids),
            gateway(home / "gateway", upstream_port, proxy_cores) as (process, key),
            ExitStack() as stack,
        ):
            peers: list[Peer] = []
            for name in options.peer:
                peers.append(stack.enter_context(PEERS[name](home / name, upstream_port, MODELS)))
                pin(peers[-1].processes(), proxy_cores)
            workers = process.workers()
            helpers = [pid for pid in process.children() if pid not in workers]
            for scenario in chosen:
                translated = scenario.name.startswith("translated")
                if not translated:
                    payload = request(scenario, key, scenario.model)
                    rows.append(measure(scenario, "direct", upstream_port, payload, [], []))
                    rows.append(measure(scenario, "nginx", nginx_port, payload, nginx_pids, []))
                model = f"translated-{scenario.model}" if translated else scenario.model
                payload = request(scenario, key, model)
                rows.append(measure(scenario, "gateway", process.port, payload, workers, helpers))
                if scenario.path.endswith("/chat/completions"):
                    for peer in peers:
                        payload = request(scenario, peer.key, scenario.model, peer.headers)
                        rows.append(
                            measure(scenario, peer.name, peer.port, payload, peer.processes(), [])
                        )
                for row in rows[-3 - len(peers) :]:
                    if row.scenario == scenario.name:
                        print(_line(row), flush=True)
    results = [asdict(row) for row in rows]
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "rows": results}, indent=1))
    if options.markdown:
        write_into(options.markdown, results, machine())


def _line(row: Row) -> str:
    return (
        f"{row.scenario:20} {row.target:8} {row.requests:7} req {row.failures:4} failed"
        f" {row.seconds:7.2f} s  cpu/unit {row.cpu_us_per_unit:8.2f} us"
        f" (+{row.helpers_us_per_unit:.2f} helpers)"
        f"  ttft p50 {row.ttft_p50_ms:8.2f} ms p99 {row.ttft_p99_ms:8.2f} ms  rss {row.rss_mb} MB"
    )


def machine() -> dict[str, str]:
    """Return what the figures were taken on."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": found[1] if found else platform.processor(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


if __name__ == "__main__":
    asyncio.set_event_loop_policy(None)
    main()
