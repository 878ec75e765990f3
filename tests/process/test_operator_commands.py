"""`capio probe` and `capio dead-letters` at a running gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from gateway.server.embedded_valkey import EmbeddedValkey
from gateway.settings import load
from gateway.store.usage.sender import dead_letter, dead_letter_key
from tests.support.bodies import WHOLE
from tests.support.raw_upstream import Slot, whole
from tests.support.service import Key, Service
from tests.support.usage import usage_event
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.process


def probed(gateway: Service, deployment: str) -> dict[str, Any]:
    """Return what the command prints."""
    found: list[dict[str, Any]] = json.loads(gateway.process.capio("probe", deployment, "--json"))
    (one,) = found
    return one


def test_probe_sends_one_small_call(gateway: Service, upstream: Slot) -> None:
    """A worker sends it, with the provider's credential; status and result come back."""
    upstream.plays(whole(WHOLE["openai"]))

    found = probed(gateway, f"{upstream.name}/up-{upstream.name}")

    (credential,) = found["credentials"]
    assert found["accepted"] is True
    assert (credential["status"], credential["failure"]) == (200, None)
    (exchange,) = upstream.exchanges
    assert json.loads(exchange.body)["max_tokens"] == 1


def test_probe_shows_why_an_upstream_refuses(gateway: Service, upstream: Slot) -> None:
    """The command fails, with the upstream's own words."""
    upstream.plays(whole(b'{"error": {"message": "no such key"}}', status=401))

    with pytest.raises(AssertionError) as failed:
        gateway.process.capio("probe", f"{upstream.name}/up-{upstream.name}", "--json")

    assert '"accepted": false' in str(failed.value)
    assert "no such key" in str(failed.value)
    with pytest.raises(AssertionError, match="no/such"):
        gateway.process.capio("probe", "no/such")


def test_dead_letter_is_listed_and_booked_once(gateway: Service, key: Key) -> None:
    """Requeued, it is in the records of its account; it cannot be sent twice."""
    made = json.loads(gateway.process.capio("accounts", "create", "aside", "--postpaid", "--json"))
    account = made[0]["id"]
    event = usage_event("req_aside", account_id=account, key_id=key.id, cost_nanousd=700)
    settings = load(gateway.process.config_path)
    client = redis.Redis.from_url(EmbeddedValkey(Path(settings.server.data_dir)).url)
    try:
        stream = dead_letter_key(settings.redis.key_prefix)
        letter = client.execute_command(  # type: ignore[no-untyped-call]
            *dead_letter(stream, msgspec.json.encode(event), "IntegrityError: account")
        ).decode()
    finally:
        client.close()

    def listed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(
            gateway.process.capio("dead-letters", "list", "--json")
        )
        return [each for each in found if each["id"] == letter]

    (before,) = listed()
    gateway.process.capio("dead-letters", "requeue", letter)

    def entries() -> list[dict[str, Any]]:
        (shown,) = json.loads(
            gateway.process.capio("credits", "show", "--account", account, "--json")
        )
        found: list[dict[str, Any]] = shown["entries"]
        return found

    wait_until_sync(lambda: bool(entries()), 20)

    assert (before["reason"], before["request_id"]) == ("IntegrityError: account", "req_aside")
    assert listed() == []
    with pytest.raises(AssertionError):
        gateway.process.capio("dead-letters", "requeue", letter)
    assert [each["amount_nanousd"] for each in entries()] == [-700]
