"""Targets: everything that reads what an upstream sent, and what was written to disk."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from gateway.core.model import Usage, Wire
from gateway.errors import GatewayError
from gateway.protocols.anthropic_messages.usage import read_anthropic_usage
from gateway.protocols.codec.sse import EventDecoder
from gateway.protocols.http.errors.upstream_errors import (
    error_for,
    translate_error,
    translate_stream_error,
)
from gateway.protocols.http.errors.upstream_faults import STREAM_CUT, read_fault, read_stream_fault
from gateway.protocols.openai_chat.usage import read_openai_usage
from gateway.protocols.openai_chat.usage_filter import UsageChunkFilter
from gateway.protocols.openai_responses.request import translate_responses_request
from gateway.protocols.openai_responses.response import translate_responses_response
from gateway.protocols.openai_responses.stream import responses_stream
from gateway.protocols.streams.first_event import FirstEventGate
from gateway.protocols.streams.json_meter import JsonMeter
from gateway.protocols.streams.meter import StreamMeter
from gateway.protocols.translate.chat_to_messages import response as message_answers
from gateway.protocols.translate.chat_to_messages.stream import chat_stream
from gateway.protocols.translate.messages_to_chat import response as chat_answers
from gateway.protocols.translate.messages_to_chat.stream import messages_stream
from gateway.protocols.translate.stream import ResponseContext, StreamTranslator
from gateway.store.spill.segments import Segment
from gateway.upstream.http1.body_plan import Framing
from gateway.upstream.http1.head import HeadReader, MalformedChunksError, MalformedHeadError
from tests.fuzz import seeds, shapes
from tests.fuzz.mutation import pieces
from tests.fuzz.request_targets import GENERIC
from tests.fuzz.target import Target

MOST_TOKENS = 10**9
"""No call has more tokens of any class; what claims to is not believed."""
INPUT = 7
CONTEXT = ResponseContext(model="m", include_usage=True, stream=True)
RESPONSES = translate_responses_request(b'{"model":"m","input":"x","stream":true}').context


def decode_events(data: bytes) -> None:
    """Any split gives the same events."""
    split = EventDecoder()
    events = [event for piece in pieces(data) for event in split.feed(piece)]
    whole = EventDecoder()
    assert events + split.end() == whole.feed(data) + whole.end()


def read_head(data: bytes) -> None:
    """Any split gives the same status, headers, framing and body."""
    assert _response([*pieces(data)]) == _response([data])


def _response(received: list[bytes]) -> tuple[object, ...]:
    reader = HeadReader("POST")
    body = b""
    seen = False
    try:
        for piece in received:
            rest = piece if seen else reader.feed(piece)
            if rest is None:
                continue
            seen = True
            if reader.plan.framing is not Framing.CHUNKED:
                body += rest
            elif rest and not reader.body_ended:
                body += reader.decode_chunked(rest)
    except MalformedHeadError:
        return ("malformed",)
    except MalformedChunksError as error:
        return (reader.status, reader.headers, reader.plan, body + error.chunk, "broken")
    finally:
        reader.detach()
    return (reader.status, reader.headers, reader.plan, body, reader.body_ended)


def assert_counted(usage: Usage) -> None:
    """No class is below zero or beyond what can be."""
    counts = (usage.input, usage.output, usage.reasoning, usage.cache_read, usage.cache_write)
    assert all(0 <= each <= MOST_TOKENS for each in counts), usage


def meter_stream(data: bytes) -> None:
    """Usage and what was seen do not depend on the split."""
    for wire in Wire:
        split, whole = StreamMeter(wire), StreamMeter(wire)
        for piece in pieces(data):
            split.feed(piece)
        whole.feed(data)
        for meter in (split, whole):
            meter.end()
            assert_counted(meter.settled(INPUT))
            assert 0 <= meter.estimated_output_tokens() <= MOST_TOKENS
        assert split.usage == whole.usage
        assert (split.seen, split.reported) == (whole.seen, whole.reported)
        assert (split.finish_reason, split.saw_end) == (whole.finish_reason, whole.saw_end)


def meter_answer(data: bytes) -> None:
    """As for streams."""
    for wire in Wire:
        split, whole = JsonMeter(wire), JsonMeter(wire)
        for piece in pieces(data, (1, 50, 1000, 30_000)):
            split.feed(piece)
        whole.feed(data)
        for meter in (split, whole):
            meter.end()
            assert_counted(meter.settled(INPUT))
            assert meter.failed in (True, False)
        assert split.settled(INPUT) == whole.settled(INPUT)
        assert split.finish_reason == whole.finish_reason


def hide_usage(data: bytes) -> None:
    """What the client gets does not depend on the split, and nothing but usage is missing."""
    split, whole = UsageChunkFilter(), UsageChunkFilter()
    shown = b"".join(split.feed(piece) for piece in pieces(data)) + split.end()
    assert shown == whole.feed(data) + whole.end()
    if b"usage" not in data:
        assert shown == data


def open_stream(data: bytes) -> None:
    """The first event is judged the same for any split."""
    for wire in Wire:
        judged = []
        for cut in ([*pieces(data)], [data]):
            opening = FirstEventGate(wire)
            for piece in cut:
                opening.feed(piece)
                if opening.is_open or opening.error is not None:
                    break
            else:
                opening.end()
            judged.append(opening.error)
        assert judged[0] == judged[1]


def translate_stream(data: bytes) -> None:
    """Each translator writes events of JSON and comes to an end, however the input is split."""
    makers: tuple[Callable[[], StreamTranslator], ...] = (
        lambda: messages_stream(CONTEXT, GENERIC),
        lambda: chat_stream(CONTEXT),
        lambda: responses_stream(RESPONSES),
    )
    for make in makers:
        for cut in ([*pieces(data)], [data]):
            translator = make()
            written = b"".join(translator.feed(piece) for piece in cut)
            written += translator.end(clean=len(data) % 2 == 0, fault=STREAM_CUT)
            assert_events(written)


def assert_events(written: bytes) -> None:
    """Every event is whole, and its data is JSON or the end."""
    decoder = EventDecoder()
    events = decoder.feed(written) + decoder.end()
    for event in events:
        if event.data and event.data != b"[DONE]":
            json.loads(event.data)
    assert not written or written.endswith(b"\n\n")


def translate_answer(data: bytes) -> None:
    """A whole response becomes JSON of the other wire, or is refused as malformed."""
    readers: tuple[Callable[[], bytes], ...] = (
        lambda: chat_answers.translate_response(data, CONTEXT, GENERIC),
        lambda: message_answers.translate_response(data, CONTEXT),
        lambda: translate_responses_response(data, RESPONSES),
    )
    for translate in readers:
        try:
            json.loads(translate())
        except GatewayError:
            continue


def read_error(data: bytes) -> None:
    """Any upstream error is rendered in both dialects: as UTF-8 and with an error status."""
    for wire in Wire:
        for status in (400, 401, 404, 429, 500, 529):
            fault = read_fault(wire, status, [(b"retry-after", data[:30])], data)
            for client in Wire:
                answer = translate_error(fault, client, "m")
                assert 400 <= answer.status < 600
                json.loads(answer.body)
                error_for(fault, client, "m")
        streamed = read_stream_fault(wire, data)
        for client in Wire:
            translate_stream_error(streamed, client, "m").decode()


def read_usage(data: bytes) -> None:
    """Counts are believed within bounds, or not at all."""
    for read in (read_openai_usage, read_anthropic_usage):
        usage = read(data)
        if usage is not None:
            assert_counted(usage)


def read_segment(data: bytes) -> None:
    """Every complete line comes back once, and nothing after the last line end."""
    with tempfile.NamedTemporaryFile(suffix=".jsonl", delete=False) as file:
        file.write(data)
    path = Path(file.name)
    try:
        segment = Segment.claim(path)
        assert segment is not None
        lines: list[bytes] = []
        while found := segment.read(100):
            lines += found
        segment.release()
    finally:
        os.unlink(path)
    assert lines == [line for line in data.split(b"\n")[:-1] if line]


STREAMS = [*seeds.CHAT_STREAMS, *seeds.MESSAGE_STREAMS]
ANSWERS = [*seeds.CHAT_ANSWERS, *seeds.MESSAGE_ANSWERS]
TARGETS = [
    Target("events", decode_events, STREAMS, shapes.STREAMS),
    Target("head", read_head, seeds.HEADS, shapes.HEADS),
    Target("stream-meter", meter_stream, STREAMS, shapes.STREAMS),
    Target("answer-meter", meter_answer, ANSWERS, shapes.ANSWERS),
    Target("usage-hider", hide_usage, seeds.CHAT_STREAMS, shapes.STREAMS),
    Target("opening", open_stream, STREAMS, shapes.STREAMS),
    Target("streams", translate_stream, STREAMS, shapes.STREAMS),
    Target("answers", translate_answer, ANSWERS, shapes.ANSWERS),
    Target("errors", read_error, [*seeds.ERRORS, *ANSWERS], shapes.ANSWERS, allowed=()),
    Target("usage", read_usage, seeds.USAGES, shapes.USAGES, allowed=()),
    Target("segment", read_segment, seeds.SEGMENTS, shapes.SEGMENTS, allowed=()),
]
