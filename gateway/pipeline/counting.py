"""
Token counts: the upstream's own where it counts, else an estimate that says so.

Agents ask the same in bursts of dozens. Answers are cached in Redis under a digest of route and
body, and within a worker identical questions that come while one is being answered wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import msgspec

from gateway.core.model import Deployment, Wire
from gateway.core.routing import Candidate
from gateway.errors import GatewayError
from gateway.pipeline.attempt import AttemptRunner
from gateway.pipeline.channel import ClientChannel
from gateway.pipeline.exchange import CallContext
from gateway.pipeline.offload import LOOP_BYTES, is_long_walk, offloaded
from gateway.ports import Headers
from gateway.protocols.http.request.bounds import DEFAULT_BOUNDS, TRANSLATED_BYTES, check_values
from gateway.tokens.cache_key import count_key
from gateway.tokens.calibration import Calibration
from gateway.tokens.count import Bytes4, Measure, measure_chat, measure_messages
from gateway.tokens.counters import Counters, count_measure

_COUNTED_HEADERS = (b"anthropic-version", b"anthropic-beta")
_CALIBRATIONS = 1024
_COUNT_BYTES = 1024
"""An answer larger than this is no count."""


class _Count(msgspec.Struct):
    input_tokens: int


_BYTES_COUNTER = Bytes4()
_COUNT = msgspec.json.Decoder(_Count)


class Answered(Protocol):
    """Remembers answers across workers."""

    async def get(self, digest: str) -> bytes | None:
        """Return a remembered answer."""

    def put(self, digest: str, answer: bytes, account_id: str) -> None:
        """Remember an answer, as one of so many of the account."""


class TokenCounter:
    """
    Counts requests' tokens.

    Args:
        counters: Vocabularies for estimates.
        answered: The shared cache.
    """

    def __init__(self, counters: Counters, answered: Answered) -> None:
        self._counters = counters
        self._answered = answered
        self._running: dict[str, asyncio.Future[bytes | None]] = {}
        self._calibrations: dict[str, Calibration] = {}

    async def estimate(
        self, wire: Wire, body: bytes, upstream_model: str, most: int = DEFAULT_BOUNDS.max_values
    ) -> int:
        """
        Return the tokens of a request as well as they can be told without asking.

        Never fails: what cannot be taken apart counts a token for every four bytes.

        Args:
            wire: The request's dialect.
            body: The request.
            upstream_model: Whose vocabulary counts.
            most: JSON values that are taken apart.
        """
        measure = await measure_request(wire, body, most)
        return len(body) // 4 + 1 if measure is None else await self.count(measure, upstream_model)

    async def count(self, measure: Measure, upstream_model: str) -> int:
        """Return the tokens of a request that was taken apart."""
        counter = self._counters.for_model(upstream_model)
        known = self._calibrations.get(upstream_model)
        return await count_measure(measure, counter, known.ratio if known else 1.0)

    def learn(self, upstream_model: str, actual_tokens: int, estimated_tokens: int) -> None:
        """Improve later estimates by what an upstream counted."""
        known = self._calibrations.get(upstream_model)
        if known is None:
            if len(self._calibrations) >= _CALIBRATIONS:
                return
            known = Calibration()
        raw = round(estimated_tokens / known.ratio)
        self._calibrations[upstream_model] = known.observed(actual_tokens, raw)

    async def answer(
        self,
        given: CallContext,
        channel: ClientChannel,
        candidates: tuple[Candidate, ...],
        deployment: Deployment,
        attempts: AttemptRunner,
    ) -> None:
        """
        Answer one call of the counting endpoint.

        Args:
            attempts: Asks them.
            candidates: Upstreams that count; none means an estimate.
            deployment: Whose tokens are estimated.

        Raises:
            GatewayError: An upstream that counts failed.
        """
        route = candidates[0].deployment.label if candidates else f"estimate {deployment.label}"
        headers = tuple(pair for pair in given.client_headers if pair[0] in _COUNTED_HEADERS)
        body = given.front.body
        if len(body) > LOOP_BYTES:
            digest = await offloaded(count_key, route, body, headers)
        else:
            digest = count_key(route, body, headers)
        answer = await self._being_told(digest)
        if answer is None:
            asked = partial(_asked, attempts, given, channel, candidates) if candidates else None
            answer = await self._lead(digest, given, deployment, asked)
        if not channel.started:
            await _respond(given, channel, answer, estimated=not candidates)

    async def _being_told(self, digest: str) -> bytes | None:
        """Return what somebody else is just being told; None: nobody is, or it failed."""
        running = self._running.get(digest)
        return None if running is None else await asyncio.shield(running)

    async def _lead(
        self,
        digest: str,
        given: CallContext,
        deployment: Deployment,
        asked: Callable[[], Awaitable[bytes]] | None,
    ) -> bytes:
        """Find the answer for everybody who waits for it; a failure leaves each to try alone."""
        running = asyncio.get_running_loop().create_future()
        self._running[digest] = running
        answer: bytes | None = None
        try:
            answer = await self._answered.get(digest)
            if answer is not None:
                return answer
            answer = await (asked() if asked else self._estimated(given, deployment))
            if _is_count(answer):
                principal = given.call.principal
                assert principal is not None
                self._answered.put(digest, answer, principal.account_id)
            return answer
        finally:
            if self._running.get(digest) is running:
                del self._running[digest]
            running.set_result(answer)

    async def _estimated(self, given: CallContext, deployment: Deployment) -> bytes:
        front = given.front
        tokens = await self.estimate(
            front.wire, front.body, deployment.upstream_model, front.bounds.max_values
        )
        return msgspec.json.encode({"input_tokens": tokens})


async def measure_request(wire: Wire, body: bytes, most: int) -> Measure | None:
    """
    Return a request taken apart for counting; None: it cannot be, or exceeds `most` JSON values.

    Large bodies are walked beside the event loop.
    """
    try:
        if is_long_walk(body):
            return await offloaded(_measured, wire, body, most)
        return _measured(wire, body, most)
    except GatewayError:
        return None


def _measured(wire: Wire, body: bytes, most: int) -> Measure:
    if len(body) > TRANSLATED_BYTES:
        check_values(body, most)
    return measure_messages(body) if wire is Wire.ANTHROPIC else measure_chat(body)


def rough_count(measure: Measure) -> int:
    """Return the tokens of a request by the size of its texts, without a vocabulary."""
    return measure.total(sum(map(_BYTES_COUNTER.count, measure.texts)))


async def _asked(
    attempts: AttemptRunner,
    given: CallContext,
    channel: ClientChannel,
    candidates: tuple[Candidate, ...],
) -> bytes:
    """Let an upstream answer the caller, and keep what it said."""
    kept: list[bytes] = []

    def keep(body: bytes) -> bytes:
        kept.append(body)
        return body

    given.keep = keep
    await attempts.run(given, channel, candidates)
    return kept[-1]


def _is_count(answer: bytes) -> bool:
    """Return whether an upstream's answer is what it was asked for: nothing else is remembered."""
    if len(answer) > _COUNT_BYTES:
        return False
    try:
        _COUNT.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


async def _respond(
    given: CallContext, channel: ClientChannel, answer: bytes, *, estimated: bool
) -> None:
    request_id = given.call.request_id.encode()
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(answer)).encode()),
        (b"request-id", request_id),
        (b"x-request-id", request_id),
    ]
    if estimated:
        headers.append((b"x-capio-token-count", b"estimated"))
    given.call.status = 200
    await channel.respond(200, headers, answer)
