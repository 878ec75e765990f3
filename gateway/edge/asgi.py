"""
The ASGI entry point: dispatches requests by path.

Calls go to `edge.inference`, everything else to a handler of this package. Any exception that
is not a `GatewayError` is a bug: it is logged with its traceback and reported as status 500.
"""

from __future__ import annotations

import logging
import os

from gateway.core.model import Endpoint, Wire
from gateway.edge.account_api import AccountApi
from gateway.edge.handover import AdminHandover, Handover, send_away, wants_page
from gateway.edge.inference import Inference
from gateway.edge.models import ModelsApi
from gateway.edge.probes import Probes
from gateway.edge.responses_api import ResponsesApi
from gateway.edge.routes import ACCOUNT_PAGES, Page, allowed_methods, error_wire, inference, match
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.client.channel import ClientChannel, Receive, Scope, Send
from gateway.pipeline.overload.early_refusal import EarlyRefusal, Refused
from gateway.protocols.http.errors.gateway_errors import render

logger = logging.getLogger(__name__)


class RequestIds:
    """Generates request ids: a random prefix per worker and a counter, so no clock is needed."""

    def __init__(self) -> None:
        self._prefix = f"req_{os.urandom(9).hex()}"
        self._count = 0

    def next(self) -> str:
        """Return a globally unique id."""
        self._count += 1
        return f"{self._prefix}{self._count:08x}"


class Edge:
    """
    Handles all requests of one worker.

    Args:
        calls: Handles inference.
        models: Handles the model list.
        accounts: Handles the account API.
        admin: Relays the operators' API to the console.
        probes: Handles health checks and the root.
        responses: Handles stored responses.
        handover: Relays pages to the console; None: there is none.
        refusal: Refuses calls beyond the worker's bounds; None: it has none.
    """

    def __init__(
        self,
        calls: Inference,
        models: ModelsApi,
        accounts: AccountApi,
        admin: AdminHandover,
        probes: Probes,
        responses: ResponsesApi,
        handover: Handover | None = None,
        refusal: EarlyRefusal | None = None,
    ) -> None:
        self._calls = calls
        self._models = models
        self._accounts = accounts
        self._admin = admin
        self._probes = probes
        self._responses = responses
        self._handover = handover
        self._refusal = refusal
        self._ids = RequestIds()

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request."""
        channel = ClientChannel(scope, receive, send)
        request_id = self._ids.next()
        wire = Wire.OPENAI
        path = _sent_path(scope)
        if (refused := self._refused(scope["method"], path)) is not None:
            await refused.respond(channel, request_id)
            return
        failure: GatewayError | None = None
        try:
            wire = error_wire(path)
            if channel.header(b"upgrade") is not None and path.startswith("/v1/"):
                await _refuse_upgrade(channel, wire, request_id)
                return
            target = match(scope["method"], path)
            if isinstance(target, Endpoint):
                await self._calls.handle(channel, request_id, target)
            else:
                await self._handle_page(channel, target, path, request_id)
        except GatewayError as error:
            failure = error.with_traceback(None)  # it refers to this frame
        except Exception:
            logger.exception("request_failed", extra={"request_id": request_id})
            failure = GatewayError(ErrorKind.INTERNAL, "Internal error.")
        if failure is not None:
            allow = allowed_methods(path) if failure.kind is ErrorKind.WRONG_METHOD else None
            await _send_error(channel, failure, wire, request_id, allow)

    def _refused(self, method: str, path: str) -> Refused | None:
        """Return the response to a call that the worker cannot take; None if it can."""
        bound = None if self._refusal is None else self._refusal.exceeded()
        endpoint = None if bound is None else inference(method, path)
        if self._refusal is None or bound is None or endpoint is None:
            return None
        return self._refusal.of(endpoint, bound)

    async def _handle_page(
        self, channel: ClientChannel, page: Page, path: str, request_id: str
    ) -> None:
        if page is Page.MODELS:
            await self._models.handle(channel, request_id)
        elif page in ACCOUNT_PAGES:
            await self._accounts.handle(channel, page, request_id)
        elif page is Page.RESPONSE:
            await self._responses.handle(channel, path, request_id)
        elif page is Page.ADMIN:
            await self._admin.handle(channel, path)
        else:
            await self._show(channel, page, path)

    async def _show(self, channel: ClientChannel, page: Page, path: str) -> None:
        """Respond with a page of the console, or with the root or a probe."""
        if page is Page.CONSOLE:
            if self._handover is None:
                raise GatewayError(ErrorKind.UNKNOWN_PATH, f"There is nothing at {path}.")
            if not await self._handover.try_handle(channel):
                await send_away(channel)
            return
        handover = self._handover if page is Page.ROOT and wants_page(channel) else None
        if handover is not None and await handover.try_handle(channel):
            return
        await self._probes.handle(channel, page)


def _sent_path(scope: Scope) -> str:
    """
    Return the path as the client sent it, with its percent-encoding.

    Routes match only this form, so that a request cannot bypass a proxy that blocks a path by
    spelling the path differently.
    """
    raw: bytes | None = scope.get("raw_path")
    return scope["path"] if raw is None else raw.decode("latin-1")


async def _send_error(
    channel: ClientChannel,
    error: GatewayError,
    wire: Wire,
    request_id: str,
    allow: bytes | None = None,
) -> None:
    if channel.started or channel.opened:
        return  # without an end, the response is visibly incomplete
    status, headers, body = render(error, wire, request_id)
    if allow is not None:
        headers.append((b"allow", allow))
    await channel.respond_early(status, headers, body)


async def _refuse_upgrade(channel: ClientChannel, wire: Wire, request_id: str) -> None:
    """Tell a client that tries WebSocket first, such as Codex, to use HTTP."""
    error = GatewayError(
        ErrorKind.WRONG_METHOD,
        "WebSocket is not supported: send the request as POST over HTTP.",
    )
    _, headers, body = render(error, wire, request_id)
    await channel.respond(426, [*headers, (b"connection", b"close")], body)
