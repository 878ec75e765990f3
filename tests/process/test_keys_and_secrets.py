"""What becomes of a key in every worker, and that no secret is left anywhere."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from gateway.server.embedded_valkey import EmbeddedValkey
from gateway.settings import load
from tests.support.bodies import ANTHROPIC, OPENAI, WHOLE, request
from tests.support.raw_client import Answer, Connection
from tests.support.raw_upstream import RawUpstream, Slot, whole
from tests.support.service import (
    ANTHROPIC_MODEL,
    BOTH_MODEL,
    OPENAI_MODEL,
    UPSTREAM_KEY,
    DemoProcess,
    Key,
    Service,
)
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.process

BOUND_S = 1.0
"""How long a revoked key may still work, in any worker."""
FRESH = 24
"""Connections that surely reach both workers: the kernel draws one for each."""


def ask(service: Service, raw: str, path: str = OPENAI, model: str = BOTH_MODEL) -> Answer:
    """Call over a connection of its own."""
    with Connection(service.port) as connection:
        return connection.request("POST", path, request(path, model), x_api_key=raw)


def statuses(service: Service, raw: str) -> set[int]:
    """Return what many fresh connections receive."""
    return {ask(service, raw).status for _ in range(FRESH)}


def test_fresh_connections_reach_every_worker(gateway: Service, key: Key) -> None:
    """What the tests below say of both workers rests on this."""
    prefixes = {str(ask(gateway, key.raw).headers["x-request-id"])[:22] for _ in range(FRESH)}

    assert len(prefixes) == len(gateway.process.workers()) == 2


@pytest.mark.parametrize("verb", ["revoke", "disable"])
def test_key_taken_away_stops_in_every_worker_within_a_second(gateway: Service, verb: str) -> None:
    """Within a second of the command, every worker refuses the key and names the reason."""
    key = gateway.new_key(f"to {verb}")
    assert statuses(gateway, key.raw) == {200}

    gateway.process.capio("keys", verb, key.id)
    done_at = time.monotonic()
    last_success: float | None = None
    while time.monotonic() < done_at + BOUND_S + 0.5:
        if ask(gateway, key.raw).status == 200:
            last_success = time.monotonic() - done_at
    print(f"{verb}: last success {last_success and round(last_success * 1000)} ms after")

    assert last_success is None or last_success < BOUND_S
    refused = ask(gateway, key.raw)
    assert refused.status == 401
    error = refused.json["error"]
    assert (error["code"], error["type"]) == ("invalid_key", "authentication_error")
    assert ("disabled" in error["message"]) is (verb == "disable")


def test_disabled_key_works_again_once_enabled(gateway: Service) -> None:
    """Enabling reaches every worker as disabling does."""
    key = gateway.new_key("off and on")
    gateway.process.capio("keys", "disable", key.id)
    wait_until_sync(lambda: statuses(gateway, key.raw) == {401})

    gateway.process.capio("keys", "enable", key.id)

    wait_until_sync(lambda: statuses(gateway, key.raw) == {200}, BOUND_S + 1)


def test_new_key_works_at_once_though_it_was_tried_before(gateway: Service) -> None:
    """A key that does not exist yet is remembered as such only until it is made."""
    key = gateway.new_key("fresh")

    assert statuses(gateway, key.raw) == {200}


def test_expired_key_is_told_so(gateway: Service) -> None:
    """From the second on it is refused, in every worker, whatever they remember."""
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=8)
    key = gateway.new_key("short-lived", "--expires", soon.isoformat())
    assert ask(gateway, key.raw).status == 200

    wait_until_sync(lambda: statuses(gateway, key.raw) == {401}, 12)

    assert "expired" in ask(gateway, key.raw).json["error"]["message"]


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC, "/v1/responses"])
def test_key_may_use_only_the_models_it_is_allowed(gateway: Service, key: Key, path: str) -> None:
    """Another model is 403 in the client's dialect; the list has the allowed models only."""
    limited = gateway.new_key("limited", "--model", OPENAI_MODEL)
    with Connection(gateway.port) as connection:
        allowed = connection.request(
            "POST", path, request(path, f"capio/{OPENAI_MODEL}", input="Hi"), x_api_key=limited.raw
        )
        refused = connection.request(
            "POST", path, request(path, ANTHROPIC_MODEL, input="Hi"), x_api_key=limited.raw
        )
        listed = connection.request("GET", "/v1/models", authorization=f"Bearer {limited.raw}")

    assert (allowed.status, refused.status) == (200, 403)
    assert refused.json["error"]["type"] == "permission_error"
    assert refused.headers["x-should-retry"] == "false"
    assert [model["id"] for model in listed.json["data"]] == [OPENAI_MODEL]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"x_api_key": ""}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": "Basic abc"}, 401),
        ({"x_api_key": "sk-capio-live-" + "a" * 51}, 401),
        ({"x_api_key": "sk-capio-live-" + "a" * 20_000}, 401),
        ({"x_api_key": "\xff\xfe"}, 401),
        ({"x_api_key": "", "authorization": "Bearer KEY"}, 200),
        ({"x_api_key": "sk-ant-other", "authorization": "Bearer KEY"}, 200),
        ({"x_api_key": "KEY", "authorization": "Bearer sk-ant-other"}, 200),
        ({"authorization": "bearer KEY"}, 200),
        ({"authorization": "BEARER   KEY"}, 200),
    ],
)
def test_key_is_found_in_either_header(
    connection: Connection, key: Key, headers: dict[str, str], status: int
) -> None:
    """Of two the one that has the form of ours counts; an empty one counts as none."""
    given = {name: value.replace("KEY", key.raw) for name, value in headers.items()}

    answer = connection.request("POST", OPENAI, request(OPENAI, BOTH_MODEL), **given)

    assert answer.status == status
    if status == 401:
        assert answer.headers["x-should-retry"] == "false"
        assert answer.json["error"]["code"] == "invalid_key"


