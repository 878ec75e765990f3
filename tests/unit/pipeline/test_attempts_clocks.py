"""Which timeouts apply to an attempt: of its model, and of calls that may reason unseen."""

from __future__ import annotations

import msgspec
import pytest

from gateway.core.model import Clocks, Deployment
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    OPENAI_BODY,
    OPENAI_DONE,
    OPENAI_FINISH,
    FakeClient,
    FakeUpstreamResponse,
    a_deployment,
    a_provider,
    asking,
    openai_event,
)
from tests.support.waiting import wait_until

OWN = Clocks(connect_s=1, first_byte_s=2, first_content_s=3, idle_s=4, total_s=5)
REASONING = Clocks(connect_s=1, first_byte_s=2, first_content_s=30, idle_s=40, total_s=5)
STREAMED = asking(OPENAI_BODY, stream=True)


def a_reasoner() -> Deployment:
    """Return a deployment whose model reasons if it is asked to."""
    deployment = a_deployment(a_provider(dialect="generic"))
    return msgspec.structs.replace(deployment, own_clocks=OWN, reasoning_clocks=REASONING)


@pytest.mark.parametrize(
    ("body", "clocks"),
    [(STREAMED, OWN), (STREAMED[:-1] + b',"reasoning_effort":"high"}', REASONING)],
)
async def test_stream_has_the_timeouts_of_its_model(body: bytes, clocks: Clocks) -> None:
    """For the head, and while it is relayed; longer ones where silence may be reasoning."""
    upstream = FakeUpstreamResponse()
    bench = Bench(upstream, deployments=[a_reasoner()])
    _, task = bench.begin(FakeClient("/v1/chat/completions", body))
    await upstream.push(openai_event("A"))
    watched = list(bench.watchdog._watched.values())
    await upstream.end(OPENAI_FINISH, OPENAI_DONE)
    await task

    (request,) = bench.transport.requests
    assert (request.clocks, request.head_timeout_s) == (clocks, clocks.first_content_s)
    assert watched == [clocks]


async def test_whole_response_has_the_timeouts_of_its_model() -> None:
    """The head's, and as long for the body."""
    upstream = FakeUpstreamResponse(headers=[(b"content-length", b"9")])
    upstream.stalls = True
    bench = Bench(upstream, deployments=[a_reasoner()])
    client = FakeClient("/v1/chat/completions", OPENAI_BODY)
    _, task = bench.begin(client)
    await wait_until(lambda: bench.watchdog._watched)
    (request,) = bench.transport.requests
    (watched,) = bench.watchdog._watched.values()
    client.leave()
    await task

    assert (request.head_timeout_s, watched) == (2, OWN)
