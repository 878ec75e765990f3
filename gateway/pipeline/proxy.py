"""
The path of one inference call, as a straight line. Start reading at `Proxy.handle`.

The phases, by the names that logs, metrics and docs use: match_route (in `edge`), authenticate,
read_body, decode, authorize, plan, reserve, attempt, commit, relay, settle, record.
"""

from __future__ import annotations

import asyncio
import time
from time import monotonic
from typing import Final, NamedTuple

from gateway.core.catalogue import Catalogue
from gateway.core.model import Endpoint, Model, Principal
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.admission import Admission
from gateway.pipeline.call import Call
from gateway.pipeline.client.authenticator import AuthenticatedClient, Authenticator
from gateway.pipeline.client.channel import ClientChannel
from gateway.pipeline.client.intake import Intake, IntakePlace
from gateway.pipeline.departure import Departure
from gateway.pipeline.execution.models import ModelFallbacks, check_may_use
from gateway.pipeline.execution.runner import CallExecution, CallPlan
from gateway.pipeline.idempotency import Idempotent
from gateway.pipeline.record import Recorder
from gateway.pipeline.request.context import CallContext
from gateway.pipeline.request.inbound_request import InboundRequest
from gateway.pipeline.request.reading import read_request
from gateway.pipeline.response.refusal import error_response
from gateway.pipeline.running import RunningCalls
from gateway.pipeline.settlement import settle
from gateway.pipeline.stored.keeper import ResponseKeeper, StoredResponses, refuse_references
from gateway.protocols.http.errors.gateway_errors import render
from gateway.protocols.http.errors.upstream_errors import ErrorResponse
from gateway.protocols.http.request.bounds import RequestBounds
from gateway.protocols.http.request.call_fields import CallFields
from gateway.protocols.native_chat import NativeLimits
from gateway.protocols.openai_responses.stored.ids import token_of

NATIVE_LIMITS = NativeLimits()

_NO_MODELS: Final = (
    "This gateway has no models yet. Its operator adds a provider and a model on the page Catalogue"
    " or with PUT /admin/providers/NAME and PUT /admin/models/NAME."
)


class Retention(NamedTuple):
    """Stores responses for later requests."""

    idempotent: Idempotent | None = None
    """Implements Idempotency-Key; None ignores the header."""
    stored: StoredResponses | None = None
    """Stores responses of the Responses API; None stores none."""


