"""From an operator's first request to proven books, on the running gateway."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.service import OPENAI_MODEL, DemoProcess
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.process

TOKEN = "operator-0123456789abcdefghijklmnopqrstuv"


class Operator:
    """A gateway of two workers with an operator's token, and HTTP to it."""

    def __init__(self, home: Path, demo: DemoProcess) -> None:
        token_file = home / "admin.token"
        token_file.write_text(f"{TOKEN}\n")
        cost = ', cost = { input = "0.05", output = "0.10" } }]'
        config = re.sub(r" }]$", cost, demo.config(), flags=re.MULTILINE)
        extra = f"[admin]\ntoken_file = {json.dumps(str(token_file))}\n"
        self.process = GatewayProcess(home, config, workers=2, extra=extra)
        self.http = httpx2.Client(base_url=self.process.base_url, timeout=10)

    def admin(self, method: str, path: str, body: object = None) -> Any:
        """Send a request to `/admin/...`; return its JSON, which must be no error."""
        answer = self.http.request(
            method, f"/admin/{path}", json=body, headers={"authorization": f"Bearer {TOKEN}"}
        )
        assert answer.status_code < 300, answer.text
        return answer.json()

    def chat(self, key: str) -> httpx2.Response:
        """Ask the model for a few words on a connection of its own, so that any worker responds."""
        with httpx2.Client(base_url=self.process.base_url, timeout=10) as client:
            return client.post(
                "/v1/chat/completions",
                headers={"authorization": f"Bearer {key}"},
                json={
                    "model": OPENAI_MODEL,
                    "max_tokens": 50,
                    "messages": [{"role": "user", "content": "hi"}],
                },
            )

    def get(self, key: str, path: str) -> httpx2.Response:
        """Ask for a page with a virtual key."""
        return self.http.get(path, headers={"authorization": f"Bearer {key}"})


def is_found(operator: Operator, key: str, page: str) -> bool:
    """Return whether the page exists by now."""
    return operator.get(key, page).status_code == 200


@pytest.fixture(scope="module")
def operator(
    tmp_path_factory: pytest.TempPathFactory, demo_upstream: DemoProcess
) -> Iterator[Operator]:
    operator = Operator(tmp_path_factory.mktemp("admin"), demo_upstream)
    try:
        operator.process.start()
        yield operator
    finally:
        operator.http.close()
        operator.process.stop()


def test_prepaid_account_pays_for_its_calls_to_the_nano_dollar(operator: Operator) -> None:
    """Refused without money, served at once after a top-up, charged exactly, and provable."""
    account = operator.admin("POST", "accounts", {"name": "acme"})
    key = operator.admin("POST", "keys", {"account_id": account["id"], "name": "ci"})["key"]

    poor = operator.chat(key)
    operator.admin("POST", f"accounts/{account['id']}/credits", {"amount": "1", "reason": "x"})
    answers = [operator.chat(key) for _ in range(6)]

    assert (poor.status_code, poor.json()["error"]["code"]) == (429, "insufficient_quota")
    assert [answer.status_code for answer in answers] == [200] * 6
    ids = [answer.headers["x-request-id"] for answer in answers]
    for request_id in ids:
        page = f"/v1/generation?id={request_id}"
        wait_until_sync(partial(is_found, operator, key, page), 10)
    calls = [operator.get(key, f"/v1/generation?id={request_id}").json() for request_id in ids]
    cost = sum(call["cost_nanousd"] for call in calls)
    for call in calls:
        tokens = call["usage"]
        assert call["cost_nanousd"] == 70 * tokens["input_tokens"] + 140 * tokens["output_tokens"]
    assert cost > 0
    shown = operator.get(key, "/v1/credits").json()
    assert shown["balance_nanousd"] == 1_000_000_000 - cost
    (line,) = operator.admin("GET", f"usage?account_id={account['id']}&group_by=model")["data"]
    assert (line["calls"], line["cost_nanousd"]) == (6, cost)
    assert line["upstream_cost_nanousd"] == sum(
        50 * call["usage"]["input_tokens"] + 100 * call["usage"]["output_tokens"] for call in calls
    )
    assert line["margin_nanousd"] == cost - line["upstream_cost_nanousd"]
    assert "no differences" in operator.process.capio("reconcile")


