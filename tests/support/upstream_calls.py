"""One real transport, and requests through it to a scripted upstream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.core.model import Origin
from gateway.errors import GatewayError
from gateway.upstream.transport import UpstreamTransport
from tests.support.upstream_fakes import a_request
from tests.support.upstream_servers import Authority, Upstream


@pytest.fixture
async def transport(authority: Authority) -> AsyncIterator[UpstreamTransport]:
    """A transport that trusts the test's authority."""
    transport = UpstreamTransport(make_ssl_context=authority.client_context)
    yield transport
    await transport.aclose()


async def fetch(transport: UpstreamTransport, upstream: Upstream, **changes: Any) -> bytes:
    """Send one request and return the response's body."""
    request = a_request(origin=upstream.with_origin(**changes))
    return await (await transport.send(request)).read(10_000_000)


async def failure(transport: UpstreamTransport, origin: Origin, **asked: Any) -> GatewayError:
    """Send one request that fails, and return its error."""
    with pytest.raises(GatewayError) as caught:
        await transport.send(a_request(origin=origin, **asked))
    return caught.value
