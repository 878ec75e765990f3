"""Checks that a system responds correctly, whole and streamed, before it is measured."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any, Final

from bench.harness.scenarios import Scenario, chosen
from bench.harness.systems import Can, System
from bench.peers.process import AbsentError

READY_S: Final = 40.0
_TIMEOUT_S: Final = 20.0
_CHUNKS: Final = 100
_TEXT: Final = "quick brown fox"
_EXAMPLES: Final = {
    Can.MESSAGES: ("burst-100-messages", "agent-300k"),
    Can.COUNT_TOKENS: ("count-tokens",),
    Can.TRANSLATE: ("messages-to-chat", "chat-to-messages"),
    Can.TLS: ("tls-upstream",),
    Can.LIMITS: ("key-limits",),
}
"""Scenarios that show what a system can do."""


def verify(system: System) -> list[str]:
    """
    Ask the system for each kind of response; what it gets wrong is taken from `system.can`.

    Returns:
        What it cannot do although it was expected to, and why.

    Raises:
        AbsentError: It does not even serve Chat Completions.
    """
    _wait_ready(system)
    (burst,) = chosen(["burst-100"])
    streamed = problem_with(burst, system)
    if streamed:
        raise AbsentError(f"streams wrongly: {streamed}")
    missing = []
    for ability in sorted(system.can):
        problems = [problem_with(each, system) for each in chosen(list(_EXAMPLES[ability]))]
        if found := next((each for each in problems if each), ""):
            system.can -= {ability}
            missing.append(f"{system.name}: no {ability}: {found}")
    return missing


def _wait_ready(system: System) -> None:
    """Wait until a short call is served: some look for their upstreams after they listen."""
    (short,) = chosen(["short"])
    deadline = time.monotonic() + READY_S
    while problem := problem_with(short, system):
        if time.monotonic() > deadline:
            raise AbsentError(f"responds wrongly: {problem}")
        time.sleep(0.3)


def problem_with(scenario: Scenario, system: System) -> str:
    """Send one request of a scenario; return what is wrong with its response, if anything."""
    head, _, body = scenario.payload(system).next().partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    url = f"http://127.0.0.1:{scenario.port(system)}{scenario.path}"
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            text = response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return f"status {error.code}: {error.read(200).decode(errors='replace')}"
    except OSError as error:
        return repr(error)
    return _stream_problem(text) if b'"stream": true' in body else _whole_problem(text)


def _stream_problem(text: str) -> str:
    chunks = text.count(_TEXT)
    if chunks != _CHUNKS:
        return f"{chunks} of {_CHUNKS} chunks"
    ends = text.rstrip()[-60:]
    whole = "[DONE]" in ends or "message_stop" in ends
    return "" if whole else f"the stream ends with {ends!r}"


def _whole_problem(text: str) -> str:
    try:
        decoded: dict[str, Any] = json.loads(text)
    except ValueError:
        return f"no JSON: {text[:100]!r}"
    if "input_tokens" in decoded or "Hello!" in json.dumps(decoded.get("choices", "")):
        return ""
    return f"not the upstream's text: {text[:100]!r}"
