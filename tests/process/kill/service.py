"""All processes of the kill test, and how each is killed or paused."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.process.kill.audit import IDLE_S, Kill
from tests.support.gateway_process import GatewayProcess, free_port
from tests.support.postgres import PostgresServer, find_binaries

LANES = 24
CLIENTS = 2
CRASH_LOOP_S = 6.5
"""Granian ends all when a worker dies again within 5.5 s of its replacement's start."""

PROVIDER = """
[[providers]]
name = "{name}"
openai = {{ base_url = "http://127.0.0.1:{port}/v1" }}
anthropic = {{ base_url = "http://127.0.0.1:{port}" }}
on_client_gone = "{gone}"
timeouts = {{ first_byte_s = 8.0, first_content_s = 8.0, idle_s = {idle_s} }}
"""
MODEL = """
[[models]]
name = "lane-{lane}"
context = 100000
max_output = 2000
prices = {{ input = "1", output = "3", cache_read = "0.1", cache_write = "1.25" }}
deployments = [{deployments}]
"""
MONEY = "[money]\nlease_s = {lease_s}\nrenew_s = {renew_s}\n"


class Clocks(NamedTuple):
    """Times of a run: in its short form they are short."""

    lease_s: float = 3.0
    renew_s: float = 0.5
    pause_s: float = 6.0
    """How long SIGSTOP holds a process; leases run out in it."""


class Pause(NamedTuple):
    """Processes that stand still."""

    what: str
    pids: list[int]
    at: float
    until: float


