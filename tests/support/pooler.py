"""A real PgBouncer in transaction mode, in front of a PostgreSQL of the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.proxies import find_program
from tests.support.waiting import wait_until_sync


class PoolerProcess:
    """
    One PgBouncer on a Unix socket of its own; the running test is skipped if there is none here.

    Args:
        url: Of a database; the pooler serves all databases of that server.
        servers: Connections to PostgreSQL for each database; transactions take turns on them.
    """

    def __init__(self, url: str, servers: int) -> None:
        program = find_program("pgbouncer")
        if program is None:
            pytest.skip("pgbouncer is not installed")
        self._home = Path(tempfile.mkdtemp(prefix="capio-pgb-"))
        config = self._home / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n* = host={url.partition('host=')[2]} user=capio\n"
            f"[pgbouncer]\nunix_socket_dir = {self._home}\nlisten_port = 6432\nauth_type = any\n"
            f"pool_mode = transaction\ndefault_pool_size = {servers}\nmax_client_conn = 200\n"
        )
        as_user: dict[str, Any] = {}
        if os.geteuid() == 0:  # PgBouncer refuses to run as root
            nobody = pwd.getpwnam("nobody")
            for path in (self._home, config):  # whatever the umask of a test
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
            as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        with (self._home / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, str(config)], stdout=log, stderr=log, **as_user
            )
        wait_until_sync((self._home / ".s.PGSQL.6432").exists, 20)

    def through(self, url: str) -> str:
        """Return the URL of a database by way of the pooler."""
        return f"{url.partition('host=')[0]}host={self._home}&port=6432"

    def close(self) -> None:
        """Kill it and remove its directory."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._home)
