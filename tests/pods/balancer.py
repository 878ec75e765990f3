"""The load balancers of deploy/front before several gateways."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.gateway_process import free_port
from tests.support.proxies import FOLDER, find_program, write_haproxy, write_nginx
from tests.support.waiting import accepts, wait_until_sync

CLIENTS = 1000
"""Connections that the tests' only address may have."""


class Balancer:
    """
    nginx or HAProxy with the shipped configuration, without TLS, over these gateways.

    Args:
        name: `nginx` or `haproxy`, which must be installed.
        home: Where its files go.
        gateways: Their ports.
    """

    def __init__(self, name: str, home: Path, gateways: list[int]) -> None:
        binary = find_program(name)
        assert binary is not None, f"{name} is not installed"
        self._port = free_port()
        home.mkdir(parents=True)
        write = _write_nginx if name == "nginx" else _write_haproxy
        arguments = write(home, self._port, gateways)
        with (home / "log").open("wb") as log:
            self._process = subprocess.Popen([binary, *arguments], stdout=log, stderr=log)

    @property
    def url(self) -> str:
        """Where clients reach the gateways, without a path."""
        return f"http://127.0.0.1:{self._port}"

    def wait(self) -> None:
        """Wait until it listens."""
        wait_until_sync(lambda: accepts(self._port), 20)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(20)


def _write_nginx(home: Path, port: int, gateways: list[int]) -> list[str]:
    server = "server 127.0.0.1:8080 max_fails=1 fail_timeout=1s;"
    changes = {
        server: "\n    ".join(server.replace("8080", str(each)) for each in gateways),
        "listen 443 ssl http2;": f"listen 127.0.0.1:{port};",
        "capio_clients 128;": f"capio_clients {CLIENTS};",
        "    ssl_certificate     /etc/ssl/capio/cert.pem;\n": "",
        "    ssl_certificate_key /etc/ssl/capio/key.pem;\n": "",
    }
    return write_nginx(home, changes)


def _write_haproxy(home: Path, port: int, gateways: list[int]) -> list[str]:
    lines = (FOLDER / "haproxy.cfg").read_text().split("\n")
    (server,) = [line for line in lines if line.startswith("    server gateway1 ")]
    secure = "ssl crt /etc/haproxy/capio.pem ssl-min-ver TLSv1.2 alpn h2,http/1.1"
    changes = {
        server: "\n".join(
            server.replace("gateway1", f"gateway{number}").replace("8080", str(each))
            for number, each in enumerate(gateways, 1)
        ),
        f"bind :443 {secure}": f"bind 127.0.0.1:{port}",
        "sc0_conn_cur gt 128": f"sc0_conn_cur gt {CLIENTS}",
    }
    return write_haproxy(home, changes)
