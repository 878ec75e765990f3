"""The clocks of a relay: what ends a stream that does not go on, and what keeps it alive."""

from __future__ import annotations

import pytest

from gateway.core.model import Clocks, Endpoint, Wire
from gateway.errors import ErrorKind
from gateway.protocols.streams.json_meter import JsonMeter
from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.messages_to_chat.stream import messages_stream
from gateway.protocols.translate.stream import ResponseContext
from tests.support.pipeline_bench import Pump
from tests.support.pipeline_fakes import (
    COMMENT,
    OPENAI_DONE,
    OPENAI_ERROR,
    OPENAI_FINISH,
    openai_event,
)
from tests.support.waiting import wait_until

A = openai_event("A")
TIGHT = Clocks(connect_s=1, first_byte_s=40, first_content_s=20, idle_s=30, total_s=100)
COMMENT_ALIVE = b": keep-alive\n\n"
PING = b'event: ping\ndata: {"type":"ping"}\n\n'


def translated() -> Pump:
    """A pump that turns a chat stream into an Anthropic one."""
    return Pump(
        transform=messages_stream(ResponseContext(model="m"), capabilities("generic", {})),
        endpoint=Endpoint.MESSAGES,
    )


@pytest.mark.parametrize(("seconds", "ends"), [(19.9, False), (20.1, True)])
async def test_clock_of_the_first_content_runs_from_the_request(seconds: float, ends: bool) -> None:
    """A stream without content ends when the first-content limit is over."""
    pump = Pump()

    pump.check_after(seconds, TIGHT)

    assert pump.relay.done.done() is ends
    if ends:
        assert pump.error is ErrorKind.UPSTREAM_TIMEOUT


@pytest.mark.parametrize(("seconds", "ends"), [(29.0, False), (31.0, True)])
async def test_clock_of_the_next_content_runs_from_the_last(seconds: float, ends: bool) -> None:
    """Between two contents there may be `idle_s`."""
    pump = Pump()
    pump.relay.body_chunk(A)

    pump.check_after(seconds, TIGHT)

    assert pump.relay.done.done() is ends


async def test_comments_do_not_feed_the_first_content_clock() -> None:
    """An upstream that only says that it is alive has not begun to respond."""
    pump = Pump()
    pump.relay.body_chunk(COMMENT)

    pump.check_after(20.1, TIGHT)

    assert pump.error is ErrorKind.UPSTREAM_TIMEOUT


async def test_comments_do_not_feed_the_idle_clock() -> None:
    """Comments after content keep nothing alive."""
    pump = Pump()
    pump.relay.body_chunk(A)
    pump.attempt.last_content_at = pump.sent_at - 31
    pump.relay.body_chunk(COMMENT)

    pump.check_after(0, TIGHT)

    assert pump.error is ErrorKind.UPSTREAM_TIMEOUT


async def test_total_clock_ends_a_stream_that_goes_on_and_on() -> None:
    """Content may flow for no longer than `total_s`."""
    pump = Pump()
    pump.relay.body_chunk(A)
    pump.attempt.last_content_at = pump.sent_at + 100

    pump.check_after(100.1, TIGHT)

    assert pump.error is ErrorKind.UPSTREAM_TIMEOUT


async def test_total_clock_holds_for_a_client_that_is_always_slow() -> None:
    """Being slow does not buy time without end; what is being written is written first."""
    pump = Pump()
    pump.client.slow = True
    pump.relay.body_chunk(A)

    pump.check_after(100.1, TIGHT)
    done_early = pump.relay.done.done()
    await pump.client.take()
    await pump.relay.done

    assert not done_early
    assert pump.error is ErrorKind.UPSTREAM_TIMEOUT
    assert pump.client.pieces == [A]


async def test_content_clocks_stand_still_while_the_client_is_slow() -> None:
    """An upstream that is paused for a client is not late."""
    pump = Pump()
    pump.client.slow = True
    pump.relay.body_chunk(A)

    pump.check_after(31, TIGHT)

    assert not pump.relay.done.done()


async def test_idle_clock_begins_anew_when_a_slow_client_has_caught_up() -> None:
    """The time during which the upstream was paused is not counted against it."""
    pump = Pump()
    pump.client.slow = True
    pump.relay.body_chunk(A)
    pump.attempt.last_content_at = pump.sent_at - 60
    await pump.client.take()
    await wait_until(lambda: not pump.response.paused)

    pump.check_after(1, TIGHT)

    assert not pump.relay.done.done()


