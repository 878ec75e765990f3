"""
Bounds client connections by the process's limit on open files.

A worker needs a file per client connection and per upstream connection. Without free files it could
neither accept connections nor spill or replay usage events.
"""

from __future__ import annotations

import logging
import resource

from gateway.settings import Settings

logger = logging.getLogger(__name__)

RESERVED_FILES = 256
"""Kept free for a worker's stores, metrics, spill files and libraries."""
FEWEST_CONNECTIONS = 64
"""The gateway refuses to start with fewer."""


class FileLimitError(Exception):
    """The limit on open files is too low; the message names the limit needed."""


def claim_files(settings: Settings) -> int:
    """
    Raise the soft limit on open files as needed; return the connections a port may have per worker.

    Children inherit the limit. If it is too low for `server.max_connections`, fewer connections are
    accepted and a warning is logged.

    Raises:
        FileLimitError: The limit is too low for `FEWEST_CONNECTIONS`.
    """
    wanted = files_needed(settings)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return settings.server.max_connections
    connections = connections_within(settings, soft)
    if connections < min(FEWEST_CONNECTIONS, settings.server.max_connections):
        raise FileLimitError(
            f"the limit on open files is {soft}, too low for server.max_connections; "
            f"raise it to {wanted} (ulimit -n, LimitNOFILE=)"
        )
    logger.warning(
        "connection_cap_lowered",
        extra={
            "max_connections": settings.server.max_connections,
            "connections": connections,
            "open_files": soft,
            "open_files_needed": wanted,
        },
    )
    return connections


def files_needed(settings: Settings) -> int:
    """Return the most files that a worker may have open at once."""
    clients = settings.server.max_connections * _ports(settings)
    return clients + _upstream_connections(settings) + RESERVED_FILES


def connections_within(settings: Settings, open_files: int) -> int:
    """Return the client connections of a port that fit; each may need one to an upstream."""
    free = open_files - RESERVED_FILES
    fitting = max(free // 2, free - _upstream_connections(settings)) // _ports(settings)
    return max(0, min(fitting, settings.server.max_connections))


def _ports(settings: Settings) -> int:
    """Return on how many ports a worker accepts `server.max_connections` each."""
    return 1 if settings.server.direct_port is None else 2


def _upstream_connections(settings: Settings) -> int:
    """Return the most upstream connections: one per running call, and as many idle ones."""
    pools = sum(
        provider.max_connections
        * ((provider.openai is not None) + (provider.anthropic is not None))
        for provider in settings.providers
    )
    return min(pools, 2 * settings.server.max_in_flight)
