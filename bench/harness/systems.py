"""Starts what is measured: the mock upstream, nginx, and the gateway as its users start it."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from bench.harness.processes import TreeClock, pin, private_mb, started_on, tree
from gateway.protocols.translate.capabilities import capabilities
from gateway.server.file_limit import connections_within
from gateway.settings import Settings, load
from tests.support.gateway_process import GatewayProcess, free_port

MODELS: Final = ("short", "burst-100", "paced-500-20", "paced-100-20")
MOST_STREAMS: Final = 6000


class Can(StrEnum):
    """What a system is able to serve, beyond relaying a Chat Completions call."""

    MESSAGES = "messages"
    COUNT_TOKENS = "count tokens"
    TRANSLATE = "translate"
    TLS = "TLS upstream"
    LIMITS = "limits"


PROXY: Final = frozenset({Can.MESSAGES, Can.COUNT_TOKENS, Can.TLS})
"""What relays any path unchanged."""


@dataclass(frozen=True)
class Upstream:
    """The mock upstream's ports, and the certificate of the second."""

    port: int
    tls_port: int = 0
    certificate: Path | None = None


@dataclass
class System:
    """
    Something that relays calls.

    Args:
        name: As in tables.
        port: Where it listens. `tls_port`: where it relays to the upstream over TLS.
        clock: Of its processes; None for the upstream itself, which `direct` stands for.
        key: What clients authenticate with. `limited_key`: one that has limits.
        headers: What each request needs besides.
        can: What it is able to serve.
        root: Its main process.
    """

    name: str
    port: int
    clock: TreeClock | None = None
    key: str = "unused"
    headers: Mapping[str, str] = field(default_factory=dict)
    can: frozenset[Can] = frozenset()
    root: int = 0
    tls_port: int = 0
    limited_key: str = ""
    about: str = ""
    """Its version."""
    most_streams: int = MOST_STREAMS
    most_rate: float = math.inf
    """More than these streams, or requests a second of an open loop, it is not asked for."""

    def private_mb(self) -> float:
        """Return the private memory of all its processes."""
        return private_mb(tree(self.root)) if self.root else 0.0


def provider(name: str, base: str, extra: str = "") -> str:
    """Return TOML of a provider with both wires."""
    return (
        f'[[providers]]\nname = "{name}"\n'
        f'openai = {{ base_url = "{base}/v1" }}\nanthropic = {{ base_url = "{base}" }}\n{extra}\n'
    )


def config(upstream_port: int, models: tuple[str, ...] = MODELS, extra: str = "") -> str:
    """Return a provider and models, one for each behaviour of the upstream, and its translation."""
    lines = [provider("mock", f"http://127.0.0.1:{upstream_port}", extra)]
    for name in models:
        lines.append(
            f'[[models]]\nname = "{name}"\nprices = {{ input = "1", output = "2" }}\n'
            f'deployments = [{{ provider = "mock", model = "{name}" }}]\n'
            + "".join(
                f'[[models]]\nname = "to-{wire}-{name}"\n'
                f'prices = {{ input = "1", output = "2" }}\n'
                f'deployments = [{{ provider = "mock", model = "{name}", wires = ["{wire}"] }}]\n'
                for wire in ("openai", "anthropic")
            )
        )
    return "\n".join(lines)


@contextmanager
def mock_upstream(port: int, cores: set[int], *tls: str) -> Iterator[None]:
    """Run the mock upstream; `tls` is another port, and the files of certificate and key."""
    with started_on(cores):
        process = subprocess.Popen([sys.executable, "-m", "bench.upstream", str(port), *tls])
    try:
        time.sleep(0.7)
        yield
    finally:
        process.terminate()
        process.wait()


NGINX = """
worker_processes 1; daemon off; pid {home}/nginx.pid; error_log {home}/error.log warn;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  client_max_body_size 64m; client_body_buffer_size 2m; keepalive_requests 1000000;
  proxy_http_version 1.1; proxy_set_header Connection "";
  proxy_buffering off; proxy_read_timeout 600s;
  upstream mock {{
    server 127.0.0.1:{upstream}; keepalive {streams}; keepalive_requests 1000000;
  }}
  upstream tls {{ server 127.0.0.1:{tls}; keepalive 256; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://mock; }}
  }}
  server {{
    listen 127.0.0.1:{tls_port} backlog=4096;
    location / {{
      proxy_pass https://tls; proxy_ssl_name localhost; proxy_ssl_server_name on; {verify}
    }}
  }}
}}
"""


