"""
The path of one inference call, as a straight line. Start reading at `Proxy.handle`.

The phases, by the names that logs, metrics and docs use: match_route (in `edge`), authenticate,
read_body, decode, authorize, plan, reserve, attempt, commit, relay, settle, record.
"""

from __future__ import annotations

import asyncio
import time
from time import monotonic

from gateway.core.catalogue import Catalogue
from gateway.core.model import Endpoint, Model, Principal, Wire
from gateway.core.routing import Candidate, plan
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.admission import Admission
from gateway.pipeline.attempt import AttemptRunner, error_response
from gateway.pipeline.authenticate import Authenticator, Caller
from gateway.pipeline.call import Call
from gateway.pipeline.channel import ClientChannel
from gateway.pipeline.counting import TokenCounter, measure_request, rough_count
from gateway.pipeline.exchange import CallContext
from gateway.pipeline.finish import Recorder
from gateway.pipeline.front import opened
from gateway.pipeline.idempotent import Idempotent
from gateway.pipeline.intake import Intake, IntakePlace
from gateway.pipeline.settlement import settle
from gateway.protocols.http.errors.gateway_errors import render
from gateway.protocols.http.errors.upstream_errors import ErrorResponse
from gateway.protocols.http.request.bounds import RequestBounds
from gateway.protocols.http.request.fields import CallFields
from gateway.protocols.native_chat import NativeLimits, NativeRequest
from gateway.protocols.streams.meter import BYTES_PER_TOKEN

NATIVE_LIMITS = NativeLimits()


