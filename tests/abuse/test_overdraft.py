"""Bursts against a small balance on the running gateway: the account ends within the bound."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_upstream import Exchange, RawUpstream, whole

pytestmark = [pytest.mark.process, pytest.mark.heavy, pytest.mark.timeout(120)]

TOKEN = "operator-0123456789abcdefghijklmnopqrstuv"
PROVIDER = """
[[providers]]
name = "raw"
openai = {{ base_url = "http://127.0.0.1:{port}/raw-00/v1" }}
api_key_file = "{key}"
"""
MODEL = """
[[models]]
name = "oai"
context = 200000
max_output = 64000
prices = { input = "1", output = "10" }
deployments = [{ provider = "raw", model = "up" }]
"""


class Shop:
    """A gateway of two workers that sells one model, $1 in and $10 out a million tokens."""

    def __init__(self, home: Path, upstream: RawUpstream) -> None:
        for name in ("admin.token", "upstream.key"):
            (home / name).write_text(TOKEN)
        extra = f"[admin]\ntoken_file = {json.dumps(str(home / 'admin.token'))}\n"
        provider = PROVIDER.format(port=upstream.port, key=home / "upstream.key")
        self.process = GatewayProcess(home, provider + MODEL, workers=2, extra=extra)

    def admin(self, method: str, path: str, body: object = None) -> Any:
        """Send a request to `/admin/...`; return its JSON."""
        answer = httpx2.request(
            method,
            f"{self.process.base_url}/admin/{path}",
            json=body,
            headers={"authorization": f"Bearer {TOKEN}"},
        )
        assert answer.status_code < 300, answer.text
        return answer.json()

    def customer(self, dollars: str) -> tuple[str, str]:
        """Return the id of a new account with this balance, and a key of it."""
        account = self.admin("POST", "accounts", {"name": f"poor-{time.time_ns()}"})["id"]
        self.admin("POST", f"accounts/{account}/credits", {"amount": dollars, "reason": "test"})
        return account, self.admin("POST", "keys", {"account_id": account, "name": "k"})["key"]

    def chat(self, key: str, text: str, **more: object) -> httpx2.Response:
        """Make one call on a connection of its own."""
        return httpx2.post(
            f"{self.process.base_url}/v1/chat/completions",
            headers={"authorization": f"Bearer {key}"},
            json={"model": "oai", "messages": [{"role": "user", "content": text}], **more},
            timeout=60,
        )

    def final_balance(self, account: str) -> int:
        """Return the balance once it has not changed for a second."""
        before, since = None, time.monotonic()
        while time.monotonic() - since < 1.5:
            balance = self.admin("GET", f"accounts/{account}")["balance_nanousd"]
            if balance != before:
                before, since = balance, time.monotonic()
            time.sleep(0.1)
        assert before is not None
        return int(before)


async def generous(exchange: Exchange) -> None:
    """Send 20,000 tokens for each choice asked for, half a second later; one token to learn."""
    choices = exchange.json.get("n", 1)
    tokens = 1
    if b"LEARN" not in exchange.body:
        await asyncio.sleep(8 if b"SLOW" in exchange.body else 0.5)
        tokens = 20_000 * choices
    answer = {
        "id": "c", "object": "chat.completion", "created": 1, "model": "up",
        "choices": [
            {"index": n, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
            for n in range(choices)
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens},
    }  # fmt: skip
    await whole(json.dumps(answer).encode())(exchange)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    upstream = RawUpstream(1).start()
    upstream.slot("/raw-00/").plays(generous)
    shop = Shop(tmp_path_factory.mktemp("shop"), upstream)
    try:
        shop.process.start()
        yield shop
    finally:
        shop.process.stop()
        upstream.stop()


@pytest.mark.parametrize(
    ("dollars", "parallel", "learn", "asked"),
    [
        ("0.01", 100, 40, {}),
        ("1", 100, 0, {"max_completion_tokens": 1, "max_tokens": 64_000}),
        ("1", 60, 0, {"n": 16}),
        ("1", 60, 0, {"n": 8, "max_tokens": 20_000}),
        ("1", 100, 0, {}),
        ("30", 150, 0, {"max_tokens": 20_000}),
    ],
    ids=["taught", "two-limits", "choices", "choices-limited", "plain", "large"],
)
def test_burst_overdraws_by_no_more_than_the_bound(
    shop: Shop, dollars: str, parallel: int, learn: int, asked: dict[str, object]
) -> None:
    """$1, or 10 % of what it had; and what it pays for is served."""
    account, key = shop.customer(dollars)
    for _ in range(learn):
        assert shop.chat(key, "LEARN", max_tokens=9).status_code == 200

    with ThreadPoolExecutor(parallel) as pool:
        answers = list(pool.map(lambda _: shop.chat(key, "x", **asked), range(parallel)))

    served = sum(answer.status_code == 200 for answer in answers)
    balance = shop.final_balance(account)
    print(f"{dollars}: served {served} of {parallel}, ended at {balance / 1e9:.6f}")
    assert {answer.status_code for answer in answers} <= {200, 429}
    assert balance >= -max(10**9, int(float(dollars) * 10**8))
    assert served > 0 or asked.get("n") == 16


def test_new_key_with_twenty_cents_is_served_whatever_others_did(shop: Shop) -> None:
    """Large responses of another tenant do not raise what its call holds."""
    _, rich = shop.customer("50")
    for _ in range(25):
        assert shop.chat(rich, "x", max_tokens=64_000).status_code == 200
    _, key = shop.customer("0.20")

    assert shop.chat(key, "LEARN").status_code == 200


def test_trusted_account_is_not_bounded(shop: Shop) -> None:
    """It is admitted as long as its holds are covered."""
    account, key = shop.customer("1")
    shop.admin("PATCH", f"accounts/{account}", {"trusted": True})

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: shop.chat(key, "SLOW"), range(20)))

    assert [answer.status_code for answer in answers] == [200] * 20
    assert shop.final_balance(account) < -(10**9)
