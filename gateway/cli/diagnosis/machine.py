"""Checks this machine: data directory, free disk, limit on open files, TLS certificate."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509

from gateway import __version__
from gateway.build_kind import build_kind
from gateway.cli.diagnosis.findings import Finding, error, ok, warning
from gateway.server.file_limit import FEWEST_CONNECTIONS, connections_within, files_needed
from gateway.settings import Settings
from gateway.settings.embedded import can_be_written
from gateway.settings.urls import is_loopback_host

_LITTLE_DISK = 1 << 30
_TOO_LITTLE_DISK = 100 << 20
_DAY_S = 86400.0
_EXPIRES_SOON_DAYS = 14


def check_machine(settings: Settings) -> Iterator[Finding]:
    """Yield the findings about this machine and what runs on it."""
    yield ok("gateway", f"{__version__}, {build_kind()}, on Python {platform.python_version()}")
    yield from _check_data_dir(Path(settings.server.data_dir).absolute())
    yield from _check_files(settings)
    yield from _check_direct_port(settings)
    cert, key = settings.server.tls_cert_file, settings.server.tls_key_file
    if cert is not None and key is not None:
        yield from _check_certificate(cert, key)


def _check_data_dir(data_dir: Path) -> Iterator[Finding]:
    subject = f"data directory {data_dir}"
    if not can_be_written(data_dir):
        yield error(
            subject, "it cannot be written", "give it to the gateway's user, or set server.data_dir"
        )
        return
    existing = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    detail = f"{free / (1 << 30):.1f} GiB are free"
    if free < _TOO_LITTLE_DISK:
        yield error(subject, detail, "free some: usage is kept there while Redis is away")
    elif free < _LITTLE_DISK:
        yield warning(subject, detail, "free some: usage is kept there while Redis is away")
    else:
        yield ok(subject, detail)


def _check_files(settings: Settings) -> Iterator[Finding]:
    subject = "limit on open files"
    wanted = files_needed(settings)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard in (resource.RLIM_INFINITY, -1) or hard >= wanted:
        yield ok(subject, f"{wanted} are enough for server.max_connections")
        return
    fitting = connections_within(settings, hard)
    detail = f"{hard} allow {fitting} client connections instead of server.max_connections"
    remedy = f"raise it to {wanted} (ulimit -n, LimitNOFILE=)"
    judge = error if fitting < min(FEWEST_CONNECTIONS, settings.server.max_connections) else warning
    yield judge(subject, detail, remedy)


def _check_direct_port(settings: Settings) -> Iterator[Finding]:
    server = settings.server
    if server.direct_port is None:
        return
    subject = f"server.direct_port {server.direct_port}"
    if server.direct_port < _first_unprivileged_port() and os.geteuid() != 0:
        yield error(
            subject, "only root may listen on it", "choose a port from 1024 on, as for server.port"
        )
    elif not is_loopback_host(server.host) and not server.trusted_proxies:
        yield warning(
            subject,
            "it is for a load balancer, and server.trusted_proxies names none",
            "list the balancer there, or all clients have its address",
        )
    else:
        yield ok(subject, "it is served beside server.port, without TLS")


def _first_unprivileged_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def _check_certificate(cert: str, key: str) -> Iterator[Finding]:
    subject = f"certificate {cert}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
        loaded = x509.load_pem_x509_certificate(Path(cert).read_bytes())
    except (OSError, ValueError) as failure:  # SSLError is an OSError
        yield error(
            subject,
            f"it cannot be used: {failure.strerror if isinstance(failure, OSError) else failure}",
            "check server.tls_cert_file and server.tls_key_file, and that they belong together",
        )
        return
    days = (loaded.not_valid_after_utc.timestamp() - time.time()) / _DAY_S
    if loaded.not_valid_before_utc.timestamp() > time.time():
        yield error(subject, "it is not valid yet", "check this machine's clock, or renew it")
    elif days < 0:
        yield error(subject, f"it expired {-days:.0f} days ago", "renew it")
    elif days < _EXPIRES_SOON_DAYS:
        yield warning(subject, f"it expires in {days:.0f} days", "renew it")
    else:
        yield ok(subject, f"it is valid for {days:.0f} days")