async def test_document_has_the_clock_of_the_first_byte() -> None:
    """A whole response may take longer to begin than a stream."""
    pump = Pump(stream=False, meter=JsonMeter(Wire.OPENAI))

    pump.check_after(39, TIGHT)
    early = pump.relay.done.done()
    pump.check_after(41, TIGHT)

    assert not early
    assert pump.error is ErrorKind.UPSTREAM_TIMEOUT


async def test_document_without_bytes_is_not_committed() -> None:
    """An empty head would only forfeit the error and the other deployments."""
    pump = Pump(stream=False, meter=JsonMeter(Wire.OPENAI))

    pump.check_after(11)

    assert pump.client.status is None


async def test_document_that_looks_finished_waits_for_its_end() -> None:
    """Only the framing tells that a document is over."""
    pump = Pump(stream=False, meter=JsonMeter(Wire.OPENAI))
    pump.relay.body_chunk(b'{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}')

    pump.check_after(6)

    assert not pump.relay.done.done()


@pytest.mark.parametrize(("seconds", "status"), [(9.9, None), (10.1, 200)])
async def test_head_is_committed_late_when_nothing_comes(
    seconds: float, status: int | None
) -> None:
    """Ten seconds after the upstream's head the client gets one, too."""
    pump = Pump()

    pump.check_after(seconds)

    assert pump.client.status == status


async def test_late_commit_lets_the_comments_through() -> None:
    """What was held back while the head was waited for follows it."""
    pump = Pump()
    pump.relay.body_chunk(COMMENT)

    pump.check_after(10.1)
    pump.relay.body_chunk(A)

    assert pump.client.body == COMMENT + A


async def test_stream_silent_after_its_finish_reason_ends_cleanly() -> None:
    """Only usage and the end mark can be missing: five seconds are enough for them."""
    pump = Pump()
    pump.relay.body_chunk(A + OPENAI_FINISH)

    pump.check_after(4)
    early = pump.relay.done.done()
    pump.check_after(6)

    assert not early
    assert pump.error is None


async def test_stream_silent_after_its_end_mark_ends_within_a_second() -> None:
    """After the end mark nothing can follow: clients are not kept waiting for the connection."""
    pump = Pump()
    pump.relay.body_chunk(A + OPENAI_FINISH + OPENAI_DONE)

    pump.check_after(1.5)

    assert pump.error is None


async def test_stream_that_only_comments_after_its_finish_reason_ends_cleanly() -> None:
    """Comments do not keep a finished stream open."""
    pump = Pump()
    pump.relay.body_chunk(A + OPENAI_FINISH)
    pump.attempt.last_content_at = pump.sent_at - 31
    pump.relay.body_chunk(COMMENT)

    pump.check_after(0, TIGHT)

    assert pump.error is None


async def test_stream_silent_after_an_error_event_ends() -> None:
    """An upstream that has reported an error and then says nothing is not waited for."""
    pump = Pump()
    pump.relay.body_chunk(A)
    pump.relay.body_chunk(OPENAI_ERROR)

    pump.check_after(6)

    assert pump.error is None
    assert pump.meter.failed


async def test_translated_stream_silent_after_its_finish_reason_is_completed() -> None:
    """The translator writes the end that the upstream owes."""
    pump = translated()
    pump.relay.body_chunk(A + OPENAI_FINISH)

    pump.check_after(6)

    assert pump.error is None
    assert pump.client.body.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')


async def test_translated_stream_gets_a_ping_with_its_late_head() -> None:
    """The head goes out with a ping, so that the client sees life after ten seconds."""
    pump = translated()

    pump.check_after(10.1)

    assert pump.client.pieces == [PING]


@pytest.mark.parametrize(("seconds", "pings"), [(14.0, 0), (16.0, 1)])
async def test_translated_stream_without_news_gets_a_ping(seconds: float, pings: int) -> None:
    """After 15 s without a write the client gets a keep-alive."""
    pump = translated()
    pump.relay.body_chunk(A)

    pump.check_after(seconds)

    assert pump.client.pieces.count(PING) == pings