@contextmanager
def nginx(home: Path, upstream: Upstream, cores: set[int]) -> Iterator[System]:
    """Run nginx with one worker."""
    port, tls_port = free_port(), free_port()
    home.mkdir()
    path = home / "nginx.conf"
    verify = ""
    if upstream.certificate:
        verify = f"proxy_ssl_verify on; proxy_ssl_trusted_certificate {upstream.certificate};"
    path.write_text(
        NGINX.format(
            home=home, port=port, upstream=upstream.port, tls_port=tls_port, verify=verify,
            tls=upstream.tls_port or 1, streams=MOST_STREAMS,
        )
    )  # fmt: skip
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    about = subprocess.run([binary, "-v"], capture_output=True, text=True, check=True).stderr
    with started_on(cores):
        process = subprocess.Popen([binary, "-c", str(path), "-p", str(home)])
    try:
        time.sleep(0.7)
        yield System(
            "nginx", port, TreeClock(process.pid), can=PROXY, root=process.pid, tls_port=tls_port,
            about=about.strip().rpartition("/")[2],
        )  # fmt: skip
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
    return json.loads(_made_key(process, "bench"))["key"]


def _made_key(process: GatewayProcess, name: str) -> str:
    made = process.capio("keys", "create", "--account", "bench", "--name", name, "--json")
    decoded = json.loads(made)
    return json.dumps(decoded[0] if isinstance(decoded, list) else decoded)


@dataclass(frozen=True)
class Build:
    """
    A gateway of another checkout, wheel or interpreter, which serves the same database.

    Args:
        tree: The folder that has its package `gateway`.
        python: The interpreter, with the dependencies.
    """

    name: str
    tree: Path
    python: str = sys.executable

    @classmethod
    def parse(cls, text: str) -> Build:
        """
        Return what `NAME=TREE` or `NAME=TREE:PYTHON` means.

        Raises:
            ValueError: The name is missing, or there is no gateway in the tree.
        """
        name, _, place = text.partition("=")
        tree, _, python = place.partition(":")
        if not (name and tree and Path(tree, "gateway", "cli").is_dir()):
            raise ValueError(f"{text}: expected NAME=TREE[:PYTHON], where TREE/gateway is one")
        return cls(name, Path(tree).resolve(), python or sys.executable)

    @property
    def environment(self) -> dict[str, str]:
        """What lets the interpreter find the tree, and not the directory that it is started in."""
        return {"PYTHONPATH": str(self.tree), "PYTHONSAFEPATH": "1"}


_DESCRIBES: Final = (
    "import platform; from gateway.build_kind import build_kind;"
    " print(f'on Python {platform.python_version()}, {build_kind()}')"
)


def describe(python: str, environment: Mapping[str, str]) -> str:
    """Return the interpreter and the kind of a gateway's build."""
    return subprocess.run(
        [python, "-c", _DESCRIBES], env={**os.environ, **environment},
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip


def room_for_streams(settings: Settings) -> int:
    """Return how many client connections a gateway accepts with this process's open files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return settings.server.max_connections
    return connections_within(settings, hard)


@contextmanager
def whole_gateway(
    name: str, home: Path, upstream: Upstream, cores: set[int], models: tuple[str, ...],
    workers: int = 1, build: Build | None = None, *, direct: bool = False,
) -> Iterator[System]:  # fmt: skip
    """
    Run the gateway with all its processes on these cores, and with room for many streams.

    It is this one, unless a build is given. With `direct`, it is called on its direct port.

    Nothing else differs from the defaults, except that an event loop's lag refuses no call: the
    scenarios are meant to saturate it.
    """
    text = config(upstream.port, models, f"max_connections = {MOST_STREAMS}")
    environment = build.environment if build else {}
    python = build.python if build else sys.executable
    about = describe(python, environment)
    if upstream.certificate:
        text += provider("tls", f"https://localhost:{upstream.tls_port}")
        text += '[[models]]\nname = "tls-short"\nprices = { input = "1", output = "2" }\n'
        text += 'deployments = [{ provider = "tls", model = "short" }]\n'
        environment["SSL_CERT_FILE"] = str(upstream.certificate)
    server = f"max_in_flight = {2 * MOST_STREAMS}\nmax_in_flight_per_account = {MOST_STREAMS}\n"
    server += f"max_connections = {MOST_STREAMS}\nmax_loop_lag_ms = 0\n"
    with started_on(cores):
        process = GatewayProcess(
            home, text, workers=workers, server=server, environment=environment, forked=False,
            extra="[routing]\nprobes = false\n", python=python, direct=direct,
        )  # fmt: skip
        process.launch()
    try:
        process.wait_ready()
        key = create_key(process)
        limited = json.loads(_made_key(process, "limited"))
        process.capio(
            "limits", "set", "--key", limited["id"], "--rpm", "100000000", "--tpm", "1000000000",
            "--concurrency", "5000", "--budget-day", "1000000",
        )  # fmt: skip
        clock = TreeClock(process.pid, process.workers().copy)
        settings = load(process.config_path, capabilities)
        port = process.direct_port if direct else process.port
        yield System(
            name, port, clock, key, can=frozenset(Can),
            root=process.pid, tls_port=port, limited_key=limited["key"], about=about,
            most_streams=room_for_streams(settings),
        )  # fmt: skip
    finally:
        process.stop()
