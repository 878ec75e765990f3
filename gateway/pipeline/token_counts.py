"""
Token counts: the upstream's own where it has a counting endpoint, else a marked estimate.

Agents send the same request in bursts of dozens. Counts are cached in Redis under a digest of route
and body, and within a worker identical requests wait for the one that is in progress.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import msgspec

from gateway.core.model import Deployment, Wire
from gateway.core.routing.plan import Candidate
from gateway.errors import GatewayError
from gateway.pipeline.attempt import AttemptRunner
from gateway.pipeline.offload import LOOP_BYTES, is_long_walk, offloaded
from gateway.pipeline.request.context import CallContext
from gateway.protocols.codec.json_decode import decode_or_none
from gateway.protocols.http.headers import json_head
from gateway.protocols.http.request.bounds import DEFAULT_BOUNDS, TRANSLATED_BYTES, check_values
from gateway.tokens.cache_key import count_key
from gateway.tokens.calibration import Calibration
from gateway.tokens.count import UNCALIBRATED, Bytes4, Measure, measure_chat, measure_messages
from gateway.tokens.counters import Counters, count_measure

_COUNTED_HEADERS = (b"anthropic-version", b"anthropic-beta")
_CALIBRATIONS = 1024
_COUNT_BYTES = 1024
"""A response larger than this is not a count."""


class _Count(msgspec.Struct):
    input_tokens: int


_BYTES_COUNTER = Bytes4()
_COUNT = msgspec.json.Decoder(_Count)


class CountCache(Protocol):
    """Responses of the counting endpoint, shared by all workers."""

    async def get(self, digest: str) -> bytes | None:
        """Return a cached response."""

    def put(self, digest: str, response: bytes, account_id: str) -> None:
        """Cache a response; the entries of an account are bounded."""


class TokenCounter:
    """
    Counts requests' tokens.

    Args:
        counters: Vocabularies for estimates.
        cache: The shared cache.
    """

    def __init__(self, counters: Counters, cache: CountCache) -> None:
        self._counters = counters
        self._cache = cache
        self._running: dict[str, asyncio.Future[bytes | None]] = {}
        self._calibrations: dict[str, Calibration] = {}

    async def estimate(
        self, wire: Wire, body: bytes, upstream_model: str, most: int = DEFAULT_BOUNDS.max_values
    ) -> int:
        """
        Return an estimate of a request's tokens; no I/O.

        Never fails: a request that cannot be parsed counts one token for every four bytes.

        Args:
            wire: The request's dialect.
            body: The request.
            upstream_model: The model whose vocabulary is used.
            most: Most JSON values that are parsed.
        """
        measure = await measure_request(wire, body, most)
        return len(body) // 4 + 1 if measure is None else await self.count(measure, upstream_model)

    async def count(self, measure: Measure, upstream_model: str) -> int:
        """Return the tokens of a measured request."""
        counter = self._counters.for_model(upstream_model)
        known = self._calibrations.get(upstream_model, UNCALIBRATED)
        return await count_measure(measure, counter, known)

    def learn(self, upstream_model: str, actual_tokens: int, estimated_tokens: int) -> None:
        """Calibrate later estimates by an upstream's count."""
        known = self._calibrations.get(upstream_model)
        if known is None:
            if len(self._calibrations) >= _CALIBRATIONS:
                return
            known = UNCALIBRATED
        counted = known.counted_tokens(estimated_tokens)
        self._calibrations[upstream_model] = known.observed(actual_tokens, counted)

    async def respond(
        self,
        context: CallContext,
        candidates: tuple[Candidate, ...],
        deployment: Deployment,
        attempts: AttemptRunner,
    ) -> None:
        """
        Respond to one call of the counting endpoint.

        Args:
            attempts: Sends the call to the candidates.
            candidates: Upstreams that count; empty for an estimate.
            deployment: The deployment whose tokens are estimated.

        Raises:
            GatewayError: An upstream that counts failed.
        """
        route = candidates[0].deployment.label if candidates else f"estimate {deployment.label}"
        headers = tuple(pair for pair in context.channel.headers if pair[0] in _COUNTED_HEADERS)
        body = context.request.body
        if len(body) > LOOP_BYTES:
            digest = await offloaded(count_key, route, body, headers)
        else:
            digest = count_key(route, body, headers)
        response = await self._shared(digest)
        if response is None:
            source = partial(attempts.run, context, candidates) if candidates else None
            response = await self._lead(digest, context, deployment, source)
        if response is not None and not context.channel.started:
            await _send(context, response, estimated=not candidates)

    async def _shared(self, digest: str) -> bytes | None:
        """Return the response of an identical call in progress; None if none succeeds."""
        running = self._running.get(digest)
        return None if running is None else await asyncio.shield(running)

    async def _lead(
        self,
        digest: str,
        context: CallContext,
        deployment: Deployment,
        source: Callable[[], Awaitable[bytes | None]] | None,
    ) -> bytes | None:
        """Get the response for all identical calls; after a failure, each tries on its own."""
        running = asyncio.get_running_loop().create_future()
        self._running[digest] = running
        response: bytes | None = None
        try:
            response = await self._cache.get(digest)
            if response is not None:
                return response
            response = await (source() if source else self._estimated(context, deployment))
            if response is not None and _is_count(response):
                principal = context.call.principal
                assert principal is not None
                self._cache.put(digest, response, principal.account_id)
            return response
        finally:
            if self._running.get(digest) is running:
                del self._running[digest]
            running.set_result(response)

    async def _estimated(self, context: CallContext, deployment: Deployment) -> bytes:
        request = context.request
        tokens = await self.estimate(
            request.wire, request.body, deployment.upstream_model, request.bounds.max_values
        )
        return msgspec.json.encode({"input_tokens": tokens})


async def measure_request(wire: Wire, body: bytes, most: int) -> Measure | None:
    """
    Return a request measured for counting; None if it is malformed or exceeds `most` JSON values.

    Large bodies are walked off the event loop.
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


def _is_count(response: bytes) -> bool:
    """Return whether an upstream's response is a count: nothing else is cached."""
    return len(response) <= _COUNT_BYTES and decode_or_none(response, _COUNT) is not None


async def _send(context: CallContext, response: bytes, *, estimated: bool) -> None:
    headers = json_head(response, context.call.request_id)
    if estimated:
        headers.append((b"x-capio-token-count", b"estimated"))
    context.call.status = 200
    await context.channel.respond(200, headers, response)
