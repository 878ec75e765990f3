"""
Locust users of a running gateway: short responses, streams and long prompts, in both dialects.

    export CAPIO_API_KEY=sk-...
    .venv/bin/locust -f bench/locustfile.py -H http://127.0.0.1:8080 --headless -u 20 -r 10 -t 30s

Environment:
    CAPIO_API_KEY             keys, separated by commas; each user takes the next one; required
    CAPIO_MODEL               models, separated by commas; default deepseek-v4-flash
    CAPIO_MAX_TOKENS          longest response; default 64
    CAPIO_PROMPT_BYTES        length of a long prompt; default 100000
    CAPIO_PROMPT_PREFIX       starts each prompt, such as directives of the demo upstream
    CAPIO_STEPS               RATE:SECONDS,...: arrivals per second, an open loop; default closed
    CAPIO_SLO_TTFT_MS         longest time to the first content of a stream; default 2000
    CAPIO_SLO_GAP_MS          longest mean gap between contents; default 100
    CAPIO_MIN_SLO_SHARE       exit code 1 if fewer streams are within both; default 0
    CAPIO_MAX_FAILURE_SHARE   exit code 1 if more calls fail; default 0
    CAPIO_CHECK_BILL          0: do not compare `/v1/usage` with what was received at the end; the
                              accounts of the keys must have no other calls meanwhile

`--tags short`, `stream` or `long` chooses what is done, `OpenAICaller` or `AnthropicCaller` behind
the options one dialect. Each prompt is unique, so that no provider's cache hits. Beside each
call, three more lines are reported for streams: `TTFT`, from sending to the first content, `ITL`,
the gap between one content and the next, and `TPS`, tokens per second after the first content.

A call is whole if its response has the end of its dialect, every event can be read and none is an
error. Everything else counts as failed, under a name without ids. A user waits after a failure.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import urlsplit

import gevent
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPSocketPoolResponse
from locust import LoadTestShape, User, events, tag, task
from locust.env import Environment
from locust.runners import WorkerRunner
from locust.user.task import LOCUST_STATE_RUNNING, LOCUST_STATE_WAITING

MODELS = os.environ.get("CAPIO_MODEL", "deepseek-v4-flash").split(",")
MAX_TOKENS = int(os.environ.get("CAPIO_MAX_TOKENS", "64"))
PROMPT_BYTES = int(os.environ.get("CAPIO_PROMPT_BYTES", "100000"))
PREFIX = os.environ.get("CAPIO_PROMPT_PREFIX", "").replace("\\n", "\n")
_steps = (step.split(":") for step in os.environ.get("CAPIO_STEPS", "").split(",") if step)
STEPS = [(float(rate), float(seconds)) for rate, seconds in _steps]
SLO_TTFT_S = float(os.environ.get("CAPIO_SLO_TTFT_MS", "2000")) / 1000
SLO_GAP_S = float(os.environ.get("CAPIO_SLO_GAP_MS", "100")) / 1000
MIN_SLO_SHARE = float(os.environ.get("CAPIO_MIN_SLO_SHARE", "0"))
MAX_FAILURE_SHARE = float(os.environ.get("CAPIO_MAX_FAILURE_SHARE", "0"))
CHECK_BILL = os.environ.get("CAPIO_CHECK_BILL", "1") != "0"
TIMEOUT_S = 120.0
STOP_S = 60  # running calls may end after the run; without that the bill cannot agree
BILL_WAIT_S = 20.0
PERIOD_S = 20.0  # in an open loop, the mean time between two calls of one user
SENTENCE = "The quick brown fox jumps over the lazy dog. "

_keys = itertools.cycle(os.environ.get("CAPIO_API_KEY", "").split(","))
_before: Counter[str] = Counter()
counts: Counter[str] = Counter()
"""What was begun and received, of all processes: calls, whole, tokens, streams, within_slo."""


class CallFailedError(Exception):
    """The message says why the call is not whole, without ids."""


class Caller(User):
    """One client with one connection. `path`, `end` and the methods below are the dialect's."""

    abstract = True
    path: str
    end: bytes
    """In the last event of a whole stream, and in no other."""
    stream_options: ClassVar[dict[str, Any]] = {"stream": True}

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._headers = headers(next(_keys))
        self._client = client_of(self.host)
        self._due = time.perf_counter() + random.expovariate(1 / PERIOD_S)

    def on_start(self) -> None:
        if STEPS:
            self._state = LOCUST_STATE_WAITING  # as in other pauses, the end of the run ends it
            gevent.sleep(self._until_due())
            self._state = LOCUST_STATE_RUNNING

    def on_stop(self) -> None:
        self._client.close()

    @tag("short")
    @task(3)
    def short(self) -> None:
        """A short prompt, a short response, not streamed."""
        self._call("short", "", stream=False)

    @tag("stream")
    @task(3)
    def stream(self) -> None:
        """A short prompt, a streamed response."""
        self._call("stream", "", stream=True)

    @tag("long")
    @task(1)
    def long(self) -> None:
        """A long prompt, a streamed response."""
        self._call("long", SENTENCE * (PROMPT_BYTES // len(SENTENCE)), stream=True)

    def wait_time(self) -> float:
        """Return the pause before the next call: none in a closed loop."""
        return self._until_due() if STEPS else 0.0

    def _until_due(self) -> float:
        # Poisson arrivals: the next call is due whether or not the last one took long.
        wait = max(0.0, self._due - time.perf_counter())
        self._due += random.expovariate(1 / PERIOD_S)
        return wait

    def _call(self, kind: str, text: str, *, stream: bool) -> None:
        prompt = f"{PREFIX}Tell me something about {uuid.uuid4().hex}.\n{text}"
        body: dict[str, Any] = {
            "model": random.choice(MODELS),
            "max_tokens": MAX_TOKENS,
            "messages": [{"role": "user", "content": prompt}],
        }
        if stream:
            body |= self.stream_options
        name, began, size = f"{self.path} {kind}", time.perf_counter(), 0
        failure: Exception | None = None
        retry_after_s = 1.0
        counts["calls"] += 1
        try:
            response = self._client.post(self.path, json.dumps(body).encode(), self._headers)
            with response:
                if response.status_code != 200:
                    wait = response.headers.get("retry-after") or "1"
                    retry_after_s = float(wait) if wait.isdecimal() else 1.0
                    raise CallFailedError(refusal(response))
                if stream:
                    size = self._read_stream(response, name, began)
                else:
                    answer = bytes(response.read())
                    size = len(answer)
                    counts["tokens"] += self.tokens_of(json.loads(answer)) or 0
            counts["whole"] += 1
        except CallFailedError as error:
            failure = error
        except (ValueError, TypeError):
            failure = CallFailedError("malformed JSON")
        except Exception as error:  # noqa: BLE001  whatever way it breaks, the call is not whole
            failure = CallFailedError(f"broken: {type(error).__name__}")
        self._report("POST", name, time.perf_counter() - began, size, failure)
        if failure is not None:
            self._client.close()
            gevent.sleep(min(retry_after_s, 10.0))

    def _read_stream(self, response: HTTPSocketPoolResponse, name: str, began: float) -> int:
        counts["streams"] += 1
        size, tokens, contents, first, last = 0, 0, 0, 0.0, 0.0
        for event, data in self._events(response):
            size += len(event)
            tokens = max(tokens, self.tokens_of(data) or 0)
            if not self.has_content(data):
                continue
            now = time.perf_counter()
            contents += 1
            first = first or now
            kind, since = ("ITL", last) if last else ("TTFT", began)
            self._report(kind, name, now - since, len(event))
            last = now
        counts["tokens"] += tokens
        gap = (last - first) / max(contents - 1, 1)
        counts["within_slo"] += contents > 0 and first - began <= SLO_TTFT_S and gap <= SLO_GAP_S
        if tokens > 1 and last > first:
            # Locust's columns are of milliseconds: 50 tokens per second are shown as 50.
            self._report("TPS", name, (tokens - 1) / (last - first) / 1000, tokens)
        return size

    def _events(self, response: HTTPSocketPoolResponse) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Yield each event that has data; raises CallFailedError unless the stream is whole."""
        ended = False
        while piece := response.readline(b"\n\n"):
            event = bytes(piece)
            if ended or not event.endswith(b"\n\n"):
                raise CallFailedError("events after the end" if ended else "cut within an event")
            ended = self.end in event
            joined = b"\n".join(re.findall(rb"^data:(.*)", event, re.MULTILINE)).strip()
            if not joined or joined == b"[DONE]":  # a comment, or the end
                continue
            data: dict[str, Any] = dict(json.loads(joined))
            if data.get("error"):
                raise CallFailedError(f"error event: {kind_of(data['error'])}")
            yield event, data
        if not ended:
            raise CallFailedError("cut before the end")

    @staticmethod
    def has_content(data: dict[str, Any]) -> bool:
        """Whether the event brings the client something to show."""
        raise NotImplementedError

    @staticmethod
    def tokens_of(data: dict[str, Any]) -> int | None:
        """Return the output tokens that a response or an event reports."""
        raise NotImplementedError

    def _report(
        self, kind: str, name: str, seconds: float, size: int, failure: Exception | None = None
    ) -> None:
        self.environment.events.request.fire(
            request_type=kind, name=name, response_time=seconds * 1000, response_length=size,
            exception=failure, context={},
        )  # fmt: skip


class OpenAICaller(Caller):
    """Asks for chat completions."""

    path = "/v1/chat/completions"
    end = b"[DONE]"
    stream_options: ClassVar[dict[str, Any]] = {
        "stream": True,
        "stream_options": {"include_usage": True},
    }

    @staticmethod
    def has_content(data: dict[str, Any]) -> bool:
        """A text, reasoning or a piece of a call that is not empty; the role alone is none."""
        choices = data.get("choices") or [{}]
        delta = choices[0].get("delta") or {}
        return any(value for name, value in delta.items() if name != "role")

    @staticmethod
    def tokens_of(data: dict[str, Any]) -> int | None:
        """The usage's completion tokens."""
        return (data.get("usage") or {}).get("completion_tokens")


class AnthropicCaller(Caller):
    """Asks for messages."""

    path = "/v1/messages"
    end = b"event: message_stop"

    @staticmethod
    def has_content(data: dict[str, Any]) -> bool:
        """A delta of a block; neither its start nor a ping is one."""
        return data.get("type") == "content_block_delta"

    @staticmethod
    def tokens_of(data: dict[str, Any]) -> int | None:
        """The usage's output tokens; `message_start` has a preliminary one."""
        return (data.get("usage") or {}).get("output_tokens")


if STEPS:

    class Steps(LoadTestShape):
        """So many users that their independent calls arrive at the rate of each step."""

        def tick(self) -> tuple[int, float] | None:
            """Return the users of the current step; None after the last."""
            left = self.get_run_time()  # type: ignore[no-untyped-call]
            for rate, seconds in STEPS:
                if left < seconds:
                    users = max(1, round(rate * PERIOD_S))
                    return users, float(users)
                left -= seconds
            return None


def kind_of(error: object) -> str:
    """Return the code or type of an error object, which are few; messages may hold ids."""
    return str(error.get("code") or error.get("type")) if isinstance(error, dict) else "unknown"


def refusal(response: HTTPSocketPoolResponse) -> str:
    """Return the status of a refused call and the kind of its error."""
    try:
        return f"{response.status_code} {kind_of(json.loads(bytes(response.read()))['error'])}"
    except (ValueError, KeyError, TypeError):
        return str(response.status_code)


def headers(key: str) -> dict[str, str]:
    """Return the headers of a request with a key."""
    return {"authorization": f"Bearer {key}", "content-type": "application/json"}


def client_of(host: str | None) -> HTTPClient:
    """Return a client of the gateway."""
    url = urlsplit(host or "")
    if not url.hostname:
        raise SystemExit("--host needs a URL with a host name")
    return HTTPClient(
        url.hostname, url.port, ssl=url.scheme == "https",
        connection_timeout=TIMEOUT_S, network_timeout=TIMEOUT_S,
    )  # fmt: skip


def billed(host: str | None) -> Counter[str]:
    """Return the calls that did not fail and their output tokens, of all accounts of the keys."""
    lines: dict[str, dict[str, Any]] = {}
    for key in os.environ["CAPIO_API_KEY"].split(","):
        client = client_of(host)
        with client.get("/v1/usage?group_by=key", headers(key)) as response:
            document = json.loads(bytes(response.read()))
        client.close()
        lines |= {line["key"]: line for line in document["data"]}
    return Counter(
        whole=sum(line["calls"] - line["failed"] for line in lines.values()),
        tokens=sum(line["output_tokens"] + line["reasoning_tokens"] for line in lines.values()),
    )


def problems(bill: Counter[str] | None) -> list[str]:
    """Return why the run counts as failed, from `counts` and what was billed for it."""
    found = []
    failed = counts["calls"] - counts["whole"]
    share = failed / counts["calls"] if counts["calls"] else 1.0
    if share > MAX_FAILURE_SHARE:
        found.append(f"{failed} of {counts['calls']} calls failed")
    within = counts["within_slo"] / counts["streams"] if counts["streams"] else 1.0
    if within < MIN_SLO_SHARE:
        found.append(f"{within:.1%} of the streams are within the SLO")
    if bill is not None and not agrees(bill):
        found.append(
            f"the bill has {bill['whole']} calls with {bill['tokens']} output tokens, received were"
            f" {counts['whole']} with {counts['tokens']}; {failed} failed"
        )
    return found


def agrees(bill: Counter[str]) -> bool:
    """Return whether the bill is what was received; failed calls may be on it or not."""
    failed = counts["calls"] - counts["whole"]
    extra = bill["whole"] - counts["whole"]
    if failed:
        return 0 <= extra <= failed and bill["tokens"] >= counts["tokens"]
    return extra == 0 and bill["tokens"] == counts["tokens"]


def _let_calls_end(environment: Environment, **_: object) -> None:
    if not os.environ.get("CAPIO_API_KEY"):
        raise SystemExit("CAPIO_API_KEY is not set: the keys of the calls, separated by commas")
    environment.stop_timeout = environment.stop_timeout or STOP_S


def _note_bill(environment: Environment, **_: object) -> None:
    if CHECK_BILL and not isinstance(environment.runner, WorkerRunner):
        _before.clear()
        _before.update(billed(environment.host))


def _send_counts(data: dict[str, Any], **_: object) -> None:
    data["capio"] = dict(counts)
    counts.clear()


def _add_counts(data: dict[str, Any], **_: object) -> None:
    counts.update(data.get("capio", {}))


def _judge(environment: Environment, **_: object) -> None:
    if isinstance(environment.runner, WorkerRunner):
        return
    bill = None
    deadline = time.monotonic() + BILL_WAIT_S  # usage reaches SQL within seconds
    while CHECK_BILL and time.monotonic() < deadline and (bill is None or not agrees(bill)):
        gevent.sleep(0.5)
        bill = billed(environment.host)
        bill.subtract(_before)
    found = problems(bill)
    within = f"{counts['within_slo']} of {counts['streams']} streams within the SLO"
    print(f"{counts['whole']} of {counts['calls']} calls whole, {within}")
    for line in found:
        print(f"FAILED: {line}")
    environment.process_exit_code = 1 if found else 0


for _hook, _listener in (
    (events.init, _let_calls_end),
    (events.test_start, _note_bill),
    (events.report_to_master, _send_counts),
    (events.worker_report, _add_counts),
    (events.quitting, _judge),
):
    _hook.add_listener(_listener)  # type: ignore[no-untyped-call]
