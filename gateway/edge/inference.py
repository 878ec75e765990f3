"""Creates a call from its connection and headers, and passes it to `pipeline.proxy`."""

from __future__ import annotations

from time import monotonic

from gateway.core.model import Endpoint
from gateway.pipeline.call import Call
from gateway.pipeline.client.channel import ClientChannel
from gateway.pipeline.proxy import Proxy
from gateway.pipeline.tracing.call_trace import Tracer
from gateway.protocols.http.forwarded import TrustedProxies


class Inference:
    """
    Handles the calls of one worker.

    Args:
        proxy: Responds to the calls.
        trusted: Proxies whose `x-forwarded-for` names the client.
        tracer: Begins the calls' traces.
    """

    def __init__(
        self,
        proxy: Proxy,
        trusted: TrustedProxies | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._proxy = proxy
        self._trusted = trusted or TrustedProxies()
        self._tracer = tracer or Tracer()

    async def handle(self, channel: ClientChannel, request_id: str, endpoint: Endpoint) -> None:
        """
        Respond to one call.

        Raises:
            Exception: An internal error; the call was recorded, but no response was sent.
        """
        call = Call(request_id, endpoint, endpoint.wire, monotonic())
        client = channel.scope.get("client")
        call.address = self._trusted.client(client[0], channel.headers) if client else None
        agent = channel.header(b"user-agent")
        call.user_agent = agent.decode("latin-1") if agent else None
        call.trace = self._tracer.begin(channel.headers)
        await self._proxy.handle(call, channel)
