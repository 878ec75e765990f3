"""A call is charged although its response is huge, or its client leaves before the report."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request

import pytest

from tests.support.bodies import OPENAI, request
from tests.support.raw_client import Connection, render
from tests.support.raw_upstream import SSE, Exchange, Slot, whole
from tests.support.service import Service
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.process

USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 30_000,
    "total_tokens": 31_000,
    "completion_tokens_details": {"reasoning_tokens": 29_990},
}


def test_answer_of_nine_megabytes_is_charged_as_reported(gateway: Service, upstream: Slot) -> None:
    """Log probabilities make any response that large."""
    key = gateway.new_key("large")
    odds = {"content": [{"token": "a", "logprob": -1.0, "pad": "y" * 900}] * 10_000}
    message = {"role": "assistant", "content": "x"}
    choice = {"index": 0, "message": message, "logprobs": odds, "finish_reason": "stop"}
    answer = json.dumps({"id": "c", "choices": [choice], "usage": USAGE}).encode()
    upstream.plays(whole(answer))

    body = request(OPENAI, upstream.model("openai"), logprobs=True, top_logprobs=20)
    asked = urllib.request.Request(
        gateway.url + OPENAI, body, {"x-api-key": key.raw, "content-type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=20) as response:
        assert response.read() == answer

    wait_until_sync(lambda: gateway.recorded(key))
    used = gateway.calls(key)
    assert (used["input"], used["reasoning"]) == (1000, 29_990)


@pytest.mark.parametrize("reports", [True, False])
def test_client_that_leaves_at_the_finish_reason_is_charged_what_is_reported(
    gateway: Service, upstream: Slot, reports: bool
) -> None:
    """The report is awaited for some seconds, and no longer."""
    key = gateway.new_key("left")

    async def plays(exchange: Exchange) -> None:
        await exchange.send(SSE + b"\r\n")
        for choice in (
            {"index": 0, "delta": {"content": "word"}, "finish_reason": None},
            {"index": 0, "delta": {}, "finish_reason": "stop"},
        ):
            await exchange.chunk(b"data: %b\n\n" % json.dumps({"choices": [choice]}).encode())
        left.append(time.monotonic())
        if reports:
            await asyncio.sleep(0.5)
            usage = json.dumps({"choices": [], "usage": USAGE}).encode()
            await exchange.send(b"%x\r\ndata: %b\n\n\r\n" % (len(usage) + 8, usage))
            await exchange.chunk(b"data: [DONE]\n\n")
            await exchange.send(b"0\r\n\r\n")
        else:
            await exchange.until_gone()

    left: list[float] = []
    upstream.plays(plays)
    connection = Connection(gateway.port)
    body = request(OPENAI, upstream.model("openai"), stream=True)
    connection.send(render("POST", OPENAI, body, x_api_key=key.raw))
    connection.read_head()
    while b'"stop"' not in connection.read_chunk():
        pass
    connection.close()

    wait_until_sync(lambda: gateway.recorded(key), timeout_s=20)
    took_s = time.monotonic() - left[0]
    used = gateway.calls(key)
    assert used["reasoning"] == (29_990 if reports else 0)
    assert took_s < (4 if reports else 10)
