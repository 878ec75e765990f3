"""The listening side against clients that say nothing, too much, or another protocol."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psutil
import pytest
import trustme

from gateway.edge import first_heads
from gateway.server.workers.granian_server import MAX_HEAD_BYTES
from tests.support.bodies import OPENAI, WHOLE
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_client import Connection, render
from tests.support.raw_upstream import Slot, whole
from tests.support.service import OPENAI_MODEL, DemoProcess, Key, Service
from tests.support.waiting import wait_until_sync

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

HEADER_S = 1.0
IDLE_S = 4.0
CLOCKS = f"header_timeout_s = {HEADER_S}\nidle_timeout_s = {IDLE_S}"
SCAN_S = 2 * first_heads.SCAN_S
SLACK_S = 3.0
"""For a busy machine."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: gateway.test\r\n\r\n"


@pytest.fixture(scope="module")
def tls(
    tmp_path_factory: pytest.TempPathFactory, demo_upstream: DemoProcess
) -> Iterator[tuple[GatewayProcess, ssl.SSLContext]]:
    """A gateway that ends TLS itself, with short clocks."""
    home = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(str(home / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(home / "key.pem"))
    files = f'tls_cert_file = "{home}/cert.pem"\ntls_key_file = "{home}/key.pem"'
    process = GatewayProcess(home, demo_upstream.config(), workers=1, server=f"{files}\n{CLOCKS}")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    process.launch()
    try:
        wait_until_sync(lambda: answers(process, context), 30)
        yield process, context
    finally:
        process.stop()


def answers(process: GatewayProcess, context: ssl.SSLContext) -> bool:
    """Return whether it responds over TLS."""
    try:
        with secure(process, context) as connection:
            connection.sendall(HEALTH)
            return connection.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def secure(process: GatewayProcess, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Return a connection after its handshake."""
    plain = socket.create_connection(("127.0.0.1", process.port), timeout=20)
    return context.wrap_socket(plain, server_hostname="localhost")


@pytest.fixture(scope="module")
def clear(
    tmp_path_factory: pytest.TempPathFactory, demo_upstream: DemoProcess
) -> Iterator[Service]:
    """A gateway in clear text on both ports, with short clocks."""
    home = tmp_path_factory.mktemp("plain")
    made = Service(home, demo_upstream, workers=1, server=CLOCKS, direct=True)
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="module", params=["port", "direct_port"])
def plain(request: pytest.FixtureRequest, clear: Service) -> Service:
    """The gateway on each of its ports."""
    return clear.on_port(direct=request.param == "direct_port")


Connect = Callable[[], socket.socket]


@pytest.fixture(params=["port", "direct_port", "tls"])
def connect(
    request: pytest.FixtureRequest, clear: Service, tls: tuple[GatewayProcess, ssl.SSLContext]
) -> Connect:
    """Opens a connection to one of the ports, or over TLS."""
    if request.param == "tls":
        return lambda: secure(*tls)
    service = clear.on_port(direct=request.param == "direct_port")
    return lambda: socket.create_connection(("127.0.0.1", service.port), timeout=20)


def closed_after(connection: socket.socket) -> float:
    """Return how long it takes the server to close; it says nothing but an error before."""
    began = time.monotonic()
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - began


@pytest.mark.parametrize("offered", [["h2", "http/1.1"], ["h2"], ["http/1.1"], []])
def test_tls_never_agrees_on_http2(
    tls: tuple[GatewayProcess, ssl.SSLContext], offered: list[str]
) -> None:
    """The negotiated protocol is HTTP/1.1 or none."""
    process, trust = tls
    context = ssl.create_default_context(cadata=None)
    context.load_verify_locations(cadata="".join(map(ssl.DER_cert_to_PEM_cert, authorities(trust))))
    if offered:
        context.set_alpn_protocols(offered)

    try:
        with secure(process, context) as connection:
            chosen = connection.selected_alpn_protocol()
            connection.sendall(HEALTH)
            head = connection.recv(100)
    except ssl.SSLError:
        assert offered == ["h2"]
    else:
        assert chosen in ("http/1.1", None)
        assert head.startswith(b"HTTP/1.1 200")


def authorities(context: ssl.SSLContext) -> list[bytes]:
    """Return the trusted certificates."""
    return context.get_ca_certs(binary_form=True)


SAID = {
    "nothing": b"",
    "half a line": b"GET /healthz HTTP/1.1\r\nhost: gate",
    "half a head": HEALTH[:-2],
    "preface of HTTP/2": PREFACE,
    "settings of HTTP/2": PREFACE + SETTINGS,
    "request of HTTP/2": PREFACE + SETTINGS + b"\0\0\5\1\0\0\0\0\1\x82\x86\x84\x41\x8a",
}


def test_connections_that_ask_for_nothing_are_closed(connect: Connect) -> None:
    """Silent, half a head and HTTP/2: none of them waits as long as a client that was served."""
    began = time.monotonic()
    took = {}
    with ExitStack() as held:
        opened = {said: held.enter_context(connect()) for said in SAID}
        for said, connection in opened.items():
            connection.sendall(SAID[said])
        for said, connection in opened.items():
            closed_after(connection)
            took[said] = time.monotonic() - began
    late = {said: s for said, s in took.items() if s > HEADER_S + SCAN_S + SLACK_S}

    assert late == {}
    assert took["nothing"] > HEADER_S - 0.1


def test_connection_that_was_served_may_be_idle_for_longer(connect: Connect) -> None:
    """A load balancer keeps its connections beyond the limit of a first head."""
    with connect() as connection:
        for pause_s in (HEADER_S + SCAN_S, 0.0):
            connection.sendall(HEALTH)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            time.sleep(pause_s)  # nothing to wait for: it must not be closed
        assert IDLE_S - 0.5 < closed_after(connection) < IDLE_S + SLACK_S


def test_first_request_may_take_longer_than_its_head(plain: Service) -> None:
    """Only heads have the limit; a body or a stream that lasts longer is not cut."""
    body = json.dumps(
        {"model": OPENAI_MODEL, "messages": [{"role": "user", "content": "/tokens 20"}]}
    ).encode()
    raw = plain.new_key("late").raw
    with Connection(plain.port) as connection:
        sent = render("POST", OPENAI, body, authorization=f"Bearer {raw}")
        connection.send(sent[:-5])
        time.sleep(HEADER_S + SCAN_S)  # the rest of the body is late
        connection.send(sent[-5:])
        assert connection.answer().status == 200


def test_tls_handshake_that_never_ends_is_closed(
    tls: tuple[GatewayProcess, ssl.SSLContext],
) -> None:
    """A TLS handshake is closed after ten seconds."""
    with socket.create_connection(("127.0.0.1", tls[0].port), timeout=30) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert closed_after(connection) < 10 + SLACK_S


def test_upgrade_to_http2_is_ignored(plain: Service) -> None:
    """The response is that of HTTP/1.1, and no switch of protocols."""
    with Connection(plain.port) as connection:
        answer = connection.request(
            "GET",
            "/healthz",
            connection="Upgrade, HTTP2-Settings",
            upgrade="h2c",
            http2_settings="AAMAAABkAAQAAP__",
        )

    assert answer.status == 200
    assert "upgrade" not in answer.headers


@pytest.mark.parametrize("size", [30_000, MAX_HEAD_BYTES - 2_000])
def test_large_head_is_read(plain: Service, size: int) -> None:
    """Long cookies and tokens are no attack."""
    with Connection(plain.port) as connection:
        assert connection.request("GET", "/healthz", x_filler="a" * size).status == 200


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("size", [4 * MAX_HEAD_BYTES, 4_000_000])
def test_head_beyond_the_limit_is_refused_at_once(plain: Service, size: int, ended: bool) -> None:
    """431, or a reset while the client still sends; nothing waits for the rest."""
    head = render("GET", "/healthz", x_filler="a" * size)
    with socket.create_connection(("127.0.0.1", plain.port), timeout=20) as connection:
        try:
            connection.sendall(head if ended else head[:-4])
            answer = connection.recv(100)
        except ConnectionError:
            answer = b""

    assert answer == b"" or answer.startswith(b"HTTP/1.1 431")


def test_unfinished_heads_take_little_memory(plain: Service) -> None:
    """Of 200 connections with a head of 400 KB without end."""
    (worker,) = plain.process.workers()
    process = psutil.Process(worker)
    before = process.memory_info().rss
    head = b"GET / HTTP/1.1\r\nx: " + b"a" * 400_000
    peak = 0
    opened = []
    for _ in range(200):
        connection = socket.create_connection(("127.0.0.1", plain.port), timeout=20)
        opened.append(connection)
        try:
            connection.sendall(head)
        except ConnectionError:
            continue
        finally:
            peak = max(peak, process.memory_info().rss)
    for connection in opened:
        connection.close()
    print(f"200 heads of 400 KB: {(peak - before) / 1e6:.1f} MB more")

    assert peak - before < 200 * 2 * MAX_HEAD_BYTES
    with Connection(plain.port) as again:
        assert again.request("GET", "/healthz").status == 200


def test_large_body_arrives_whole(gateway: Service, upstream: Slot, key: Key) -> None:
    """The limit on heads does not touch bodies."""
    text = "x" * 10_000_000
    body = json.dumps(
        {"model": upstream.model("openai"), "messages": [{"role": "user", "content": text}]}
    ).encode()
    upstream.plays(whole(WHOLE["openai"]))
    with Connection(gateway.port) as connection:
        answer = connection.request("POST", OPENAI, body, x_api_key=key.raw)

    assert answer.status == 200
    assert upstream.exchanges[-1].json["messages"][0]["content"] == text


def test_operators_paths_have_one_spelling(gateway: Service) -> None:
    """Granian gives paths as they were sent; nothing is normalised behind a proxy's back."""
    for path in (
        "/./admin/accounts", "/v1/../admin/accounts", "/v1/%2e%2e/admin/accounts",
        "/%61dmin/accounts", "/admin%2faccounts", "//admin/accounts", "/v1/chat%2fcompletions",
        "/%761/models",
    ):  # fmt: skip
        with Connection(gateway.port) as connection:
            answer = connection.request("GET", path)

        assert (path, answer.status) == (path, 404)


def test_model_names_may_be_encoded(gateway: Service, key: Key) -> None:
    """As SDKs do with the slash in a name."""
    for path in ("/v1/models/capio%2FMiniMax-M3", "/v1/models/capio/MiniMax%2dM3"):
        with Connection(gateway.port) as connection:
            assert connection.request("GET", path, x_api_key=key.raw).status == 200