def test_code_redeemed_over_http_lets_the_account_call(operator: Operator) -> None:
    """The worker that is asked next, whichever it is, knows of the money."""
    account = operator.admin("POST", "accounts", {"name": "gifted"})
    key = operator.admin("POST", "keys", {"account_id": account["id"], "name": "ci"})["key"]
    (made,) = operator.admin("POST", "codes", {"amount": "2"})["data"]
    assert operator.chat(key).status_code == 429

    redeemed = operator.http.post(
        "/v1/credits/redeem",
        headers={"authorization": f"Bearer {key}"},
        json={"code": made["code"]},
    )

    assert (redeemed.status_code, redeemed.json()["balance"]) == (200, "2.00")
    assert [operator.chat(key).status_code for _ in range(4)] == [200] * 4


def test_limits_and_states_set_over_http_hold_in_every_worker(operator: Operator) -> None:
    """A change is in force when its response has come."""
    body = {"name": "limited", "billing": "postpaid"}
    account = operator.admin("POST", "accounts", body)
    made = operator.admin("POST", "keys", {"account_id": account["id"], "name": "ci"})
    key = made["key"]
    assert [operator.chat(key).status_code for _ in range(4)] == [200] * 4

    operator.admin("PUT", f"accounts/{account['id']}/limits", {"budget_total_nanousd": 1})
    assert {operator.chat(key).status_code for _ in range(4)} == {429}
    operator.admin("PUT", f"accounts/{account['id']}/limits", {})
    assert {operator.chat(key).status_code for _ in range(4)} == {200}
    operator.admin("POST", f"keys/{made['id']}/revoke")

    wait_until_sync(lambda: {operator.chat(key).status_code for _ in range(6)} == {401}, 2)


def test_no_secret_of_the_operators_api_is_left_behind(operator: Operator) -> None:
    """Neither keys, nor codes, nor the token stand in any file or log line."""
    account = operator.admin("POST", "accounts", {"name": "secret"})
    key = operator.admin("POST", "keys", {"account_id": account["id"], "name": "ci"})["key"]
    (code,) = operator.admin("POST", "codes", {"amount": "2"})["data"]
    operator.http.get("/admin/accounts", headers={"authorization": f"Bearer {TOKEN}x"})

    files = list(operator.process.data_dir.rglob("*"))
    kept = b"".join(path.read_bytes() for path in files if path.is_file() and path.stat().st_size)
    kept += operator.process.log().encode()

    assert kept
    for secret in (key, code["code"], code["code"].replace("-", ""), TOKEN):
        assert secret.encode() not in kept


def test_admin_api_says_when_its_process_is_away_and_returns(operator: Operator) -> None:
    """503 with `retry-after`, while calls go on; a request sent again after it is served."""
    account = operator.admin("POST", "accounts", {"name": "steady"})
    key = operator.admin("POST", "keys", {"account_id": account["id"], "name": "ci"})["key"]
    operator.admin("POST", f"accounts/{account['id']}/credits", {"amount": "1", "reason": "x"})
    children = operator.process.children()
    (console,) = [pid for pid, line in children.items() if "gateway.console" in line]

    os.kill(console, signal.SIGKILL)
    wait_until_sync(lambda: operator.http.get("/admin/accounts").status_code == 503, 5)
    away = operator.http.get("/admin/accounts")

    assert (away.status_code, away.headers["retry-after"]) == (503, "2")
    assert away.json()["error"]["code"] == "admin_api_unavailable"
    assert operator.chat(key).status_code == 200
    wait_until_sync(lambda: operator.http.get("/admin/accounts").status_code == 401, 20)
    assert operator.admin("GET", f"accounts/{account['id']}")["name"] == "steady"
