"""Pages, forms, downloads and the admin API are the same over the direct port as over Granian's."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from bench.console.pages import calls, insert
from gateway.console.signin.passwords import Passwords
from gateway.settings import Server, Settings
from gateway.store.accounts.accounts import Accounts, Billing, Terms
from gateway.store.accounts.audit import SYSTEM
from gateway.store.keys.repository import KeyDetails, Keys
from gateway.store.people.users import Users
from gateway.store.sql.database import Database
from tests.support.gateway_process import GatewayProcess, free_port
from tests.support.raw_client import Answer, Connection, render
from tests.support.service import DemoProcess

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

TOKEN = "operator-0123456789abcdefghijklmnopqrstuv"
PASSWORD = "seven quiet herons cross"
ROWS = 20_000
OWN_ORIGIN = {"origin": "http://gateway.test"}
FORM = "application/x-www-form-urlencoded"
# Times and ids differ from response to response, whichever port sent it.
CHANGING = ("date", "x-request-id", "request-id", "server-timing")


def gateway_of(home: Path, demo: DemoProcess, *, console_port: int, server: str) -> GatewayProcess:
    """A gateway with both ports, the pages and the admin API."""
    token_file = home / "admin.token"
    token_file.write_text(TOKEN)
    extra = f"[console]\nport = {console_port}\n[admin]\ntoken_file = {json.dumps(str(token_file))}"
    return GatewayProcess(home, demo.config(), workers=1, server=server, extra=extra, direct=True)


class Office:
    """The gateway with an operator who owns an account with many calls."""

    def __init__(self, home: Path, demo: DemoProcess) -> None:
        self.process = gateway_of(home, demo, console_port=free_port(), server="")

    async def fill(self) -> None:
        """Make the operator, the account, and its calls."""
        settings = Settings(server=Server(data_dir=str(self.process.data_dir)))
        database = Database(settings)
        account = await Accounts(database).create("Acme", Terms(Billing.POSTPAID))
        keys = Keys(database, settings.brand.key_prefix)
        key = await keys.create(account.id, KeyDetails(name="k"))
        hashed = await Passwords().hash(PASSWORD)
        user = await Users(database).create("ada@example.com", "Ada", password=hashed)
        await Users(database).join(user.id, account.id, "owner", SYSTEM)
        await database.aclose()
        now_ms = int(time.time() * 1000)
        rows = calls(account.id, [key.row.id], ROWS, now_ms)
        insert(self.process.data_dir / "capio.db", rows)

    def port(self, *, direct: bool) -> int:
        """One of the two ports."""
        return self.process.direct_port if direct else self.process.port

    def ask(self, method: str, path: str, body: bytes | None = None, *, direct: bool,
            **headers: str) -> Answer:  # fmt: skip
        """Send one request on a connection of its own."""
        with Connection(self.port(direct=direct)) as connection:
            return connection.request(method, path, body, **headers)

    def sign_in(self, *, direct: bool) -> str:
        """Send the form; return the cookie of the session."""
        body = urlencode({"login": "ada@example.com", "password": PASSWORD}).encode()
        answer = self.ask("POST", "/sign-in", body, direct=direct, content_type=FORM, **OWN_ORIGIN)
        assert (answer.status, answer.headers["location"]) == (303, "/app")
        found = re.match(r"session=[^;]+", answer.headers["set-cookie"])
        assert found is not None
        return found[0]


@pytest.fixture(scope="module")
def office(
    tmp_path_factory: pytest.TempPathFactory, demo_upstream: DemoProcess
) -> Iterator[Office]:
    made = Office(tmp_path_factory.mktemp("office"), demo_upstream)
    try:
        made.process.start()
        asyncio.run(made.fill())
        made.process.wait_console()
        yield made
    finally:
        made.process.stop()


DIRECT = pytest.mark.parametrize("direct", [False, True], ids=["port", "direct_port"])


def fixed_headers(answer: Answer) -> dict[str, str]:
    """The headers that two responses to the same request share."""
    return {name: value for name, value in answer.headers.items() if name not in CHANGING}


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/sign-in"), ("HEAD", "/sign-in"), ("GET", "/nothing"), ("GET", "/app")],
)
def test_page_is_the_same_on_both_ports(office: Office, method: str, path: str) -> None:
    """Status, headers and text: a page, its head, one that does not exist, one to sign in for."""
    first, second = (
        office.ask(method, path, direct=direct, accept="text/html") for direct in (False, True)
    )

    assert first.status == second.status == {"/nothing": 404, "/app": 303}.get(path, 200)
    assert second.body == first.body
    assert bool(first.body) is (method == "GET" and path != "/app")
    assert fixed_headers(second) == fixed_headers(first)
    assert "default-src 'none'" in second.headers["content-security-policy"]


@DIRECT
def test_form_signs_in_and_another_origin_may_not_send_it(office: Office, direct: bool) -> None:
    """A session from either port is one on both; a foreign or wrong form makes none."""
    cookie = office.sign_in(direct=direct)
    shown = [office.ask("GET", "/app", direct=each, cookie=cookie) for each in (False, True)]
    body = urlencode({"login": "ada@example.com", "password": PASSWORD}).encode()
    foreign = office.ask(
        "POST", "/sign-in", body, direct=direct, content_type=FORM, origin="http://evil.test"
    )
    wrong = office.ask(
        "POST", "/sign-in", body + b"x", direct=direct, content_type=FORM, **OWN_ORIGIN
    )

    assert [each.status for each in shown] == [200, 200]
    assert (foreign.status, wrong.status) == (403, 401)


@DIRECT
def test_form_beyond_the_limit_is_413(office: Office, direct: bool) -> None:
    """A page takes 256 KiB."""
    body = b"login=" + b"a" * 300_000
    answer = office.ask("POST", "/sign-in", body, direct=direct, content_type=FORM, **OWN_ORIGIN)

    assert answer.status == 413


def test_download_is_whole_for_a_client_that_reads_late(office: Office) -> None:
    """A CSV of megabytes waits for its reader on both ports, and loses nothing."""
    cookie = office.sign_in(direct=True)
    path = "/app/requests?range=90d&format=csv"
    bodies = []
    for direct in (False, True):
        with Connection(office.port(direct=direct), receive_bytes=4096) as connection:
            connection.send(render("GET", path, cookie=cookie))
            status, headers = connection.read_head()
            time.sleep(0.3)  # nothing to wait for: the download comes to a stop meanwhile
            body, complete = connection.read_rest(headers)
            assert (status, complete) == (200, True)
            assert headers["content-disposition"].startswith("attachment; ")
            assert connection.request("GET", "/sign-in", accept="text/html").status == 200
        bodies.append(body)

    assert bodies[1] == bodies[0]
    assert len(bodies[1]) > 1_000_000
    assert bodies[1].count(b"\r\n") == ROWS + 1


@DIRECT
def test_client_that_leaves_a_download_frees_its_place(office: Office, direct: bool) -> None:
    """More downloads than may run at once, all left: pages are served as before."""
    cookie = office.sign_in(direct=direct)
    for _ in range(40):
        with Connection(office.port(direct=direct)) as connection:
            connection.send(render("GET", "/app/requests?range=90d&format=csv", cookie=cookie))
            assert connection.read_head()[0] == 200
    answer = office.ask("GET", "/app", direct=direct, cookie=cookie)

    assert answer.status == 200


@DIRECT
def test_admin_api_is_served_and_knows_the_client(office: Office, direct: bool) -> None:
    """Objects made through one port are seen through both; the audit log has the address."""
    by = {"authorization": f"Bearer {TOKEN}"}
    name = f"made-{direct}"
    made = office.ask(
        "POST", "/admin/accounts", json.dumps({"name": name}).encode(), direct=direct, **by
    )
    path = f"/admin/accounts/{made.json['id']}"
    seen = [office.ask("GET", path, None, direct=each, **by) for each in (False, True)]
    audit = office.ask("GET", "/admin/audit?limit=1", None, direct=direct, **by).json["data"][0]
    head = office.ask("HEAD", path, None, direct=direct, **by)
    without = office.ask("GET", path, None, direct=direct)
    proxied = office.ask("GET", path, None, direct=direct, x_forwarded_for="203.0.113.9", **by)
    usage = office.ask("GET", "/admin/usage?group_by=account&format=csv", None, direct=direct, **by)

    assert made.status == 201
    assert [each.status for each in seen] == [200, 200]
    assert seen[0].body == seen[1].body
    assert fixed_headers(seen[0]) == fixed_headers(seen[1])
    assert json.loads(seen[1].body)["name"] == name
    assert audit["address"] == "127.0.0.1"
    assert (head.status, without.status, proxied.status, usage.status) == (200, 401, 404, 200)


class Recorder:
    """Stands where the console would listen, and keeps the requests that workers relay to it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self.listener.getsockname()[1]
        self.requests: list[tuple[str, list[str], bytes]] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                self._answer(connection, stream)

    def _answer(self, connection: socket.socket, stream: Any) -> None:
        first = stream.readline().decode("latin-1").strip()
        lines = []
        while line := stream.readline().decode("latin-1").strip():
            lines.append(line)
        (length,) = [int(line[15:]) for line in lines if line.startswith("content-length:")] or [0]
        self.requests.append((first, sorted(lines), stream.read(length)))
        connection.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n"
            b"set-cookie: a=1\r\nset-cookie: b=2\r\n\r\nok"
        )


