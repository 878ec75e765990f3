"""A second response that begins inside of a stream."""

from __future__ import annotations

import pytest

from gateway.core.model import Usage, Wire
from gateway.protocols.streams.meter import StreamMeter
from tests.support.meters import DONE, chunk, event, text_delta

START = event("message_start", message={"usage": {"input_tokens": 9, "output_tokens": 1}})
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5})
STOP = event("message_stop")


@pytest.mark.parametrize("cut", [0, 1, 40, len(START)])
def test_second_start_before_the_end_is_noted(cut: int) -> None:
    meter = StreamMeter(Wire.ANTHROPIC)
    for each in (START, text_delta("a"), START[:cut]):
        if not (cut == len(START) and each == START[:cut] and meter.contents):
            meter.feed(each)

    assert not meter.restarted
    meter.feed(START[cut:] or START)

    assert meter.restarted
    assert meter.usage == Usage(input=9, output=1)


def test_text_about_the_event_is_text() -> None:
    meter = StreamMeter(Wire.ANTHROPIC)

    for each in (START, text_delta('event: message_start {"type":"message_start"}'), END, STOP):
        meter.feed(each)

    assert (meter.saw_end, meter.restarted, meter.usage) == (True, False, Usage(input=9, output=5))


def test_what_follows_the_end_is_not_read() -> None:
    """The client has stopped reading there."""
    meter = StreamMeter(Wire.ANTHROPIC)

    meter.feed(START + text_delta("a") + END + STOP + START)

    assert (meter.saw_end, meter.restarted, meter.usage.output) == (True, False, 5)


def test_second_end_mark_changes_nothing() -> None:
    meter = StreamMeter(Wire.OPENAI)
    usage = {"prompt_tokens": 3, "completion_tokens": 2}

    meter.feed(chunk({"content": "a"}, "stop") + chunk(None, usage=usage) + DONE + DONE)

    assert (meter.saw_end, meter.failed, meter.usage) == (True, False, Usage(input=3, output=2))
