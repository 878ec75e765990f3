"""Commands over the control socket."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.server.control import ControlError, ControlServer, Reply, run_dir, send_command


def echo(request: dict[str, object]) -> Reply:
    """A command that succeeds."""
    return {"ok": True, "got": request}


def broken(_: dict[str, object]) -> Reply:
    """A command with a bug."""
    raise ValueError("a secret detail")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory whose name is longer than the path of a socket may be."""
    data_dir = tmp_path / ("long" * 30)
    run_dir(data_dir).mkdir(parents=True)
    return data_dir


@pytest.fixture
def server(data_dir: Path) -> Iterator[ControlServer]:
    """A server with two commands."""
    made = ControlServer(run_dir(data_dir), {"echo": echo, "broken": broken})
    made.start()
    yield made
    made.stop()


def test_command_gets_its_reply(server: ControlServer, data_dir: Path) -> None:
    """The handler gets the whole request."""
    sent = {"command": "echo", "on": True}

    assert send_command(data_dir, sent, 5) == {"ok": True, "got": sent}


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("unknown", "Unknown command."),
        ("broken", "Internal error, see the gateway's log."),
    ],
)
def test_command_that_fails_is_refused(
    server: ControlServer, data_dir: Path, command: str, error: str
) -> None:
    """The server goes on, and details are in the log only."""
    reply = send_command(data_dir, {"command": command}, 5)

    assert reply == {"ok": False, "errors": [error]}
    assert send_command(data_dir, {"command": "echo"}, 5)["ok"] is True


def test_only_its_user_may_open_the_socket(server: ControlServer, data_dir: Path) -> None:
    """Only the gateway's user may open it, since its commands can stop the service."""
    mode = (run_dir(data_dir) / "control.sock").stat().st_mode

    assert stat.S_IMODE(mode) == 0o600


def test_without_a_gateway_the_command_says_so(server: ControlServer, data_dir: Path) -> None:
    """The same after its end as before its start."""
    server.stop()

    with pytest.raises(ControlError, match="No gateway of this configuration runs"):
        send_command(data_dir, {"command": "echo"}, 5)
    assert not (run_dir(data_dir) / "control.sock").exists()


def test_socket_of_a_killed_gateway_is_replaced(server: ControlServer, data_dir: Path) -> None:
    """That of a running gateway is not."""
    second = ControlServer(run_dir(data_dir), {"echo": lambda _: {"ok": True, "got": "second"}})
    second.start()
    second.stop()
    assert send_command(data_dir, {"command": "echo"}, 5)["got"] != "second"

    left = server._socket
    assert left is not None
    left.shutdown(socket.SHUT_RDWR)
    left.close()
    server._socket = None
    second.start()

    assert send_command(data_dir, {"command": "echo"}, 5)["got"] == "second"
    second.stop()
