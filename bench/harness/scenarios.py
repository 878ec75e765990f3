"""The scenarios: what is sent, how much of it at once, and what CPU time is divided by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bench.harness.requests import (
    CHAT,
    COUNT_TOKENS,
    MESSAGES,
    Payload,
    agent_body,
    chat_body,
    numbered,
    post,
    unique_body,
)
from bench.harness.systems import Can, System


class Kind(StrEnum):
    """How a scenario's requests follow each other."""

    CLOSED = "closed loop"
    CHURN = "a connection for each request"
    PACED = "streams at a pace"
    OPEN = "open loop"


class Body(StrEnum):
    """What a scenario's requests contain."""

    CHAT = "chat"
    AGENT = "agent"
    UNIQUE = "unique"


@dataclass(frozen=True)
class Scenario:
    """
    One kind of load.

    Args:
        title: What one unit of it is, as tables say.
        model: The upstream's behaviour, see `bench.upstream`.
        at_once: Connections, or streams.
        units: Of one request; 0: those are counted, events of streams.
        needs: What a system must be able to serve to take part.
        rate: Requests a second of an open loop.
        open_s: The time over which paced streams are opened.
    """

    name: str
    title: str
    model: str = "short"
    at_once: int = 32
    units: int = 1
    kind: Kind = Kind.CLOSED
    path: str = CHAT
    prompt_bytes: int = 200
    stream: bool = False
    body: Body = Body.CHAT
    needs: frozenset[Can] = frozenset()
    prefix: str = ""
    rate: float = 0.0
    open_s: float = 0.0

    def payload(self, system: System) -> Payload:
        """Return the request to send to a system."""
        model = self.model
        if Can.TRANSLATE in self.needs or (Can.TLS in self.needs and system.limited_key):
            model = f"{self.prefix}{model}"
        key = system.limited_key if Can.LIMITS in self.needs else system.key
        if self.body is Body.AGENT:
            body = agent_body(model, self.prompt_bytes)
        elif self.body is Body.UNIQUE:
            body = unique_body(model, self.prompt_bytes)
        else:
            body = chat_body(model, prompt_bytes=self.prompt_bytes, stream=self.stream)
        return numbered(post(self.path, body, key, system.headers))

    def port(self, system: System) -> int:
        """Return where a system serves this."""
        return system.tls_port if Can.TLS in self.needs else system.port

    def suits(self, system: System) -> bool:
        """Return whether the system takes part."""
        streams = self.at_once if self.kind is Kind.PACED else 0
        fits = streams <= system.most_streams and self.rate <= system.most_rate
        return fits and self.needs <= system.can


def _paced(streams: int, pace_ms: int, open_s: float) -> Scenario:
    return Scenario(
        f"paced-{streams}",
        f"chunk, {streams:,} streams at {pace_ms} ms",
        model=f"paced-100000-{pace_ms}",
        at_once=streams,
        units=0,
        kind=Kind.PACED,
        stream=True,
        open_s=open_s,
    )


def _open(rate: int) -> Scenario:
    return Scenario(
        f"open-{rate}", f"short request, {rate} a second", kind=Kind.OPEN, rate=float(rate)
    )


_MESSAGES: Final = frozenset({Can.MESSAGES})
SCENARIOS: Final[tuple[Scenario, ...]] = (
    Scenario("short", "short request"),
    Scenario("prompt-100k", "request with a prompt of 100 KB", at_once=16, prompt_bytes=100_000),
    Scenario("prompt-1m", "request with a prompt of 1 MB", at_once=4, prompt_bytes=1_000_000),
    Scenario(
        "burst-100", "chunk in a burst, Chat Completions",
        model="burst-100", at_once=16, units=100, stream=True,
    ),
    Scenario(
        "burst-100-messages", "chunk in a burst, Messages",
        model="burst-100", at_once=16, units=100, stream=True, path=MESSAGES, needs=_MESSAGES,
    ),
    Scenario(
        "messages-to-chat", "chunk translated, Messages over a Chat Completions upstream",
        model="burst-100", at_once=16, units=100, stream=True, path=MESSAGES,
        needs=frozenset({Can.TRANSLATE}), prefix="to-openai-",
    ),
    Scenario(
        "chat-to-messages", "chunk translated, Chat Completions over a Messages upstream",
        model="burst-100", at_once=16, units=100, stream=True,
        needs=frozenset({Can.TRANSLATE}), prefix="to-anthropic-",
    ),
    Scenario(
        "agent-300k", "agent's Messages call of 300 KB, 100 chunks back",
        model="burst-100", at_once=8, path=MESSAGES, prompt_bytes=300_000, body=Body.AGENT,
        needs=_MESSAGES,
    ),
    Scenario(
        "count-tokens", "count_tokens of 20 KB, each different",
        at_once=16, path=COUNT_TOKENS, prompt_bytes=20_000, body=Body.UNIQUE,
        needs=frozenset({Can.COUNT_TOKENS}),
    ),
    Scenario("churn", "short request on a connection of its own", at_once=16, kind=Kind.CHURN),
    Scenario(
        "tls-upstream", "short request, upstream over TLS",
        needs=frozenset({Can.TLS}), prefix="tls-",
    ),
    Scenario(
        "key-limits", "short request, key with limits", needs=frozenset({Can.LIMITS})
    ),
    _paced(50, 20, 0.5),
    _paced(200, 20, 2.0),
    _paced(1_000, 20, 2.0),
    _paced(5_000, 250, 5.0),
    _open(100),
    _open(300),
    _open(1_000),
)  # fmt: skip
MODELS: Final = tuple(dict.fromkeys(scenario.model for scenario in SCENARIOS))


def chosen(names: list[str] | None) -> list[Scenario]:
    """
    Return the scenarios of these names, or all.

    Raises:
        ValueError: There is none of a name.
    """
    known = {scenario.name: scenario for scenario in SCENARIOS}
    if unknown := set(names or ()) - set(known):
        raise ValueError(
            f"no scenario {', '.join(sorted(unknown))}: choose from {', '.join(known)}"
        )
    return [known[name] for name in names] if names else list(SCENARIOS)
