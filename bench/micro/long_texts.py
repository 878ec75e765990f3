"""
What the worker does with the text of a long request: microseconds for each search and walk.

    python -m bench.micro.long_texts

The lowest of many runs, for a call of a coding agent (300 KB of tool results with many quotes) and
for a prompt of 100 KB of prose in one string. Run it on each Python that matters: how fast `in` and
`find` are depends on the length of what is looked for, and on the release.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from timeit import repeat

from bench.harness.requests import agent_body
from gateway.core.model import Wire
from gateway.protocols.anthropic_messages.threads import asks_for_thread
from gateway.protocols.http.request.conversation import conversation_of
from gateway.protocols.http.request.fields import decode_call
from gateway.protocols.http.request.reasoning import has_foreign_reasoning
from gateway.protocols.http.request.rewrite import relay_body
from gateway.protocols.http.request.system_reminders import has_system_messages
from gateway.protocols.translate.chat_dialect.history import has_calls
from gateway.tokens.input_bound import input_token_bound, may_cache_for_an_hour

PROSE = (
    "The quick brown fox of the search engine reads a story about audio and other types of tools. "
)


def prose_body(size: int) -> dict[str, object]:
    """Return a chat call with one message of about `size` bytes."""
    text = PROSE * (size // len(PROSE))
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": text}]}


def parts(body: bytes, wire: Wire) -> dict[str, Callable[[], object]]:
    """Return what is done with a body, by name."""
    fields = decode_call(body, wire)
    return {
        "decode and check": lambda: decode_call(body, wire),
        "bound of the input's tokens": lambda: input_token_bound(body),
        "cache of an hour": lambda: may_cache_for_an_hour(body),
        "conversation": lambda: conversation_of([], fields, wire, body),
        "thread": lambda: asks_for_thread(body, fields.member_spans),
        "foreign reasoning": lambda: has_foreign_reasoning(body),
        "system messages": lambda: has_system_messages(body),
        "tool calls": lambda: has_calls(body),
        "rewritten model": lambda: relay_body(body, fields, "upstream", ask_usage=False),
    }


def main() -> None:
    """Print a table."""
    argparse.ArgumentParser(description=__doc__.split("\n")[1]).parse_args()
    agent = parts(json.dumps(agent_body("m", 300_000)).encode(), Wire.ANTHROPIC)
    prose = parts(json.dumps(prose_body(100_000)).encode(), Wire.OPENAI)
    print(f"us on Python {platform.python_version()}     agent, 300 KB    prose, 100 KB")
    for name in agent:
        us = [min(repeat(work, number=5, repeat=20)) / 5e-6 for work in (agent[name], prose[name])]
        print(f"{name:28} {us[0]:12.1f} {us[1]:16.1f}")


if __name__ == "__main__":
    main()
