"""The gateway in front of a demo upstream and a raw one, with keys to use it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from copy import copy
from pathlib import Path
from typing import NamedTuple

from tests.support.gateway_process import GatewayProcess, free_port
from tests.support.raw_upstream import RawUpstream

OPENAI_MODEL = "deepseek-v4-flash"
"""Served on the OpenAI wire only."""
ANTHROPIC_MODEL = "claude-opus-4-8"
"""Served on the Anthropic wire only."""
BOTH_MODEL = "MiniMax-M3"
"""Served on both wires."""
UPSTREAM_KEY = "upstream-secret-5f3a"
"""The gateway's own credential at the raw upstream."""

SETTLED_S = 1.0
"""After this time without a new call in SQL there will be none."""

HELLO = "Hello from the demo upstream!"
"""How every text of the demo upstream begins."""


class Key(NamedTuple):
    """A virtual key."""

    id: str
    raw: str


class DemoProcess:
    """The demo upstream in a process of its own."""

    def __init__(self, pace_s: float) -> None:
        self.port = free_port()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gateway.demo", str(self.port), str(pace_s)]
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=1)
            except urllib.error.HTTPError as answer:
                answer.close()
                return
            except OSError:
                assert time.monotonic() < deadline, "the demo upstream does not respond"
                time.sleep(0.02)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)

    def config(self) -> str:
        """Return the TOML of the provider and a model for each wire, and one for both."""
        base = f"http://127.0.0.1:{self.port}"
        text = f"""
[[providers]]
name = "demo"
openai = {{ base_url = "{base}/v1" }}
anthropic = {{ base_url = "{base}" }}
"""
        for name, wires in (
            (OPENAI_MODEL, ["openai"]),
            (ANTHROPIC_MODEL, ["anthropic"]),
            (BOTH_MODEL, ["openai", "anthropic"]),
        ):
            deployment = f'provider = "demo", model = "{name}", wires = {json.dumps(wires)}'
            text += f"""
[[models]]
name = "{name}"
context = 1000000
max_output = 64000
prices = {{ input = "0.07", output = "0.14" }}
deployments = [{{ {deployment} }}]
"""
        return text


class Service:
    """
    One gateway with an account.

    Args:
        home: Its directory.
        demo: An upstream that is already there.
        raw: Another, or none.
        workers, server, extra: As `GatewayProcess`.
        direct: Whether `port` is its direct port, see `on_port`.
    """

    def __init__(
        self,
        home: Path,
        demo: DemoProcess,
        raw: RawUpstream | None = None,
        *,
        workers: int = 2,
        server: str = "",
        extra: str = "",
        direct: bool = False,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        key_file = home / "upstream.key"
        key_file.write_text(UPSTREAM_KEY)
        config = demo.config() + (raw.config(str(key_file)) if raw else "")
        self.process = GatewayProcess(
            home, config, workers=workers, server=server, extra=extra, direct=direct
        )
        self._account = ""
        self._is_direct = direct

    def on_port(self, *, direct: bool) -> Service:
        """Return this gateway, as it is reached on one of its two ports."""
        view = copy(self)
        view._is_direct = direct
        return view

    def start(self) -> Service:
        """Start it and make an account."""
        self.process.start()
        made = json.loads(self.process.capio("accounts", "create", "tests", "--postpaid", "--json"))
        self._account = made[0]["id"]
        return self

    def stop(self) -> None:
        """End it."""
        self.process.stop()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.process.direct_port if self._is_direct else self.process.port

    @property
    def url(self) -> str:
        """Its address, without a path."""
        direct = f"http://127.0.0.1:{self.process.direct_port}"
        return direct if self._is_direct else self.process.base_url

    def new_account_key(self, name: str) -> Key:
        """Make a key of a new account."""
        made = json.loads(self.process.capio("accounts", "create", name, "--postpaid", "--json"))
        return self.new_key(name, account=made[0]["id"])

    def new_key(self, name: str, *arguments: str, account: str | None = None) -> Key:
        """Make a key; `arguments` go to `capio keys create`."""
        made = json.loads(
            self.process.capio(
                "keys",
                "create",
                "--account",
                account or self._account,
                "--name",
                name,
                "--json",
                *arguments,
            )
        )
        return Key(made["id"], made["key"])

    def calls(self, key: Key) -> dict[str, int]:
        """Return what SQL holds of a key's calls: calls, failed, and the token classes."""
        rows = json.loads(self.process.capio("usage", "--by", "key", "--key", key.id, "--json"))
        return rows[0] if rows else {"calls": 0, "failed": 0}

    def recorded(self, key: Key) -> int:
        """Return how many calls of a key SQL holds by now; quick, for polling."""
        path = self.process.data_dir / "capio.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            query = "select count(*) from usage_events where key_id = ?"
            (count,) = database.execute(query, (key.id,)).fetchone()
            return int(count)

    def settled(self, key: Key) -> int:
        """Return how many calls of a key are in SQL, once that number stands still."""
        last, since = -1, time.monotonic()
        while time.monotonic() < since + SETTLED_S:
            count = self.recorded(key)
            if count != last:
                last, since = count, time.monotonic()
            time.sleep(0.05)
        return last

    def lines(self, request_id: str) -> list[dict[str, object]]:
        """Return the log lines of one call."""
        return [
            json.loads(line)
            for line in self.process.log().splitlines()
            if f'"request_id":"{request_id}"' in line
        ]
