"""
The attempts of a call: one deployment after the other, until one responds or none is left.

Nothing is repeated once a part of the response was sent to the client. What follows a failure is
decided by its class, see `core.routing.failures` and `core.routing.order`.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from time import monotonic, time

from gateway.core.model import Deployment, HedgeRules
from gateway.core.pricing import cost_nanousd
from gateway.core.routing.credentials import CredentialRotation
from gateway.core.routing.failures import RULES
from gateway.core.routing.order import AttemptOrder, Failure, NextAttempt
from gateway.core.routing.plan import Candidate
from gateway.errors import ErrorSource, GatewayError
from gateway.pipeline.call import AttemptSpan, Call
from gateway.pipeline.hedging.lane import LostRaceError
from gateway.pipeline.hedging.race import Race, Tried, may_repeat
from gateway.pipeline.request.builder import RequestBuilder
from gateway.pipeline.request.context import CallContext
from gateway.pipeline.response.refusal import RefusalError, failure_of, mask_credential, with_head
from gateway.pipeline.response.sender import ResponseSender
from gateway.pipeline.routing.worker import AttemptPolicy
from gateway.ports import Transport, UpstreamResponse
from gateway.protocols.http.errors.account_words import without_account_ids
from gateway.protocols.http.errors.upstream_errors import (
    ErrorResponse,
    relay_error,
    translate_error,
)
from gateway.protocols.http.errors.upstream_faults import is_signature_refusal, read_fault
from gateway.protocols.http.headers import client_headers
from gateway.protocols.http.retry_after import dated
from gateway.telemetry.call_metrics import CallMetrics
from gateway.timeouts import within
from gateway.upstream.decompress import decompress

ERROR_BYTES = 1024 * 1024
"""Largest error response that is read."""

_CLOSE_AT_ONCE = nullcontext()


class AttemptRunner:
    """
    Runs the attempts of a call.

    Args:
        transport: Sends requests to upstreams.
        builder: Builds each attempt's request.
        sender: Sends a good response to the client.
        metrics: Counts failed attempts.
        policy: Bounds attempts.
        error_s: Timeout for the body of an error response; its status alone is enough.
    """

    def __init__(
        self,
        transport: Transport,
        builder: RequestBuilder,
        sender: ResponseSender,
        metrics: CallMetrics,
        policy: AttemptPolicy,
        error_s: float = 10.0,
    ) -> None:
        self._transport = transport
        self._builder = builder
        self._sender = sender
        self._metrics = metrics
        self._policy = policy
        self._error_s = error_s

    async def run(self, context: CallContext, candidates: tuple[Candidate, ...]) -> bytes | None:
        """
        Respond from the first candidate that succeeds.

        Returns:
            The body that was sent, if it was read whole; see `ResponseSender.deliver`.

        Raises:
            GatewayError: The last failure. If `channel.started`, the client has received a part of
                the response.
        """
        call, channel, policy = context.call, context.channel, self._policy
        hedge = None if call.model is None else call.model.hedge
        if call.model is not None and hedge is not None:
            policy.hedging.record_call(call.model.name, hedge)
        order = self._order(context, candidates)
        candidate = order.first
        while True:
            delay_s = None
            if hedge is not None and order.may_hedge:
                delay_s = self._hedge_delay_s(context, candidate, hedge)
            if delay_s is None:
                tried = await self._try(context, candidate)
            else:
                tried = await self._race(context, order, candidate, delay_s)
            if tried.failure is None:
                return tried.body
            if channel.started or (channel.gone and not call.outlives_client):
                raise tried.take_error()
            following = self._next(order, tried)
            if following is None:
                raise tried.take_error()
            if call.attempt is not None:
                call.attempt.given_up = True
            candidate = following.candidate
            if following.wait_s:
                await asyncio.sleep(following.wait_s)

    def _order(self, context: CallContext, candidates: tuple[Candidate, ...]) -> AttemptOrder:
        if context.began is None:
            context.began = monotonic()
            self._policy.budget.record_call(context.began)
        elsewhere = context.call.attempts + context.models_left
        limits, own = self._policy.limits, context.max_attempts
        return AttemptOrder(
            candidates, limits, context.began, own, elsewhere, once=context.last_resort
        )

    def may_continue(self, context: CallContext) -> bool:
        """Return whether the bounds of a call leave an attempt for another model."""
        limits, began = self._policy.limits, context.began
        late = began is not None and monotonic() - began > limits.within_s
        return not late and context.call.attempts < limits.bound(context.max_attempts)

    async def _try(self, context: CallContext, candidate: Candidate) -> Tried:
        """Make an attempt, and note how it ended."""
        rotation = self._policy.credentials.get(candidate.deployment.provider.name)
        if rotation is not None:
            candidate = candidate._replace(credential=rotation.pick(monotonic()))
        try:
            body = await self._observed(context, candidate)
        except GatewayError as error:
            mask_credential(error, candidate)
            self._count(candidate, error)
            failure = failure_of(error)
            other = self._note(candidate, failure, rotation)
            return Tried(candidate, None, error, failure, other_credential=other)
        if rotation is not None:
            rotation.restore(candidate.credential)
        return Tried(candidate, body)

    def _hedge_delay_s(
        self, context: CallContext, candidate: Candidate, rules: HedgeRules
    ) -> float | None:
        """Return after how many seconds a second candidate is tried; None: never."""
        call = context.call
        label, stream = candidate.deployment.label, call.stream
        delay_s = self._policy.hedging.delay_s(label, rules, stream=stream)
        if delay_s is None or not may_repeat(call.endpoint, context.request):
            return None
        return delay_s

    async def _race(
        self, context: CallContext, order: AttemptOrder, candidate: Candidate, delay_s: float
    ) -> Tried:
        board, hedging, model = self._policy.health, self._policy.hedging, context.call.model
        assert model is not None
        race = Race(
            context,
            order,
            self._try,
            is_ready=lambda each: board.is_ready(each.deployment.label),
            may_hedge=lambda: hedging.try_hedge(model.name),
        )
        try:
            return await race.run(candidate, delay_s)
        finally:
            if race.hedge is not None:
                self._metrics.count_hedge(race.hedge.candidate.deployment.label, race.result)
            elif race.refused:
                self._metrics.count_hedge(candidate.deployment.label, "refused")

    async def _observed(self, context: CallContext, candidate: Candidate) -> bytes | None:
        """Run an attempt, and note its load, its success and its place in the chain."""
        board, call, deployment = self._policy.health, context.call, candidate.deployment
        health = board.of(deployment.label)
        health.in_flight += 1
        started = monotonic()
        try:
            body = await self._attempt(context, candidate)
        except GatewayError as error:
            failure = failure_of(error)
            call.note_attempt(deployment, failure.kind.value, failure.status, monotonic() - started)
            raise
        except BaseException as error:
            # It did not end because of the deployment, which remains due for a probe.
            if call.lost or isinstance(error, LostRaceError):
                self._note_lost(call, deployment, monotonic() - started)
            else:
                ended = "cancelled" if isinstance(error, asyncio.CancelledError) else "internal"
                call.note_attempt(deployment, ended, 0, monotonic() - started)
            board.attempt_unfinished(health)
            raise
        finally:
            health.in_flight -= 1
        if call.chain or (call.origin is not None and call.origin.attempts > 1):
            call.note_attempt(deployment, "ok", call.status, monotonic() - started)
        attempt = call.attempt
        content_at = None if attempt is None else attempt.first_content_at
        ttft_s = content_at - attempt.sent_at if attempt and content_at is not None else None
        board.attempt_succeeded(health, ttft_s)
        if call.model is not None and call.model.hedge is not None:
            took_s = ttft_s if call.stream else monotonic() - started
            if took_s is not None:
                self._policy.hedging.learn(deployment.label, took_s, stream=call.stream)
        return body

    def _note_lost(self, call: Call, deployment: Deployment, seconds: float) -> None:
        """Note an attempt whose response came too late; the operator bears its cost."""
        attempt, cost = call.attempt, None
        if attempt is not None and attempt.deployment is deployment:
            self._policy.hedging.learn(deployment.label, seconds, stream=call.stream)
            if deployment.cost is not None:
                cost = cost_nanousd(attempt.usage_so_far(call.input_estimate), deployment.cost)
        call.note_attempt(deployment, "lost", 0, seconds, lost_nanousd=cost)
        self._metrics.count_lost(deployment.label, cost or 0)

    def _note(
        self, candidate: Candidate, failure: Failure, rotation: CredentialRotation | None
    ) -> bool:
        """Note a failure in the deployment's health; return whether another credential is ready."""
        board = self._policy.health
        health = board.of(candidate.deployment.label)
        if rotation is not None and RULES[failure.kind].rotate:
            seconds = failure.retry_after_s
            if rotation.rest(candidate.credential, failure.kind, seconds, monotonic()):
                board.attempt_rotated(health, failure)
                return True
        board.attempt_failed(health, failure)
        return False

    def _next(self, order: AttemptOrder, tried: Tried) -> NextAttempt | None:
        assert tried.failure is not None
        return order.after(
            tried.candidate,
            tried.failure,
            monotonic(),
            other_credential=tried.other_credential,
            budget=self._policy.budget,
            draw=self._policy.draw(),
        )

    async def _attempt(self, context: CallContext, candidate: Candidate) -> bytes | None:
        try:
            return await self._send(context, candidate)
        except RefusalError as refusal:
            if context.without_reasoning or not is_signature_refusal(refusal.fault):
                raise
            if context.channel.gone and not context.call.outlives_client:
                raise
            fault = refusal.fault
            call, sent = context.call, context.call.attempt
            if sent is not None:
                seconds = monotonic() - sent.sent_at
                kind = failure_of(refusal).kind.value
                call.note_attempt(candidate.deployment, kind, fault.status, seconds)
        # Reasoning in the history was signed by another provider: retry without it.
        context.without_reasoning = True
        return await self._send(context, candidate)

    async def _send(self, context: CallContext, candidate: Candidate) -> bytes | None:
        call = context.call
        request, transforms = await self._builder.prepared(context, candidate)
        attempt = call.begin_attempt(candidate.deployment, candidate.wire, monotonic())
        span = None
        if call.trace is not None:
            request, span_id = call.trace.begin_attempt(request)
            if call.trace.exported:
                span = AttemptSpan(span_id, attempt)
                call.spans.append(span)
        reads_on = call.reads_on and not call.outlives_client
        try:
            with context.departure.reading_on() if reads_on else _CLOSE_AT_ONCE:
                response = decompress(await self._transport.send(request))
                del request
                try:
                    if response.status >= 400:
                        raise await self._refusal(context, candidate, response)
                    call.status = response.status
                    if span is not None:
                        span.status = response.status
                    return await self._sender.deliver(context, attempt, transforms, response)
                finally:
                    response.close()
        except BaseException as error:
            if span is not None:
                span.error, status = _failure(error)
                span.status = status or span.status
            raise
        finally:
            if span is not None:
                span.ended_at = monotonic()

    async def _refusal(
        self, context: CallContext, candidate: Candidate, upstream: UpstreamResponse
    ) -> RefusalError:
        call = context.call
        body = await self._error_body(upstream)
        received = dated(upstream.headers, time())
        fault = read_fault(candidate.wire, upstream.status, received, body or b"")
        if candidate.wire is call.client_wire and body is not None:
            headers = client_headers(received, call.request_id, stream=False, error=True)
            original = ErrorResponse(upstream.status, tuple(headers), body)
            original = original.with_body(without_account_ids(body))
            response = relay_error(fault, candidate.wire, call.model_asked, original)
            if response is not original:
                response = with_head(response, call)
        else:
            translated = translate_error(fault, call.client_wire, call.model_asked)
            response = with_head(translated, call)
        return RefusalError(fault, response)

    async def _error_body(self, response: UpstreamResponse) -> bytes | None:
        """Return the body of an error response; None if it does not arrive completely."""
        try:
            return await within(self._error_s, response.read(ERROR_BYTES))
        except (TimeoutError, GatewayError):
            return None

    def _count(self, candidate: Candidate, error: GatewayError) -> None:
        if error.surface.source is ErrorSource.UPSTREAM:
            self._metrics.count_upstream_error(candidate.deployment.label, error.kind.value)


def _failure(error: BaseException) -> tuple[str, int]:
    """Return the class of an attempt's failure, and the upstream's status or 0."""
    if isinstance(error, GatewayError):
        failure = failure_of(error)
        return failure.kind.value, failure.status
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "internal", 0
