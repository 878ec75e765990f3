"""How a committed stream ends: whole, with an error event, or broken off; never a false end."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.model import Endpoint, Usage, Wire
from gateway.errors import ErrorKind, GatewayError
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
    COMMENT,
    OPENAI_BODY,
    OPENAI_DONE,
    OPENAI_ERROR,
    OPENAI_FINISH,
    OPENAI_USAGE,
    FakeClient,
    FakeUpstreamResponse,
    a_deployment,
    a_provider,
    asking,
    openai_event,
)
from tests.support.waiting import wait_until

CHAT = "/v1/chat/completions"
STREAMED = asking(OPENAI_BODY, stream=True)
A, B = openai_event("A"), openai_event("B")
BROKEN = GatewayError(ErrorKind.UPSTREAM_BROKEN, "The upstream model broke off its answer.")
MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


class Streaming:
    """A stream that runs."""

    def __init__(
        self, *, translated: bool = False, endpoint: Endpoint | None = None, **given: object
    ) -> None:
        self.response = FakeUpstreamResponse()
        self.bench = Bench(self.response, **given)  # type: ignore[arg-type]
        self.endpoint = endpoint or Endpoint.CHAT_COMPLETIONS
        body = STREAMED
        if translated:
            self.endpoint, body = Endpoint.MESSAGES, asking(ANTHROPIC_BODY, stream=True)
        elif self.endpoint is Endpoint.RESPONSES:
            body = b'{"model":"m","input":"Hi","stream":true}'
        self.client = FakeClient(CHAT, body)
        self.call, self.task = self.bench.begin(self.client, self.endpoint)

    async def end(self, *chunks: bytes) -> None:
        """Bring the last bytes and the end, and wait for the call's."""
        await self.response.end(*chunks)
        await self.task

    async def fail(self, *chunks: bytes) -> None:
        """Bring bytes, break off, and wait for the call's end."""
        await self.response.push(*chunks)
        await self.response.fail(BROKEN)
        await self.task


async def test_whole_stream_goes_through_byte_for_byte() -> None:
    """The bytes are the upstream's, and its report is charged."""
    stream = Streaming()

    await stream.end(COMMENT, A, B, OPENAI_FINISH, OPENAI_USAGE, OPENAI_DONE)

    assert stream.client.body == COMMENT + A + B + OPENAI_FINISH + OPENAI_USAGE + OPENAI_DONE
    assert stream.client.ended
    event = stream.bench.event
    assert (event.outcome, event.finish_reason, event.estimated) == ("completed", "stop", False)
    assert event.usage == Usage(input=10, output=4)
    assert event.cost_nanousd == 10 + 8
    assert event.ttft_ms is not None
    stream.bench.assert_recorded_once()


async def test_stream_without_usage_is_estimated() -> None:
    """A complete response whose usage never came is charged by its bytes."""
    stream = Streaming()

    await stream.end(A, OPENAI_FINISH, OPENAI_DONE)

    event = stream.bench.event
    assert (event.outcome, event.estimated) == ("estimated", True)
    assert event.usage == Usage(input=stream.call.input_estimate, output=1)


async def test_head_of_a_stream_names_the_call_and_forbids_caching() -> None:
    """Proxies must neither cache nor gather events."""
    stream = Streaming()
    stream.response.headers += [(b"set-cookie", b"a=b"), (b"x-request-id", b"up_1")]

    await stream.end(A, OPENAI_FINISH)

    client = stream.client
    assert client.header(b"cache-control") == b"no-cache, no-store"
    assert client.header(b"x-accel-buffering") == b"no"
    assert client.header(b"x-request-id") == b"req_1"
    assert client.header(b"x-upstream-request-id") == b"up_1"
    assert (client.header(b"server-timing") or b"").startswith(b"overhead;dur=")
    assert client.header(b"set-cookie") is None
    assert stream.bench.event.upstream_request_id == "up_1"


async def test_stream_that_breaks_between_events_ends_with_an_error_event() -> None:
    """The client reads a valid error, and no end mark."""
    stream = Streaming()

    await stream.fail(A)

    assert stream.client.body.startswith(A + b'data: {"error":')
    assert b"[DONE]" not in stream.client.body
    assert stream.client.ended
    assert (stream.bench.event.outcome, stream.bench.event.status) == ("failed", 200)
    stream.bench.assert_recorded_once()


async def test_stream_that_breaks_inside_of_an_event_is_left_unended() -> None:
    """Nothing can be added to half an event: the connection breaks instead."""
    stream = Streaming()

    await stream.fail(A, B[:20])

    assert stream.client.body == A + B[:20]
    assert not stream.client.ended
    assert stream.bench.event.error_kind == "upstream_broken"


async def test_stream_that_ends_without_its_end_mark_gets_an_error_event() -> None:
    """A body that is cut between two events is not taken for whole."""
    stream = Streaming()

    await stream.end(A)

    assert b"ended before completion" in stream.client.body
    assert stream.bench.event.error_kind == "upstream_broken"
    assert stream.bench.event.cost_nanousd > 0


@pytest.mark.parametrize("breaks", [False, True])
async def test_stream_that_stops_after_its_finish_reason_is_whole(breaks: bool) -> None:
    """Everything was said; nothing is added."""
    stream = Streaming()

    await (stream.fail if breaks else stream.end)(A, OPENAI_FINISH)

    assert stream.client.body == A + OPENAI_FINISH
    assert stream.client.ended
    assert stream.bench.event.error_kind is None


