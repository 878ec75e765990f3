"""
Locust users of a running gateway: short answers, streams and long prompts, in both dialects.

    export CAPIO_API_KEY=sk-...
    .venv/bin/locust -f bench/locustfile.py -H http://127.0.0.1:8080 --headless -u 20 -r 10 -t 30s

Environment:
    CAPIO_API_KEY       the key; required
    CAPIO_MODEL         what is asked for; default deepseek-v4-flash
    CAPIO_MAX_TOKENS    longest answer; default 64
    CAPIO_PROMPT_BYTES  length of a long prompt; default 100000

`--tags short`, `stream` or `long` chooses what is done, `OpenAICaller` or `AnthropicCaller` behind
the options one dialect. Beside each call, two more lines are reported for streams: `TTFT`, from
sending to the first event with content, and `ITL`, the gap between one event and the next.

Closed loop: a user sends its next request when the answer is complete. A stream that ends without
its dialect's end mark, or with an error event, counts as failed.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any
from urllib.parse import urlsplit

from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPSocketPoolResponse
from locust import User, constant, tag, task
from locust.env import Environment

MODEL = os.environ.get("CAPIO_MODEL", "deepseek-v4-flash")
MAX_TOKENS = int(os.environ.get("CAPIO_MAX_TOKENS", "64"))
PROMPT_BYTES = int(os.environ.get("CAPIO_PROMPT_BYTES", "100000"))
TIMEOUT_S = 120.0
SENTENCE = "The quick brown fox jumps over the lazy dog. "
SHORT = f"/tokens {MAX_TOKENS}\nSay something short."
LONG = SENTENCE * (PROMPT_BYTES // len(SENTENCE)) + "\n" + SHORT


class CallFailedError(Exception):
    """The response is invalid; the message says why."""


class Caller(User):
    """One client with one connection. `path`, `end` and `has_content` are the dialect's."""

    abstract = True
    wait_time = constant(0)
    path: str
    end: bytes
    """In the last event of a whole stream, and in no other."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        assert self.host, "give --host"
        url = urlsplit(self.host)
        assert url.hostname, "--host needs a host name"
        key = os.environ["CAPIO_API_KEY"]
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        self._client = HTTPClient(
            url.hostname,
            url.port,
            ssl=url.scheme == "https",
            connection_timeout=TIMEOUT_S,
            network_timeout=TIMEOUT_S,
        )

    def on_stop(self) -> None:
        """Leave."""
        self._client.close()

    @tag("short")
    @task(3)
    def short(self) -> None:
        """A short prompt, a short answer, not streamed."""
        self._call("short", SHORT, stream=False)

    @tag("stream")
    @task(3)
    def stream(self) -> None:
        """A short prompt, a streamed answer."""
        self._call("stream", SHORT, stream=True)

    @tag("long")
    @task(1)
    def long(self) -> None:
        """A long prompt, a streamed answer."""
        self._call("long", LONG, stream=True)

    def _call(self, kind: str, prompt: str, *, stream: bool) -> None:
        body: dict[str, Any] = {
            "model": MODEL,
            "max_tokens": MAX_TOKENS,
            "messages": [{"role": "user", "content": prompt}],
        }
        if stream:
            body["stream"] = True
        name, began, size = f"{self.path} {kind}", time.perf_counter(), 0
        failure: Exception | None = None
        try:
            response = self._client.post(self.path, json.dumps(body).encode(), self._headers)
            with response:
                if response.status_code != 200:
                    words = bytes(response.read())[:200].decode(errors="replace")
                    raise CallFailedError(f"{response.status_code}: {words}")
                size = self._read_stream(response, name, began) if stream else len(response.read())
        except (OSError, ValueError, CallFailedError) as error:
            failure = error
        self._report("POST", name, time.perf_counter() - began, size, failure)

    def _read_stream(self, response: HTTPSocketPoolResponse, name: str, began: float) -> int:
        size, last, event = 0, 0.0, b""
        while piece := response.readline(b"\n\n"):
            now = time.perf_counter()
            event = bytes(piece)
            size += len(event)
            if last:
                self._report("ITL", name, now - last, len(event))
                last = now
            elif self.has_content(event):
                self._report("TTFT", name, now - began, len(event))
                last = now
        if self.end not in event:
            raise CallFailedError(f"the stream ended with {event[:100]!r}")
        return size

    @staticmethod
    def has_content(event: bytes) -> bool:
        """Whether the event brings the client something to show."""
        raise NotImplementedError

    def _report(
        self, kind: str, name: str, seconds: float, size: int, failure: Exception | None = None
    ) -> None:
        self.environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=seconds * 1000,
            response_length=size,
            exception=failure,
            context={},
        )


class OpenAICaller(Caller):
    """Asks for chat completions."""

    path = "/v1/chat/completions"
    end = b"[DONE]"

    @staticmethod
    def has_content(event: bytes) -> bool:
        """A text, a thought or a piece of a call that is not empty; the role alone is none."""
        choices = json.loads(event.removeprefix(b"data:")).get("choices") or [{}]
        delta = choices[0].get("delta") or {}
        return any(value for name, value in delta.items() if name != "role")


class AnthropicCaller(Caller):
    """Asks for messages."""

    path = "/v1/messages"
    end = b"event: message_stop"

    @staticmethod
    def has_content(event: bytes) -> bool:
        """A delta of a block; neither its start nor a ping is one."""
        return b"content_block_delta" in event
