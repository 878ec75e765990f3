"""An upstream on the OpenAI wire with a prompt cache of its own, which can be made to fail."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any


class CachingUpstream:
    """
    Serves chat completions, and reports how much of each prompt it had seen before.

    `status` other than 200 makes every call fail with it.
    """

    def __init__(self) -> None:
        self.status = 200
        self.retry_after: int | None = None
        self.calls: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self._seen: set[str] = set()
        self._lock = Lock()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status, answer = upstream.answer(body, self.headers["authorization"])
                encoded = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(encoded)))
                if status == 429 and upstream.retry_after is not None:
                    self.send_header("retry-after", str(upstream.retry_after))
                self.end_headers()
                self.wfile.write(encoded)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, daemon=True)

    @property
    def base_url(self) -> str:
        """Its OpenAI base URL."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def probes(self) -> int:
        """Calls of the gateway itself."""
        return sum(call["messages"] == [{"role": "user", "content": "ping"}] for call in self.calls)

    def start(self) -> CachingUpstream:
        """Start serving."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, body: dict[str, Any], key: str | None) -> tuple[int, dict[str, Any]]:
        """Return the status and the response of one call."""
        with self._lock:
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
