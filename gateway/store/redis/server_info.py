"""Reads what a Redis server is from INFO, and judges whether the gateway can use it."""

from __future__ import annotations

import re
from typing import Final

import msgspec

OLDEST: Final = (6, 2)
"""XAUTOCLAIM, with which the ledger writer takes over events of dead writers, is newer than 6.0."""
_NUMBER = re.compile(r"(\d+)\.(\d+)")
_PRODUCTS = (("valkey_version", "Valkey"), ("dragonfly_version", "Dragonfly"))


class ServerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What INFO says of a server."""

    product: str
    """Name and version for people: `Valkey 9.1.2`."""
    version: tuple[int, int]
    """The version of Redis that it is compatible with."""
    role: str
    """`master`, or `slave` for a replica."""
    is_cluster: bool
    memory_limit: int
    """`maxmemory` in bytes; 0: none."""
    policy: str
    """`maxmemory-policy`."""
    has_append_only_file: bool
    replicas: int
    """Connected replicas."""


class Advice(msgspec.Struct, frozen=True):
    """A problem and its remedy, each a clause."""

    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


def read_info(text: str) -> ServerInfo | None:
    """Parse the reply to INFO; None if it lacks the version or the role."""
    fields = dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
    match = _NUMBER.match(fields.get("redis_version", ""))
    if match is None or "role" not in fields:
        return None
    product = f"Redis {fields['redis_version']}"
    for field, name in _PRODUCTS:
        if field in fields:
            product = f"{name} {fields[field]}"
    return ServerInfo(
        product=product,
        version=(int(match[1]), int(match[2])),
        role=fields["role"],
        is_cluster=fields.get("cluster_enabled") == "1",
        memory_limit=_whole(fields.get("maxmemory")),
        policy=fields.get("maxmemory_policy", "noeviction"),
        has_append_only_file=fields.get("aof_enabled") == "1",
        replicas=_whole(fields.get("connected_slaves")),
    )


def read_hello(reply: object) -> ServerInfo | None:
    """
    Parse the reply to HELLO in RESP2; None if it lacks the version, the role or the mode.

    It tells nothing of memory and persistence, which are those of a server without faults.
    """
    if not isinstance(reply, list):
        return None
    fields = {
        name: value.decode("utf-8", "replace")
        for name, value in zip(reply[::2], reply[1::2], strict=False)
        if isinstance(name, bytes) and isinstance(value, bytes)
    }
    version = fields.get(b"version", "")
    match = _NUMBER.match(version)
    if match is None or b"role" not in fields or b"mode" not in fields:
        return None
    return ServerInfo(
        product=f"{fields.get(b'server', 'redis').capitalize()} {version}",
        version=(int(match[1]), int(match[2])),
        role=fields[b"role"],
        is_cluster=fields[b"mode"] == "cluster",
        memory_limit=0,
        policy="noeviction",
        has_append_only_file=True,
        replicas=0,
    )


def other_kind(info: ServerInfo, *, in_cluster: bool) -> Advice | None:
    """
    Return the advice for a server that is in cluster mode, or not, against its address; or None.

    Args:
        info: The server.
        in_cluster: Its address is that of a cluster.
    """
    if info.is_cluster and not in_cluster:
        return Advice(
            "this server is in cluster mode",
            "give the address of one of the cluster's servers, as redis://host:6379 "
            "(rediss:// with TLS), without a database",
        )
    if in_cluster and not info.is_cluster:
        return Advice(
            "cluster mode is disabled on this server",
            "begin the URL with redis:// (rediss:// with TLS), or redis+sentinel://",
        )
    return None


def refusal(info: ServerInfo, *, in_cluster: bool = False) -> Advice | None:
    """
    Return why the gateway cannot use a server without losing money or failing, or None.

    Args:
        info: The server.
        in_cluster: Its address is that of a cluster; the role of the server is not judged.
    """
    if info.version < OLDEST:
        return Advice(
            f"{info.product} is too old", "use Redis 6.2 or newer, or any version of Valkey"
        )
    if info.role != "master" and not in_cluster:
        return Advice(
            "this server is a read-only replica",
            "give the address of the primary, or let redis+sentinel:// find it",
        )
    if info.policy.startswith("allkeys-") and info.memory_limit:
        return Advice(
            f"maxmemory-policy {info.policy} removes balances and usage that is not yet in SQL",
            "set maxmemory-policy to noeviction",
        )
    return None


def warnings(info: ServerInfo) -> list[Advice]:
    """Return what may lose data at a failure or without free memory."""
    found: list[Advice] = []
    if info.policy != "noeviction":
        lost = (
            "idempotency records and stored responses"
            if info.policy.startswith("volatile-")
            else "balances and usage that is not yet in SQL"
        )
        found.append(
            Advice(
                f"maxmemory-policy {info.policy} removes {lost} when memory is short",
                "set maxmemory-policy to noeviction",
            )
        )
    if not info.has_append_only_file and not info.replicas:
        found.append(
            Advice(
                "there is neither an append-only file nor a replica, so a restart of Redis loses "
                "usage that is not yet in SQL, limits in use, idempotency records and stored "
                "responses",
                "set appendonly to yes, or add a replica",
            )
        )
    return found


def _whole(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0
