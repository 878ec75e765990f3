"""The limit on open files: raised, or the connections are fewer, or the start is refused."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from gateway.server.file_limit import RESERVED_FILES, connections_within, files_needed
from gateway.settings import Provider, Server, Settings, WireEndpoint
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_client import Connection
from tests.support.service import DemoProcess
from tests.support.waiting import wait_until_sync

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

ENDPOINT = WireEndpoint(base_url="https://p.test/v1")
BOTH = Provider(name="p", openai=ENDPOINT, anthropic=ENDPOINT, max_connections=100)
SETTINGS = Settings(server=Server(max_connections=1000), providers=[BOTH])

CLAIM = """
import json, resource, sys
from gateway.server.file_limit import claim_files
from gateway.settings import Provider, Server, Settings, WireEndpoint
soft, hard, most = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
wire = WireEndpoint(base_url="https://p.test/v1")
provider = Provider(name="p", openai=wire, anthropic=wire, max_connections=100)
got = claim_files(Settings(server=Server(max_connections=most), providers=[provider]))
print(json.dumps([got, *resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


def claimed(soft: int, hard: int, most: int) -> list[int]:
    """Return what a process with these limits gets: connections, soft and hard limit."""
    done = subprocess.run(
        [sys.executable, "-c", CLAIM, str(soft), str(hard), str(most)],
        capture_output=True,
        text=True,
        check=True,
    )
    numbers: list[int] = json.loads(done.stdout)
    return numbers


def test_every_file_is_counted() -> None:
    """Clients, both wires' pools, and a reserve; calls bound what large pools can hold."""
    huge = Settings(
        server=Server(max_connections=1000, max_in_flight=300),
        providers=[Provider(name="p", openai=ENDPOINT, max_connections=100_000)],
    )

    direct = msgspec.structs.replace(
        SETTINGS, server=msgspec.structs.replace(SETTINGS.server, direct_port=8081)
    )

    assert files_needed(SETTINGS) == 1000 + 200 + RESERVED_FILES
    assert files_needed(direct) == 2000 + 200 + RESERVED_FILES
    assert connections_within(direct, files_needed(direct) - 2) == 999
    assert files_needed(huge) == 1000 + 600 + RESERVED_FILES


@pytest.mark.parametrize(
    ("files", "connections"),
    [
        (files_needed(SETTINGS), 1000),
        (files_needed(SETTINGS) - 1, 999),
        (RESERVED_FILES + 400, 200),
        (RESERVED_FILES + 100, 50),
        (RESERVED_FILES, 0),
        (10, 0),
    ],
)
def test_connections_leave_room_for_their_upstreams(files: int, connections: int) -> None:
    """When files are few, each connection may still have one to an upstream."""
    assert connections_within(SETTINGS, files) == connections


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (300, 4096, [1000, 1456, 4096]),
        (2000, 4096, [1000, 2000, 4096]),
        (300, 1024, [568, 1024, 1024]),
    ],
)
def test_soft_limit_is_raised_as_far_as_needed(soft: int, hard: int, expected: list[int]) -> None:
    """Never lowered, and the connections follow what the hard limit allows."""
    assert claimed(soft, hard, 1000) == expected


def test_start_with_far_too_few_files_is_refused(
    tmp_path: Path, demo_upstream: DemoProcess
) -> None:
    """The log names the limit, what is needed and how it is set."""
    process = GatewayProcess(tmp_path, demo_upstream.config(), open_files=300)
    process.launch()

    assert process.wait() == 1
    (line,) = [line for line in process.log().split("\n") if "start_refused" in line]
    assert "300" in line
    assert "ulimit -n" in line


def test_silent_connections_leave_files_for_the_service(
    tmp_path: Path, demo_upstream: DemoProcess
) -> None:
    """With 1,024 files the number of connections is limited, and later clients are served."""
    process = GatewayProcess(
        tmp_path,
        demo_upstream.config(),
        workers=1,
        server="header_timeout_s = 1.0",
        open_files=1024,
    )
    opened: list[socket.socket] = []
    try:
        process.start()
        (line,) = [line for line in process.log().split("\n") if "connection_cap_lowered" in line]
        (worker,) = process.workers()
        where = ("127.0.0.1", process.port)
        opened += [socket.create_connection(where, timeout=20) for _ in range(700)]
        time.sleep(0.3)
        files = len([*Path(f"/proc/{worker}/fd").iterdir()])
        wait_until_sync(lambda: healthy(process.port), 20)
    finally:
        for each in opened:
            each.close()
        process.stop()

    assert json.loads(line)["connections"] == (1024 - RESERVED_FILES) // 2
    assert files < 1024 - RESERVED_FILES // 2
    assert "Too many open files" not in process.log()


def healthy(port: int) -> bool:
    """Return whether the gateway responds."""
    try:
        with Connection(port) as connection:
            return connection.request("GET", "/healthz").status == 200
    except (OSError, EOFError):
        return False
