"""The proxies of `deploy/front` as they are shipped, between clients and the gateway."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import trustme

from tests.support.bodies import OPENAI, request
from tests.support.gateway_process import free_port
from tests.support.proxies import find_program, write_haproxy, write_nginx
from tests.support.raw_client import Answer, Connection
from tests.support.service import OPENAI_MODEL, DemoProcess, Key, Service
from tests.support.waiting import wait_until_sync

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "front"
SYSTEM_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin"
TOKEN = "operator-token-0123456789abcdefghijklmnop"
CAP = 20
"""In place of the 128 in the files."""
ATTACKER = "127.0.0.2"


class Proxy:
    """A running proxy, and clients of it."""

    def __init__(self, name: str, port: int, trust: ssl.SSLContext, service: Service) -> None:
        self.name = name
        self.port = port
        self.service = service
        self._trust = trust

    def connect(self, source: str = "127.0.0.1") -> Connection:
        """Return a connection over TLS; OSError where the proxy refuses it."""
        connection = Connection.__new__(Connection)
        connection._held = b""
        # Wrapped before it connects: a handshake that fails must leave a socket to close.
        wrapped = self._trust.wrap_socket(socket.socket(), server_hostname="localhost")
        try:
            wrapped.settimeout(30)
            wrapped.bind((source, 0))
            wrapped.connect(("127.0.0.1", self.port))
        except OSError:
            wrapped.close()
            raise
        connection.socket = wrapped
        return connection

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send one request."""
        with self.connect() as connection:
            return connection.request(method, path, body, **headers)

    def answers(self) -> bool:
        """Return whether the gateway is reached."""
        try:
            return self.ask("GET", "/healthz").status == 200
        except (OSError, EOFError):
            return False


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, paced_upstream: DemoProcess
) -> Iterator[Service]:
    """A gateway with an operator's API."""
    home = tmp_path_factory.mktemp("behind")
    token = home / "token"
    token.write_text(TOKEN)
    extra = f'[admin]\ntoken_file = "{token}"'
    made = Service(home / "gateway", paced_upstream, workers=1, extra=extra)
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="module")
def key(service: Service) -> Key:
    """A key of that gateway."""
    return service.new_key("behind a proxy")


@pytest.fixture(scope="module", params=["nginx", "haproxy"])
def proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, service: Service
) -> Iterator[Proxy]:
    """The shipped configuration with the test's ports, certificate and a lower cap."""
    name: str = request.param
    binary = find_program(name)
    if binary is None:
        pytest.skip(f"{name} is not installed")
    home = tmp_path_factory.mktemp(name)
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(home / "both.pem"))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    port = free_port()
    arguments = nginx_arguments if name == "nginx" else haproxy_arguments
    process = subprocess.Popen([binary, *arguments(home, port, service.port)])
    made = Proxy(name, port, trust, service)
    try:
        wait_until_sync(made.answers, 20)
        yield made
    finally:
        process.terminate()
        process.wait(20)


def nginx_arguments(home: Path, port: int, gateway_port: int) -> list[str]:
    """Write the files; return nginx's arguments."""
    changes = {
        "127.0.0.1:8080": f"127.0.0.1:{gateway_port}",
        "listen 443 ssl http2;": f"listen 127.0.0.1:{port} ssl http2;",
        "/etc/ssl/capio/cert.pem": f"{home}/both.pem",
        "/etc/ssl/capio/key.pem": f"{home}/both.pem",
        "capio_clients 128;": f"capio_clients {CAP};",
    }
    return write_nginx(home, changes)


def haproxy_arguments(home: Path, port: int, gateway_port: int) -> list[str]:
    """Write the file; return HAProxy's arguments."""
    changes = {
        "127.0.0.1:8080": f"127.0.0.1:{gateway_port}",
        "bind :443 ssl": f"bind 127.0.0.1:{port} ssl",
        "/etc/haproxy/capio.pem": f"{home}/both.pem",
        "timeout client          30s": "timeout client          4s",
        "sc0_conn_cur gt 128": f"sc0_conn_cur gt {CAP}",
    }
    return write_haproxy(home, changes)


