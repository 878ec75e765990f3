"""An upstream on the OpenAI wire with a prompt cache of its own, which can be made to fail."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

from gateway.demo import server
from tests.support.scripted import ScriptedThread


class CachingUpstream(ScriptedThread):
    """
    Serves chat completions, and reports how much of each prompt it had seen before.

    `status` other than 200 makes every call fail with it. It sends no `date`. While `free`
    is not set, calls arrive and get no response.
    """

    def __init__(self) -> None:
        super().__init__(self._respond)
        self.status = 200
        self.retry_after: str | None = None
        self.free = threading.Event()
        self.free.set()
        self.calls: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self._seen: set[str] = set()

    @property
    def base_url(self) -> str:
        """Its OpenAI base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def probes(self) -> int:
        """Calls of the gateway itself."""
        return sum(call["messages"] == [{"role": "user", "content": "ping"}] for call in self.calls)

    async def _respond(self, exchange: server.Exchange) -> None:
        (key, *_) = exchange.header("authorization")
        status, response = self._serve(exchange.json, key)
        if not self.free.is_set():
            await asyncio.to_thread(self.free.wait)
        wait = b""
        if status == 429 and self.retry_after is not None:
            wait = f"retry-after: {self.retry_after}\r\n".encode()
        await exchange.send(server.whole(json.dumps(response).encode(), status, wait))

    def _serve(self, body: dict[str, Any], key: str | None) -> tuple[int, dict[str, Any]]:
        self.calls.append(body)
        self.keys.append(key)
        if self.status != 200:
            return self.status, {"error": {"message": f"status {self.status}", "code": None}}
        texts = [json.dumps(message) for message in body["messages"]]
        cached = total = 0
        for count, text in enumerate(texts, 1):
            total += len(text) // 4
            prefix = "".join(texts[:count])
            if prefix in self._seen:
                cached = total
            self._seen.add(prefix)
        usage = {
            "prompt_tokens": total,
            "completion_tokens": 5,
            "total_tokens": total + 5,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        message = {"role": "assistant", "content": f"Answer {len(texts)}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        head = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"]}
        return 200, {**head, "choices": [choice], "usage": usage}
