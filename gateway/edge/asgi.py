"""
Where requests come in: the path decides who answers.

Inference goes to `pipeline.proxy`; everything else is answered here. This is also the last resort:
whatever is not a `GatewayError` is a mistake of ours, logged with its trace and told as 500.
"""

from __future__ import annotations

import logging
import os
from time import monotonic

from gateway.core.model import Endpoint, Wire
from gateway.edge.account_pages import AccountPages
from gateway.edge.admin import AdminPages
from gateway.edge.models import ModelPages
from gateway.edge.ops import Probes
from gateway.edge.routes import ACCOUNT_PAGES, Page, match, surface
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.call import Call
from gateway.pipeline.channel import ClientChannel, Receive, Scope, Send
from gateway.pipeline.proxy import Proxy
from gateway.protocols.http.errors.gateway_errors import render

log = logging.getLogger("gateway.edge")


class RequestIds:
    """Ids of calls: random per worker, then counted. Unique, and no look at a clock."""

    def __init__(self) -> None:
        self._prefix = f"req_{os.urandom(9).hex()}"
        self._count = 0

    def next(self) -> str:
        """Return an id nobody else has."""
        self._count += 1
        return f"{self._prefix}{self._count:08x}"


class Edge:
    """
    Answers every request of one worker.

    Args:
        proxy: Inference.
        models: The model list.
        accounts: What an account may know of itself.
        admin: The operator's API.
        probes: Health and the root.
    """

    def __init__(
        self,
        proxy: Proxy,
        models: ModelPages,
        accounts: AccountPages,
        admin: AdminPages,
        probes: Probes,
    ) -> None:
        self._proxy = proxy
        self._models = models
        self._accounts = accounts
        self._admin = admin
        self._probes = probes
        self._ids = RequestIds()

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        channel = ClientChannel(scope, receive, send)
        request_id = self._ids.next()
        wire = Wire.OPENAI
        try:
            path = _sent_path(scope)
            wire = surface(path)
            target = match(scope["method"], path)
            if isinstance(target, Endpoint):
                await self._infer(channel, request_id, target)
            elif target is Page.MODELS:
                await self._models.answer(channel, request_id)
            elif target in ACCOUNT_PAGES:
                await self._accounts.answer(channel, target, request_id)
            elif target is Page.ADMIN:
                await self._admin.answer(channel, request_id)
            else:
                await self._probes.answer(channel, target)
        except GatewayError as error:
            await _tell(channel, error, wire, request_id)
        except Exception:  # the last resort
            log.exception("request_failed", extra={"request_id": request_id})
            await _tell(
                channel, GatewayError(ErrorKind.INTERNAL, "Internal error."), wire, request_id
            )

    async def _infer(self, channel: ClientChannel, request_id: str, endpoint: Endpoint) -> None:
        call = Call(request_id, endpoint, endpoint.wire, monotonic())
        client = channel.scope.get("client")
        call.address = client[0] if client else None
        agent = channel.header(b"user-agent")
        call.user_agent = agent.decode("latin-1") if agent else None
        await self._proxy.handle(call, channel)


def _sent_path(scope: Scope) -> str:
    """
    Return the path as the client sent it, with its percent-encoding.

    A proxy in front that blocks a path compares it as sent, or decoded; here only one spelling of
    each route exists, so that none passes it by.
    """
    raw: bytes | None = scope.get("raw_path")
    return scope["path"] if raw is None else raw.decode("latin-1")


async def _tell(channel: ClientChannel, error: GatewayError, wire: Wire, request_id: str) -> None:
    if channel.started:
        return  # left unended, the answer breaks off: nobody takes it for whole
    status, headers, body = render(error, wire, request_id)
    await channel.drain()
    await channel.respond(status, headers, body)