def test_stream_passes_event_by_event(proxy: Proxy, key: Key) -> None:
    """The proxy buffers nothing: the first event comes long before the last."""
    body = request(OPENAI, OPENAI_MODEL, "/tokens 40", stream=True)
    with proxy.connect() as connection:
        connection.send(render_stream(body, key))
        status, _ = connection.read_head()
        times = []
        while connection.read_chunk():
            times.append(time.monotonic())

    assert status == 200
    assert len(times) > 20
    assert times[-1] - times[0] > 0.3


def render_stream(body: bytes, key: Key) -> bytes:
    """Return a request of a stream."""
    head = f"POST {OPENAI} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key.raw}\r\n"
    length = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return (head + length).encode() + body


def test_operators_api_is_not_reached(proxy: Proxy) -> None:
    """Not by any spelling, although the token is right and the gateway itself would respond."""
    bearer = f"Bearer {TOKEN}"
    with Connection(proxy.service.port) as direct:
        assert direct.request("GET", "/admin/accounts", authorization=bearer).status == 200

    for path in (
        "/admin/accounts", "/%61dmin/accounts", "/admin%2Faccounts", "//admin/accounts",
        "/./admin/accounts", "/v1/../admin/accounts", "/v1/%2e%2e/admin/accounts",
        "/v1/..%2fadmin/accounts", "/ADMIN/accounts", "/admin/../v1/models", "/admin/./accounts",
        "/metrics", "/readyz",
    ):  # fmt: skip
        answer = proxy.ask("GET", path, authorization=bearer)

        assert (path, answer.status) in ((path, 404), (path, 400))
        assert b"acct_" not in answer.body


def test_body_beyond_the_limit_is_refused(proxy: Proxy, key: Key) -> None:
    """A body whose length exceeds the limit is refused before it is sent."""
    with proxy.connect() as connection:
        head = render_stream(b"", key).replace(b"content-length: 0", b"content-length: 40000000")
        connection.send(head)
        assert connection.read_head()[0] == 413


def test_one_address_gets_so_many_places(proxy: Proxy, key: Key) -> None:
    """Beyond the cap the proxy refuses; others are served meanwhile."""
    body = request(OPENAI, OPENAI_MODEL, "/tokens 200", stream=True)
    running, statuses = [], []
    try:
        for _ in range(CAP + 5):
            try:
                connection = proxy.connect(ATTACKER)
            except OSError:
                statuses.append(0)
                continue
            running.append(connection)
            connection.send(render_stream(body, key))
            statuses.append(connection.read_head()[0])
        assert proxy.answers()
    finally:
        for connection in running:
            connection.close()

    refused = 429 if proxy.name == "nginx" else 0
    assert (statuses.count(200), statuses.count(refused)) == (CAP, 5)


def test_silent_connections_never_reach_the_gateway(proxy: Proxy) -> None:
    """They end at the proxy; its clients get their responses at once, and the clock ends them."""
    (worker,) = proxy.service.process.workers()
    before = psutil.Process(worker).num_fds()
    silent: list[socket.socket] = []
    try:
        for _ in range(300):
            with contextlib.suppress(ConnectionError):  # beyond HAProxy's cap
                where = ("127.0.0.1", proxy.port)
                silent.append(socket.create_connection(where, 20, (ATTACKER, 0)))
        began = time.monotonic()
        assert proxy.answers()
        took = time.monotonic() - began
        assert psutil.Process(worker).num_fds() < before + 20
        for each in silent:
            assert closed(each)
        ended = time.monotonic() - began
    finally:
        for each in silent:
            each.close()
    print(f"{proxy.name}: answered after {took:.2f} s, all silent ones closed after {ended:.1f} s")

    assert took < 3
    assert ended < 15


def closed(connection: socket.socket) -> bool:
    """Wait until the proxy has closed; return whether it did."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True
