"""Inputs from the field, played on a running gateway; README.md describes their form."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_client import Connection
from tests.support.raw_upstream import Exchange, RawUpstream, Script, Slot

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

HERE = Path(__file__).parent
# What spends the account's money or leaves entries behind comes last.
LAST = ("54-usage-beyond-64-bits", "55-usage-beyond-context")
INPUTS = sorted(
    (path.stem for path in (HERE / "inputs").glob("*.json")), key=lambda name: (name in LAST, name)
)
RECORDED_S = 10.0
RICH_ACCOUNTS = 2
"""The reads of one account are limited, and a charge is read several times until it is recorded."""


class OneSlotUpstream(RawUpstream):
    """A raw upstream with one script, whatever the path."""

    def __init__(self) -> None:
        super().__init__(0)
        self.only = Slot(0, hasty=False)

    def slot(self, target: str) -> Slot:
        """Return the one slot."""
        return self.only


class Field(NamedTuple):
    """A gateway before the upstream, and keys of rich accounts and of a poor one."""

    gateway: GatewayProcess
    upstream: OneSlotUpstream
    rich: list[str]
    poor: str


class Played(NamedTuple):
    """What came of an input."""

    status: int
    body: str
    headers: dict[str, str]
    sent: list[dict[str, Any]]
    """The bodies that the upstream got."""
    cost: Callable[[], float]
    """Dollars that the call was charged."""


CHECKS: dict[str, Callable[[Any, Played], bool]] = {
    "status": lambda value, played: played.status == value,
    "status_not": lambda value, played: played.status != value,
    "has": lambda value, played: value in played.body,
    "lacks": lambda value, played: value not in played.body,
    "upstream_has": lambda value, played: value in json.dumps(played.sent[-1:]),
    "upstream_lacks": lambda value, played: value not in json.dumps(played.sent[-1:]),
    "roles": lambda value, played: [m["role"] for m in played.sent[-1]["messages"]] == value,
    "tried": lambda value, played: [body["model"] for body in played.sent] == value,
    "header": lambda value, played: value[1] in played.headers.get(value[0], ""),
    "header_not": lambda value, played: value not in played.headers,
    "cost": lambda value, played: abs(played.cost() - value) < 1e-9,
    "cost_at_most": lambda value, played: played.cost() <= value,
    "cost_at_least": lambda value, played: played.cost() >= value,
}


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """A gateway with the models of `providers.toml`."""
    upstream = OneSlotUpstream()
    upstream.start()
    config = (HERE / "providers.toml").read_text()
    config = config.replace("127.0.0.1:20100", f"127.0.0.1:{upstream.port}")
    gateway = GatewayProcess(
        tmp_path_factory.mktemp("field"), config, workers=1, environment={"UPKEY": "upstream-key"}
    )
    try:
        gateway.start()
        rich = [new_key(gateway, f"rich-{number}", "1000") for number in range(RICH_ACCOUNTS)]
        yield Field(gateway, upstream, rich, new_key(gateway, "poor", "0.10"))
    finally:
        gateway.stop()
        upstream.stop()


def new_key(gateway: GatewayProcess, account: str, dollars: str) -> str:
    """Return the key of a new account with this credit."""
    gateway.capio("accounts", "create", account)
    gateway.capio("credits", "topup", "--account", account, "--amount", dollars, "--reason", "test")
    created = gateway.capio("keys", "create", "--account", account, "--name", "field", "--json")
    key: str = json.loads(created)["key"]
    return key


@pytest.mark.parametrize("name", INPUTS)
def test_input_from_the_field(field: Field, name: str) -> None:
    given = json.loads(filled((HERE / "inputs" / f"{name}.json").read_text()))
    slot = field.upstream.only
    slot.exchanges = []
    rich = field.rich[INPUTS.index(name) % RICH_ACCOUNTS]
    key = field.poor if given.get("account") == "poor" else rich

    before = given.get("before", {"times": 0})
    for _ in range(before["times"]):
        slot.plays(script(before["upstream"]))
        ask(field.gateway, key, given | {"body": before["body"]})
    status, body, headers = 0, "", dict[str, str]()
    for response in filter(None, (given["upstream"], given.get("upstream_then"))):
        slot.plays(script(response))
        status, body, headers = ask(field.gateway, key, given)
    sent = [json.loads(each.body) for each in slot.exchanges]
    request_id = headers.get("x-request-id", "")
    played = Played(status, body, headers, sent, lambda: cost(field.gateway, key, request_id))

    wrong = [check for check in given["checks"] if not CHECKS[check[0]](check[1], played)]
    assert wrong == [], f"{given['what']}: {given['expected']}; the response: {body[:2000]}"


def filled(text: str) -> str:
    """Return an input's text with its placeholders filled in."""
    text = re.sub(r"@png:(\d+)x(\d+)@", lambda found: png(int(found[1]), int(found[2])), text)
    text = re.sub(r"@words:(\d+)@", lambda found: "word " * int(found[1]), text)
    jpeg = base64.b64encode(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(40)).decode()
    return text.replace("@jpeg@", jpeg).replace("@new@", os.urandom(8).hex())


