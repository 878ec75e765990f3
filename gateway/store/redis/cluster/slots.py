"""
Which server of a Redis Cluster has a key.

A key belongs to one of 16,384 slots, by its hash tag if it has one; each slot has one master.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

import msgspec
from redis.crc import key_slot

from gateway.store.redis.connection import Argument, Reply, ReplyError

SLOTS: Final = 16384
_KEY_AT: Final = {"EVAL": 3, "EVALSHA": 3, "XGROUP": 2, "XINFO": 2}
"""Where the first key of a command is, if not after its name."""
_WITHOUT_KEY: Final = frozenset(("PING", "TIME", "INFO", "CLUSTER", "SCRIPT", "CONFIG"))
_UNKNOWN: Final = "?"
"""What a server writes for a host name that it does not know."""


class Node(NamedTuple):
    """The address of a server in a cluster."""

    host: str
    port: int


class Redirect(NamedTuple):
    """A reply that another server has the key: the command did not run."""

    node: Node
    asks: bool
    """ASK: for this command only, since the slot is moving; else MOVED."""


class Topology(msgspec.Struct, frozen=True):
    """The servers of a cluster, as one of them knows them."""

    owners: tuple[Node | None, ...]
    """The master of each slot; None: it has none."""
    others: tuple[Node, ...] = ()
    """Replicas."""
    epoch: int = 0
    """Increases with each failover; of two topologies the higher is the newer."""
    works: bool = True
    """Whether the server that was asked accepts commands."""

    @property
    def masters(self) -> tuple[Node, ...]:
        """Return the masters that have slots."""
        return tuple(dict.fromkeys(node for node in self.owners if node is not None))


def slot_of(args: Sequence[Argument]) -> int | None:
    """Return the slot of a command's first key; None: it has no key."""
    name = args[0]
    text = (name.decode() if isinstance(name, bytes) else str(name)).upper()
    if text in _WITHOUT_KEY:
        return None
    if text == "XREADGROUP":
        place = next(place for place, word in enumerate(args) if word in ("STREAMS", b"STREAMS"))
        return slot_of_key(args[place + 1])
    return slot_of_key(args[_KEY_AT.get(text, 1)])


def slot_of_key(key: Argument) -> int:
    """Return the slot of a key."""
    return key_slot(key if isinstance(key, bytes) else str(key).encode())


def read_topology(slots: Reply, info: Reply, asked: Node) -> Topology:
    """
    Read the replies to CLUSTER SLOTS and CLUSTER INFO.

    Args:
        slots: Ranges of slots, each with its master and replicas.
        info: Lines of `name:value`; anything else if it may not be read.
        asked: The server that replied, whose host stands for an unknown one.

    Raises:
        ValueError: `slots` has another form.
    """
    owners: list[Node | None] = [None] * SLOTS
    others: dict[Node, None] = {}
    try:
        for first, last, master, *replicas in cast("list[Any]", slots):
            owners[first : last + 1] = [_node(master, asked)] * (last + 1 - first)
            others.update(dict.fromkeys(_node(each, asked) for each in replicas))
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise ValueError("CLUSTER SLOTS has an unknown form") from error
    text = info.decode("utf-8", "replace") if isinstance(info, bytes) else ""
    fields = dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
    epoch = fields.get("cluster_current_epoch", "")
    return Topology(
        owners=tuple(owners),
        others=tuple(others),
        epoch=int(epoch) if epoch.isdigit() else 0,
        works=fields.get("cluster_state", "ok") == "ok",
    )


def read_redirect(error: ReplyError, asked: Node) -> Redirect | None:
    """Read `MOVED 3999 host:port` and `ASK 3999 host:port`; None: another error."""
    if error.code not in ("MOVED", "ASK"):
        return None
    _, _, address = error.message.partition(" ")
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return None
    return Redirect(Node(_host(host, asked), int(port)), error.code == "ASK")


def _node(described: object, asked: Node) -> Node:
    assert isinstance(described, list)
    host, port, *_ = described
    return Node(_host(host.decode() if isinstance(host, bytes) else "", asked), int(port))


def _host(host: str, asked: Node) -> str:
    return asked.host if host in ("", _UNKNOWN) else host.strip("[]")
