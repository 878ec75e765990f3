"""Asks every master of a cluster what it is, for the check at the start and `capio doctor`."""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.settings.urls import host_and_port
from gateway.store.redis.address import RedisAddress
from gateway.store.redis.cluster.slots import Node, Topology
from gateway.store.redis.cluster.topology import ask_server
from gateway.store.redis.connection import (
    RedisConnection,
    RedisRefusedError,
    Reply,
    ReplyError,
    open_connection,
)
from gateway.store.redis.server_info import Advice, ServerInfo, warnings

_COVERAGE: Final = "cluster-require-full-coverage"


class Survey(msgspec.Struct, frozen=True):
    """What the masters of a cluster say of themselves."""

    topology: Topology
    masters: dict[Node, ServerInfo | None]
    """Those that respond; None: the user of ACL may not use INFO."""
    failures: dict[Node, str]
    """Why others do not."""
    needs_all_slots: bool
    """Whether a lost master makes the others refuse commands; False also if it is not known."""

    @property
    def product(self) -> str:
        """What it is, for people."""
        products = {info.product for info in self.masters.values() if info is not None}
        count = len(self.topology.masters)
        return f"a cluster of {count} masters: {', '.join(sorted(products)) or 'unknown'}"

    @property
    def warnings(self) -> list[Advice]:
        """What may lose data, or make the gateway work without Redis."""
        found: dict[Advice, None] = {}
        for info in self.masters.values():
            if info is not None:
                found.update(dict.fromkeys(warnings(info)))
        without = self.topology.owners.count(None)
        if without:
            problem = f"{without} slots have no master, so their accounts are served without Redis"
            found[Advice(problem, "assign all slots: redis-cli --cluster fix")] = None
        for (host, port), reason in self.failures.items():
            problem = f"the master {host_and_port(host, port)} does not respond: {reason}"
            found[Advice(problem, "check it, its network and its replicas")] = None
        if self.needs_all_slots:
            problem = f"{_COVERAGE} is yes: while one master is lost, all refuse commands"
            found[Advice(problem, f"set {_COVERAGE} to no")] = None
        return list(found)


async def survey_cluster(target: RedisAddress) -> Survey:
    """
    Ask all masters.

    Raises:
        OSError: No configured server responds.
        RedisRefusedError: The gateway cannot use one of the servers; the message has the remedy.
        ReplyError: The cluster refuses the credential.
        ValueError: It has no known form.
    """
    topology = await _ask_any(target)
    masters: dict[Node, ServerInfo | None] = {}
    failures: dict[Node, str] = {}
    needs_all_slots = False
    for node in topology.masters:
        try:
            link = await open_connection(target.node(*node))
        except RedisRefusedError:
            raise
        except (OSError, ReplyError) as error:
            failures[node] = error.code if isinstance(error, ReplyError) else _reason(error)
            continue
        masters[node] = link.server
        needs_all_slots = needs_all_slots or await _needs_all_slots(link)
        link.abort()
        await link.closed
    return Survey(topology, masters, failures, needs_all_slots)


async def _ask_any(target: RedisAddress) -> Topology:
    failure: OSError = ConnectionError("no server is configured")
    for seed in target.seeds:
        try:
            return await ask_server(target, Node(*seed))
        except RedisRefusedError:
            raise
        except OSError as error:
            failure = error
    raise failure


async def _needs_all_slots(link: RedisConnection) -> bool:
    try:
        (reply,) = await link.call([("CONFIG", "GET", _COVERAGE)])
    except ReplyError:  # managed services do not allow it
        return False
    found: Reply = reply
    return isinstance(found, list) and found[-1:] == [b"yes"]


def _reason(error: OSError) -> str:
    return str(error) or type(error).__name__