def png(width: int, height: int) -> str:
    """Return the base64 of a PNG of noise, which does not compress."""
    rows = b"".join(b"\0" + os.urandom(width * 3) for _ in range(height))

    def part(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    head = part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    image = head + part(b"IDAT", zlib.compress(rows, 0)) + part(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + image).decode()


def script(response: dict[str, Any]) -> Script:
    """Return the upstream's script for a response of an input."""

    async def play(exchange: Exchange) -> None:
        chosen = response.get("by_model", {}).get(exchange.json.get("model"), response)
        kind = chosen.get("type", "text/event-stream" if "sse" in chosen else "application/json")
        head = f"HTTP/1.1 {chosen.get('status', 200)} Status\r\ncontent-type: {kind}\r\n".encode()
        if "sse" not in chosen:
            body = json.dumps(chosen.get("json")).encode()
            await exchange.send(head + b"content-length: %d\r\n\r\n" % len(body) + body)
            return
        await exchange.send(head + b"transfer-encoding: chunked\r\n\r\n")
        is_done = chosen.get("done", True)
        for event in [*chosen["sse"], *(["data: [DONE]\n\n"] if is_done else [])]:
            if isinstance(event, int | float):
                await asyncio.sleep(event)
            else:
                await exchange.chunk(rendered(event, named=not is_done))
        await exchange.send(b"0\r\n\r\n")

    return play


def rendered(event: object, *, named: bool) -> bytes:
    """Return an event's bytes; those of the Anthropic wire have names."""
    if isinstance(event, str):
        return event.encode()
    name = event.get("type") if named and isinstance(event, dict) else None
    prefix = f"event: {name}\n" if name else ""
    return f"{prefix}data: {json.dumps(event)}\n\n".encode()


def ask(
    gateway: GatewayProcess, key: str, given: dict[str, Any]
) -> tuple[int, str, dict[str, str]]:
    """Send the input's request; return the response's status, body and headers."""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    headers |= {"anthropic-version": "2023-06-01", **given.get("headers", {})}
    body = json.dumps(given["body"]).encode() if given.get("body") is not None else b""
    head = f"{given.get('method', 'POST')} {given['path']} HTTP/1.1\r\nhost: localhost\r\n"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with Connection(gateway.port) as connection:
        connection.send(f"{head}{lines}content-length: {len(body)}\r\n\r\n".encode() + body)
        if "abort_after_s" in given:
            status, found = connection.read_head()
            time.sleep(given["abort_after_s"])
            return status, "", found
        answer = connection.answer()
    return answer.status, answer.body.decode(), answer.headers


def cost(gateway: GatewayProcess, key: str, request_id: str) -> float:
    """Return what a call was charged, once it is recorded."""
    until = time.monotonic() + RECORDED_S
    while True:
        with Connection(gateway.port) as connection, contextlib.suppress(KeyError):
            page = f"/v1/generation?id={request_id}"
            record = connection.request("GET", page, x_api_key=key).json
            return float(record["cost"])
        assert time.monotonic() < until, "the call is not recorded"
        time.sleep(0.25)