@pytest.mark.parametrize(
    ("endpoint", "keepalive"),
    [(Endpoint.CHAT_COMPLETIONS, COMMENT_ALIVE), (Endpoint.MESSAGES, PING)],
)
async def test_relayed_stream_is_kept_alive_from_its_late_head_on(
    endpoint: Endpoint, keepalive: bytes
) -> None:
    """The head goes out after ten seconds, and after 15 s without a byte something follows it."""
    pump = Pump(endpoint=endpoint)

    pump.check_after(10.1)
    assert pump.client.pieces == [keepalive]
    pump.check_after(14.0)
    assert pump.client.pieces == [keepalive]
    pump.check_after(16.0)
    assert pump.client.pieces == [keepalive, keepalive]


@pytest.mark.parametrize(("line", "last"), [(b"\n", 1), (b"\r\n", 2), (b"\r", 1)])
async def test_relayed_stream_is_kept_alive_between_events_only(line: bytes, last: int) -> None:
    """Inside of an event that came in part a keep-alive would become a part of it."""
    pump = Pump()
    event = A.removesuffix(b"\n\n") + line + line
    half, rest, end = event[:20], event[20:-last], event[-last:]
    pump.relay.body_chunk(A)

    pump.relay.body_chunk(half)
    pump.check_after(16)
    pump.relay.body_chunk(rest)
    pump.check_after(32)
    assert pump.client.pieces == [A, half, rest]

    pump.relay.body_chunk(end)
    pump.check_after(48)
    assert pump.client.pieces == [A, half, rest, end, COMMENT_ALIVE]


async def test_held_half_event_is_sent_with_the_late_head_and_not_torn() -> None:
    """What the gate held may end inside of an event: no keep-alive follows it."""
    pump = Pump()
    pump.relay.body_chunk(COMMENT + A[:9])

    pump.check_after(10.1)
    pump.check_after(16)
    pump.relay.body_chunk(A[9:])
    pump.check_after(32)

    assert pump.client.pieces == [COMMENT + A[:9], A[9:], COMMENT_ALIVE]


async def test_keepalives_do_not_extend_the_clock_of_the_content() -> None:
    """The client's connection lives; the upstream is as late as without."""
    pump = Pump()
    pump.relay.body_chunk(A)

    pump.check_after(16, TIGHT)
    pump.check_after(31, TIGHT)

    assert pump.client.pieces == [A, COMMENT_ALIVE]
    assert pump.error is ErrorKind.UPSTREAM_TIMEOUT


async def test_keepalives_can_be_disabled() -> None:
    """With 0 the client gets the upstream's bytes alone."""
    pump = Pump(keepalive_s=0.0)

    pump.check_after(10.1)
    pump.relay.body_chunk(A)
    pump.check_after(60)

    assert pump.client.status == 200
    assert pump.client.pieces == [A]


async def test_whole_response_gets_no_keepalive() -> None:
    """JSON has no place for it."""
    pump = Pump(stream=False, meter=JsonMeter(Wire.OPENAI))
    pump.relay.body_chunk(b'{"id":')

    pump.check_after(60)

    assert pump.client.pieces == [b'{"id":']


async def test_byte_order_mark_after_a_keepalive_is_removed() -> None:
    """It is a mark at the stream's start only: behind a keep-alive it would spoil the event."""
    pump = Pump()
    pump.check_after(10.1)

    pump.relay.body_chunk(b"\xef\xbb\xbf" + A)
    pump.relay.body_chunk(A)

    assert pump.client.pieces == [COMMENT_ALIVE, A, A]


async def test_translated_error_after_the_head_ends_at_once() -> None:
    """An error that comes first, but after the head, does not wait for the body's end."""
    pump = translated()
    pump.check_after(10.1)

    pump.relay.body_chunk(OPENAI_ERROR)

    assert pump.error is None


async def test_translated_error_before_the_head_becomes_an_http_error() -> None:
    """Nothing was said yet, so the status can still tell."""
    pump = translated()

    pump.relay.body_chunk(OPENAI_ERROR)

    assert pump.error is ErrorKind.UPSTREAM_REFUSED
    assert pump.client.status is None


async def test_clocks_of_a_finished_relay_do_nothing() -> None:
    """A relay that is done is not looked at again."""
    pump = Pump()
    pump.relay.body_chunk(A)
    pump.relay.body_end()

    pump.check_after(10_000)

    assert pump.error is None
