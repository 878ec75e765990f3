"""
How many connections the process's limit on open files allows.

Every worker needs a file for each client's connection and for each connection to an upstream. When
files run out nothing can be accepted, spilled or replayed, so the connections are bounded before.
"""

from __future__ import annotations

import logging
import resource

from gateway.settings import Settings

log = logging.getLogger("gateway.server")

RESERVED_FILES = 256
"""For a worker's stores, metrics, spill and libraries."""
FEWEST_CONNECTIONS = 64
"""With less no gateway is of use: the start is refused."""


class FileLimitError(Exception):
    """The limit on open files is too small; says which one is needed."""


def claim_files(settings: Settings) -> int:
    """
    Raise the soft limit on open files as far as needed; return the connections a worker may accept.

    Children inherit the limit. Where it is too low for `server.max_connections` it is logged and
    the connections are fewer.

    Raises:
        FileLimitError: It does not even suffice for `FEWEST_CONNECTIONS`.
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
            f"the limit on open files, {soft}, is too low; server.max_connections needs {wanted} "
            f"(ulimit -n, LimitNOFILE=)"
        )
    log.warning(
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
    """Return how many files a worker may have open at once."""
    return settings.server.max_connections + _upstream_connections(settings) + RESERVED_FILES


def connections_within(settings: Settings, open_files: int) -> int:
    """Return how many clients' connections fit; each may need one to an upstream."""
    free = open_files - RESERVED_FILES
    fitting = max(free // 2, free - _upstream_connections(settings))
    return max(0, min(fitting, settings.server.max_connections))


def _upstream_connections(settings: Settings) -> int:
    """Return the most upstream connections: a busy one belongs to a call, as many may be idle."""
    pools = sum(
        provider.max_connections
        * ((provider.openai is not None) + (provider.anthropic is not None))
        for provider in settings.providers
    )
    return min(pools, 2 * settings.server.max_in_flight)