class KillService:
    """
    Everything that runs, in one directory.

    Args:
        home: The directory.
        seed: Of the upstream's breaks and the kills.
        seconds: How long clients begin calls.
        clocks: Leases and pauses.
        postgres: PostgreSQL in SQLite's place.
    """

    def __init__(
        self, home: Path, seed: int, seconds: float, clocks: Clocks, *, postgres: bool = False
    ) -> None:
        self.home = home
        self.record = home / "upstream.jsonl"
        self.kills: list[Kill] = []
        self._seed = seed
        self._seconds = seconds
        self._chance = random.Random(seed)
        self._pause_s = clocks.pause_s
        self._pauses: list[Pause] = []
        self._seen: dict[int, float] = {}
        self._clients: dict[int, subprocess.Popen[bytes]] = {}
        self._postgres: PostgresServer | None = None
        sql = ""
        if postgres:
            binaries = find_binaries()
            assert binaries is not None, "no PostgreSQL here"
            self._postgres = PostgresServer(binaries)
            self._postgres.start()
            sql = f'[sql]\nurl = "{self._postgres.create_database()}"\n'
        self._upstream_port = free_port()
        config = _config(self._upstream_port)
        money = MONEY.format(lease_s=clocks.lease_s, renew_s=clocks.renew_s)
        self.gateway = GatewayProcess(home, config, workers=2, extra=money + sql)
        self._upstream = subprocess.Popen(
            [sys.executable, "-m", "tests.process.kill.upstream", str(self._upstream_port),
             str(self.record), str(seed), str(home / "supervisor.pid")]
        )  # fmt: skip
        self._keys: list[str] = []

    def start(self) -> None:
        """Start the gateway, make accounts and keys, and let the clients begin."""
        if self._postgres is not None:
            self.gateway.capio("migrate")
        self.gateway.start()
        (self.home / "supervisor.pid").write_text(str(self.gateway.pid))
        self._keys = [self._prepaid_key(), self._postpaid_key()]
        until = time.time() + self._seconds
        for number in range(CLIENTS):
            order = {
                "port": self.gateway.port, "log": str(self.client_log(number)), "keys": self._keys,
                "lanes": list(range(number, LANES, CLIENTS)), "until": until,
            }  # fmt: skip
            (self.home / f"order-{number}.json").write_text(json.dumps(order))
            self._start_client(number)

    def client_log(self, number: int) -> Path:
        """Return where one process of clients writes."""
        return self.home / f"client-{number}.jsonl"

    @property
    def client_logs(self) -> list[Path]:
        """Return all of them."""
        return [self.client_log(number) for number in range(CLIENTS)]

    def wait_for_clients(self, timeout_s: float = 60.0) -> None:
        """Return when every call has ended."""
        for client in self._clients.values():
            assert client.wait(timeout_s) == 0, "a client failed"

    def stop(self) -> None:
        """End everything."""
        self.resume()
        for client in self._clients.values():
            client.kill()
            client.wait()
        self.gateway.stop()
        self._upstream.kill()
        self._upstream.wait()
        if self._postgres is not None:
            self._postgres.close()

    # What is killed.

    def disturb(self) -> None:
        """
        Kill or pause something, at random.

        Waits until what was killed is back where that is seen from outside. What was paused goes on
        at a later call, or is killed before.
        """
        self.resume(time.time())
        for pid in self.gateway.workers():
            self._seen.setdefault(pid, time.time())
        choices = {
            "worker": 35, "ledger": 20, "valkey": 15, "valkey frozen": 8, "client": 15,
            "worker paused": 20, "all workers paused": 10, "ledger paused": 10, "valkey paused": 6,
        }  # fmt: skip
        if self._postgres is not None:
            choices["postgres"] = 15
        what = self._chance.choices(list(choices), list(choices.values()))[0]
        getattr(self, f"_kill_{what.replace(' ', '_')}")()

    def resume(self, due_at: float = float("inf")) -> None:
        """Let those go on whose pause is over by then."""
        for pause in [pause for pause in self._pauses if pause.until <= due_at]:
            self._pauses.remove(pause)
            for pid in pause.pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                self._noted(pause.what, pid, pause.at)

    def _pause(self, what: str, pids: list[int]) -> None:
        stopped = {pid for pause in self._pauses for pid in pause.pids}
        if not pids or stopped.intersection(pids):
            return
        at = time.time()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        self._pauses.append(Pause(what, pids, at, at + self._pause_s))

    def _child(self, mark: str) -> list[int]:
        workers = self.gateway.workers()
        found = self.gateway.children().items()
        return [pid for pid, line in found if mark in line and pid not in workers][:1]

    def _kill_worker_paused(self) -> None:
        alive = self.gateway.workers()
        self._pause("worker paused", [self._chance.choice(alive)] if alive else [])

    def _kill_all_workers_paused(self) -> None:
        self._pause("all workers paused", self.gateway.workers())

    def _kill_ledger_paused(self) -> None:
        self._pause("ledger paused", self._child("gateway.server.ledger_process"))

    def _kill_valkey_paused(self) -> None:
        """Pause Redis for whole: to kill it meanwhile would be the kill that there is already."""
        pids = self._child("valkey-server")
        self._pause("valkey paused", pids)
        if pids:
            time.sleep(self._pause_s)
            self.resume(time.time())

    def _noted(self, what: str, pid: int, at: float) -> None:
        self.kills.append(Kill(what, pid, at, time.time()))

    def _kill_worker(self) -> None:
        old = time.time() - CRASH_LOOP_S
        alive = [pid for pid in self.gateway.workers() if self._seen.get(pid, old + 1) < old]
        if alive:
            pid = self._chance.choice(alive)
            at = time.time()
            os.kill(pid, signal.SIGKILL)
            self._noted("worker", pid, at)

    def _kill_ledger(self) -> None:
        self._kill_child("ledger", "gateway.server.ledger_process")

    def _kill_child(self, what: str, mark: str) -> int:
        for pid, line in self.gateway.children().items():
            if mark in line and pid not in self.gateway.workers():
                at = time.time()
                os.kill(pid, signal.SIGKILL)
                self._noted(what, pid, at)
                return pid
        return 0

    def _kill_valkey(self) -> None:
        at = time.time()
        pid = self._kill_child("valkey", "valkey-server")
        if pid:
            if self._chance.random() < 0.25:
                self._kill_worker()
            self._wait_valkey()
            self.kills = [kill for kill in self.kills if (kill.what, kill.pid) != ("valkey", pid)]
            self._noted("valkey", pid, at)

    def _kill_valkey_frozen(self) -> None:
        for pid, line in self.gateway.children().items():
            if "valkey-server" in line:
                at = time.time()
                os.kill(pid, signal.SIGSTOP)
                try:
                    time.sleep(self._chance.uniform(0.1, 2.0))
                finally:
                    os.kill(pid, signal.SIGCONT)
                self._noted("valkey frozen", pid, at)
                return

    def _wait_valkey(self) -> None:
        path = str(self.gateway.data_dir / "valkey" / "valkey.sock")
        deadline = time.time() + 20
        while time.time() < deadline:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1)
                probe.connect(path)
                probe.sendall(b"PING\r\n")
                if probe.recv(16).startswith(b"+PONG"):
                    return
            time.sleep(0.02)
        raise AssertionError("Valkey does not come back")

    def _kill_client(self) -> None:
        number = self._chance.randrange(CLIENTS)
        client = self._clients[number]
        if client.poll() is None:
            at = time.time()
            client.kill()
            client.wait()
            self._noted("client", client.pid, at)
            self._start_client(number)

    def _kill_postgres(self) -> None:
        assert self._postgres is not None
        at = time.time()
        self._postgres.kill()
        time.sleep(self._chance.uniform(0.0, 2.0))
        self._postgres.start()
        self._noted("postgres", 0, at)

    def _start_client(self, number: int) -> None:
        self._clients[number] = subprocess.Popen(
            [sys.executable, "-m", "tests.process.kill.load",
             str(self.home / f"order-{number}.json")]
        )  # fmt: skip

    # Who calls.

    def _prepaid_key(self) -> str:
        capio = self.gateway.capio
        capio("accounts", "create", "prepaid")
        capio("credits", "topup", "--account", "prepaid", "--amount", "100000", "--reason", "test")
        made = json.loads(capio("keys", "create", "--account", "prepaid", "--name", "a", "--json"))
        raw: str = made["key"]
        return raw

    def _postpaid_key(self) -> str:
        """Return a key with every kind of limit, none of which is reached."""
        capio = self.gateway.capio
        capio("accounts", "create", "postpaid", "--postpaid")
        made = json.loads(capio("keys", "create", "--account", "postpaid", "--name", "b", "--json"))
        capio("limits", "set", "--key", made["id"], "--rpm", "1000000", "--tpm", "1000000000",
              "--concurrency", "1000", "--budget-month", "100000")  # fmt: skip
        raw: str = made["key"]
        return raw


def _config(port: int) -> str:
    text = PROVIDER.format(name="left", port=port, gone="cancel", idle_s=IDLE_S)
    text += PROVIDER.format(name="read-on", port=port, gone="drain", idle_s=IDLE_S)
    for lane in range(LANES):
        providers = ["left", "read-on"] if lane // 2 % 2 else ["read-on", "left"]
        wire = "openai" if lane // 4 % 2 else "anthropic"
        deployments = ", ".join(
            f'{{ provider = "{name}", model = "up", wires = ["{wire}"] }}' for name in providers
        )
        text += MODEL.format(lane=lane, deployments=deployments)
    return text