SECRET_PROMPT = "the-launch-code-is-0000-1234"
SECRET_ANSWER = "my-answer-is-xyzzy-plugh"
SECRET_SYSTEM = "hidden-system-words-4711"


def test_no_key_and_no_content_is_left_anywhere(
    tmp_path: Path, demo_upstream: DemoProcess, raw_upstream: RawUpstream
) -> None:
    """Not in the data directory, not in Redis, not in the log: after good calls and bad ones."""
    service = Service(tmp_path, demo_upstream, raw_upstream, workers=1)
    slot = raw_upstream.take()
    try:
        service.start()
        key = service.new_key("secretive")
        use_everything(service, slot, key)
        wait_until_sync(lambda: service.calls(key)["calls"] >= 8, 10)
        dumped = dump_redis(service)
    finally:
        service.stop()
        raw_upstream.give_back(slot)

    kept = {
        str(path): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name != "upstream.key"
    }
    assert any("sqlite" in name or name.endswith(".db") for name in kept), [*kept]
    assert any("aof" in name for name in kept), [*kept]
    kept["redis"] = dumped
    for secret in (
        key.raw,
        key.raw[-30:],
        UPSTREAM_KEY,
        SECRET_PROMPT,
        SECRET_ANSWER,
        SECRET_SYSTEM,
    ):
        found = [name for name, content in kept.items() if secret.encode() in content]
        assert not found, f"{secret} is in {found}"


def use_everything(service: Service, slot: Slot, key: Key) -> None:
    """Make calls of every kind that go well, badly and nowhere."""
    said = WHOLE["openai"].replace(b"Hello", SECRET_ANSWER.encode())
    slot.plays(whole(said))
    for model in (slot.model("openai"), slot.model("anthropic"), OPENAI_MODEL, "no-such"):
        for path in (
            OPENAI,
            ANTHROPIC,
            "/v1/responses",
            "/v1/chat",
            "/v1/embeddings",
            "/v1/messages/count_tokens",
        ):
            members: dict[str, Any] = {"system": SECRET_SYSTEM, "input": SECRET_PROMPT}
            body = json.loads(request(path, model, SECRET_PROMPT, **members))
            if path == "/v1/chat":
                body = {"model": model, "input": SECRET_PROMPT}
            for stream in (False, True):
                with Connection(service.port) as connection:
                    connection.request(
                        "POST",
                        path,
                        json.dumps({**body, "stream": stream}).encode(),
                        x_api_key=key.raw,
                        user_agent="agent/1",
                    )
    with Connection(service.port) as connection:
        wrong = key.raw[:-1] + ("x" if key.raw[-1] != "x" else "y")
        connection.request("POST", OPENAI, b"{", authorization=f"Bearer {wrong}")
        connection.request("POST", f"/v1/{key.raw}", b"{", x_api_key=key.raw)
        connection.request("GET", f"/v1/models/{SECRET_PROMPT}?key={key.raw}", x_api_key=key.raw)
        connection.request("POST", OPENAI, f'{{"model": "{key.raw}"'.encode(), x_api_key=key.raw)


def dump_redis(service: Service) -> bytes:
    """Return all keys of the gateway's Valkey with their values."""
    settings = load(service.process.config_path)
    url = EmbeddedValkey(Path(settings.server.data_dir)).url
    client = redis.Redis.from_url(url)
    try:
        out = []
        for name in client.scan_iter(count=1000):
            out.append(name)
            kind = client.type(name)
            if kind == b"stream":
                out.append(repr(client.xrange(name)).encode())
            elif kind == b"hash":
                out.append(repr(client.hgetall(name)).encode())
            elif kind == b"zset":
                out.append(repr(client.zrange(name, 0, -1, withscores=True)).encode())
            elif kind == b"set":
                out.append(repr(client.smembers(name)).encode())
            elif kind == b"list":
                out.append(repr(client.lrange(name, 0, -1)).encode())
            else:
                out.append(client.get(name) or b"")
        return b"\n".join(out)
    finally:
        client.close()