class Proxy:
    """
    Handles inference calls of one worker.

    Args:
        catalogue: Models and how to reach them.
        authenticator: Identifies the principal of a key.
        execution: Plans calls, and sends them to upstreams.
        admission: Limits which calls may start.
        intake: Bounds requests and their bodies before the account's limits are known.
        recorder: Records every call at its end.
        retention: Stores responses for later requests.
        running: Ends calls when the worker ends.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        authenticator: Authenticator,
        *,
        execution: CallExecution,
        admission: Admission,
        intake: Intake,
        recorder: Recorder,
        retention: Retention,
        running: RunningCalls,
    ) -> None:
        self._catalogue = catalogue
        self._authenticator = authenticator
        self._execution = execution
        self._fallbacks = ModelFallbacks(catalogue, enabled=execution.allows_fallbacks)
        self._admission = admission
        self._intake = intake
        self._free_models = frozenset(
            model.name for model in catalogue.models if model.prices.are_zero
        )
        self._recorder = recorder
        self._running = running
        self._idempotent, self._stored = retention
        self._limits = limits = intake.limits
        self._bounds = RequestBounds(
            limits.max_members, limits.max_messages, limits.max_tools, limits.max_values
        )

    async def handle(self, call: Call, channel: ClientChannel) -> None:
        """
        Respond to one call and record it, whatever happens.

        Raises:
            Exception: An internal error; the call was recorded, but no response was sent.
        """
        task = asyncio.current_task()
        assert task is not None
        departure = Departure(channel, task)
        self._running.add(departure, call)
        # A compiled coroutine must not wait while it handles an exception, see decision 0027.
        failure: BaseException | None = None
        try:
            with self._admission:
                await self._run(call, channel, departure)
        except BaseException as error:  # noqa: BLE001 # raised below
            failure = error
        try:
            if failure is not None:
                failure = await self._failed(call, channel, departure, failure)
        except BaseException as error:  # noqa: BLE001 # raised below
            failure = error
        departure.conclude()  # a client that leaves now must not cancel the record
        call.ended_at = monotonic()
        try:
            settle(call)
            await self._recorder.record(call)
        except BaseException as error:  # noqa: BLE001 # raised below
            failure = error
        await self._conclude(call, channel, departure)
        if failure is not None:
            try:
                raise failure
            finally:
                failure = None  # its traceback refers to this frame

    async def _failed(
        self, call: Call, channel: ClientChannel, departure: Departure, failure: BaseException
    ) -> BaseException | None:
        """Refuse a call that failed; return what is to be raised once it is recorded."""
        if isinstance(failure, GatewayError):
            self._set_error(call, channel, failure)
            await self._refuse(call, channel, failure)
            return None
        if not isinstance(failure, asyncio.CancelledError):
            self._set_error(call, channel, GatewayError(ErrorKind.INTERNAL, "Internal error."))
            return failure
        if departure.error is not None and not (channel.started or channel.gone):
            departure.task.uncancel()
            self._set_error(call, channel, departure.error)
            await self._refuse(call, channel, departure.error)
            return None
        gone = GatewayError(ErrorKind.CLIENT_GONE, "The client left.")
        self._set_error(call, channel, gone)
        if not channel.gone:
            return failure
        departure.task.uncancel()
        return None

    async def _conclude(self, call: Call, channel: ClientChannel, departure: Departure) -> None:
        try:
            if call.granted_claim is not None and self._idempotent is not None:
                await self._idempotent.conclude(call, channel)
        finally:
            self._running.discard(departure)
            call.conclude()

    async def _run(self, call: Call, channel: ClientChannel, departure: Departure) -> None:
        seals = call.endpoint is Endpoint.RESPONSES and self._stored is not None
        client = await self._authenticator.client(channel, seals=seals)
        call.principal = client.principal
        _check_body_headers(channel)
        with self._intake.enter(client.principal.account_id) as place:
            unpaid = None
            if not self._intake.is_known_to_pay(client.principal.account_id):
                unpaid = await self._unpaid(call, client)
                if unpaid is not None:
                    place.restrict()
            await self._serve(call, channel, departure, client, place, unpaid)

    async def _unpaid(self, call: Call, client: AuthenticatedClient) -> GatewayError | None:
        """
        Return the error for a priced call of an account without credit; None if it has credit.

        Raises:
            GatewayError: NO_CREDIT: no model that the request may use is free.
        """
        refusal = await self._intake.unpaid(client.principal.account_id)
        if refusal is None or call.endpoint is Endpoint.COUNT_TOKENS:
            return refusal
        free, allowed = self._free_models, client.principal.models
        if not (free if allowed is None else free & allowed) and client.keyed is None:
            raise refusal  # with an Idempotency-Key it may get a stored response, which is free
        return refusal

    async def _read_body(
        self, channel: ClientChannel, departure: Departure, place: IntakePlace
    ) -> bytes:
        limit_bytes, timeout_s = place.max_body_bytes, self._limits.body_timeout_s
        try:
            return await channel.read_body(limit_bytes, timeout_s, departure.task, place)
        except GatewayError as error:
            if error.kind is ErrorKind.BODY_TOO_LARGE and limit_bytes < self._limits.max_body_bytes:
                raise GatewayError(
                    ErrorKind.BODY_TOO_LARGE,
                    f"Without credit, a request may have at most {limit_bytes} bytes "
                    "(server.max_body_bytes_without_credit). Add credit, or send a smaller one.",
                ) from error
            raise
        finally:
            place.body_ended()

    async def _serve(
        self,
        call: Call,
        channel: ClientChannel,
        departure: Departure,
        client: AuthenticatedClient,
        place: IntakePlace,
        unpaid: GatewayError | None,
    ) -> None:
        """Read the body and respond; `unpaid` is raised if the call costs anything."""
        principal, keyed, _ = client
        body = await self._read_body(channel, departure, place)
        created = int(time.time())
        request, keeper = await self._decode(call, client, place, body, created)
        model = self._authorize(call, principal, request.fields)
        preferences = self._execution.preferences(model, channel)
        departure.watch()

        def release_body() -> None:
            request.release_body()
            place.release_body()

        context = CallContext(
            call, request, channel, departure, release_body, _session(channel), created, keeper
        )
        if call.endpoint is Endpoint.COUNT_TOKENS:
            limit_bytes = self._limits.max_count_body_bytes
            await self._execution.count(context, principal, model, preferences, limit_bytes)
            return
        self._execution.check_served(model, call.endpoint)
        models = self._fallbacks.models(context, principal, model)
        if (
            keyed is not None
            and self._idempotent is not None
            and await self._idempotent.begin(call, channel, keyed, principal, body)
        ):
            return
        if call.outlives_client:
            departure.disregard()
        if unpaid is not None and model.name not in self._free_models:
            raise unpaid
        if unpaid is not None:
            models = [each for each in models if each.name in self._free_models]
        del body
        await self._execution.run(context, principal, CallPlan(models, preferences))

    async def _decode(
        self,
        call: Call,
        client: AuthenticatedClient,
        place: IntakePlace,
        body: bytes,
        created: int,
    ) -> tuple[InboundRequest, ResponseKeeper | None]:
        """Return the request, with the stored items it refers to, and its response's keeper."""
        if call.endpoint is not Endpoint.RESPONSES:
            return await self._read(call, body, created), None
        if self._stored is None or client.sealer is None:
            await refuse_references(body, self._bounds)
            return await self._read(call, body, created), None
        whole = await self._stored.whole(
            body,
            client.sealer,
            token_of(call.request_id),
            bounds=self._bounds,
            limit_bytes=place.max_body_bytes,
        )
        if len(whole.body) > len(body):
            place.add(len(whole.body) - len(body))
        request = await self._read(call, whole.body, created)
        request.keep_as(whole.token, whole.previous_response_id, store=whole.keeper is not None)
        return request, whole.keeper

    async def _read(self, call: Call, body: bytes, created: int) -> InboundRequest:
        return await read_request(
            call.endpoint, body, created=created, limits=NATIVE_LIMITS, bounds=self._bounds
        )

    def _authorize(self, call: Call, principal: Principal, fields: CallFields) -> Model:
        call.stream = fields.stream
        call.model_asked = fields.model
        model = self._catalogue.resolve(fields.model)
        if model is None:
            if not self._catalogue.models:
                raise GatewayError(ErrorKind.NO_ROUTE, _NO_MODELS)
            raise GatewayError(ErrorKind.UNKNOWN_MODEL, fields.model, param="model")
        check_may_use(principal, model)
        call.model = model
        return model

    def _set_error(self, call: Call, channel: ClientChannel, error: GatewayError) -> None:
        call.error = error
        if not channel.started:
            call.status = error.surface.openai_status

    async def _refuse(self, call: Call, channel: ClientChannel, error: GatewayError) -> None:
        if channel.started or channel.gone:
            return
        if call.granted_claim is not None and self._idempotent is not None:
            await self._idempotent.release(call)  # first: the client may retry at once
        response = error_response(error, call)
        if response is None:
            status, headers, body = render(error, call.client_wire, call.request_id)
            response = ErrorResponse(status, tuple(headers), body)
        call.status = response.status
        headers = list(response.headers)
        if call.attempts:
            headers.append((b"x-capio-attempts", b"%d" % call.attempts))
        if call.principal is None or error.kind is ErrorKind.OVERLOADED:
            await channel.respond_early(response.status, headers, response.body)
            return
        # A client that is still sending would see a broken connection instead of the error.
        most_bytes = self._limits.max_body_bytes
        await channel.respond_early(response.status, headers, response.body, most_bytes)


def _session(channel: ClientChannel) -> str | None:
    """Return Claude Code's session, which some upstreams use as prompt cache key."""
    value = channel.header(b"x-claude-code-session-id")
    return value.decode("latin-1") if value else None


def _check_body_headers(channel: ClientChannel) -> None:
    """Refuse unsupported bodies before reading them."""
    encoding = channel.header(b"content-encoding")
    if encoding is not None and encoding.lower() not in (b"", b"identity"):
        raise GatewayError(
            ErrorKind.CONTENT_ENCODING,
            "Request bodies must not be compressed. Remove content-encoding.",
        )
    kind = channel.header(b"content-type")
    if kind is not None and b"json" not in kind.lower():
        raise GatewayError(
            ErrorKind.CONTENT_TYPE,
            "The content-type of the request must be application/json.",
        )