async def test_error_event_of_the_upstream_goes_through_and_counts_as_failed() -> None:
    """The client reads the upstream's words; the record tells that it failed."""
    stream = Streaming()

    await stream.end(A, OPENAI_ERROR)

    assert stream.client.body == A + OPENAI_ERROR
    assert stream.client.ended
    assert (stream.bench.event.outcome, stream.bench.event.error_kind) == (
        "failed",
        "upstream_refused",
    )


async def test_clock_that_runs_out_ends_with_a_timeout_event() -> None:
    """After the head the client gets the error as an event."""
    stream = Streaming()
    await stream.response.push(A)
    (watched,) = stream.bench.watchdog._watched
    clocks = stream.bench.watchdog._watched[watched]

    watched.check(stream.call.started_at + 301, clocks)
    await stream.task

    assert b'"code":"timeout"' in stream.client.body
    assert stream.client.ended
    assert stream.response.closed
    assert stream.bench.event.error_kind == "upstream_timeout"
    assert stream.bench.watchdog._watched == {}


async def test_slow_client_that_never_reads_is_cut_off() -> None:
    """Its response is left unended, and the upstream is let go."""
    stream = Streaming(stall_s=0.01)
    stream.client.slow = True

    await stream.response.push(A)
    await stream.task

    assert not stream.client.ended
    assert stream.response.closed
    assert (stream.bench.event.outcome, stream.bench.event.error_kind) == ("failed", "slow_client")
    stream.bench.assert_recorded_once()


async def test_slow_client_gets_everything_in_order() -> None:
    """The upstream waits for it."""
    stream = Streaming()
    stream.client.slow = True

    await stream.response.push(A)
    assert stream.response.paused
    await stream.client.take()
    await wait_until(lambda: not stream.response.paused)
    stream.client.slow = False
    await stream.end(B, OPENAI_FINISH, OPENAI_DONE)

    assert stream.client.body == A + B + OPENAI_FINISH + OPENAI_DONE
    assert stream.bench.event.outcome == "estimated"


async def test_hidden_usage_is_asked_for_metered_and_not_shown() -> None:
    """The upstream is asked for its report; who did not ask for it does not see it."""
    stream = Streaming(deployments=[a_deployment(a_provider(inject_usage=True))])

    await stream.end(A, OPENAI_FINISH, OPENAI_USAGE, OPENAI_DONE[:-1])

    assert b'"include_usage":true' in stream.bench.transport.requests[0].body
    assert stream.client.body == A + OPENAI_FINISH + OPENAI_DONE[:-1]
    assert stream.bench.event.usage == Usage(input=10, output=4)


async def test_translated_stream_is_complete_after_a_reset_behind_its_finish() -> None:
    """The response was complete: its end is written."""
    stream = Streaming(translated=True)

    await stream.fail(A, OPENAI_FINISH)

    assert stream.client.body.endswith(MESSAGE_STOP)
    assert stream.bench.event.error_kind is None


async def test_translated_stream_that_breaks_ends_with_an_error_event() -> None:
    """No false end: an agent would stop its work silently."""
    stream = Streaming(translated=True)

    await stream.fail(A)

    assert b"event: error" in stream.client.body
    assert b"message_stop" not in stream.client.body
    assert stream.client.ended
    assert stream.bench.event.error_kind == "upstream_broken"


async def test_translated_error_event_is_the_upstreams_refusal() -> None:
    """What the upstream reported is recorded as that."""
    stream = Streaming(translated=True)

    await stream.end(A, OPENAI_ERROR)

    assert b"engine full" in stream.client.body
    assert stream.bench.event.error_kind == "upstream_refused"


async def test_translated_stream_without_anything_is_an_http_error() -> None:
    """A body that ends at once has not begun a response."""
    stream = Streaming(translated=True)

    await stream.end()

    assert stream.client.status == 502
    assert b'"type":"error"' in stream.client.body


async def test_translated_error_after_a_late_head_is_an_event() -> None:
    """Once the head was sent, the error is sent in the stream, at once."""
    stream = Streaming(translated=True)
    await stream.response.push(COMMENT)
    (watched,) = stream.bench.watchdog._watched
    clocks = stream.bench.watchdog._watched[watched]
    watched.check(stream.call.started_at + 11, clocks)

    await stream.response.push(OPENAI_ERROR)
    await asyncio.wait_for(stream.task, 1)

    assert stream.client.status == 200
    assert stream.client.body.startswith(b"event: ping")
    assert b"engine full" in stream.client.body
    assert stream.client.ended


async def test_slow_client_of_a_translated_stream_is_cut_off() -> None:
    """Nothing is added for a client that does not read."""
    stream = Streaming(translated=True, stall_s=0.01)
    stream.client.slow = True

    await stream.response.push(A)
    await stream.task

    assert not stream.client.ended
    assert stream.bench.event.error_kind == "slow_client"


async def test_responses_stream_of_an_anthropic_upstream_passes_two_translators() -> None:
    """Anthropic events become chat chunks become Responses events."""
    stream = Streaming(
        endpoint=Endpoint.RESPONSES, deployments=[a_deployment(a_provider(wires=[Wire.ANTHROPIC]))]
    )
    start = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m1",'
        b'"type":"message","role":"assistant","content":[],"usage":{"input_tokens":7,"output_tokens":1}}}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"text","text":""}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"Hi"}}\n\n'
    )
    end = (
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
        b'"usage":{"output_tokens":2}}\n\n' + MESSAGE_STOP
    )

    await stream.end(start, end)

    assert b"event: response.output_text.delta" in stream.client.body
    assert b"event: response.completed" in stream.client.body
    assert stream.bench.event.usage == Usage(input=7, output=2)
