"""The root page and health checks."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway import __version__
from gateway.edge.routes import Page
from gateway.pipeline.client.channel import ClientChannel
from gateway.settings import Brand
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisState

_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_JSON = (b"content-type", b"application/json")


class Probes:
    """
    Handles `/`, `/api/hello`, `/healthz` and `/readyz`, without authentication.

    Args:
        brand: The service's name and URL on the root page.
        bus: Its state is reported. A worker is ready without Redis, see `money.degraded`.
        draining: Returns whether the worker is to get no new clients.
    """

    def __init__(self, brand: Brand, bus: RedisBus, draining: Callable[[], bool]) -> None:
        self._bus = bus
        self._draining = draining
        self._root = (
            f"{brand.name} gateway {__version__}\n\n"
            f"OpenAI base URL:    {brand.public_url}/v1\n"
            f"Anthropic base URL: {brand.public_url}\n"
            f"Models:             {brand.public_url}/v1/models\n"
        ).encode()

    async def handle(self, channel: ClientChannel, page: Page) -> None:
        """Respond to one request."""
        status, header, body = 200, _TEXT, b""
        if page is Page.ROOT:
            body = self._root
        elif page is Page.READY:
            status, header, body = self._readiness()
        if channel.scope["method"] == "HEAD":
            body = b""
        length = (b"content-length", str(len(body)).encode())
        await channel.respond(status, [header, length], body)

    def _readiness(self) -> tuple[int, tuple[bytes, bytes], bytes]:
        state = self._bus.state
        status = "stopping" if state is RedisState.CLOSED else "ready"
        if self._draining():
            status = "draining"
        ready = status == "ready"
        body = {"status": status, "redis": state.value}
        return (200 if ready else 503), _JSON, msgspec.json.encode(body)
