"""nginx and HAProxy with the configurations of deploy/front, adapted to a test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

SYSTEM_PATH = "/usr/sbin:/usr/local/sbin"
"""Where Debian puts servers, which is not in everybody's PATH."""
FOLDER = Path(__file__).parents[2] / "deploy" / "front"
NGINX_AROUND = """
daemon off; pid {home}/nginx.pid; error_log {home}/error.log warn; worker_processes 1;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  include {home}/capio.conf;
}}
"""


def find_program(name: str) -> str | None:
    """Return the path of a program; None if it is not installed."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


def write_nginx(home: Path, changes: Mapping[str, str]) -> list[str]:
    """Write the files; return nginx's arguments. Each part to change must be there once."""
    (home / "capio.conf").write_text(_adapted("nginx.conf", changes))
    shutil.copy(FOLDER / "capio_proxy.conf", home)
    (home / "nginx.conf").write_text(NGINX_AROUND.format(home=home))
    return ["-c", str(home / "nginx.conf"), "-p", str(home), "-e", str(home / "error.log")]


def write_haproxy(home: Path, changes: Mapping[str, str]) -> list[str]:
    """Write the file; return HAProxy's arguments. Each part to change must be there once."""
    (home / "haproxy.cfg").write_text(_adapted("haproxy.cfg", changes))
    return ["-db", "-f", str(home / "haproxy.cfg")]


def _adapted(file: str, changes: Mapping[str, str]) -> str:
    text = (FOLDER / file).read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, (file, old)
        text = text.replace(old, new)
    return text