@contextmanager
def recorded(
    home: Path, demo: DemoProcess, server: str
) -> Iterator[tuple[GatewayProcess, Recorder]]:
    """A gateway whose console waits for its port, which the recorder has."""
    recorder = Recorder()
    process = gateway_of(home, demo, console_port=recorder.port, server=server)
    try:
        process.launch()
        process.wait_ready()
        yield process, recorder
    finally:
        process.stop()
        recorder.listener.close()


SPOOFED = {
    "x_forwarded_for": "203.0.113.9",
    "x_forwarded_proto": "https",
    "x_forwarded_host": "evil.test",
    "x_real_ip": "203.0.113.8",
    "x_capio_client": "203.0.113.7",
    "forwarded": "for=203.0.113.6",
}
SENT = {
    "page": render(
        "GET", "/app/x%20y?a=1&b=%2F", None, accept="text/html", cookie="session=1", **SPOOFED
    ),
    "form": render("POST", "/sign-in", b"a=b", content_type=FORM, cookie="session=1", **OWN_ORIGIN),
    "form in chunks": render(
        "POST", "/sign-in", b"2\r\na=\r\n1\r\nb\r\n0\r\n\r\n",
        content_type=FORM, transfer_encoding="chunked", connection="keep-alive, te", te="trailers",
    ),
    "repeated header": render("GET", "/sign-in", accept="text/html", cookie="a=1").replace(
        b"cookie: a=1", b"cookie: a=1\r\nCookie: b=2\r\nX-Odd:   \xe9 two  spaces \t"
    ),
    "admin": render(
        "PATCH", "/admin/keys/k?x=%20", b"{}", authorization=f"Bearer {TOKEN}", **SPOOFED
    ),
}  # fmt: skip


