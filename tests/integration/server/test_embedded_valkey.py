"""The embedded server's life: start, restart, orphans, and its end with the supervisor."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.server.embedded_valkey import EmbeddedValkey, EmbeddedValkeyError
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.redis

ROOT = Path(__file__).parents[3]

SUPERVISOR = """
import sys, time
from pathlib import Path
from gateway.server.embedded_valkey import EmbeddedValkey
server = EmbeddedValkey(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A server in a fresh data directory, always stopped at the end."""
    embedded = EmbeddedValkey(tmp_path / "data")
    yield embedded
    embedded.stop()


def ask(url: str, command: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(url.removeprefix("unix://"))
        connection.sendall(command + b"\r\n")
        return connection.recv(4096)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def supervisor_process(data_dir: Path) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(data_dir)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_start_answers_on_a_private_socket_without_a_port(server: EmbeddedValkey) -> None:
    """The server listens on its socket only, in a directory of mode 0700."""
    url = server.start()

    assert ask(url, b"PING") == b"+PONG\r\n"
    assert b"tcp_port:0" in ask(url, b"INFO server")
    home = Path(url.removeprefix("unix://")).parent
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert (home / "valkey.log").read_bytes()


def test_start_stands_in_a_session_of_its_own(server: EmbeddedValkey) -> None:
    """Ctrl-C in the terminal signals the supervisor's group, and the server is not in it."""
    server.start()

    assert server.pid is not None
    assert os.getsid(server.pid) == server.pid


def test_start_twice_keeps_the_server(server: EmbeddedValkey) -> None:
    """A second start returns the running server."""
    first = server.start(), server.pid

    assert (server.start(), server.pid) == first


def test_stop_leaves_no_process_and_keeps_what_was_written(server: EmbeddedValkey) -> None:
    """The append-only file carries the keys over to the next life."""
    url = server.start()
    pid = server.pid
    ask(url, b"SET k v")

    server.stop()
    server.stop()

    assert pid is not None and not alive(pid)
    assert not Path(url.removeprefix("unix://")).exists()
    assert ask(server.start(), b"GET k") == b"$1\r\nv\r\n"


def test_stop_of_a_hung_server_kills_it(tmp_path: Path) -> None:
    """A server that ignores SIGTERM is killed after the timeout."""
    server = EmbeddedValkey(tmp_path, stop_timeout_s=0.1)
    server.start()
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)

    server.stop()

    assert not alive(pid)


def test_ensure_running_after_kill_restarts_with_the_data(server: EmbeddedValkey) -> None:
    """Kill -9 of the server costs a restart at the same address, no key."""
    url = server.start()
    first = server.pid
    assert first is not None
    assert ask(url, b"SET k v") == b"+OK\r\n"
    assert not server.ensure_running()

    os.kill(first, signal.SIGKILL)
    wait_until_sync(lambda: server.pid is None)

    assert server.ensure_running()
    assert server.pid != first
    assert ask(url, b"GET k") == b"$1\r\nv\r\n"


def test_start_on_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    """Two supervisors never share a data directory."""
    process, _ = supervisor_process(tmp_path)
    try:
        with pytest.raises(EmbeddedValkeyError, match="in use"):
            EmbeddedValkey(tmp_path).start()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_supervisor_killed_ends_the_server(tmp_path: Path, server: EmbeddedValkey) -> None:
    """Kill -9 of the supervisor leaves no server behind, and the next start finds the data."""
    process, pid = supervisor_process(tmp_path / "data")
    assert ask(server.url, b"SET k v") == b"+OK\r\n"

    process.kill()
    process.communicate()

    wait_until_sync(lambda: not alive(pid))
    assert ask(server.start(), b"GET k") == b"$1\r\nv\r\n"


def test_start_beside_a_hung_orphan_ends_it_first(tmp_path: Path) -> None:
    """A server that survived its supervisor is ended before a new one writes to its file."""
    server = EmbeddedValkey(tmp_path, stop_timeout_s=0.3, orphan_grace_s=0.1)
    process, orphan = supervisor_process(tmp_path)
    assert ask(server.url, b"SET k v") == b"+OK\r\n"
    os.kill(orphan, signal.SIGSTOP)
    process.kill()
    process.communicate()

    try:
        assert ask(server.start(), b"GET k") == b"$1\r\nv\r\n"
        wait_until_sync(lambda: not alive(orphan))
    finally:
        server.stop()


def test_start_with_a_stale_socket_recovers(server: EmbeddedValkey) -> None:
    """A socket file without a server behind it is replaced."""
    path = Path(server.url.removeprefix("unix://"))
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))

    assert ask(server.start(), b"PING") == b"+PONG\r\n"


def test_start_in_a_long_path_listens_elsewhere(tmp_path: Path) -> None:
    """A data directory deeper than a socket's name may be long still works."""
    server = EmbeddedValkey(tmp_path / ("x" * 120))
    try:
        assert len(server.url) < 110
        assert ask(server.start(), b"PING") == b"+PONG\r\n"
    finally:
        server.stop()
        Path(server.url.removeprefix("unix://")).parent.rmdir()


def test_start_with_a_broken_file_says_where_to_look(server: EmbeddedValkey) -> None:
    """A server that cannot load its file is reported with the end of its log."""
    manifest = Path(server.url.removeprefix("unix://")).parent / "appendonlydir"
    manifest.mkdir(parents=True)
    (manifest / "appendonly.aof.manifest").write_bytes(b"nonsense\n")

    with pytest.raises(EmbeddedValkeyError, match=r"valkey\.log ends with"):
        server.start()
