"""Which server has a key, from what a cluster replies."""

from __future__ import annotations

import pytest

from gateway.store.redis.cluster.slots import (
    SLOTS,
    Node,
    Redirect,
    read_redirect,
    read_topology,
    slot_of,
    slot_of_key,
)
from gateway.store.redis.connection import Argument, Reply, ReplyError

ASKED = Node("10.0.0.1", 6379)
INFO = b"cluster_state:fail\r\ncluster_current_epoch:7\r\n"


@pytest.mark.parametrize(
    "args",
    [
        ("GET", "{s5}key"),
        (b"XADD", b"{s5}key", b"*"),
        (b"EVALSHA", b"sha", 2, b"{s5}key", "{s5}other", "argument"),
        ("EVAL", "script", "1", "a{s5}b"),
        ("XGROUP", "CREATE", "{s5}key", "group", "0"),
        ("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "STREAMS", "{s5}key", ">"),
        ("xinfo", "GROUPS", "{s5}key"),
    ],
)
def test_slot_is_that_of_the_first_key(args: tuple[Argument, ...]) -> None:
    """Wherever the command has it, by its hash tag."""
    assert slot_of(args) == slot_of_key("s5")


def test_slots_are_those_of_redis() -> None:
    """Two values of its specification."""
    assert [slot_of_key(key) for key in ("foo", b"123456789")] == [12182, 12739]
    assert slot_of(("PING",)) is None


def test_topology_has_the_master_of_each_slot() -> None:
    """Slots without a range have none; an unknown host is that of the server that replied."""
    first: Reply = [b"10.0.0.2", 7000, b"id"]
    replica: Reply = [b"10.0.0.3", 7000, b"id2", []]
    topology = read_topology(
        [[0, 99, first, replica], [200, 299, [b"", 6379, b"id3"]]], INFO, ASKED
    )

    assert len(topology.owners) == SLOTS
    assert [topology.owners[slot] for slot in (0, 99, 100, 200)] == [
        *(Node("10.0.0.2", 7000), Node("10.0.0.2", 7000)),
        *(None, ASKED),
    ]
    assert topology.masters == (Node("10.0.0.2", 7000), ASKED)
    assert topology.others == (Node("10.0.0.3", 7000),)
    assert (topology.epoch, topology.works) == (7, False)


@pytest.mark.parametrize("reply", [None, b"OK", [1], [[0, 1]], [[0, b"x", [b"h", 1]]]])
def test_other_replies_are_no_topology(reply: object) -> None:
    """They are reported, not taken for an empty cluster."""
    with pytest.raises(ValueError, match="unknown form"):
        read_topology(reply, None, ASKED)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MOVED 3999 10.0.0.2:7000", Redirect(Node("10.0.0.2", 7000), asks=False)),
        ("ASK 3999 redis-1.local:7000", Redirect(Node("redis-1.local", 7000), asks=True)),
        ("MOVED 3999 :7001", Redirect(Node("10.0.0.1", 7001), asks=False)),
        ("MOVED 3999 [2001:db8::1]:7000", Redirect(Node("2001:db8::1", 7000), asks=False)),
        ("MOVED 3999", None),
        ("TRYAGAIN Multiple keys request during rehashing of slot", None),
    ],
)
def test_redirections_name_the_other_server(text: str, expected: Redirect | None) -> None:
    """MOVED and ASK only."""
    assert read_redirect(ReplyError(text), ASKED) == expected
