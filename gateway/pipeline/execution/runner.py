"""
Runs an authorized call: plan, reserve, attempts; and again for each fallback model.

A fallback model has its own prices, limits and record: the reservation for the model before it is
released first. Nothing is repeated once a part of the response was sent.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple

from gateway.core.model import Endpoint, Model, Principal, Wire
from gateway.core.routing.failures import RULES
from gateway.core.routing.plan import Candidate, Plan
from gateway.core.routing.preferences import NO_PREFERENCES, PREFERENCES, Preferences
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.admission import Admission
from gateway.pipeline.attempt import AttemptRunner
from gateway.pipeline.call import Call
from gateway.pipeline.client.channel import ClientChannel
from gateway.pipeline.request.context import CallContext
from gateway.pipeline.response.early_head import EarlyHeads
from gateway.pipeline.response.refusal import failure_of
from gateway.pipeline.routing.route import Route
from gateway.pipeline.routing.router import Router
from gateway.pipeline.token_counts import TokenCounter, measure_request, rough_count
from gateway.protocols.http.request.conversation import conversation_of
from gateway.protocols.native_chat import NativeRequest
from gateway.protocols.streams.meter import BYTES_PER_TOKEN
from gateway.timeouts import within
from gateway.tokens.input_bound import may_carry_media


class CallPlan(NamedTuple):
    """A call's models, in the order in which they are tried, and what the client prefers."""

    models: Sequence[Model]
    preferences: Preferences = NO_PREFERENCES


