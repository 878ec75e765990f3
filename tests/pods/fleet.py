"""Everything that an installation of several pods consists of, and how each part is disturbed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from redis.crc import key_slot

from gateway.settings import Settings, Sql
from gateway.store.hot_state.redis_schema import RedisKeys
from gateway.store.sql.migrations import migrate
from tests.pods.balancer import Balancer
from tests.process.chaos.clients import MODEL
from tests.support.gateway_process import GatewayProcess, free_port
from tests.support.pooler import PoolerProcess
from tests.support.postgres import PostgresServer, find_binaries
from tests.support.redis_cluster import RedisCluster, wait_for
from tests.support.valkey import SentinelGroup, ValkeyProcess
from tests.support.waiting import wait_until_sync

PODS = 3
LEDGERS = 2
SERVERS = 20
"""Connections of the pooler to PostgreSQL."""
INPUT_NANOUSD, OUTPUT_NANOUSD = 1_000, 2_000
"""Prices of a token."""
POD = """
ledger_writer = false
drain_s = 2
grace_s = 20
idle_timeout_s = 75
"""
STORES = """
[redis]
url = "{redis}"
command_timeout_ms = 400

[sql]
url = "{sql}"
transaction_pooler = true
migrate = false
book_directly_after_s = 2

[money]
lease_s = 4
renew_s = 0.5

[routing]
breaker_open_s = 1
out_probe_s = 1
"""
CATALOGUE = """
[[providers]]
name = "both"
openai = {{ base_url = "http://127.0.0.1:{port}/v1" }}
anthropic = {{ base_url = "http://127.0.0.1:{port}" }}