class Proxy:
    """
    Handles inference calls of one worker.

    Args:
        catalogue: Models and how to reach them.
        authenticator: Who a key speaks for.
        attempts: Talks to upstreams.
        counts: Answers the counting endpoint.
        admission: Who may start.
        intake: Bounds requests and their bodies before the account's limits are known.
        recorder: Gets every call at its end.
        idempotent: Keeps the promise of Idempotency-Key; None ignores the header.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        authenticator: Authenticator,
        *,
        attempts: AttemptRunner,
        counts: TokenCounter,
        admission: Admission,
        intake: Intake,
        recorder: Recorder,
        idempotent: Idempotent | None,
    ) -> None:
        self._catalogue = catalogue
        self._authenticator = authenticator
        self._attempts = attempts
        self._counts = counts
        self._admission = admission
        self._intake = intake
        self._free_models = frozenset(
            model.name for model in catalogue.models if model.prices.are_zero
        )
        self._recorder = recorder
        self._idempotent = idempotent
        self._limits = limits = intake.limits
        self._bounds = RequestBounds(
            limits.max_members, limits.max_messages, limits.max_tools, limits.max_values
        )

    async def handle(self, call: Call, channel: ClientChannel) -> None:
        """
        Answer one call and record it, whatever happens.

        Raises:
            Exception: A mistake of ours; the call is recorded, the caller has no answer yet.
        """
        try:
            with self._admission:
                await self._run(call, channel)
        except GatewayError as error:
            self._fail(call, channel, error)
            await self._refuse(call, channel, error)
        except asyncio.CancelledError:
            self._fail(call, channel, GatewayError(ErrorKind.CLIENT_GONE, "The caller left."))
            if not channel.gone:
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
        except BaseException:
            self._fail(call, channel, GatewayError(ErrorKind.INTERNAL, "Internal error."))
            raise
        finally:
            channel.on_gone(None)  # who leaves now must not cancel the record
            call.ended_at = monotonic()
            settle(call)
            try:
                await self._recorder.record(call)
            finally:
                if call.hold is not None and self._idempotent is not None:
                    await self._idempotent.conclude(call, channel)

    async def _run(self, call: Call, channel: ClientChannel) -> None:
        caller = await self._authenticator.caller(channel)
        call.principal = caller.principal
        _check_form(channel)
        with self._intake.enter(caller.principal.account_id) as place:
            unpaid = None
            if not self._intake.is_known_to_pay(caller.principal.account_id):
                unpaid = await self._unpaid(call, caller)
                if unpaid is not None:
                    place.restrict()
            await self._serve(call, channel, caller, place, unpaid)

    async def _unpaid(self, call: Call, caller: Caller) -> GatewayError | None:
        """
        Return the refusal of whatever costs something, for an account without credit.

        Raises:
            GatewayError: NO_CREDIT: nothing that this request may ask for is free.
        """
        refusal = await self._intake.unpaid(caller.principal.account_id)
        if refusal is None or call.endpoint is Endpoint.COUNT_TOKENS:
            return refusal
        free, allowed = self._free_models, caller.principal.models
        if not (free if allowed is None else free & allowed) and caller.keyed is None:
            raise refusal  # with a key it may ask for a stored response, which is free
        return refusal

    async def _read_body(self, channel: ClientChannel, place: IntakePlace) -> bytes:
        task = asyncio.current_task()
        assert task is not None
        limit_bytes = place.max_body_bytes
        try:
            return await channel.read_body(limit_bytes, self._limits.body_timeout_s, task, place)
        except GatewayError as error:
            if error.kind is ErrorKind.BODY_TOO_LARGE and limit_bytes < self._limits.max_body_bytes:
                raise GatewayError(
                    ErrorKind.BODY_TOO_LARGE,
                    f"Without credit a request may have at most {limit_bytes} bytes "
                    "(server.max_body_bytes_without_credit): add credit, or send less.",
                ) from error
            raise
        finally:
            place.body_ended()

    async def _serve(
        self,
        call: Call,
        channel: ClientChannel,
        caller: Caller,
        place: IntakePlace,
        unpaid: GatewayError | None,
    ) -> None:
        """Read the body and answer the call; `unpaid` refuses it if it costs something."""
        principal, keyed = caller
        body = await self._read_body(channel, place)
        created = int(time.time())
        front = await opened(
            call.endpoint, body, created=created, limits=NATIVE_LIMITS, bounds=self._bounds
        )
        model = self._authorize(call, principal, front.fields)
        planned = plan(model, front.wire, call.endpoint)
        task = asyncio.current_task()
        assert task is not None
        channel.watch_gone(task.cancel)
        given = CallContext(call, front, channel.headers, _session(channel), created)
        if call.endpoint is Endpoint.COUNT_TOKENS:
            if not planned.candidates:
                _check_count_size(body, self._limits.max_count_body_bytes)
            await self._admission.reserve_count(call, principal, model)
            await self._counts.answer(
                given, channel, planned.candidates, model.deployments[0], self._attempts
            )
            return
        if planned.reason is not None:
            raise GatewayError(ErrorKind.NO_ROUTE, planned.reason)
        if (
            keyed is not None
            and self._idempotent is not None
            and await self._idempotent.begin(call, channel, keyed, principal, body)
        ):
            return
        if unpaid is not None and model.name not in self._free_models:
            raise unpaid
        del body

        def release_body() -> None:
            front.release_body()
            place.release_body()

        channel.when_started = release_body
        await self._reserve(given, principal, model, planned.candidates[0])
        if front.native is None:
            await self._attempts.run(given, channel, planned.candidates)
        else:
            await self._run_native(given, channel, front.native, planned.candidates)
        self._learn(call, given)

    async def _reserve(
        self, given: CallContext, principal: Principal, model: Model, first: Candidate
    ) -> None:
        """
        Take the call's reservation, by an estimate of its input.

        A translated stream names its input tokens in its first event, before the upstream does:
        they are counted, but only for a call that was admitted, since counting is work.
        """
        call, front = given.call, given.front
        call.input_estimate = len(front.body) // BYTES_PER_TOKEN + 1
        is_told = call.stream and front.wire is Wire.ANTHROPIC and first.wire is Wire.OPENAI
        measure = None
        if is_told:
            measure = await measure_request(front.wire, front.body, front.bounds.max_values)
        if measure is not None:
            call.input_estimate = rough_count(measure)
        await self._admission.reserve(call, principal, model, front)
        if measure is not None:
            call.input_estimate = await self._counts.count(measure, first.deployment.upstream_model)
        if is_told:
            given.input_estimate = call.input_estimate

    async def _run_native(
        self,
        given: CallContext,
        channel: ClientChannel,
        asked: NativeRequest,
        candidates: tuple[Candidate, ...],
    ) -> None:
        """Run the attempts within the bounds that the native endpoint's caller set."""
        if asked.max_retries is not None:
            given.max_attempts = 1 + asked.max_retries
        try:
            async with asyncio.timeout(asked.timeout_s):
                await self._attempts.run(given, channel, candidates)
        except TimeoutError as error:
            raise GatewayError(
                ErrorKind.UPSTREAM_TIMEOUT, "The call took longer than its 'timeout'."
            ) from error

    def _learn(self, call: Call, given: CallContext) -> None:
        """Compare the estimate, where there is one, with what the upstream counted."""
        usage = call.usage
        if given.input_estimate and not call.estimated and call.deployment is not None:
            actual = usage.input + usage.cache_read + usage.cache_write
            self._counts.learn(call.deployment.upstream_model, actual, given.input_estimate)

    def _authorize(self, call: Call, principal: Principal, fields: CallFields) -> Model:
        call.stream = fields.stream
        call.model_asked = fields.model
        model = self._catalogue.resolve(fields.model)
        if model is None:
            raise GatewayError(ErrorKind.UNKNOWN_MODEL, fields.model, param="model")
        if principal.models is not None and model.name not in principal.models:
            raise GatewayError(
                ErrorKind.FORBIDDEN,
                f"This API key may not use the model '{model.name}'.",
                param="model",
            )
        call.model = model
        return model

    def _fail(self, call: Call, channel: ClientChannel, error: GatewayError) -> None:
        call.error = error
        if not channel.started:
            call.status = error.surface.openai_status

    async def _refuse(self, call: Call, channel: ClientChannel, error: GatewayError) -> None:
        if channel.started or channel.gone:
            return
        answer = error_response(error, call)
        if answer is None:
            status, headers, body = render(error, call.client_wire, call.request_id)
            answer = ErrorResponse(status, tuple(headers), body)
        call.status = answer.status
        await channel.drain()
        await channel.respond(answer.status, list(answer.headers), answer.body)


def _session(channel: ClientChannel) -> str | None:
    """Return Claude Code's session, by which some upstreams find their prompt cache."""
    value = channel.header(b"x-claude-code-session-id")
    return value.decode("latin-1") if value else None


def _check_form(channel: ClientChannel) -> None:
    """Refuse bodies that we would not read, before reading them."""
    encoding = channel.header(b"content-encoding")
    if encoding is not None and encoding.lower() not in (b"", b"identity"):
        raise GatewayError(
            ErrorKind.CONTENT_ENCODING,
            "Request bodies must not be compressed: leave content-encoding away.",
        )
    kind = channel.header(b"content-type")
    if kind is not None and b"json" not in kind.lower():
        raise GatewayError(
            ErrorKind.CONTENT_TYPE,
            "The content-type of the request must be application/json.",
        )


def _check_count_size(body: bytes, limit_bytes: int) -> None:
    if len(body) > limit_bytes:
        raise GatewayError(
            ErrorKind.BODY_TOO_LARGE,
            f"A request whose tokens are estimated may have at most {limit_bytes} bytes "
            "(server.max_count_body_bytes).",
        )