class CallExecution:
    """
    Runs calls.

    Args:
        router: Chooses deployments.
        attempts: Sends calls to upstreams.
        counts: Estimates input tokens.
        admission: Reserves limits and credit.
        early_heads: Starts streams whose upstream is silent for long.
    """

    def __init__(
        self,
        router: Router,
        attempts: AttemptRunner,
        counts: TokenCounter,
        admission: Admission,
        early_heads: EarlyHeads,
    ) -> None:
        self._router = router
        self._attempts = attempts
        self._counts = counts
        self._admission = admission
        self._early_heads = early_heads

    async def run(self, context: CallContext, principal: Principal, plan: CallPlan) -> None:
        """
        Respond to a call.

        Raises:
            GatewayError: The last failure, or the refusal of the first model.
        """
        native, execution = context.request.native, self._run(context, principal, plan)
        if context.call.stream:
            await self._early_heads.run(context, execution)
        elif native is None:
            await execution
        else:
            await _bounded(context, native, execution)

    async def _run(self, context: CallContext, principal: Principal, plan: CallPlan) -> None:
        failed: GatewayError | None = None
        for number, model in enumerate(plan.models):
            context.models_left = len(plan.models) - number - 1
            if failed is not None and not self._may_try(context, model, plan.preferences):
                continue
            try:
                route = self._planned(context, model, plan.preferences)
                if number == 0:
                    await self._reserve(context, principal, model, route.candidates[0])
                    if context.keeper is not None:
                        await context.keeper.seal_input()
                elif not await self._switched(context, principal, model, route):
                    continue
                await self._run_model(context, route)
            except GatewayError as error:
                failed = error
                if not _may_fall_back(context, error):
                    raise
            else:
                return
        assert failed is not None
        raise failed

    def _may_try(self, context: CallContext, model: Model, preferences: Preferences) -> bool:
        """Return whether the bounds of the call and its preferences permit a fallback."""
        serving = self._router.static_plan(model, context.call.endpoint).candidates
        permitted = not serving or any(preferences.permits(each.deployment) for each in serving)
        return permitted and self._attempts.may_continue(context)

    @property
    def allows_fallbacks(self) -> bool:
        """Whether clients may name fallback models."""
        return self._router.allows_fallbacks

    def preferences(self, model: Model, channel: ClientChannel) -> Preferences:
        """Return the preferences in a client's headers, see `Router.preferences`."""
        if not channel.has_any(PREFERENCES):
            return NO_PREFERENCES
        return self._router.preferences(model, channel.headers)

    def check_served(self, model: Model, endpoint: Endpoint) -> None:
        """
        Check that an endpoint has deployments, ready or not.

        Raises:
            GatewayError: MODEL_NOT_SUPPORTED or NO_ROUTE.
        """
        planned = self._router.static_plan(model, endpoint)
        if planned.reason is not None:
            raise no_route(planned)

    async def count(
        self,
        context: CallContext,
        principal: Principal,
        model: Model,
        preferences: Preferences,
        limit_bytes: int,
    ) -> None:
        """
        Respond to a token count: from an upstream that counts, else by an estimate.

        Raises:
            GatewayError: BODY_TOO_LARGE: a body over `limit_bytes` is not estimated.
        """
        candidates: tuple[Candidate, ...] = ()
        try:
            candidates = self.route(context, model, preferences).candidates
        except GatewayError as error:
            if error.kind is not ErrorKind.OVERLOADED:
                raise
        if not candidates and len(context.request.body) > limit_bytes:
            raise GatewayError(
                ErrorKind.BODY_TOO_LARGE,
                f"A request whose tokens are estimated may have at most {limit_bytes} bytes "
                "(server.max_count_body_bytes).",
            )
        await self._admission.reserve_count(context.call, principal, model)
        await self._counts.respond(context, candidates, model.deployments[0], self._attempts)

    def route(
        self, context: CallContext, model: Model, preferences: Preferences = NO_PREFERENCES
    ) -> Route:
        """Return the candidates for a call, see `Router.route`."""
        request = context.request

        def conversation() -> int | None:
            return conversation_of(
                context.channel.headers, request.fields, request.wire, request.body
            )

        endpoint = context.call.endpoint
        return self._router.route(model, endpoint, preferences, conversation)

    def _planned(self, context: CallContext, model: Model, preferences: Preferences) -> Route:
        route = self.route(context, model, preferences)
        if not route.candidates:
            raise no_route(route.plan)
        return route

    async def _switched(
        self, context: CallContext, principal: Principal, model: Model, route: Route
    ) -> bool:
        """Reserve for a fallback; return False if the key may not use it now."""
        call = context.call
        await self._admission.release(call)
        before, call.model = call.model, model
        try:
            await self._reserve(context, principal, model, route.candidates[0])
        except GatewayError:
            call.model = before
            return False
        if call.attempt is not None:
            call.attempt.given_up = True
        return True

    async def _run_model(self, context: CallContext, route: Route) -> None:
        context.last_resort = route.last_resort
        await self._attempts.run(context, route.candidates)
        self._learn(context.call, context)

    async def _reserve(
        self, context: CallContext, principal: Principal, model: Model, first: Candidate
    ) -> None:
        """
        Reserve limits and credit for the call, by an estimate of its input.

        A quarter of the body's bytes is close enough for text; a body with media is measured.
        A translated stream reports its input tokens in its first event, before the upstream does.
        They are counted, but only for an admitted call, because counting is expensive.
        """
        call, request = context.call, context.request
        reports_input = call.stream and request.wire is Wire.ANTHROPIC and first.wire is Wire.OPENAI
        measure = None
        if reports_input or may_carry_media(request.body):
            measure = await measure_request(request.wire, request.body, request.bounds.max_values)
        if measure is None:
            call.input_estimate = len(request.body) // BYTES_PER_TOKEN + 1
        else:
            call.input_estimate = rough_count(measure)
        await self._admission.reserve(call, principal, model, request)
        if reports_input:
            if measure is not None:
                upstream_model = first.deployment.upstream_model
                call.input_estimate = await self._counts.count(measure, upstream_model)
            context.input_estimate = call.input_estimate

    def _learn(self, call: Call, context: CallContext) -> None:
        """Calibrate the estimator by the upstream's count."""
        attempt, usage = call.attempt, call.usage
        if context.input_estimate and attempt is not None and not attempt.estimated:
            actual = usage.input + usage.cache_read + usage.cache_write
            self._counts.learn(attempt.deployment.upstream_model, actual, context.input_estimate)


async def _bounded(
    context: CallContext, native: NativeRequest, execution: Coroutine[Any, Any, None]
) -> None:
    """Run a call within the bounds that a native request sets for all its models together."""
    if native.max_retries is not None:
        context.max_attempts = 1 + native.max_retries
    try:
        await within(native.timeout_s, execution)
    except TimeoutError as error:
        raise GatewayError(
            ErrorKind.UPSTREAM_TIMEOUT, "The call took longer than its 'timeout'."
        ) from error


def no_route(planned: Plan) -> GatewayError:
    """Return the error for a call that no deployment of its model serves."""
    kind = ErrorKind.MODEL_NOT_SUPPORTED if planned.is_final else ErrorKind.NO_ROUTE
    return GatewayError(kind, planned.reason or "No deployment is available.", param="model")


def _may_fall_back(context: CallContext, error: GatewayError) -> bool:
    call, channel = context.call, context.channel
    if channel.started or (channel.gone and not call.outlives_client):
        return False
    return error.kind is ErrorKind.NO_ROUTE or RULES[failure_of(error).kind].fallback
