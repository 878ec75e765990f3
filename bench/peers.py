"""
Starts other gateways for `bench.run --peer`, each in front of the mock upstream.

They are not installed here. `CAPIO_BENCH_LITELLM` names the `litellm` command of a virtual
environment with `litellm[proxy]`, `CAPIO_BENCH_PORTKEY` the folder where npm has installed
`@portkey-ai/gateway`. bench/README.md says how to install them and what their figures leave out.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.gateway_process import free_port

START_S: Final = 90.0
LITELLM_KEY: Final = "sk-bench"

LITELLM_CONFIG: Final = """
model_list:
{models}
litellm_settings:
  drop_params: true
general_settings:
  master_key: {key}
"""
LITELLM_MODEL: Final = """\
  - model_name: {name}
    litellm_params: {{ model: openai/{name}, api_base: "{base}", api_key: unused }}
"""


@dataclass(frozen=True)
class Peer:
    """A running gateway: where it listens, what to send, and its main process."""

    name: str
    port: int
    pid: int
    key: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def processes(self) -> list[int]:
        """Return its process and all processes below it."""
        found = [self.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in children.read_text().split()]
        return found


@contextmanager
def litellm(home: Path, upstream_port: int, models: list[str]) -> Iterator[Peer]:
    """Run LiteLLM's proxy with one worker, a master key, and no database."""
    port = free_port()
    base = f"http://127.0.0.1:{upstream_port}/v1"
    home.mkdir()
    config = home / "litellm.yaml"
    listed = "".join(LITELLM_MODEL.format(name=name, base=base) for name in models)
    config.write_text(LITELLM_CONFIG.format(models=listed, key=LITELLM_KEY))
    command = [
        *(os.environ["CAPIO_BENCH_LITELLM"], "--config", str(config), "--port", str(port)),
        *("--host", "127.0.0.1", "--num_workers", "1"),
    ]
    # Without this it fetches its price list from the internet at the start.
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with _running(command, environment, home, port) as pid:
        yield Peer("litellm", port, pid, LITELLM_KEY)


@contextmanager
def portkey(home: Path, upstream_port: int, models: list[str]) -> Iterator[Peer]:  # noqa: ARG001
    """Run Portkey's gateway; it has no keys of its own, requests name the upstream."""
    port = free_port()
    home.mkdir()
    package = Path(os.environ["CAPIO_BENCH_PORTKEY"]) / "node_modules/@portkey-ai/gateway"
    command = ["node", str(package / "build/start-server.js"), f"--port={port}", "--headless"]
    headers = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{upstream_port}/v1",
    }
    # Without this it refuses upstreams on the loopback.
    environment = {**os.environ, "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
    with _running(command, environment, home, port) as pid:
        yield Peer("portkey", port, pid, "unused", headers)


PEERS: Final[Mapping[str, Callable[[Path, int, list[str]], AbstractContextManager[Peer]]]] = {
    "litellm": litellm,
    "portkey": portkey,
}


@contextmanager
def _running(
    command: list[str], environment: Mapping[str, str], home: Path, port: int
) -> Iterator[int]:
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=home, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_until_open(port, process, home / "log")
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"{process.args!r} does not listen:\n{log.read_text()[-2000:]}")