@pytest.mark.parametrize("trusted", [False, True])
def test_console_gets_the_same_requests_from_both_ports(
    tmp_path: Path, demo_upstream: DemoProcess, trusted: bool
) -> None:
    """Line, host, proxy headers, credentials and body, whether the client is a trusted proxy."""
    server = 'trusted_proxies = ["127.0.0.1"]' if trusted else ""
    seen: dict[str, list[Any]] = {}
    with recorded(tmp_path, demo_upstream, server) as (process, recorder):
        for name, sent in SENT.items():
            recorder.requests.clear()
            for port in (process.port, process.direct_port):
                with Connection(port) as connection:
                    connection.send(sent)
                    answer = connection.answer()
                assert (name, answer.status, answer.body) == (name, 200, b"ok")
            seen[name] = list(recorder.requests)

    for name, (first, second) in seen.items():
        assert second == first, name
    page, admin = seen["page"][1], seen["admin"][1]
    assert page[0] == "GET /app/x%20y?a=1&b=%2F HTTP/1.1"
    assert "host: gateway.test" in page[1]
    forwarded = [
        line for line in page[1] if "orwarded" in line or "real" in line or "capio" in line
    ]
    assert forwarded == (
        ["x-forwarded-for: 203.0.113.9, 127.0.0.1", "x-forwarded-proto: https"]
        if trusted
        else ["x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http"]
    )
    assert seen["form"][1][2] == seen["form in chunks"][1][2] == b"a=b"
    assert admin[0] == "PATCH /admin/keys/k?x=%20 HTTP/1.1"
    assert f"authorization: Bearer {TOKEN}" in admin[1]
    client = "203.0.113.9" if trusted else "127.0.0.1"
    assert f"x-capio-client: {client}" in admin[1]
    assert "x-capio-client: 203.0.113.7" not in admin[1]
