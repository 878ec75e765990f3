"""The load balancers of deploy/front before several gateways."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.gateway_process import free_port
from tests.support.pooler import SYSTEM_PATH
from tests.support.waiting import accepts, wait_until_sync

FOLDER = Path(__file__).parents[2] / "deploy" / "front"
CLIENTS = 1000
"""Connections that the tests' only address may have."""
NGINX_AROUND = """
daemon off; pid {home}/nginx.pid; error_log {home}/error.log warn; worker_processes 1;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  include {home}/capio.conf;
}}
"""


class Balancer:
    """
    nginx or HAProxy with the shipped configuration, without TLS, over these gateways.

    Args:
        name: `nginx` or `haproxy`.
        home: Where its files go.
        gateways: Their ports.

    Raises:
        FileNotFoundError: It is not installed.
    """

    def __init__(self, name: str, home: Path, gateways: list[int]) -> None:
        binary = shutil.which(name, path=SYSTEM_PATH)
        if binary is None:
            raise FileNotFoundError(name)
        self.port = free_port()
        home.mkdir(parents=True)
        write = _write_nginx if name == "nginx" else _write_haproxy
        arguments = write(home, self.port, gateways)
        with (home / "log").open("wb") as log:
            self._process = subprocess.Popen([binary, *arguments], stdout=log, stderr=log)
        wait_until_sync(lambda: accepts(self.port), 20)

    @property
    def url(self) -> str:
        """Where clients reach the gateways, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(20)


def adapted(file: str, changes: dict[str, str]) -> str:
    """Return a shipped file with each of these parts replaced, which must be there once."""
    text = (FOLDER / file).read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, (file, old)
        text = text.replace(old, new)
    return text


def _write_nginx(home: Path, port: int, gateways: list[int]) -> list[str]:
    server = "server 127.0.0.1:8080 max_fails=1 fail_timeout=1s;"
    servers = "\n    ".join(server.replace("8080", str(each)) for each in gateways)
    changes = {
        server: servers,
        "listen 443 ssl http2;": f"listen 127.0.0.1:{port};",
        "capio_clients 128;": f"capio_clients {CLIENTS};",
        "    ssl_certificate     /etc/ssl/capio/cert.pem;\n": "",
        "    ssl_certificate_key /etc/ssl/capio/key.pem;\n": "",
    }
    (home / "capio.conf").write_text(adapted("nginx.conf", changes))
    shutil.copy(FOLDER / "capio_proxy.conf", home)
    (home / "nginx.conf").write_text(NGINX_AROUND.format(home=home))
    return ["-c", str(home / "nginx.conf"), "-p", str(home), "-e", str(home / "error.log")]


def _write_haproxy(home: Path, port: int, gateways: list[int]) -> list[str]:
    server = "    server gateway1 127.0.0.1:8080"
    at = (FOLDER / "haproxy.cfg").read_text().index(server)
    line = (FOLDER / "haproxy.cfg").read_text()[at:].partition("\n")[0]
    servers = "\n".join(
        line.replace("gateway1", f"gateway{number}").replace("8080", str(each))
        for number, each in enumerate(gateways, 1)
    )
    secure = "ssl crt /etc/haproxy/capio.pem ssl-min-ver TLSv1.2 alpn h2,http/1.1"
    changes = {
        line: servers,
        f"bind :443 {secure}": f"bind 127.0.0.1:{port}",
        "sc0_conn_cur gt 128": f"sc0_conn_cur gt {CLIENTS}",
    }
    (home / "haproxy.cfg").write_text(adapted("haproxy.cfg", changes))
    return ["-db", "-f", str(home / "haproxy.cfg")]
