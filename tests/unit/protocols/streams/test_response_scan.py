"""Responses too large to be kept: what is found in them as they pass by, wherever they are cut."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Usage, Wire
from gateway.protocols.codec.json_skip import ValueSkipper
from gateway.protocols.streams.json_meter import JsonMeter
from gateway.protocols.streams.meter import HELD_BYTES
from gateway.protocols.streams.response_scan import ResponseScanner

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
SPOOF = {"usage": {"input_tokens": 1, "output_tokens": 0, "prompt_tokens": 1}, "stop_reason": "no"}
READ_BYTES = 65_536


def metered(wire: Wire, answer: dict[str, Any], *, held_bytes: int = HELD_BYTES) -> JsonMeter:
    """Feed a response as the network brings it."""
    body = json.dumps(answer).encode()
    meter = JsonMeter(wire, held_bytes)
    for at in range(0, len(body), READ_BYTES):
        meter.feed(body[at : at + READ_BYTES])
    return meter


def openai(*, pad: int = 9_400_000, **more: Any) -> dict[str, Any]:
    """A chat response whose log probabilities are large."""
    message = {"role": "assistant", "content": "x" * 40}
    entry = {"token": '\\"usage":{', "logprob": -1.5, "bytes": [1, 2], "pad": "y" * 900}
    odds = {"content": [entry] * (pad // 960)}
    choice = {"index": 0, "message": message, "logprobs": odds, "finish_reason": "stop"}
    return {"id": "c", "choices": [choice], **more}


def anthropic(*, pad: int = 2_000_000, **more: Any) -> dict[str, Any]:
    """A message whose tool input, which the model writes, looks like usage."""
    tool = {"type": "tool_use", "id": "t", "name": "f", "input": {**SPOOF, "pad": "y" * pad}}
    text = {"type": "text", "text": json.dumps(SPOOF)}
    return {"type": "message", "content": [text, tool], "stop_reason": "end_turn", **more}


def test_usage_at_the_end_of_a_large_answer_is_found() -> None:
    """9.4 MB of log probabilities are charged as the upstream reports."""
    meter = metered(Wire.OPENAI, openai(usage=USAGE))

    assert (meter.usage, meter.reported, meter.saw_end) == (Usage(input=10, output=5), True, True)
    assert meter.finish_reason == "stop"
    assert meter.raw_usage == json.dumps(USAGE).encode()


def test_usage_in_front_and_inside_of_a_choice_is_found() -> None:
    """Wherever an upstream writes it."""
    kimi = openai()
    kimi["choices"][0]["usage"] = USAGE

    assert metered(Wire.OPENAI, {"usage": USAGE, **openai()}).usage == Usage(input=10, output=5)
    assert metered(Wire.OPENAI, {"usage": None, **kimi}).usage == Usage(input=10, output=5)


def test_no_usage_is_estimated_by_the_content_alone() -> None:
    """Log probabilities are not two million tokens."""
    meter = metered(Wire.OPENAI, openai())

    assert not meter.reported
    assert meter.settled(7) == Usage(input=7, output=11)


@pytest.mark.parametrize("place", ["front", "end", "nowhere"])
def test_usage_cannot_be_spoofed_by_what_the_model_writes(place: str) -> None:
    """A tool's input and a text are content wherever the true usage stands."""
    usage: dict[str, Any] = {"usage": {"input_tokens": 9, "output_tokens": 700_000}}
    answers = {
        "front": {**usage, **anthropic()},
        "end": anthropic(**usage),
        "nowhere": anthropic(),
    }
    meter = metered(Wire.ANTHROPIC, answers[place])

    assert meter.finish_reason == "end_turn"
    if place == "nowhere":
        assert not meter.reported
        assert meter.settled(7).output == pytest.approx(500_000, rel=0.01)
    else:
        assert meter.usage == Usage(input=9, output=700_000)


def test_large_error_is_known_as_one() -> None:
    """Also when its text is larger than what is kept."""
    error = {"error": {"message": "x" * 2_000_000}}

    assert metered(Wire.OPENAI, error).failed
    assert metered(Wire.ANTHROPIC, {"type": "error", **error}).failed
    assert not metered(Wire.OPENAI, {"error": None, **openai()}).failed


def test_large_usage_is_not_kept_whole() -> None:
    """What is held is bounded, whatever an upstream sends."""
    meter = metered(Wire.OPENAI, openai(usage={**USAGE, "pad": "x" * 2_000_000}))

    assert not meter.reported
    assert meter.saw_end