[[models]]
name = "{model}"
prices = {{ input = "1", output = "2" }}
deployments = [{{ provider = "both", model = "up" }}]
"""


class Redis(Protocol):
    """One form of Redis."""

    @property
    def url(self) -> str:
        """What the gateways are given."""

    def kill(self) -> None:
        """Kill the server that takes writes with signal 9."""

    def revive(self) -> None:
        """Start what was killed again, or wait until another server takes writes."""

    def close(self) -> None:
        """End all."""


class SingleRedis:
    """One server with an append-only file."""

    def __init__(self) -> None:
        port = str(free_port())
        self._server = ValkeyProcess("--port", port, "--bind", "127.0.0.1", persist=True)
        self._server.start()
        self.url = f"redis://127.0.0.1:{port}/0"

    def kill(self) -> None:
        """Kill it."""
        self._server.kill()

    def revive(self) -> None:
        """Start it again, with what its file holds."""
        self._server.start()

    def close(self) -> None:
        """End it."""
        self._server.close()


class SentinelRedis:
    """A primary and a replica; the Sentinel makes the replica the primary."""

    def __init__(self) -> None:
        self._group = SentinelGroup(persist=True)
        wait_until_sync(self._group.knows_the_replica, 20)
        self.url = self._group.url()

    def kill(self) -> None:
        """Kill the primary."""
        self._group.primary.kill()

    def revive(self) -> None:
        """Wait until the replica is the primary."""
        port = str(self._group.ports[1]).encode()
        command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._group.SERVICE)
        wait_until_sync(lambda: port in self._group.sentinel.command(*command), 30)

    def close(self) -> None:
        """End all three."""
        self._group.close()


class ClusteredRedis:
    """Three masters with a replica each; a killed one comes back as a replica."""

    def __init__(self) -> None:
        self._cluster = RedisCluster()
        self.url = self._cluster.url
        self._shards = [names.calls for names in RedisKeys("capio:").shards]

    def kill(self) -> None:
        """Kill the master of the first shard."""
        self._killed = self._cluster.owner_of(self._shards[0])
        self._killed.process.kill()

    def revive(self) -> None:
        """Wait until its replica has taken over, and start it again."""
        wait_for(lambda: self._cluster.owner_of(self._shards[0]) is not self._killed)
        self._killed.process.start()
        self._cluster.wait_until_synced()

    def reshard(self) -> None:
        """Move the slot of every shard to another master."""
        owners = {owner.id: owner for owner in map(self._cluster.owner_of, self._shards)}
        masters = list(owners.values())
        for key in self._shards:
            old = self._cluster.owner_of(key)
            new = masters[(masters.index(old) + 1) % len(masters)]
            self._cluster.move(key_slot(key), old, new)

    def close(self) -> None:
        """End all."""
        self._cluster.close()


class Fleet:
    """
    Three gateways without ledger writers behind a load balancer, two ledger writers, and a console.

    Redis is given; PostgreSQL is behind PgBouncer in transaction mode.

    Args:
        home: Where configurations, data and logs go.
        redis: See `Redis`; closed with the fleet.
        upstream_port: Of the only upstream, which speaks both wires.
        proxy: `nginx` or `haproxy`.
    """

    def __init__(self, home: Path, redis: Redis, upstream_port: int, proxy: str) -> None:
        self.redis = redis
        self._home, self._upstream_port, self._proxy = home, upstream_port, proxy
        self._stack = ExitStack()
        self._stack.callback(redis.close)

    def start(self) -> None:
        """Start everything and wait until it is ready."""
        binaries = find_binaries()
        assert binaries is not None, "no PostgreSQL: `make setup` installs it"
        self.postgres = PostgresServer(binaries)
        self._stack.callback(self.postgres.close)
        self.postgres.start()
        self.sql_url = self.postgres.create_database()
        asyncio.run(migrate(Settings(sql=Sql(url=self.sql_url))))
        pooler = PoolerProcess(self.sql_url, SERVERS)
        self._stack.callback(pooler.close)
        extra = STORES.format(redis=self.redis.url, sql=pooler.through(self.sql_url))
        self.pods = [self._configured(f"pod{n}", extra) for n in range(PODS)]
        for pod in self.pods:
            self._stack.callback(pod.stop)
            pod.launch()
        for number in range(LEDGERS):
            self._start_beside("ledger", self._configured(f"ledger{number}", extra))
        self._start_beside("console", self._configured("console", extra))
        for pod in self.pods:
            pod.wait_ready()
        ports = [pod.port for pod in self.pods]
        self.balancer = Balancer(self._proxy, self._home / "proxy", ports)
        self._stack.callback(self.balancer.close)
        self.balancer.wait()

    def close(self) -> None:
        """End everything that was started, in the reverse order."""
        self._stack.close()

    def _configured(self, name: str, extra: str) -> GatewayProcess:
        config = CATALOGUE.format(port=self._upstream_port, model=MODEL)
        return GatewayProcess(self._home / name, config, workers=1, server=POD, extra=extra)

    def _start_beside(self, command: str, configured: GatewayProcess) -> None:
        arguments = ["-m", "gateway.cli", command, "--config", str(configured.config_path)]
        with configured.log_path.open("wb") as log:
            process = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log)
        self._stack.callback(process.wait, 20)
        self._stack.callback(process.terminate)

    def capio(self, *arguments: str) -> str:
        """Run a command of the command line."""
        return self.pods[0].capio(*arguments)

    def new_key(self, name: str) -> tuple[str, str]:
        """Make an account with a key; return the key's id and the key."""
        self.capio("accounts", "create", name, "--postpaid", "--json")
        made = json.loads(self.capio("keys", "create", "--account", name, "--name", "k", "--json"))
        return made["id"], made["key"]

    def roll(self) -> None:
        """Replace the pods one by one, as a rolling update does."""
        for pod in self.pods:
            self.stop_pod(pod)
            pod.start()

    def stop_pod(self, pod: GatewayProcess) -> None:
        """End a pod with SIGTERM and remove its disk."""
        pod.signal(signal.SIGTERM)
        code = pod.wait(40)
        assert code == 0, f"exit code {code}: {pod.log()[-2000:]}"
        shutil.rmtree(pod.data_dir)

    def kill_pod(self, pod: GatewayProcess) -> None:
        """Kill all processes of a pod with signal 9; its disk stays, as a container's restart."""
        for pid in (pod.pid, *pod.children()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        pod.wait()
