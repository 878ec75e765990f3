"""What INFO says of a server, and what follows from it."""

from __future__ import annotations

import msgspec
import pytest

from gateway.store.redis.server_info import (
    ServerInfo,
    other_kind,
    read_hello,
    read_info,
    refusal,
    warnings,
)

GOOD = ServerInfo(
    product="Valkey 9.1.2",
    version=(7, 2),
    role="master",
    is_cluster=False,
    memory_limit=0,
    policy="noeviction",
    has_append_only_file=True,
    replicas=0,
)


def test_info_is_read_by_field() -> None:
    """A reply of Valkey, which names the Redis that it is compatible with."""
    text = (
        "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\n"
        "# Memory\r\nmaxmemory:1048576\r\nmaxmemory_policy:volatile-lru\r\n"
        "# Persistence\r\naof_enabled:1\r\n# Replication\r\nrole:slave\r\n"
        "connected_slaves:2\r\n# Cluster\r\ncluster_enabled:1\r\n"
    )

    assert read_info(text) == ServerInfo(
        product="Valkey 9.1.2",
        version=(7, 2),
        role="slave",
        is_cluster=True,
        memory_limit=1048576,
        policy="volatile-lru",
        has_append_only_file=True,
        replicas=2,
    )


@pytest.mark.parametrize("text", ["", "role:master\r\n", "redis_version:7.0.1\r\n", "::\r\n:"])
def test_info_without_version_or_role_is_unknown(text: str) -> None:
    """A proxy may respond to INFO in its own way."""
    assert read_info(text) is None


def hello(version: bytes, mode: bytes, role: bytes) -> list[object]:
    return [
        b"server", b"valkey", b"version", version, b"proto", 2, b"id", 5, b"mode", mode,
        b"role", role, b"modules", [],
    ]  # fmt: skip


def test_hello_tells_a_server_that_is_right_from_others() -> None:
    """A cluster, a replica and an old version, each refused; memory and persistence are unknown."""
    good = read_hello(hello(b"9.1.2", b"standalone", b"master"))
    others = [
        read_hello(hello(b"9.1.2", b"cluster", b"master")),
        read_hello(hello(b"9.1.2", b"standalone", b"replica")),
        read_hello(hello(b"6.0.16", b"standalone", b"master")),
    ]

    assert good == msgspec.structs.replace(GOOD, version=(9, 1))
    assert refusal(good) is None
    reasons = [
        str(each and (other_kind(each, in_cluster=False) or refusal(each))) for each in others
    ]
    for reason, expected in zip(reasons, ["cluster mode", "replica", "too old"], strict=True):
        assert expected in reason


@pytest.mark.parametrize(
    "reply",
    [None, b"OK", [], [b"version"], [b"version", b"7.0"], hello(b"?", b"standalone", b"master")],
)
def test_hello_of_another_form_is_unknown(reply: object) -> None:
    """A proxy may respond in its own way."""
    assert read_hello(reply) is None


@pytest.mark.parametrize(
    ("changes", "problem", "remedy"),
    [
        ({"version": (6, 0), "product": "Redis 6.0.16"}, "Redis 6.0.16 is too old", "6.2"),
        ({"role": "slave"}, "replica", "the primary"),
        ({"policy": "allkeys-lru", "memory_limit": 1}, "balances", "noeviction"),
    ],
)
def test_a_server_that_cannot_work_is_refused_with_the_remedy(
    changes: dict[str, object], problem: str, remedy: str
) -> None:
    """Each of them would fail or lose money while it seems to work."""
    advice = refusal(msgspec.structs.replace(GOOD, **changes))

    assert advice is not None
    assert problem in advice.problem
    assert remedy in advice.remedy


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"version": (6, 2)},
        {"policy": "volatile-lru", "memory_limit": 1},
        {"policy": "allkeys-lru"},
        {"has_append_only_file": False},
    ],
)
def test_a_server_that_can_work_is_not_refused(changes: dict[str, object]) -> None:
    """Without a limit of memory nothing is removed."""
    assert refusal(msgspec.structs.replace(GOOD, **changes)) is None


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({}, []),
        ({"policy": "volatile-ttl"}, ["volatile-ttl removes idempotency records"]),
        ({"policy": "allkeys-lfu"}, ["allkeys-lfu removes balances"]),
        ({"has_append_only_file": False}, ["neither an append-only file nor a replica"]),
        ({"has_append_only_file": False, "replicas": 1}, []),
    ],
)
def test_what_may_lose_data_is_warned_of(changes: dict[str, object], problems: list[str]) -> None:
    """Eviction, and a restart that empties Redis."""
    found = warnings(msgspec.structs.replace(GOOD, **changes))

    assert len(found) == len(problems)
    for advice, problem in zip(found, problems, strict=True):
        assert problem in advice.problem


def test_role_in_a_cluster_is_judged_elsewhere() -> None:
    """Replicas tell the topology, too."""
    replica = msgspec.structs.replace(GOOD, is_cluster=True, role="slave")

    assert refusal(replica, in_cluster=True) is None


@pytest.mark.parametrize("is_cluster", [False, True])
def test_other_kind_than_that_of_the_address_has_a_remedy(is_cluster: bool) -> None:
    """A single server for the URL of a cluster, and the reverse."""
    server = msgspec.structs.replace(GOOD, is_cluster=is_cluster)

    assert other_kind(server, in_cluster=is_cluster) is None
    advice = other_kind(server, in_cluster=not is_cluster)
    assert advice is not None
    assert "redis://" in advice.remedy