names = st.sampled_from(
    [
        "usage",
        "choices",
        "content",
        "message",
        "type",
        "input",
        "a",
        'q"',
        "\\",
        "ü",
        "finish_reason",
    ]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.sampled_from('ab"\\{}[]:,\n ü🎉'), max_size=12),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(names, inner, max_size=5),
    max_leaves=12,
)
messages = st.dictionaries(
    st.sampled_from(
        ["role", "content", "reasoning", "tool_calls", "images", "type", "text", "input"]
    ),
    values,
    max_size=5,
)
choices = st.fixed_dictionaries(
    {"message": messages, "finish_reason": st.just("stop")},
    optional={"logprobs": values, "usage": st.none() | st.just(USAGE)},
)
answers = st.fixed_dictionaries(
    {},
    optional={
        "id": values,
        "choices": st.lists(choices, max_size=3),
        "content": st.lists(messages, max_size=3),
        "usage": st.none() | st.just(USAGE) | st.just({"input_tokens": 3, "output_tokens": 2}),
        "stop_reason": st.none() | st.just("end_turn"),
        "x": values,
    },
)


def findings(meter: JsonMeter) -> tuple[object, ...]:
    """Return all that is read of a response."""
    return meter.usage, meter.raw_usage, meter.finish_reason, meter.saw_end, meter.failed


@given(answers, st.booleans(), st.sampled_from(Wire), st.integers(1, 40))
def test_scanned_answer_gives_what_a_kept_one_gives(
    answer: dict[str, Any], compact: bool, wire: Wire, size: int
) -> None:
    """The same usage, and without usage the same estimate, in pieces of any size."""
    text = json.dumps(answer, separators=(",", ":")) if compact else json.dumps(answer, indent=1)
    body = text.encode()
    kept, scanned = JsonMeter(wire), JsonMeter(wire, held_bytes=0)
    kept.feed(body)
    for at in range(0, len(body), size):
        scanned.feed(body[at : at + size])

    assert findings(scanned) == findings(kept)
    if not kept.reported and compact:
        assert abs(scanned.estimated_output_tokens() - kept.estimated_output_tokens()) <= 8


@given(values, st.lists(st.integers(0, 10_000), max_size=8), st.integers(0, 3))
def test_end_of_a_value_is_found_wherever_it_is_cut(
    value: object, points: list[int], copies: int
) -> None:
    """Small values and such that are skipped in blocks."""
    body = json.dumps([value] * 10**copies if copies else value, ensure_ascii=False).encode() + b","
    at = sorted({point % len(body) for point in points} | {0, len(body)})
    skipper = ValueSkipper()
    skipper.start(body[0])
    is_scalar = body[:1] not in (b"{", b"[", b'"')
    taken = 0
    end = -1
    for first, last in itertools.pairwise(at):
        piece = body[first:last]
        start = 1 if first == 0 and not is_scalar else 0
        end = skipper.end_in(piece, start)
        if end >= 0:
            taken += end
            break
        taken += len(piece)

    assert end >= 0
    assert taken == len(body) - 1


@given(st.lists(st.binary(max_size=60), max_size=8), st.sampled_from(Wire))
def test_scanner_of_anything_never_fails(chunks: list[bytes], wire: Wire) -> None:
    """What is no JSON has nothing in it, or something, but is no reason to stop."""
    scanner = ResponseScanner(wire)
    for piece in (b"{", *chunks):
        scanner.feed(piece)

    assert scanner.content_bytes >= 0


@pytest.mark.alone
@pytest.mark.parametrize(
    "unit",
    [b"[[]],", b"{},", b'"\\\\\\"",', b'{"a":[1,{"b":"c"}]},', b"[" * 900 + b"]" * 900 + b","],
    ids=["arrays", "objects", "escapes", "nested", "deep"],
)
def test_time_of_a_scan_is_linear(unit: bytes) -> None:
    """Four times the bytes take about four times the time, whatever they are."""

    def seconds(size: int) -> float:
        body = b'{"content":[{"input":[%b0]}]}' % (unit * (size // len(unit)))
        best = 1e9
        for _ in range(3):
            scanner = ResponseScanner(Wire.ANTHROPIC)
            begun = time.process_time()
            for at in range(0, len(body), READ_BYTES):
                scanner.feed(body[at : at + READ_BYTES])
            best = min(best, time.process_time() - begun)
            assert scanner.complete
        return best

    assert seconds(800_000) < 12 * seconds(200_000)


def test_scanner_begins_without_content() -> None:
    """Nothing is estimated before the first byte."""
    assert ResponseScanner(Wire.OPENAI).content_bytes == 0
