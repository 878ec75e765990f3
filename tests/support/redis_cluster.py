"""A real cluster for tests: servers on loopback, to be killed and resharded at will."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from gateway.store.redis.cluster.client import ClusterRedis
from gateway.store.redis.cluster.slots import SLOTS
from tests.support.gateway_process import free_port
from tests.support.valkey import ValkeyProcess

NODE_TIMEOUT_MS = 1000
"""A master that does not respond for this long is replaced by its replica."""
OPTIONS = (
    "--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS),
    "--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0",
    "--repl-diskless-sync-delay", "0", "--bind", "127.0.0.1",
)  # fmt: skip


Connect = Callable[..., Awaitable[ClusterRedis]]
"""Connects to a cluster, with the options of `ClusterRedis`."""


class Server:
    """One server of the cluster."""

    def __init__(
        self, *arguments: str, password: str | None = None, program: str | None = None
    ) -> None:
        self.port = free_port()
        self.tls_port = free_port()
        if "--tls-cluster" in arguments:
            arguments += ("--tls-port", str(self.tls_port))
        self.process = ValkeyProcess(
            "--port", str(self.port), *OPTIONS, *arguments, password=password, program=program
        )
        self.process.start()
        self._client = redis.Redis(
            port=self.port, password=password, decode_responses=True, protocol=2
        )
        self.id: str = self("CLUSTER MYID")

    def __call__(self, command: str, *arguments: object) -> Any:
        return self._client.execute_command(command, *arguments)  # type: ignore[no-untyped-call] # its stub

    def close(self) -> None:
        self._client.close()
        self.process.close()


class RedisCluster:
    """
    A cluster with one replica for each master.

    Args:
        masters: How many.
        arguments: Further arguments of each server.
        replicas: Whether masters have replicas.
        password: That `arguments` ask for.
        program: Another server than the packaged Valkey.
    """

    def __init__(
        self,
        *arguments: str,
        masters: int = 3,
        replicas: bool = True,
        password: str | None = None,
        program: str | None = None,
    ) -> None:
        self._arguments = arguments
        self._password = password
        self._program = program
        self._has_tls = "--tls-cluster" in arguments
        self.servers = [
            Server(*arguments, password=password, program=program)
            for _ in range(masters * (2 if replicas else 1))
        ]
        self.masters = self.servers[:masters]
        try:
            self._join(replicas=replicas)
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """The URL, with two of the servers as seeds."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:2])
        return f"redis+cluster://{hosts}"

    @property
    def plain_url(self) -> str:
        """Of one server, a replica if there are any; the URL says nothing of a cluster."""
        return f"redis://127.0.0.1:{self.servers[-1].port}"

    def add_master(self) -> Server:
        """Let a master without slots join."""
        server = Server(*self._arguments, password=self._password, program=self._program)
        self.servers.append(server)
        self._meet(server)
        wait_for(lambda: all(self._knows(each) for each in self.servers if _runs(each)))
        wait_for(lambda: self.works(server))
        return server

    def owner_of(self, key: bytes) -> Server:
        """Return the master of a key, as a server that runs knows it."""
        slot = key_slot(key)
        asked = next(server for server in self.servers if _runs(server))
        for first, last, master, *_ in asked("CLUSTER SLOTS"):
            if first <= slot <= last:
                return next(server for server in self.servers if server.port == master[1])
        raise AssertionError("the slot has no master")

    def begin_move(self, slot: int, old: Server, new: Server) -> None:
        """Begin to move a slot: none of its keys has moved."""
        new("CLUSTER SETSLOT", slot, "IMPORTING", old.id)
        old("CLUSTER SETSLOT", slot, "MIGRATING", new.id)

    def move_keys(self, keys: Iterable[object], old: Server, new: Server) -> None:
        """Move some keys of a slot that is moving."""
        login = () if self._password is None else ("AUTH", self._password)
        for key in keys:
            old("MIGRATE", "127.0.0.1", new.port, "", 0, 5000, *login, "KEYS", key)

    def end_move(self, slot: int, old: Server, new: Server) -> None:
        """End the move of a slot whose keys have all moved."""
        for server in (new, old, *self.servers):
            if _runs(server) and server("ROLE")[0] == "master":
                server("CLUSTER SETSLOT", slot, "NODE", new.id)

    def move(self, slot: int, old: Server, new: Server, *, pause_s: float = 0.0) -> None:
        """Move a slot, one key after the other as `redis-cli --cluster reshard` does."""
        self.begin_move(slot, old, new)
        while keys := old("CLUSTER GETKEYSINSLOT", slot, 1):
            self.move_keys(keys, old, new)
            time.sleep(pause_s)
        self.end_move(slot, old, new)

    def wait_until_synced(self) -> None:
        """Wait until all servers run, and each replica follows its master."""
        wait_for(lambda: all(self.works(server) for server in self.servers))
        wait_for(lambda: all(_is_synced(server) for server in self.servers))

    def close(self) -> None:
        for server in self.servers:
            server.close()

    def _join(self, *, replicas: bool) -> None:
        count = len(self.masters)
        for index, master in enumerate(self.masters):
            first, last = index * SLOTS // count, (index + 1) * SLOTS // count - 1
            master("CLUSTER ADDSLOTSRANGE", first, last)
            master("CLUSTER SET-CONFIG-EPOCH", index + 1)
        for server in self.servers[1:]:
            self._meet(server)
        wait_for(lambda: all(self._knows(server) for server in self.servers))
        if replicas:
            for master, replica in zip(self.masters, self.servers[count:], strict=True):
                wait_for(partial(_replicates, replica, master))
        wait_for(lambda: all(self.works(server) for server in self.servers))
        if replicas:
            wait_for(lambda: all(_is_synced(server) for server in self.servers))

    def _meet(self, server: Server) -> None:
        first = self.servers[0]
        bus = first("CONFIG GET", "cluster-port")
        port = bus["cluster-port"] if isinstance(bus, dict) else bus[1]
        of_clients = first.tls_port if self._has_tls else first.port
        server("CLUSTER MEET", "127.0.0.1", of_clients, port)

    def _knows(self, server: Server) -> bool:
        running = sum(map(_runs, self.servers))
        return int(_fields(server("CLUSTER INFO"))["cluster_known_nodes"]) >= running

    def works(self, server: Server) -> bool:
        """Return whether a server takes the cluster for complete."""
        info = _fields(server("CLUSTER INFO"))
        return info["cluster_state"] == "ok" and int(info["cluster_slots_assigned"]) == SLOTS


def _runs(server: Server) -> bool:
    return server.process._process is not None


def _replicates(replica: Server, master: Server) -> bool:
    try:
        replica("CLUSTER REPLICATE", master.id)
    except RedisError:  # it does not know the master yet
        return False
    return True


def _is_synced(server: Server) -> bool:
    """Return whether a server is a master with a replica, or a replica that follows."""
    info = _fields(server("INFO", "replication"))
    if info["role"] == "master":
        return int(info["connected_slaves"]) > 0
    return bool(info["master_link_status"] == "up")


def _fields(info: Any) -> dict[str, Any]:
    if isinstance(info, dict):
        return info
    return dict(line.split(":", 1) for line in info.split("\r\n") if ":" in line)


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Wait until a condition holds."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "the cluster did not get there"
        time.sleep(0.02)
