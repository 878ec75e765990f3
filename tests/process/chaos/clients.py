"""Calls of both SDKs, streamed and not, until a deadline, and what came of each."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from typing import Any, NamedTuple

import anthropic
import httpx2
import openai

TOKENS = 20
AT_ONCE = 8
MODEL = "chaos"


class Outcome(NamedTuple):
    """One call: when, how, the text that the client got, and the error after it or None."""

    began_at: float
    ended_at: float
    client: str
    streamed: bool
    text: str
    error: Exception | None


class Clients:
    """
    Clients that make one call after the other.

    Args:
        url: The gateway's.
        key: An API key.
        seed: Determines who calls how.
    """

    def __init__(self, url: str, key: str, seed: int) -> None:
        self._openai = openai.AsyncOpenAI(
            api_key=key, base_url=f"{url}/v1", max_retries=0, timeout=60
        )
        self._anthropic = anthropic.AsyncAnthropic(
            api_key=key, base_url=url, max_retries=0, timeout=60
        )
        self._chance = random.Random(seed)
        self._numbers = itertools.count()
        self.outcomes: list[Outcome] = []

    async def run(self, seconds: float) -> None:
        """Call for a time, and wait for the last responses."""
        deadline = time.monotonic() + seconds
        async with self._openai, self._anthropic:
            await asyncio.gather(*(self._calls(deadline) for _ in range(AT_ONCE)))

    async def _calls(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            client = self._chance.choice(("openai", "anthropic"))
            streamed = self._chance.random() < 0.7
            # Each prompt begins differently, so that no affinity keeps them together.
            prompt = f"{next(self._numbers)} is the number of this call.\n/tokens {TOKENS}"
            pieces: list[str] = []
            began_at = time.monotonic()
            error: Exception | None = None
            try:
                if client == "openai":
                    await self._ask_openai(prompt, pieces, streamed=streamed)
                else:
                    await self._ask_anthropic(prompt, pieces, streamed=streamed)
            except Exception as caught:  # noqa: BLE001 (it is what the run is about)
                error = caught
            self.outcomes.append(
                Outcome(began_at, time.monotonic(), client, streamed, "".join(pieces), error)
            )
            await asyncio.sleep(self._chance.uniform(0, 0.1))

    async def _ask_openai(self, prompt: str, pieces: list[str], *, streamed: bool) -> None:
        messages: Any = [{"role": "user", "content": prompt}]
        create = self._openai.chat.completions.create
        if not streamed:
            made = await create(model=MODEL, messages=messages)
            pieces.append(made.choices[0].message.content or "")
            return
        finished = False
        async for event in await create(model=MODEL, messages=messages, stream=True):
            for choice in event.choices:
                pieces.append(choice.delta.content or "")
                finished = finished or choice.finish_reason is not None
        if not finished:
            raise EOFError("the stream ended without a finish reason")

    async def _ask_anthropic(self, prompt: str, pieces: list[str], *, streamed: bool) -> None:
        asked: Any = {
            "model": MODEL,
            "max_tokens": 1000,
            "messages": [{"role": "user", "content": prompt}],
        }
        if not streamed:
            made = await self._anthropic.messages.create(**asked)
            pieces.extend(part.text for part in made.content if part.type == "text")
            return
        async with self._anthropic.messages.stream(**asked) as events:
            async for piece in events.text_stream:
                pieces.append(piece)  # noqa: PERF401 (kept if an error follows)
            message = await events.get_final_message()
        if message.stop_reason is None:
            raise EOFError("the stream ended without a stop reason")


def is_protocol_error(error: Exception) -> bool:
    """
    Return whether a response was malformed: anything but a reported error or a cut connection.

    A stream that breaks in the middle of an event is cut, because nothing can be inserted there.
    """
    if isinstance(error, openai.APIResponseValidationError | anthropic.APIResponseValidationError):
        return True
    expected = openai.APIError | anthropic.APIError | httpx2.RemoteProtocolError | httpx2.ReadError
    return not isinstance(error, expected)
